// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// tempPrefix starts the names of temporary directories.
const tempPrefix = ".shale-"

// tempDir is the directory in a layout for files that are being written. It is
// locked as long as the process lives, which is how gc knows that it is in use,
// and holds an empty file for each blob that the process counts on.
type tempDir struct {
	dir  *rooted.Dir
	name string
	seq  atomic.Int64

	mu   sync.Mutex
	held map[digest.Digest]bool // what has such a file
	busy map[digest.Digest]bool // whose beginning somebody is adding to
}

// openTemp returns the temporary directory, which it makes if there is none yet.
func (l *Layout) openTemp(ctx context.Context) (*tempDir, error) {
	l.tempMu.Lock()
	t := l.temp
	l.tempMu.Unlock()
	if t != nil {
		return t, nil
	}
	// gc, which holds the lock exclusively, never sees a directory that is not
	// locked yet.
	unlock, err := l.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.openTempLocked(ctx)
}

// openTempLocked is openTemp for callers that hold the layout's lock. The lock
// always comes before tempMu, or two goroutines could wait for each other.
func (l *Layout) openTempLocked(ctx context.Context) (*tempDir, error) {
	l.tempMu.Lock()
	defer l.tempMu.Unlock()
	if l.temp != nil {
		return l.temp, nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := tempPrefix + strings.ToLower(rand.Text()[:10])
		err := l.dir.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("make temporary directory: %w", cause(err))
		}
		dir, err := l.lockTemp(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("make temporary directory: %w", both(err, l.dir.RemoveAll(name)))
		}
		if dir != nil {
			l.temp = &tempDir{dir: dir, name: name, held: map[digest.Digest]bool{}}
			return l.temp, nil
		}
	}
}

// lockTemp opens and locks a temporary directory that was just made. It returns
// nil if somebody who does not know our lock took it for a stale one meanwhile.
func (l *Layout) lockTemp(ctx context.Context, name string) (*rooted.Dir, error) {
	dir, err := l.dir.OpenDir(name)
	if err != nil {
		return nil, cause(err)
	}
	err = flock(ctx, dir.Fd(), unix.LOCK_EX)
	if l.opt.NoLock && errors.Is(err, ErrLock) {
		err = nil
	}
	if err == nil {
		err = l.own.adopt(dir.Fd(), l.own.dirMode)
	}
	if err != nil || !sameDir(l.dir, name, dir) {
		closeDir(dir)
		return nil, err
	}
	return dir, nil
}

// sameDir reports whether name in parent still is the directory d.
func sameDir(parent *rooted.Dir, name string, d *rooted.Dir) bool {
	byName, err1 := parent.Lstat(name)
	byFd, err2 := d.Lstat(".")
	return err1 == nil && err2 == nil && byName.Dev == byFd.Dev && byName.Ino == byFd.Ino
}

// closeTemp removes the temporary directory, but for beginnings of blobs that are worth
// keeping, and then drops its lock.
func (l *Layout) closeTemp() {
	l.tempMu.Lock()
	defer l.tempMu.Unlock()
	if l.temp != nil {
		if !l.temp.keepPartials() {
			_ = l.dir.RemoveAll(l.temp.name)
		}
		closeDir(l.temp.dir)
		l.temp = nil
	}
}

// create makes a new file.
func (t *tempDir) create() (*os.File, string, error) {
	name := "tmp-" + strconv.FormatInt(t.seq.Add(1), 10)
	f, err := t.dir.Create(name, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("create temporary file: %w", cause(err))
	}
	return f, name, nil
}

// writeTemp makes a new file with data in it, synced and adopted, and returns its
// name.
func (l *Layout) writeTemp(t *tempDir, data []byte, mode uint32) (string, error) {
	f, name, err := t.create()
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = both(err, l.finish(f, err == nil, mode))
	if err != nil {
		return "", fmt.Errorf("write temporary file: %w", both(cause(err), t.remove(name)))
	}
	return name, nil
}

// finish adopts, syncs and closes a temporary file. If what was written is not
// good it only closes the file.
func (l *Layout) finish(f *os.File, good bool, mode uint32) error {
	var err error
	if good {
		if err = l.own.adopt(int(f.Fd()), mode); err == nil {
			err = f.Sync()
		}
	}
	return both(err, f.Close())
}

// remove removes a temporary file that may have been renamed already.
func (t *tempDir) remove(name string) error {
	if err := t.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove temporary file: %w", cause(err))
	}
	return nil
}

// Hold keeps the blobs that the descriptors name from being removed by gc until
// the layout is closed, whether or not anything refers to them. It does not say
// that they are there: whoever needs that asks [Layout.HasBlob] afterwards. Blobs
// that were put are held anyway, and digests with an algorithm that is not supported
// name no blob that gc could remove.
func (l *Layout) Hold(ctx context.Context, ds ...ispec.Descriptor) error {
	var known []ispec.Descriptor
	for _, d := range ds {
		_, _, err := splitDigest(d.Digest)
		if errors.Is(err, errMalformed) {
			return opError("hold blob", string(d.Digest), err)
		}
		if err == nil {
			known = append(known, d)
		}
	}
	return opError("hold blobs", "", l.hold(ctx, known))
}

func (l *Layout) hold(ctx context.Context, ds []ispec.Descriptor) error {
	t, err := l.openTemp(ctx)
	if err != nil {
		return err
	}
	if t.holds(ds) {
		return nil
	}
	// A gc that has already read the notes of all writers must be over before
	// this one counts.
	unlock, err := l.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	for _, d := range ds {
		if err := t.note(d.Digest); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether there are notes for all of ds.
func (t *tempDir) holds(ds []ispec.Descriptor) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range ds {
		if !t.held[d.Digest] {
			return false
		}
	}
	return true
}

// note makes the empty file that says that the blob is counted on.
func (t *tempDir) note(d digest.Digest) error {
	fd, err := t.dir.CreateFd(noteName(d), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note down blob %s: %w", d, cause(err))
	}
	if err == nil {
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("note down blob %s: %w", d, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[d] = true
	return nil
}

// noteName is the name of the note for a digest that is known to be well-formed.
func noteName(d digest.Digest) string {
	return strings.Replace(string(d), ":", "-", 1)
}

// noteDigest is the reverse of noteName.
func noteDigest(name string) (digest.Digest, bool) {
	d := digest.Digest(strings.Replace(name, "-", ":", 1))
	_, _, err := splitDigest(d)
	return d, err == nil
}

// syncDir makes the names in d durable.
func syncDir(d *rooted.Dir) error {
	err := unix.Fsync(d.Fd())
	if errors.Is(err, unix.EINVAL) {
		return nil // the file system has no such thing
	}
	return err
}
