// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// Stamp is a point in time on the clock of one file system: the clock that its
// change times come from, which on a network is that of the server.
type Stamp struct {
	Dev  uint64 // the device of the file system
	Time rooted.Timespec
}

// TakeStamp returns the present time of the file system that dir is on, by
// making a file in dir that is gone again afterwards. It never has a name where
// the file system can do that.
//
// The stamp of a stat cache is taken before the walk that fills it: what changes
// during the walk, or after it, then has a change time that is not before the
// stamp.
func TakeStamp(dir *rooted.Dir) (Stamp, error) {
	fd, err := unix.Openat(dir.Fd(), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		fd, err = createRemoved(dir)
	}
	if err != nil {
		return Stamp{}, fmt.Errorf("take the time of the file system: %w", err)
	}
	st, err := rooted.FromFd(fd)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return Stamp{}, fmt.Errorf("take the time of the file system: %w", err)
	}
	return Stamp{Dev: st.Dev, Time: st.Ctime}, nil
}

// createRemoved makes a file in dir and removes its name at once, for file
// systems that need one. The removal is a change as well, so that the change
// time is that of the removal.
func createRemoved(dir *rooted.Dir) (fd int, err error) {
	name := fmt.Sprintf(".stamp-%016x", rand.Uint64())
	if fd, err = dir.CreateFd(name, 0o600); err != nil {
		return -1, err
	}
	if err := dir.Remove(name); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

const (
	// fineMargin is far more than a tick of the kernel's coarse clock (10 ms at
	// most), by which change times of files and stamps may be out of order.
	fineMargin = 20e6 // ns
	// coarseMargin is a whole tick of the file systems with the coarsest times
	// (FAT: 2 s).
	coarseMargin = 2 // s
)

// settled reports whether a file with the given change time was left alone from
// then on until the stamp was taken, and has a time that no later change can
// give it again.
//
// This is git's "racy" rule: times are no finer than the clock's tick, so that a
// file that was changed, looked at, and changed again within one tick shows
// nothing of the second change. If its time is older than the stamp by more than
// a tick, however, then the second change can only have come after the stamp,
// and then it has another time. A file system that keeps whole seconds only, be
// it in general or just for an old inode, gives itself away by nanoseconds that
// are 0; where it is a coincidence, one file is hashed without need.
func (s Stamp) settled(ctime rooted.Timespec) bool {
	if s.Time.Nsec == 0 || ctime.Nsec == 0 {
		return ctime.Sec < s.Time.Sec-coarseMargin
	}
	ctime.Nsec += fineMargin
	if ctime.Nsec >= 1e9 {
		ctime.Sec, ctime.Nsec = ctime.Sec+1, ctime.Nsec-1e9
	}
	return ctime.Before(s.Time)
}
