// SPDX-License-Identifier: Apache-2.0

// Package rooted gives one view of a directory tree that nothing escapes.
//
// A [Dir] is an open directory. Every operation names one entry of that
// directory by a single component and never follows a symbolic link in it, so
// that no name out of an image and no link that somebody swaps in meanwhile
// leads out of the tree: a path is only ever walked descriptor by descriptor.
//
// Start with [Open] and go down with [Dir.OpenDir] or [Dir.OpenPath].
package rooted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
)

// ErrName is returned for a name that is not a single component.
var ErrName = errors.New("not a single path component")

// Dir is an open directory. Its methods are safe for concurrent use, except
// for Close.
type Dir struct {
	fd int
}

// Open opens the directory at path. The last component must be a directory
// itself, not a symbolic link to one; links before it are followed.
func Open(path string) (*Dir, error) {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open directory", path, err)
	}
	return &Dir{fd: fd}, nil
}

// Fd returns the descriptor, which stays owned by d.
func (d *Dir) Fd() int { return d.fd }

// Close closes the descriptor.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// OpenDir opens the directory called name, which must not be a symbolic link.
// The name "." opens d once more.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	if name != "." {
		if err := check("open directory", name); err != nil {
			return nil, err
		}
	}
	fd, err := openRetry(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open directory", name, err)
	}
	return &Dir{fd: fd}, nil
}

// noOpenat2 is set once the kernel (or a seccomp filter) has refused openat2.
var noOpenat2 atomic.Bool

// maxPath is how long a path may be that goes to the kernel in one piece.
const maxPath = 4000

// OpenPath opens the directory at rel, a slash-separated path below d without
// any symbolic link in it. The path "." opens d once more. There is no limit to
// the length of rel.
func (d *Dir) OpenPath(rel string) (*Dir, error) {
	cur := d
	for {
		part, rest := rel, ""
		if len(rel) > maxPath {
			// A component has at most 255 bytes, so that there is a slash.
			if i := strings.LastIndexByte(rel[:maxPath], '/'); i > 0 {
				part, rest = rel[:i], rel[i+1:]
			}
		}
		next, err := cur.openPart(part)
		if cur != d {
			cur.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		}
		if err != nil || rest == "" {
			return next, err
		}
		cur, rel = next, rest
	}
}

// openPart is OpenPath for a path that the kernel takes in one piece.
func (d *Dir) openPart(rel string) (*Dir, error) {
	if !noOpenat2.Load() {
		fd, err := openat2Retry(d.fd, rel, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case err == nil:
			return &Dir{fd: fd}, nil
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.E2BIG):
			noOpenat2.Store(true)
		default:
			return nil, pathError("open directory", rel, err)
		}
	}
	return d.openSteps(rel)
}

// openSteps is OpenPath one component at a time.
func (d *Dir) openSteps(rel string) (*Dir, error) {
	cur, err := d.OpenDir(".")
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(rel, "/") {
		if name == "." || name == "" {
			continue
		}
		next, err := cur.OpenDir(name)
		cur.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		if err != nil {
			return nil, err
		}
		cur = next
	}
	return cur, nil
}

// Open opens the regular file called name for reading. Anything but a regular
// file is refused, without waiting for the other end of a FIFO and without
// touching a device.
func (d *Dir) Open(name string) (*os.File, error) {
	fd, err := d.OpenFd(name)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// OpenFd is Open for callers that read very many files: it returns the bare
// descriptor, which the caller closes.
func (d *Dir) OpenFd(name string) (int, error) {
	if err := check("open", name); err != nil {
		return -1, err
	}
	fd, err := openRetry(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, pathError("open", name, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("%s, not a regular file", typeName(st.Mode))
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return -1, pathError("open", name, err)
	}
	return fd, nil
}

// Lstat returns the facts about the entry called name; "." stands for d itself.
func (d *Dir) Lstat(name string) (Stat, error) {
	if name != "." {
		if err := check("stat", name); err != nil {
			return Stat{}, err
		}
	}
	var st unix.Stat_t
	if err := ignoringEINTR(func() error {
		return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}); err != nil {
		return Stat{}, pathError("stat", name, err)
	}
	return toStat(&st), nil
}

// Readlink returns the target of the symbolic link called name.
func (d *Dir) Readlink(name string) (string, error) {
	if err := check("read link", name); err != nil {
		return "", err
	}
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(d.fd, name, buf)
		if err != nil {
			return "", pathError("read link", name, err)
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// check refuses every name that is not exactly one component.
func check(op, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return pathError(op, name, ErrName)
	}
	return nil
}

// pathError is a [fs.PathError] whose name is safe to print.
func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: quote.Name(name), Err: err}
}

func openRetry(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(dirfd, name, flags, mode)
		return err
	})
	return fd, err
}

// openat2Retry tries again where the kernel asks for it: RESOLVE_BENEATH ends
// in EAGAIN when a rename somewhere raced with the walk.
func openat2Retry(dirfd int, name string, how *unix.OpenHow) (fd int, err error) {
	for range 64 {
		fd, err = unix.Openat2(dirfd, name, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return fd, err
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
