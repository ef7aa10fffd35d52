// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/test/ocitest"
)

// byRoot skips a test that has to mount something.
func byRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to mount a file system")
	}
}

// mounted mounts a tmpfs of that many bytes at dir, if this machine lets it.
func mounted(t *testing.T, dir string, size int64) {
	t.Helper()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size))
	if errors.Is(err, unix.EPERM) {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	must(t, err)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// plain runs the victim without a tracer.
func (v victim) plain(t testing.TB, cmd *exec.Cmd) *traced {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := &traced{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		got.signal = ws.Signal()
	}
	if strings.Contains(got.stderr, "goroutine ") {
		t.Errorf("%s: a crash\n%s", v.name, got.stderr)
	}
	return got
}

// TestSmallDisk is S18: a file system on which there is room for what is there, and
// for a little more or for nothing.
func TestSmallDisk(t *testing.T) {
	byRoot(t)
	atLeastOnce(t, "nothing failed for want of space", func(happened func()) {
		each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
			failed := 0
			for _, room := range []int64{0, 4, 12, 40, 120, 400} {
				s := stage{scratch(t), m}
				mounted(t, s.dir, 64<<20)
				s.fill(t)
				var st unix.Statfs_t
				must(t, unix.Statfs(s.dir, &st))
				used := int64(st.Blocks-st.Bfree) * st.Bsize
				resize := func(size int64) {
					must(t, unix.Mount("tmpfs", s.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
				}
				resize(used + room<<10)
				after := fmt.Sprintf("running with %d KiB free", room)
				got := v.plain(t, s.command(v.line))
				v.checkStatus(t, s, got, after)
				if got.status != 0 {
					failed++
					happened()
					if !strings.Contains(got.stderr, "no space left") {
						t.Errorf("%s: %s: %s", v.name, after, got.stderr)
					}
				}
				if v.name == "gc" && got.status != 0 {
					t.Errorf("gc, which makes room, needs some itself: %s", got.stderr)
				}
				resize(64 << 20)
				v.judge(t, s, after)
			}
			t.Logf("%s failed %d times", v.name, failed)
		})
	})
}

// TestFileSizeLimit is S20: a limit to the size of files, as ulimit -f sets it. It
// comes with a signal that ends those who are not ready for it.
func TestFileSizeLimit(t *testing.T) {
	atLeastOnce(t, "no limit made anything fail", func(happened func()) {
		each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
			for _, blocks := range []string{"0", "1", "8"} { // of 512 or 1024 bytes
				s := place(t, m)
				cmd := s.command(v.line)
				cmd.Args = append([]string{"sh", "-c", "ulimit -f " + blocks + ` && exec "$0" "$@"`, shale}, cmd.Args[1:]...)
				var err error
				cmd.Path, err = exec.LookPath("sh")
				must(t, err)
				after := "running with ulimit -f " + blocks
				got := v.plain(t, cmd)
				v.checkStatus(t, s, got, after)
				if got.status != 0 {
					happened()
				}
				v.judge(t, s, after)
			}
		})
	})
}

// TestReadOnly is S25: reading works on a layout that cannot be written, because of the
// file system or since it is somebody else's, and writing is refused without a trace.
func TestReadOnly(t *testing.T) {
	byRoot(t)
	each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
		s := place(t, m)
		target := s.path(v.target)
		func() {
			defer readOnly(t, target)()
			v.onlyReads(t, s, "read-only")
		}()
		if m.Owner != os.Geteuid() {
			must(t, filepath.WalkDir(target, func(path string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(path, os.Geteuid(), os.Getegid()))
			}))
			if v.makes != "" {
				remove(t, s.path(v.makes))
			}
			v.onlyReads(t, s, "permission denied")
		}
	})
}

// readOnly makes what is below path read-only until the function that it returns is
// called.
func readOnly(t *testing.T, path string) (undo func()) {
	t.Helper()
	err := unix.Mount(path, path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.EPERM) {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	must(t, err)
	must(t, unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	return func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) }
}

// onlyReads runs the victim, which may not write to its target, and commands that do
// not want to. What says why is in the message of those that do.
func (v victim) onlyReads(t *testing.T, s stage, why string) {
	t.Helper()
	target := s.path(v.target)
	before := ocitest.Snapshot(t, target)
	got := v.plain(t, s.command(v.line))
	if reads := v.makes != ""; reads != (got.status == 0) {
		t.Errorf("status %d: %s", got.status, got.stderr)
	} else if !reads && (strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, why)) {
		t.Errorf("not one line that says why: %q", got.stderr)
	}
	for _, line := range []string{"ls --layout " + v.target, "stat --image " + v.target + ":other"} {
		if out, err := s.command(line).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
	ocitest.AssertSame(t, before, ocitest.Snapshot(t, target))
}

// TestCannotLock is S17: a file system that cannot lock. Writers refuse, unless they
// are told that nobody else is there.
func TestCannotLock(t *testing.T) {
	if !canFail {
		t.Skip("calls are made to fail on amd64 alone")
	}
	for _, errno := range []syscall.Errno{syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		each(t, func(t *testing.T, v victim, m *ocitest.Mode) {
			s := place(t, m)
			target := s.path(v.target)
			before := ocitest.Snapshot(t, target)
			tr := &tracer{which: changes(s.dir, "flock"), at: -1, errno: errno}
			got := v.trace(t, s, tr)
			switch {
			case got.hit == "":
				if v.makes == "" {
					t.Error("works without a lock")
				}
				return
			case v.makes != "" && got.status == 0:
				return // what it makes is nobody else's
			case got.status != 1 || !strings.Contains(got.stderr, "--no-lock") && v.makes == "":
				t.Errorf("%v: status %d: %s", errno, got.status, got.stderr)
			}
			ocitest.AssertSame(t, before, ocitest.Snapshot(t, target), "mtime")
			alone := v
			alone.line = "--no-lock " + v.line
			if got := alone.trace(t, s, tr); got.status != 0 && v.makes == "" {
				t.Errorf("%v, with --no-lock: status %d: %s", errno, got.status, got.stderr)
			}
			v.judge(t, s, "running without a lock")
		})
	}
}
