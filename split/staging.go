// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// staging is the directory in which an OUT is made, beside the place where it is
// to appear. Its name follows from that place, and it is locked as long as somebody
// works in it: so what a crash has left is found and removed.
type staging struct {
	out    string // where it is to appear
	path   string // where it is now
	parent *rooted.Dir
	name   string // in parent
	dir    *rooted.Dir
}

// stagingPrefix starts the names of staging directories.
const stagingPrefix = ".shale-split-"

func newStaging(ctx context.Context, out string) (*staging, error) {
	sum := sha256.Sum256([]byte(filepath.Base(out)))
	s := &staging{out: out, name: stagingPrefix + hex.EncodeToString(sum[:8])}
	s.path = filepath.Join(filepath.Dir(out), s.name)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.parent, err = rooted.Open(filepath.Dir(out) + "/."); err != nil {
		return nil, err
	}
	if s.dir, err = s.make(ctx); err != nil {
		_ = s.parent.Close()
		return nil, fmt.Errorf("make temporary directory %s: %w", quote.Name(s.path), cause(err))
	}
	return s, nil
}

// make makes the directory, and removes one that nobody works in any more first.
func (s *staging) make(ctx context.Context) (*rooted.Dir, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		made := s.parent.Mkdir(s.name, 0o755)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return nil, made
		}
		dir, err := s.parent.OpenDir(s.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody else has just finished or removed it
		} else if err != nil {
			return nil, err
		}
		err = unix.Flock(dir.Fd(), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			_ = dir.Close()
			if made == nil {
				continue // somebody took it for a stale one, and is about to remove it
			}
			return nil, errors.New("another split to the same place is at work")
		}
		// An error of another kind comes from a file system that cannot lock: then
		// nobody can tell who is first.
		same := s.isNamed(dir)
		if made == nil && same {
			return dir, nil
		}
		if same {
			err = s.parent.RemoveAll(s.name)
		} else {
			err = nil
		}
		_ = dir.Close()
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
}

// isNamed reports whether dir still has its name.
func (s *staging) isNamed(dir *rooted.Dir) bool {
	byName, err1 := s.parent.Lstat(s.name)
	byFd, err2 := dir.Lstat(".")
	return err1 == nil && err2 == nil && byName.Dev == byFd.Dev && byName.Ino == byFd.Ino
}

// publish makes what is in the staging directory appear as OUT.
func (s *staging) publish() error {
	err := syncDir(s.path)
	if err == nil {
		err = s.rename(s.name, s.parent, filepath.Base(s.out))
	}
	if err != nil {
		return fmt.Errorf("make %s appear: %w", quote.Name(s.out), err)
	}
	return s.close()
}

// publishVolumes makes each file in the staging directory appear beside it. The list
// of checksums comes last: without it there are no volumes.
func (s *staging) publishVolumes() error {
	list := filepath.Base(checksumName(s.out))
	entries, err := s.dir.Names()
	if err != nil {
		return fmt.Errorf("list volumes: %w", cause(err))
	}
	var done []string
	for _, e := range entries {
		if e.Name == list {
			continue
		}
		if err = s.rename(e.Name, s.parent, e.Name); err != nil {
			break
		}
		done = append(done, e.Name)
	}
	if err == nil {
		err = s.rename(list, s.parent, list)
	}
	if err != nil {
		for _, name := range done {
			err = both(err, s.parent.Remove(name))
		}
		return fmt.Errorf("make %s appear: %w", quote.Name(s.out), err)
	}
	return s.discard()
}

// rename moves what is called old to a name in dir that must be free.
func (s *staging) rename(old string, dir *rooted.Dir, name string) error {
	from := s.dir
	if old == s.name {
		from = s.parent
	}
	err := unix.Renameat2(from.Fd(), old, dir.Fd(), name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system cannot exclude that somebody else makes it just now.
		if _, serr := dir.Lstat(name); serr == nil {
			err = fs.ErrExist
		} else {
			err = from.Rename(old, dir, name)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return errorf(fs.ErrExist, "%s exists already", quote.Name(name))
	}
	if err != nil {
		return cause(err)
	}
	if err := unix.Fsync(dir.Fd()); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// discard removes the staging directory.
func (s *staging) discard() error {
	err := s.parent.RemoveAll(s.name)
	if err != nil {
		err = fmt.Errorf("remove temporary directory: %w", cause(err))
	}
	return both(err, s.close())
}

func (s *staging) close() error {
	_ = s.dir.Close() // both were only read from
	_ = s.parent.Close()
	return nil
}

// writeFile makes a file with data in it, synced.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", quote.Name(filepath.Base(path)), cause(err))
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = both(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(filepath.Base(path)), cause(err))
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // the file system has no such thing
	}
	return both(err, d.Close())
}

// volumeName returns the name of the n-th volume of out, counted from 1.
func volumeName(out string, n int) string {
	return fmt.Sprintf("%s.%03d", strings.TrimRight(out, "/"), n)
}

// checksumName returns the name of the list of checksums of out's volumes.
func checksumName(out string) string { return strings.TrimRight(out, "/") + ".sha256" }
