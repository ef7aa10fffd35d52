// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// How long to sleep between two attempts to get a lock.
const (
	minLockWait = 100 * time.Microsecond
	maxLockWait = 5 * time.Millisecond
)

// lock takes the layout's lock, unix.LOCK_EX or unix.LOCK_SH, and returns a
// function that gives it back. Each call opens the directory anew, because a lock
// belongs to the open file: goroutines exclude each other as processes do.
func (l *Layout) lock(ctx context.Context, how int) (unlock func(), err error) {
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if l.opt.NoLock {
		return func() {}, nil
	}
	d, err := l.dir.OpenDir(".")
	if err != nil {
		return nil, fmt.Errorf("lock layout: %w", cause(err))
	}
	if err := flock(ctx, d.Fd(), how); err != nil {
		closeDir(d)
		return nil, err
	}
	return func() {
		// A process that is being forked may hold a copy of the descriptor for
		// a moment, so that closing it alone would not do.
		_ = unix.Flock(d.Fd(), unix.LOCK_UN)
		closeDir(d)
	}, nil
}

// flock waits for a lock on fd until ctx is done. It tries again and again, with
// a short sleep in between: a thread that sleeps in flock(2) could not be woken.
func flock(ctx context.Context, fd, how int) error {
	for wait := minLockWait; ; wait = min(wait*3/2, maxLockWait) {
		err := tryLock(fd, how)
		if err == nil || errors.Is(err, ErrLock) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the lock: %w", ctx.Err())
		case <-timer.C:
		}
	}
}

// tryLock makes one attempt. The error is unix.EWOULDBLOCK if another open file
// holds the lock, and otherwise ErrLock.
func tryLock(fd, how int) error {
	for {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		switch {
		case err == nil, errors.Is(err, unix.EWOULDBLOCK):
			return err
		case !errors.Is(err, unix.EINTR):
			return as(ErrLock, fmt.Errorf("the file system cannot lock the layout (%w): "+
				"if nobody else uses it now, go on without a lock (Options.NoLock, --no-lock)", err))
		}
	}
}
