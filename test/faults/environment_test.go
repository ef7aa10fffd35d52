// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// story is what is done in every environment, on a stage. Lines that begin with a bang
// are for the tests themselves.
var story = []string{
	"init --layout fresh",
	"new --image fresh:v",
	"config --image fresh:v --author me --config.env A=b",
	"insert --image layout:base --tag inserted file /etc/file",
	"unpack --image layout:inserted made",
	"!edit made/rootfs/etc/file",
	"repack --image layout:repacked made",
	"!edit made/rootfs/d/f",
	"repack --image layout:again --refresh-bundle made",
	"raw unpack --image layout:again rootfs",
	"tag --image layout:again last",
	"rm --image layout:repacked",
	"split --image layout:last --base layout:other parts",
	"join parts --image site:joined",
	"copy layout:last site:copied",
	"squash --image layout:last --tag squashed",
	"export --image layout:last exported",
	"pack --image layout:packed rootfs",
	"gc --layout layout",
	"ls --layout layout",
	"stat --json --image layout:last",
	"verify --layout layout",
	"diff layout:last layout:other",
}

// outcome is what a story has come to.
type outcome struct {
	said []string // what each command has printed
	tree ocitest.Tree
}

// tell does what the story says; run is how a command is run.
func (s stage) tell(t *testing.T, run func(s stage, line string) *traced) outcome {
	t.Helper()
	// The copy has other inode numbers than the stat cache of the template says; a
	// story makes its own bundle.
	remove(t, s.path("bundle"))
	var o outcome
	for _, line := range story {
		if path, ok := strings.CutPrefix(line, "!edit "); ok {
			edit(t, s.path(path))
			continue
		}
		got := run(s, line)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%s: status %d, %q", line, got.status, got.stderr)
		}
		o.said = append(o.said, got.stdout)
	}
	o.tree = ocitest.Tree{}
	for name, f := range ocitest.Snapshot(t, s.dir) {
		switch {
		case name == ".", strings.HasPrefix(name, "home"):
			continue
		case strings.HasSuffix(name, ".statcache"), strings.HasSuffix(name, ".mtree"):
			f.SHA256, f.Size = "", 0 // has times and places in it
		}
		o.tree[name] = f
	}
	return o
}

// edit changes the content of a file and neither its size nor its time.
func edit(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	data, err := os.ReadFile(path)
	must(t, err)
	data[0] ^= 1
	must(t, os.WriteFile(path, data, 0))
	must(t, os.Chtimes(path, time.Time{}, info.ModTime()))
}

// same compares two outcomes. Times are those of the clock, but in trees that were
// unpacked.
func (o outcome) same(t *testing.T, other outcome) {
	t.Helper()
	if !slices.Equal(o.said, other.said) {
		t.Errorf("the commands say\n%q, not\n%q", other.said, o.said)
	}
	if lines := ocitest.Diff(o.tree, other.tree, "mtime"); len(lines) > 0 {
		t.Errorf("what was made differs:\n%s", strings.Join(lines, "\n"))
	}
	if lines := ocitest.Diff(o.unpacked(), other.unpacked()); len(lines) > 0 {
		t.Errorf("what was unpacked differs:\n%s", strings.Join(lines, "\n"))
	}
}

// unpacked returns what is below the root filesystems.
func (o outcome) unpacked() ocitest.Tree {
	tree := ocitest.Tree{}
	for name, f := range o.tree {
		if strings.HasPrefix(name, "rootfs/") || strings.HasPrefix(name, "made/rootfs/") {
			tree[name] = f
		}
	}
	return tree
}

// in runs a command by a shell that first does something to the environment.
func in(t *testing.T, before string, env ...string) func(s stage, line string) *traced {
	return func(s stage, line string) *traced {
		return victim{name: line}.plain(t, s.shell(t, before, line, env...))
	}
}

// shell is command by way of a shell. Of env, what has no value is not there at all.
func (s stage) shell(t *testing.T, before, line string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := s.command(line)
	cmd.Args = append([]string{"sh", "-c", before + ` exec "$0" "$@" ` + redirect(before), shale}, cmd.Args[1:]...)
	for _, e := range env {
		name, value, set := strings.Cut(e, "=")
		cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		if set {
			cmd.Env = append(cmd.Env, name+"="+strings.ReplaceAll(value, "@DIR", s.dir))
		}
	}
	var err error
	cmd.Path, err = exec.LookPath("sh")
	must(t, err)
	return cmd
}

// redirect is what a command line of the shell ends with.
func redirect(before string) string {
	if before == closedStdin {
		return "<&-"
	}
	return ""
}

const closedStdin = ": closed stdin;"

// masked is the outcome with the modes that new files get with that umask: those that
// are no part of an image, outside of layouts that were there.
//
// What is no file of shale's own has the mode that any program would give it.
func (o outcome) masked(umask uint32) outcome {
	tree := ocitest.Tree{}
	for name, f := range o.tree {
		top, rest, _ := strings.Cut(name, "/")
		if top == "exported" {
			f.Mode = 0o666
		}
		if top == "exported" || top == "fresh" || top == "parts" || top == "made" && rest != "" && !strings.HasPrefix(rest, "rootfs") {
			f.Mode &^= umask
		}
		tree[name] = f
	}
	return outcome{o.said, tree}
}

// TestEnvironments checks that what a machine has set changes nothing. As with any
// program the umask counts for new layouts and for what a bundle has besides the tree.
func TestEnvironments(t *testing.T) {
	for i, e := range []struct {
		name   string
		before string // for a shell
		env    []string
	}{
		{"the same again", "", nil},
		{"umask 077", "umask 077;", nil},
		{"umask 000", "umask 000;", nil},
		{"no HOME", "", []string{"HOME"}},
		{"HOME that is not there", "", []string{"HOME=/nonexistent"}},
		{"HOME that is read-only", "", []string{"HOME=@DIR/home"}},
		{"no TMPDIR", "", []string{"TMPDIR"}},
		{"TMPDIR that is not there", "", []string{"TMPDIR=/nonexistent"}},
		{"closed stdin", closedStdin, nil},
		{"LANG=C", "", []string{"LANG=C", "LC_ALL=C"}},
		{"LANG=de_DE.UTF-8", "", []string{"LANG=de_DE.UTF-8", "LC_ALL=tr_TR.UTF-8"}},
		{"another time zone", "", []string{"TZ=Pacific/Chatham"}},
		{"one processor", "", []string{"GOMAXPROCS=1"}},
		{"no environment at all", "", []string{"HOME", "TMPDIR", "PATH"}},
	} {
		for _, m := range inTurn(i) {
			t.Run(e.name+"/"+m.Name, func(t *testing.T) {
				t.Parallel()
				want, s := usual(t, m), place(t, m)
				switch e.name {
				case "umask 077":
					want = want.masked(0o077)
				case "umask 000":
					want = want.masked(0)
				case "HOME that is read-only":
					s.readOnlyHome(t)
				}
				want.same(t, s.tell(t, in(t, e.before, e.env...)))
			})
		}
	}
}

// usual is the outcome in the usual environment.
func usual(t *testing.T, m *ocitest.Mode) outcome {
	t.Helper()
	return place(t, m).tell(t, in(t, ""))
}

// readOnlyHome makes a home that nothing can be written to, not even by root.
func (s stage) readOnlyHome(t *testing.T) {
	t.Helper()
	home := s.path("home")
	must(t, os.Mkdir(home, 0o555))
	if os.Geteuid() == 0 {
		t.Cleanup(readOnly(t, home))
	}
}

// TestFullTmp is about a TMPDIR, or /tmp, on which nothing can be written.
func TestFullTmp(t *testing.T) {
	inModes(t, func(t *testing.T, m *ocitest.Mode) {
		t.Run("TMPDIR", func(t *testing.T) {
			byRoot(t)
			full := scratch(t)
			mounted(t, full, 8<<10)
			must(t, os.Chmod(full, 0o1777))
			_ = os.WriteFile(filepath.Join(full, "file"), make([]byte, 64<<10), 0o600) // as much as goes
			usual(t, m).same(t, place(t, m).tell(t, in(t, "", "TMPDIR="+full)))
		})
		t.Run("tmp", func(t *testing.T) {
			s := place(t, m)
			cmd := s.hidingTmp(t, "--version")
			if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 99 {
				t.Skipf("this machine lets nobody mount a /tmp of their own as %s: %v: %s", m.Name, err, out)
			} else if err != nil {
				t.Fatalf("with a full /tmp: %v: %s", err, out)
			}
			usual(t, m).same(t, s.tell(t, func(s stage, line string) *traced {
				return victim{name: line}.plain(t, s.hidingTmp(t, line))
			}))
		})
	})
}

// hidingTmp is a command without TMPDIR for which there is a /tmp that is full. The
// program may be in the other one.
func (s stage) hidingTmp(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	const before = `exec 9<"$0"; mount -t tmpfs -o size=4k tmpfs /tmp && { cat /dev/zero >/tmp/full; } 2>/dev/null; ` +
		`[ -s /tmp/full ] && ! { echo >/tmp/more; } 2>/dev/null && exec /proc/self/fd/9 "$@"; exit 99;`
	cmd := s.shell(t, before, line, "TMPDIR")
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS
	return cmd
}

// TestClosedPipe is about a standard output that nobody reads: what was done stays
// done.
func TestClosedPipe(t *testing.T) {
	inModes(t, func(t *testing.T, m *ocitest.Mode) {
		r, w, err := os.Pipe()
		must(t, err)
		r.Close()
		defer w.Close()
		want := usual(t, m)
		got := place(t, m).tell(t, func(s stage, line string) *traced {
			cmd := s.command(line)
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = w, &stderr
			err := cmd.Run()
			status := cmd.ProcessState.ExitCode()
			verb, _, _ := strings.Cut(line, " ")
			if prints := slices.Contains([]string{"ls", "stat", "diff", "verify"}, verb); prints && status == 128+int(syscall.SIGPIPE) {
				status, err = 0, nil
			}
			if err != nil {
				t.Errorf("%s: %v: %s", line, err, &stderr)
			}
			return &traced{status: status}
		})
		got.said = want.said
		want.same(t, got)
	})
}

// TestClock is about a clock that is wrong by decades.
func TestClock(t *testing.T) {
	if atDate(time.Now()) == nil {
		t.Skip("the clock is set on amd64 alone")
	}
	for _, year := range []int{1980, 2040} {
		t.Run(fmt.Sprint(year), func(t *testing.T) {
			t.Parallel()
			inModes(t, func(t *testing.T, m *ocitest.Mode) {
				day := time.Date(year, 2, 29, 12, 0, 0, 0, time.UTC)
				traceAt := func(s stage, line string, attr *os.ProcAttr) *traced {
					got, err := atDate(day).run(shale, s.args(line), attr)
					must(t, err)
					if got.signal != 0 || strings.Contains(got.stderr, "goroutine ") {
						t.Errorf("%s: %v\n%s", line, got.signal, got.stderr)
					}
					return got
				}
				usual(t, m).same(t, place(t, m).tell(t, func(s stage, line string) *traced {
					return traceAt(s, line, s.attr())
				}))

				// Without SOURCE_DATE_EPOCH the clock counts; this shows that it was set.
				s := place(t, m)
				attr := s.attr()
				attr.Env = slices.DeleteFunc(attr.Env, func(s string) bool { return strings.HasPrefix(s, "SOURCE_DATE_EPOCH=") })
				if got := traceAt(s, "new --image layout:new", attr); got.status != 0 {
					t.Fatal(got.stderr)
				}
				var stat struct {
					Config struct{ Created time.Time }
				}
				out, err := s.command("stat --json --image layout:new").Output()
				must(t, err)
				if err := json.Unmarshal(out, &stat); err != nil || !strings.Contains(string(out), fmt.Sprint(year)) {
					t.Errorf("an image that was made in %d: %v: %s", year, err, out)
				}
			})
		})
	}
}
