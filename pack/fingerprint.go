// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/mtree"
)

const (
	// tick is far more than that of the clock that change times come from, which is
	// 10 ms at most.
	tick = 30 * time.Millisecond
	// coarseTick is that of file systems which keep whole seconds.
	coarseTick = 2 * time.Second
)

// Fingerprint returns a key for the file or directory at path and all that is below it: what
// lstat(2) tells, with the change times, which nobody can set. No file is opened. As long as
// the key is the same, so is the content.
//
// The key is empty if something changes right now, or has changed so shortly before that
// another change could leave the same time: Fingerprint waits a few hundredths of a second
// for that to pass, but not the two seconds that it takes on file systems which keep whole
// seconds. It is also empty for what is neither a file nor a directory. The clocks of this machine and of the file system must agree.
func Fingerprint(ctx context.Context, path string) (string, error) {
	key, wait, err := fingerprint(ctx, path)
	if err == nil && 0 < wait && wait <= 2*tick {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", ctx.Err()
		}
		key, wait, err = fingerprint(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("fingerprint of %s: %w", quote.Name(path), err)
	}
	if wait > 0 {
		return "", nil
	}
	return key, nil
}

// fingerprint also returns how long it takes until the key is one.
func fingerprint(ctx context.Context, path string) (string, time.Duration, error) {
	p := printer{now: time.Now()}
	h := sha256.New()
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() { // to open a pipe is to take from it
		return "", 0, nil
	}
	if !info.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return "", 0, err
		}
		defer f.Close() //nolint:errcheck // only read from
		st, err := rooted.FromFd(int(f.Fd()))
		if err != nil {
			return "", 0, err
		}
		p.write(h, ".", &st)
		return hex.EncodeToString(h.Sum(nil)), p.wait, nil
	}
	dir, err := openDir(path)
	if err != nil {
		return "", 0, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	tree, err := mtree.Walk(ctx, dir, mtree.WalkOptions{Digest: unread})
	if err != nil {
		return "", 0, err
	}
	for e := range tree.All() {
		st := e.Stat()
		p.write(h, e.Path(), &st)
	}
	return hex.EncodeToString(h.Sum(nil)), p.wait, nil
}

// printer writes facts in a form in which no two are the same.
type printer struct {
	now  time.Time
	wait time.Duration // until all times are settled
	buf  []byte
}

func (p *printer) write(w io.Writer, path string, st *rooted.Stat) {
	b := binary.AppendUvarint(p.buf[:0], uint64(len(path)))
	b = append(b, path...)
	for _, v := range []uint64{
		st.Dev, st.Ino, uint64(st.Mode), uint64(st.UID), uint64(st.GID), st.Rdev, uint64(st.Size),
		uint64(st.Mtime.Sec), uint64(st.Mtime.Nsec), uint64(st.Ctime.Sec), uint64(st.Ctime.Nsec),
	} {
		b = binary.AppendUvarint(b, v)
	}
	w.Write(b) //nolint:errcheck // a hash takes everything
	p.buf = b
	margin := tick
	if st.Ctime.Nsec == 0 {
		margin = coarseTick
	}
	settled := time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)).Add(margin)
	p.wait = max(p.wait, settled.Sub(p.now))
}
