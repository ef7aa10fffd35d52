// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// childEnv turns the test binary into a writer: its value is the command, the
// arguments are the layout and what childCommands say.
const childEnv = "SHALE_LAYOUT_TEST_CHILD"

func TestMain(m *testing.M) {
	if cmd := os.Getenv(childEnv); cmd != "" {
		if err := childCommands[cmd](context.Background(), os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var childCommands = map[string]func(ctx context.Context, path string, args []string) error{
	// create makes the layout.
	"create": func(ctx context.Context, path string, _ []string) error {
		l, err := Create(ctx, path)
		if err != nil {
			return err
		}
		return l.Close()
	},
	// tag makes a second ref of one that is there.
	"tag": func(ctx context.Context, path string, args []string) error {
		return with(ctx, path, func(l *Layout) error { return l.Tag(ctx, args[0], args[1]) })
	},
	// commit writes one new image and makes a ref of it.
	"commit": func(ctx context.Context, path string, args []string) error {
		return with(ctx, path, func(l *Layout) error { return commitImage(ctx, l, args[0]) })
	},
	// commits does so again and again, until it is killed.
	"commits": func(ctx context.Context, path string, args []string) error {
		for i := 0; ; i++ {
			err := with(ctx, path, func(l *Layout) error {
				return commitImage(ctx, l, fmt.Sprintf("%s-%d", args[0], i%3))
			})
			if err != nil {
				return err
			}
		}
	},
	// gc collects garbage once.
	"gc": func(ctx context.Context, path string, _ []string) error {
		return with(ctx, path, func(l *Layout) error { _, err := l.GC(ctx, nil); return err })
	},
	// unlocked is gc with Options.NoLock.
	"unlocked": func(ctx context.Context, path string, _ []string) error {
		l, err := Open(ctx, path, &Options{NoLock: true})
		if err != nil {
			return err
		}
		if err := commitImage(ctx, l, "unlocked"); err != nil {
			return both(err, l.Close())
		}
		_, err = l.GC(ctx, nil)
		return both(err, l.Close())
	},
	// lock holds the lock until it is killed.
	"lock": func(ctx context.Context, path string, _ []string) error {
		return with(ctx, path, func(l *Layout) error {
			return l.Update(ctx, func(*ispec.Index) error {
				fmt.Println("locked")
				time.Sleep(time.Hour)
				return nil
			})
		})
	},
}

func with(ctx context.Context, path string, fn func(*Layout) error) error {
	l, err := Open(ctx, path, nil)
	if err != nil {
		return err
	}
	return both(fn(l), l.Close())
}

func commitImage(ctx context.Context, l *Layout, name string) error {
	d, err := writeImage(ctx, l, name, ispec.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		return err
	}
	return l.SetRef(ctx, name, d)
}

func child(t testing.TB, cmd, path string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe", append([]string{path}, args...)...)
	c.Env = append(os.Environ(), childEnv+"="+cmd)
	return c
}

func TestHundredProcessesTag(t *testing.T) {
	l := newLayout(t)
	point(t, l, "base", putImage(t, l, "base"))
	l = reopen(t, l)
	var children []*exec.Cmd
	for i := range 100 {
		c := child(t, "tag", l.path, "base", fmt.Sprintf("v%d", i))
		c.Stderr = new(bytes.Buffer)
		must(t, c.Start())
		children = append(children, c)
	}
	for i, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("%d: %v: %v", i, err, c.Stderr)
		}
	}
	wantHundred(t, l)
}

func TestHundredGoroutinesTag(t *testing.T) {
	l := newLayout(t)
	point(t, l, "base", putImage(t, l, "base"))
	other := openLayout(t, l.path, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := []*Layout{l, other}[i%2].Tag(t.Context(), "base", fmt.Sprintf("v%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, other.Close())
	l = reopen(t, l)
	wantHundred(t, l)
}

func wantHundred(t *testing.T, l *Layout) {
	t.Helper()
	list, err := l.Refs(t.Context())
	must(t, err)
	if len(list) != 101 || len(unique(list)) != 101 {
		t.Errorf("got %d refs, %d of them different", len(list), len(unique(list)))
	}
	checkWhole(t, l.path)
	if left := tempDirs(t, l.path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestReadersDuringWrites is S14: whatever a reader sees is whole.
func TestReadersDuringWrites(t *testing.T) {
	l := newLayout(t)
	point(t, l, "base", putImage(t, l, "base"))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			if err := l.Tag(t.Context(), "base", fmt.Sprintf("v%d", i%20)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	reader := openLayout(t, l.path, nil)
	for range 3000 {
		if _, err := reader.Resolve(t.Context(), "base", nil); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestCommitsAgainstGC lets writers and collectors work on one layout. No ref may
// be lost and no image may miss a blob. The images share blobs with ones that are
// being removed all the time.
func TestCommitsAgainstGC(t *testing.T) {
	l := newLayout(t)
	deadline := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	run := func(fn func(l *Layout, round int) error) {
		wg.Go(func() {
			for round := 0; time.Now().Before(deadline); round++ {
				err := with(t.Context(), l.path, func(l *Layout) error { return fn(l, round) })
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for w := range 4 {
		run(func(l *Layout, round int) error {
			ctx := t.Context()
			name := fmt.Sprintf("shared-%d", round%3)
			d, err := writeImage(ctx, l, name, ispec.Platform{OS: "linux", Architecture: "amd64"})
			if err != nil {
				return err
			}
			ref := fmt.Sprintf("w%d", w)
			if err := l.SetRef(ctx, ref, d); err != nil {
				return err
			}
			path, err := l.Resolve(ctx, ref, nil)
			if err != nil {
				return err
			}
			if path.Target().Digest != d.Digest {
				return errors.New("somebody else moved my ref")
			}
			if round%2 == 0 {
				_, err = l.DeleteRef(ctx, ref)
			}
			return err
		})
	}
	for range 2 {
		run(func(l *Layout, _ int) error {
			_, err := l.GC(t.Context(), nil)
			return err
		})
	}
	run(func(l *Layout, _ int) error {
		_, err := l.GC(t.Context(), &GCOptions{DryRun: true})
		return err
	})
	wg.Wait()
	checkWhole(t, l.path)
	l = reopen(t, l)
	_, err := l.GC(t.Context(), nil)
	must(t, err)
	checkWhole(t, l.path)
	if left := tempDirs(t, l.path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKilledWriters kills processes that write images at random moments.
func TestKilledWriters(t *testing.T) {
	l := newLayout(t)
	must(t, commitImage(t.Context(), l, "base"))
	must(t, l.Close())
	kills := 40
	if testing.Short() {
		kills = 5
	}
	for range kills {
		var children []*exec.Cmd
		for i := range 2 {
			c := child(t, "commits", l.path, fmt.Sprintf("w%d", i))
			must(t, c.Start())
			children = append(children, c)
		}
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		for _, c := range children {
			must(t, c.Process.Kill())
			_ = c.Wait()
		}
		checkWhole(t, l.path)
	}
	c := child(t, "gc", l.path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	checkWhole(t, l.path)
	if left := tempDirs(t, l.path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	l = openLayout(t, l.path, nil)
	if _, err := l.Resolve(t.Context(), "base", nil); err != nil {
		t.Error(err)
	}
}

// TestKilledWithLock is S9.
func TestKilledWithLock(t *testing.T) {
	l := newLayout(t)
	point(t, l, "base", putImage(t, l, "base"))
	c := child(t, "lock", l.path)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Tag(ctx, "base", "v1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lock is not held: %v", err)
	}
	must(t, c.Process.Kill())
	start := time.Now()
	must(t, l.Tag(t.Context(), "base", "v1"))
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	_ = c.Wait()
}

// strace runs a child and does something to its k-th call of a kind.
func strace(t *testing.T, cmd, path string, args []string, inject string) (*exec.Cmd, string) {
	t.Helper()
	call, _, _ := strings.Cut(inject, ":")
	c := child(t, cmd, path, args...)
	log := filepath.Join(t.TempDir(), "strace")
	exe, err := os.Executable()
	must(t, err)
	c.Args = append([]string{"strace", "-f", "-qq", "-o", log, "-e", "trace=" + call, "-e", "inject=" + inject, exe}, c.Args[1:]...)
	c.Path, err = exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	return c, log
}

// faultCommand is a command that the tests below disturb. It starts from a layout
// with the ref base; old and new are what index.json may list afterwards.
type faultCommand struct {
	cmd      string
	args     []string
	old, new string
}

var faultCommands = []faultCommand{
	{"tag", []string{"base", "v1"}, "base", "base v1"},
	{"commit", []string{"v1"}, "base", "base v1"},
	{"gc", nil, "base", "base"},
}

// withFaults calls run for the first, second, ... call of the kind until there are
// no more: run reports whether the fault happened.
func withFaults(t *testing.T, call string, run func(k int) bool) {
	t.Helper()
	for k := 1; k < 400; k++ {
		if !run(k) {
			return
		}
	}
	t.Errorf("%s: no end", call)
}

// faultLayout makes the layout that faultCommands start from, with garbage in it.
func faultLayout(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout")
	l, err := Create(t.Context(), path)
	must(t, err)
	putImage(t, l, "garbage")
	must(t, commitImage(t.Context(), l, "base"))
	must(t, l.Close())
	must(t, os.Mkdir(filepath.Join(path, ".shale-stale"), 0o755))
	return path
}

// checkAfterFault checks what hostile.md asks for after each fault.
func checkAfterFault(t *testing.T, path string, fc faultCommand, refs string) {
	t.Helper()
	checkWhole(t, path)
	if refs != fc.old && refs != fc.new {
		t.Errorf("refs are %q", refs)
	}
	if out, err := child(t, fc.cmd, path, fc.args...).CombinedOutput(); err != nil {
		t.Errorf("retry: %v: %s", err, out)
	}
	if out, err := child(t, "gc", path).CombinedOutput(); err != nil {
		t.Errorf("gc: %v: %s", err, out)
	}
	if left := tempDirs(t, path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	checkWhole(t, path)
}

// TestKillAtEachCall is S1, S3 and S7: SIGKILL at the k-th call, for every k.
func TestKillAtEachCall(t *testing.T) {
	if testing.Short() {
		t.Skip("runs hundreds of processes")
	}
	for _, fc := range faultCommands {
		for _, call := range []string{"mkdirat", "flock", "fchmod", "fsync", "renameat", "renameat2", "unlinkat"} {
			t.Run(fc.cmd+" "+call, func(t *testing.T) {
				withFaults(t, call, func(k int) bool {
					path := faultLayout(t)
					c, _ := strace(t, fc.cmd, path, fc.args, fmt.Sprintf("%s:signal=SIGKILL:when=%d", call, k))
					if err := c.Run(); err == nil {
						return false
					}
					l := openLayout(t, path, nil)
					now := refs(t, l)
					must(t, l.Close())
					checkAfterFault(t, path, fc, now)
					return true
				})
			})
		}
	}
	for _, call := range []string{"mkdirat", "openat", "write", "fsync", "renameat2", "close"} {
		t.Run("create "+call, func(t *testing.T) {
			withFaults(t, call, func(k int) bool {
				dir := t.TempDir()
				path := filepath.Join(dir, "layout")
				c, _ := strace(t, "create", path, nil, fmt.Sprintf("%s:signal=SIGKILL:when=%d", call, k))
				err := c.Run()
				if err == nil {
					return false
				}
				if _, err := os.Lstat(path); err != nil {
					if out, err := child(t, "create", path).CombinedOutput(); err != nil {
						t.Errorf("retry: %v: %s", err, out)
					}
				}
				checkWhole(t, path)
				if left := tempDirs(t, dir); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				return true
			})
		})
	}
}

// injectedIntoMessage matches the trace of a write to the standard error that failed.
var injectedIntoMessage = regexp.MustCompile(`(?m)\bwrite\(2, .*\(INJECTED\)$`)

// TestErrorAtEachCall is S18 to S21: the k-th call fails, for every k. The exit
// status must tell whether the change was made.
func TestErrorAtEachCall(t *testing.T) {
	if testing.Short() {
		t.Skip("runs hundreds of processes")
	}
	for _, fc := range faultCommands {
		for _, fault := range []string{
			"write:error=ENOSPC", "fsync:error=EIO", "close:error=EIO", "renameat:error=EIO",
			"mkdirat:error=ENOSPC", "fchmod:error=EIO", "unlinkat:error=EIO",
		} {
			call, _, _ := strings.Cut(fault, ":")
			t.Run(fc.cmd+" "+fault, func(t *testing.T) {
				withFaults(t, call, func(k int) bool {
					path := faultLayout(t)
					c, log := strace(t, fc.cmd, path, fc.args, fault+":when="+strconv.Itoa(k))
					out, err := c.CombinedOutput()
					trace, readErr := os.ReadFile(log)
					must(t, readErr)
					if !bytes.Contains(trace, []byte("(INJECTED)")) {
						if err != nil {
							t.Errorf("fails without a fault: %v: %s", err, out)
						}
						return false
					}
					// The k-th call is that of a thread, and the message may come from another.
					lost := injectedIntoMessage.Match(trace)
					if err != nil && (!lost && len(bytes.TrimSpace(out)) == 0 || bytes.Count(out, []byte("\n")) > 1) {
						t.Errorf("k=%d: message is %q", k, out)
					}
					l := openLayout(t, path, nil)
					now := refs(t, l)
					must(t, l.Close())
					if (err == nil) != (now == fc.new) && fc.old != fc.new {
						t.Errorf("k=%d: refs are %q, and the error is %v: %s", k, now, err, out)
					}
					checkAfterFault(t, path, fc, now)
					return true
				})
			})
		}
	}
}

// TestCannotLock is S17.
func TestCannotLock(t *testing.T) {
	for _, errno := range []string{"ENOLCK", "EOPNOTSUPP"} {
		for _, cmd := range []string{"commit", "gc"} {
			path := faultLayout(t)
			before := snapshot(t, path)
			c, _ := strace(t, cmd, path, []string{"v1"}, "flock:error="+errno)
			out, err := c.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--no-lock") {
				t.Errorf("%s: %v: %s", cmd, err, out)
			}
			if after := snapshot(t, path); after != before {
				t.Errorf("%s changed:\n%s\n%s", cmd, before, after)
			}
		}
		path := faultLayout(t)
		c, _ := strace(t, "unlocked", path, nil, "flock:error="+errno)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("without a lock: %v: %s", err, out)
		}
		checkWhole(t, path)
		l := openLayout(t, path, nil)
		if list, err := l.Refs(t.Context()); err != nil || !slices.Contains(list, "unlocked") {
			t.Errorf("got %v, %v", list, err)
		}
	}
}
