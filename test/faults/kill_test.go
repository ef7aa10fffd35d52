// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/shale-oci/shale/test/ocitest"
)

// each runs fn for every victim and mode at the same time as for others.
func each(t *testing.T, fn func(t *testing.T, v victim, m *ocitest.Mode)) {
	for i, v := range victims {
		for _, m := range inTurn(i) {
			t.Run(v.name+"/"+m.Name, func(t *testing.T) {
				t.Parallel()
				fn(t, v, m)
			})
		}
	}
}

// TestKill is S1 to S5, S7 and S8: SIGKILL at the k-th system call, for every k.
// In a sample, and in other modes than the first, only those calls count that change
// something: a program that is killed before any other has left the same behind as
// before the next of them.
func TestKill(t *testing.T) {
	each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
		runs, calls := 0, 0
		kill := func(k int, s stage, which func(call) bool) bool {
			got := v.trace(t, s, &tracer{which: which, at: k})
			calls = max(calls, got.calls)
			if got.hit == "" {
				return false
			}
			runs++
			v.judge(t, s, fmt.Sprintf("a kill at call %d (%s)", k, strings.ReplaceAll(got.hit, s.dir+"/", "")))
			return true
		}
		if all && m == modes[0] {
			for k := 1; ; k++ {
				if !kill(k, place(t, m), nil) {
					break
				}
			}
		} else {
			s := place(t, m)
			n := v.trace(t, s, &tracer{which: changes(s.dir)}).calls
			for _, k := range sample(v.name, n, 7) {
				s := place(t, m)
				kill(k, s, changes(s.dir))
			}
		}
		t.Logf("%s was killed at %d of %d calls", v.name, runs, calls)
		if runs == 0 {
			t.Error("nothing was killed")
		}
	})
}

// TestFail is S18, S19 and S21: the k-th call of a kind fails, for every k. The exit
// status must tell whether the work was done.
func TestFail(t *testing.T) {
	if !canFail {
		t.Skip("calls are made to fail on amd64 alone")
	}
	faults := []struct {
		errno syscall.Errno
		calls []string
	}{
		{syscall.ENOSPC, []string{"write", "pwrite64", "openat", "openat2", "mkdirat", "ftruncate", "fallocate", "linkat", "copy_file_range", "mknodat"}},
		{syscall.EIO, []string{"fsync", "fdatasync", "syncfs", "close", "renameat", "renameat2", "fchmod", "fchown", "unlinkat", "write"}},
	}
	each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
		runs := 0
		for _, f := range faults {
			s := place(t, m)
			n := v.trace(t, s, &tracer{which: changes(s.dir, f.calls...)}).calls
			for _, k := range sample(v.name, n, 5) {
				s := place(t, m)
				got := v.trace(t, s, &tracer{which: changes(s.dir, f.calls...), at: k, errno: f.errno})
				if got.hit == "" {
					continue // as many calls as before were not made
				}
				runs++
				after := fmt.Sprintf("%v at call %d (%s)", f.errno, k, strings.ReplaceAll(got.hit, s.dir+"/", ""))
				v.checkStatus(t, s, got, after)
				v.judge(t, s, after)
			}
		}
		t.Logf("%s had %d calls fail", v.name, runs)
		if runs == 0 {
			t.Error("nothing failed")
		}
	})
}

// TestSignal is S10: SIGINT or SIGTERM at the k-th call that changes something. The
// status says what has ended the work, unless it was done already, and without gc there
// is nothing left of it.
func TestSignal(t *testing.T) {
	atLeastOnce(t, "a signal ended nothing", func(happened func()) {
		each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
			ended := 0
			clean := func() stage {
				s := place(t, m)
				remove(t, s.path("layout/.shale-stale"))
				return s
			}
			s := clean()
			n := v.trace(t, s, &tracer{which: changes(s.dir)}).calls
			for i, k := range sample(v.name, n, 4) {
				signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
				s := clean()
				got := v.trace(t, s, &tracer{which: changes(s.dir), at: k, signal: signal})
				if got.hit == "" {
					continue
				}
				after := fmt.Sprintf("%v at call %d (%s)", signal, k, strings.ReplaceAll(got.hit, s.dir+"/", ""))
				switch done := v.committed(t, s, after); {
				case got.status == 128+int(signal):
					ended++
					happened()
					if v.does() && done {
						t.Errorf("%s: after %s: status %d, although it was done", v.name, after, got.status)
					}
					if strings.Count(got.stderr, "\n") > 1 || v.makes != "" && exists(s.path(v.makes)) {
						t.Errorf("%s: after %s: something was left, or said twice: %q", v.name, after, got.stderr)
					}
				case got.status != 0 || got.signal != 0 || v.does() && !done:
					t.Errorf("%s: after %s: status %d, signal %v, and done is %v: %s", v.name, after, got.status, got.signal, done, got.stderr)
				}
				v.tidy(t, s, after)
				v.judge(t, s, after)
			}
			t.Logf("%s was ended %d times by a signal", v.name, ended)
		})
	})
}

// checkStatus checks that the exit status says whether the victim has done what it
// is for, and that there is one line about it if not.
func (v victim) checkStatus(t testing.TB, s stage, got *traced, after string) {
	t.Helper()
	if got.status != 0 && got.status != 1 || got.signal != 0 {
		t.Errorf("%s: after %s: status %d, signal %v\n%s", v.name, after, got.status, got.signal, got.stderr)
	}
	if done := v.committed(t, s, after); v.does() && done != (got.status == 0) {
		t.Errorf("%s: after %s: status %d, and done is %v: %s", v.name, after, got.status, done, got.stderr)
	}
	if lines := strings.Count(got.stderr, "\n"); got.status != 0 && lines != 1 {
		t.Errorf("%s: after %s: not one line: %q", v.name, after, got.stderr)
	}
}
