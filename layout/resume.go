// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// partialPrefix starts the names of files in temporary directories that hold the
// beginning of a blob; the note name of the blob follows.
const partialPrefix = "partial-"

// minPartial is the size in bytes from which on the beginning of a blob is worth
// keeping when the layout is closed.
const minPartial = 1 << 20

// PutResumable writes the blob that d describes with what open gives, which must
// have the size and the digest of d; otherwise the error is ErrSize or ErrDigest, and
// there is no blob. If the layout has a blob of that name and size already, that one
// stays and open is not called.
//
// It is meant for content from far away. What has come when an error, or a kill, ends
// the writing stays in the temporary directory: the next PutResumable of the same blob,
// in this process or in another, reads and hashes it and calls open with the offset at
// which the rest begins. Otherwise the offset is 0. An error of open is returned as it
// is, wrapped. Of what is kept, gc removes all that no living process works on, and
// [Layout.Close] what is smaller than 1 MiB.
func (l *Layout) PutResumable(ctx context.Context, d ispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error {
	return opError("put blob", string(d.Digest), l.putResumable(ctx, d, open))
}

func (l *Layout) putResumable(ctx context.Context, d ispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error {
	alg, name, err := splitDigest(d.Digest)
	if err != nil {
		return err
	}
	if err := checkDescriptor(d); err != nil {
		return err
	}
	if err := l.hold(ctx, []ispec.Descriptor{d}); err != nil {
		return err
	}
	if ok, err := l.HasBlob(ctx, d); err != nil || ok {
		return err
	}
	for {
		p, err := l.openPartial(ctx, d)
		if err != nil {
			return err
		}
		resumed := p.size > 0
		err = p.receive(ctx, open)
		if err == nil {
			err = p.commit(alg, name)
		}
		wrong := errors.Is(err, ErrDigest)
		if err != nil {
			err = both(cause(err), p.abandon(wrong || errors.Is(err, ErrSize)))
		}
		p.release()
		// What a crash has left need not be what was written.
		if !wrong || !resumed {
			return err
		}
	}
}

// partial is the beginning of a blob.
type partial struct {
	l    *Layout
	temp *tempDir
	desc ispec.Descriptor
	file *os.File // nil once committed or abandoned
	name string   // in temp
	busy bool     // whether it is entered in temp.busy
	size int64    // of what there is
	hash hash.Hash
}

// openPartial finds or makes the file for the blob. Only one goroutine at a time has
// the one that may be kept; others get a file of their own.
func (l *Layout) openPartial(ctx context.Context, d ispec.Descriptor) (*partial, error) {
	t, err := l.openTemp(ctx)
	if err != nil {
		return nil, err
	}
	p := &partial{l: l, temp: t, desc: d, name: partialPrefix + noteName(d.Digest)}
	if p.busy = t.claim(d.Digest); p.busy {
		p.file, err = l.findPartial(ctx, t, p.name)
	} else {
		p.file, p.name, err = t.create()
	}
	if err != nil {
		p.release()
		return nil, err
	}
	if err := p.rehash(ctx); err != nil {
		err = both(cause(err), p.abandon(false))
		p.release()
		return nil, err
	}
	return p, nil
}

// findPartial opens the file that has the beginning of a blob, wherever it is. If there
// is none that is of use it makes one.
func (l *Layout) findPartial(ctx context.Context, t *tempDir, name string) (*os.File, error) {
	f, err := t.openPartial(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := l.adoptPartial(ctx, t, name); err != nil {
			return nil, cause(err)
		}
		f, err = t.openPartial(name)
	}
	if err == nil {
		return f, nil
	}
	if err := t.remove(name); err != nil {
		return nil, err
	}
	if f, err = t.dir.Create(name, 0o600); err != nil {
		return nil, fmt.Errorf("create temporary file: %w", cause(err))
	}
	return f, nil
}

func (t *tempDir) claim(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[d] {
		return false
	}
	if t.busy == nil {
		t.busy = map[digest.Digest]bool{}
	}
	t.busy[d] = true
	return true
}

func (p *partial) release() {
	if p.busy {
		p.temp.mu.Lock()
		delete(p.temp.busy, p.desc.Digest)
		p.temp.mu.Unlock()
		p.busy = false
	}
}

// openPartial opens a file for reading and writing. One that somebody else has made,
// or that has a second name, is not one of ours.
func (t *tempDir) openPartial(name string) (*os.File, error) {
	fd, err := unix.Openat(t.dir.Fd(), name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	st, err := rooted.FromFd(fd)
	if err == nil && (!st.IsRegular() || st.Nlink != 1 || int(st.UID) != os.Geteuid()) {
		err = errors.New("the partial blob there is not one of ours")
	}
	if err != nil {
		return nil, both(err, f.Close())
	}
	return f, nil
}

// adoptPartial looks for the file of this name in the temporary directories of writers
// that are no more, and moves it into t. If nothing of the kind is left in the directory
// where it was, that is removed.
func (l *Layout) adoptPartial(ctx context.Context, t *tempDir, name string) error {
	found, err := l.tempsWith(t, name)
	if err != nil || len(found) == 0 {
		return err
	}
	// A directory that was made but is not locked yet must not be taken for a stale one.
	unlock, err := l.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	for _, from := range found {
		dir, err := l.dir.OpenDir(from)
		if err != nil {
			continue // its writer has just finished
		}
		done := false
		if tryLock(dir.Fd(), unix.LOCK_EX) == nil && dir.Rename(name, t.dir, name) == nil {
			done = true
			if left, err := hasPartials(dir, 0); err == nil && !left {
				_ = l.dir.RemoveAll(from) // what stays is for gc
			}
		}
		closeDir(dir)
		if done {
			break
		}
	}
	return nil
}

// tempsWith returns the temporary directories other than t that have the file.
func (l *Layout) tempsWith(t *tempDir, name string) ([]string, error) {
	root, err := l.dir.OpenDir(".")
	if err != nil {
		return nil, err
	}
	defer closeDir(root)
	entries, err := root.Names()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, tempPrefix) || e.Name == t.name {
			continue
		}
		dir, err := l.dir.OpenDir(e.Name)
		if err != nil {
			continue
		}
		if _, err := dir.Lstat(name); err == nil {
			found = append(found, e.Name)
		}
		closeDir(dir)
	}
	return found, nil
}

// hasPartials reports whether there is the beginning of a blob of at least that size in
// a temporary directory.
func hasPartials(dir *rooted.Dir, size int64) (bool, error) {
	entries, err := dir.Names()
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, partialPrefix) {
			continue
		}
		if st, err := dir.Lstat(e.Name); err == nil && st.IsRegular() && st.Size >= size {
			return true, nil
		}
	}
	return false, nil
}

// keepPartials removes all but the beginnings of blobs that are worth keeping, and
// reports whether there are any.
func (t *tempDir) keepPartials() bool {
	if some, err := hasPartials(t.dir, minPartial); err != nil || !some {
		return false
	}
	entries, err := t.dir.Names()
	if err != nil {
		return false
	}
	for _, e := range entries {
		st, err := t.dir.Lstat(e.Name)
		if err == nil && (!strings.HasPrefix(e.Name, partialPrefix) || st.Size < minPartial) {
			_ = t.dir.Remove(e.Name)
		}
	}
	return true
}

// rehash reads what there is already.
func (p *partial) rehash(ctx context.Context) error {
	p.hash = newHash(p.desc.Digest.Algorithm())
	st, err := rooted.FromFd(int(p.file.Fd()))
	if err != nil {
		return err
	}
	if st.Size > p.desc.Size {
		return p.file.Truncate(0)
	}
	if st.Size == 0 {
		return nil
	}
	buf := make([]byte, pumpChunk)
	for p.size < st.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.file.Read(buf)
		p.hash.Write(buf[:n])
		p.size += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// receive fetches what is missing and compares the whole with the descriptor.
func (p *partial) receive(ctx context.Context, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error {
	if p.size < p.desc.Size || p.size == 0 {
		r, err := open(ctx, p.size)
		if err != nil {
			return err
		}
		err = p.pump(ctx, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	if got := sum(p.desc.Digest.Algorithm(), p.hash); got != p.desc.Digest {
		return fmt.Errorf("%w: the content is %s", ErrDigest, got)
	}
	return nil
}

// pump writes to the file what r gives, and hashes it meanwhile, on another CPU. It
// reads at most one byte more than there should be.
func (p *partial) pump(ctx context.Context, r io.Reader) error {
	free := make(chan []byte, pumpChunks)
	full := make(chan []byte, pumpChunks)
	for range pumpChunks {
		free <- make([]byte, pumpChunk)
	}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for chunk := range full {
			p.hash.Write(chunk)
			free <- chunk[:cap(chunk)]
		}
	}()
	err := p.fill(ctx, io.LimitReader(r, p.desc.Size-p.size+1), free, full)
	close(full)
	<-hashed
	switch {
	case err != nil:
		return err
	case p.size > p.desc.Size:
		return fmt.Errorf("%w: more than %d bytes", ErrSize, p.desc.Size)
	case p.size < p.desc.Size:
		return fmt.Errorf("%w: %d bytes, not %d", ErrSize, p.size, p.desc.Size)
	}
	return nil
}

func (p *partial) fill(ctx context.Context, r io.Reader, free <-chan []byte, full chan<- []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := <-free
		n, err := r.Read(chunk)
		if n > 0 {
			if _, werr := p.file.Write(chunk[:n]); werr != nil {
				return werr
			}
			p.size += int64(n)
			full <- chunk[:n]
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// commit gives the file its name.
func (p *partial) commit(alg digest.Algorithm, name string) error {
	f := p.file
	p.file = nil
	err := p.l.finish(f, true, p.l.own.fileMode)
	if err != nil {
		return err
	}
	dir, err := p.l.makeAlgDir(alg)
	if err == nil {
		err = p.temp.dir.Rename(p.name, dir, name)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// abandon closes the file, which stays for the next attempt unless it is worth
// nothing.
func (p *partial) abandon(worthless bool) error {
	var err error
	if p.file != nil {
		err = p.file.Close()
		p.file = nil
	}
	if worthless || !p.busy {
		err = both(err, p.temp.remove(p.name))
	}
	return err
}
