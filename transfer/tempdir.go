// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
)

// tempDir is a directory that is locked as long as its maker lives, so that others can
// tell what a kill has left.
type tempDir struct {
	path string
	lock *os.File
}

// tempPrefix starts the names of such directories.
const tempPrefix = ".shale-temp-"

// newTempDir makes a directory in parent, and removes those that killed processes have
// left there.
func newTempDir(parent string) (*tempDir, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	removeStale(parent)
	for range 100 {
		path, err := os.MkdirTemp(parent, tempPrefix)
		if err != nil {
			return nil, fmt.Errorf("make temporary directory in %s: %w", quote.Name(parent), cause(err))
		}
		if t := lockTempDir(path); t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("make temporary directory in %s: another program keeps removing it", quote.Name(parent))
}

// lockTempDir locks a directory. It returns nil if somebody else has locked it, or has
// removed it just before.
func lockTempDir(path string) *tempDir {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	lock := os.NewFile(uintptr(fd), path)
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS) {
		err = nil // then nobody takes it for a stale one either: see removeStale
	}
	held, err1 := lock.Stat()
	named, err2 := os.Lstat(path)
	if err != nil || err1 != nil || err2 != nil || !os.SameFile(held, named) {
		_ = lock.Close() // nothing was written
		return nil
	}
	return &tempDir{path, lock}
}

// removeStale removes the directories in parent that nobody works in any more, as far as
// they are the user's own. What cannot be removed stays.
func removeStale(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		var st unix.Stat_t
		if !strings.HasPrefix(e.Name(), tempPrefix) || unix.Lstat(path, &st) != nil || int(st.Uid) != os.Geteuid() {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path) // what stays is for the next one
		}
		_ = unix.Close(fd)
	}
}

func (t *tempDir) remove() error {
	err := os.RemoveAll(t.path)
	_ = t.lock.Close() // nothing was written
	if err != nil {
		return fmt.Errorf("remove temporary directory: %w", err)
	}
	return nil
}
