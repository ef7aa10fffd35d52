// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"path"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// ErrChanged is wrapped by the error about a file that changed while it was
// read.
var ErrChanged = errors.New("file changed while it was read")

// pending is a regular file that must be read for its digest.
type pending struct {
	node int32
	name string
	st   rooted.Stat
}

const (
	// hashBatchBytes and hashBatchFiles bound what is one piece of work: little
	// enough for all workers to end at about the same time, and enough for the
	// locks in between not to matter.
	hashBatchBytes = 4 << 20
	hashBatchFiles = 64
	// hashBuffer is how much of a file is read at a time.
	hashBuffer = 256 << 10
)

// batches cuts files, all in dir, into jobs.
func batches(dir *dirRef, files []pending) []job {
	var jobs []job
	for len(files) > 0 {
		n, size := 0, int64(0)
		for n < len(files) && n < hashBatchFiles && (n == 0 || size+files[n].st.Size <= hashBatchBytes) {
			size += files[n].st.Size
			n++
		}
		jobs = append(jobs, job{dir: dir, hash: files[:n]})
		files = files[n:]
	}
	return jobs
}

// hasher is what a worker needs for hashing.
type hasher struct {
	sha hash.Hash
	buf []byte
}

// hash reads files and adds their digests to the tree.
func (w *walker) hash(j *job, s *scratch) error {
	dir, err := w.dirs.pin(j.dir)
	if err != nil {
		return walkError(j.dir.path(), err)
	}
	defer w.dirs.unpin(j.dir)
	done := make([][sha256.Size]byte, len(j.hash))
	hashed := make([]pending, 0, len(j.hash))
	for _, p := range j.hash {
		digest, err := w.hashFile(dir, &p, &s.hasher, j.unlock)
		if err != nil && !j.unlock && w.opt.Rootless && errors.Is(err, unix.EACCES) {
			// Changing its mode would show under its other names, too: not before
			// all of them have been seen, and not two at a time.
			w.dirs.retain(j.dir, 1)
			w.mu.Lock()
			w.late = append(w.late, job{dir: j.dir, hash: []pending{p}, unlock: true})
			w.mu.Unlock()
			continue
		}
		if err != nil {
			return fmt.Errorf("hash %s: %w", quote.Name(path.Join(j.dir.path(), p.name)), err)
		}
		done[len(hashed)] = digest
		hashed = append(hashed, p)
	}
	w.mu.Lock()
	for i, p := range hashed {
		n := &w.tree.nodes[p.node]
		n.digest, n.known = done[i], n.known|keyDigest
	}
	w.mu.Unlock()
	w.report(int64(len(hashed)), false)
	return nil
}

// hashFile returns the digest of one file. When all is read, the file must still
// be the one that was found, and as long as then; then it was so all the time,
// and asking once is enough.
func (w *walker) hashFile(dir *rooted.Dir, p *pending, h *hasher, unlock bool) (digest [sha256.Size]byte, err error) {
	fd, err := openFile(dir, p, unlock)
	if err != nil {
		return digest, err
	}
	defer unix.Close(fd) //nolint:errcheck // a read-only descriptor has nothing to lose
	if h.sha == nil {
		h.sha, h.buf = sha256.New(), make([]byte, hashBuffer)
	}
	h.sha.Reset()
	for left := p.st.Size; left > 0; {
		if err := w.ctx.Err(); err != nil {
			return digest, err
		}
		n, err := unix.Read(fd, h.buf[:min(left, hashBuffer)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return digest, err
		case n == 0:
			return digest, ErrChanged
		}
		h.sha.Write(h.buf[:n])
		left -= int64(n)
	}
	h.sha.Sum(digest[:0])
	return digest, p.check(fd)
}

// openFile opens a file; if unlock, after making it readable for its owner for
// the moment.
func openFile(dir *rooted.Dir, p *pending, unlock bool) (int, error) {
	if !unlock {
		return dir.OpenFd(p.name)
	}
	if err := dir.Chmod(p.name, p.st.Perm()|0o400); err != nil {
		return -1, err
	}
	fd, err := dir.OpenFd(p.name)
	if err != nil {
		return -1, errors.Join(err, dir.Chmod(p.name, p.st.Perm()))
	}
	if err := unix.Fchmod(fd, p.st.Perm()); err != nil {
		return -1, errors.Join(fmt.Errorf("restore mode: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// check makes sure that fd is the file that was found, and unchanged. The change
// time does not count: a new name or another mode would change it, too.
func (p *pending) check(fd int) error {
	st, err := rooted.FromFd(fd)
	if err != nil {
		return err
	}
	if st.Dev != p.st.Dev || st.Ino != p.st.Ino || st.Size != p.st.Size || st.Mtime != p.st.Mtime {
		return ErrChanged
	}
	return nil
}
