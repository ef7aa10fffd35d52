// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// asShale makes the test program be shale: it is run again under this name, so
// that what is tested is a process with its exit code and signals.
const asShale = "SHALE_TEST_AS_SHALE"

func TestMain(m *testing.M) {
	if os.Getenv(asShale) != "" {
		main()
	}
	os.Exit(m.Run())
}

// shaleCommand is a run of shale in dir.
func shaleCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	// The race detector would let every run wait for a second at its end.
	cmd.Env = append(os.Environ(), asShale+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// result is how a run of shale went.
type result struct {
	code           int
	stdout, stderr string
}

func runShale(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return runCommand(t, shaleCommand(t, dir, args...))
}

func runCommand(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("run %q: %v", cmd.Args, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// newLayout makes a layout called "l" with an image tagged "latest" and returns
// its parent directory.
func newLayout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ocitest.Image{Author: "somebody"}.Write(t, filepath.Join(dir, "l"), "latest")
	return dir
}

func TestExitCodes(t *testing.T) {
	dir := newLayout(t)
	if err := os.WriteFile(filepath.Join(dir, "layer.tar.gz"), []byte("\x1f\x8b\x08\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args   string
		code   int
		stdout string // what is in it; if empty, nothing is
		stderr string // its only line, or a part of it; if empty, nothing is in it
	}{
		{"", 0, "USAGE:", ""},
		{"-h", 0, "USAGE:", ""},
		{"h", 0, "USAGE:", ""},
		{"help", 0, "USAGE:", ""},
		{"raw", 0, "shale raw - ", ""},
		{"raw help", 0, "shale raw - ", ""},
		{"raw -h", 0, "shale raw - ", ""},
		{"help unpack", 0, "shale unpack - ", ""},
		{"help ls", 0, "shale list - ", ""},
		{"unpack --help", 0, "shale unpack - ", ""},
		{"help raw add-layer", 0, "shale raw add-layer - ", ""},
		{"-v", 0, "shale version ", ""},
		{"--version", 0, "\nruntime spec: 1.3.0\ngo: go1.", ""},

		{"bogus", 3, "", "shale: unknown command bogus "},
		{"bogus --image x", 3, "", "unknown command bogus"},
		{"raw bogus", 3, "", "shale: unknown command bogus "},
		{"help bogus", 3, "", "unknown command bogus"},
		{"help raw bogus", 3, "", "unknown command bogus"},
		{"--help bogus", 3, "", "bogus"},

		{"--bogus", 1, "USAGE:", "shale: flag provided but not defined: -bogus"},
		{"init --bogus", 1, "shale init - ", "shale init: flag provided but not defined: -bogus"},
		{"raw add-layer --bogus", 1, "shale raw add-layer - ", "shale raw add-layer: flag "},
		{"stat --image", 1, "USAGE:", "shale stat: flag needs an argument: --image"},
		{"stat --image l --json=perhaps", 1, "USAGE:", "shale stat: invalid value"},

		{"init", 1, "", "shale init: missing mandatory argument: --layout"},
		{"init --layout a:b", 1, "", "invalid --layout: path contains a colon: a:b"},
		{"init --layout=", 1, "", "invalid --layout: path is empty"},
		{"init --layout l", 1, "", "shale init: create layout l: "},
		{"init --layout new extra", 1, "", "invalid number of positional arguments"},
		{"stat", 1, "", "missing mandatory argument: --image"},
		{"stat --image l:", 1, "", "invalid --image: tag is empty"},
		{"stat --image :l", 1, "", "invalid --image: path is empty"},
		{"stat --image l:-a", 1, "", "invalid --image: -a is not a valid tag"},
		{"stat --image l:nope", 1, "", "(for the tags that there are: shale ls --layout l)"},
		{"stat --image none", 1, "", "shale stat: open layout none: "},
		{"tag --image l", 1, "", "expected <new-tag>, got 0"},
		{"tag --image l a b", 1, "", "expected <new-tag>, got 2"},
		{"tag --image l -- -a", 1, "", "invalid <new-tag>: -a is not a valid tag"},
		{"unpack --image l", 1, "", "expected <bundle>, got 0"},
		{"unpack --image l --uid-map 0:0:0 b", 1, "", "invalid --uid-map: 0:0:0: maps no ID at all"},
		{"repack --image l --compress xz b", 1, "", "invalid --compress: xz is none of "},
		{"repack --image l --no-history --history.author=me b", 1, "", "--no-history and --history.author may not"},
		{"repack --image l --history.created=today b", 1, "", "invalid --history.created: today is not a time"},
		{"raw add-layer --image l --tag= x.tar", 1, "", "invalid --tag: tag is empty"},
		{"raw add-layer --image l layer.tar.gz", 1, "", "layer.tar.gz must be a tar archive that is not compressed: "},
		{"raw add-layer --image l l", 1, "", "l is a directory"},
		{"raw add-layer --image l nope.tar", 1, "", "open nope.tar: no such file"},

		{"exists l:nope", 1, "", ""},
		{"exists", 2, "", "shale exists: invalid number of positional arguments: expected <SRC>, got 0"},
		{"exists --bogus", 2, "shale exists - ", "shale exists: flag provided but not defined: -bogus"},
		{"exists l:", 2, "", "shale exists: invalid <SRC>: "},
		{"exists l --cert-dir=", 2, "", "shale exists: invalid --cert-dir: path is empty"},
		{"diff l l", 0, "", ""},
		{"diff l", 2, "", "shale diff: invalid number of positional arguments: expected <OLD> <NEW>, got 1"},
		{"diff --bogus", 2, "shale diff - ", "shale diff: flag provided but not defined: -bogus"},
		{"diff l l:nope", 2, "", "shale diff: resolve nope: there is no such ref"},
		{"diff l l:", 2, "", "invalid image l:: tag is empty"},
		{"diff l nowhere", 2, "", "shale diff: open layout nowhere: "},
		{"diff l dir:nowhere", 2, "", "shale diff: compare: dir:nowhere: "},
		{"diff l l --ignore inode", 2, "", "invalid --ignore: inode is none of type, mode, "},
		{"diff l l --format xml", 2, "", "invalid --format: xml is none of text, json and luet"},
		{"diff l l --json --format luet", 2, "", "--json and --format luet may not be given together"},
		{"diff l l --json --summary", 2, "", "--summary and another form may not"},
		{"diff l l --summary --content", 2, "", "--content needs the form text or json"},
		{"diff l l --exclude=[", 2, "", "glob [: syntax error in pattern"},
		{"diff l l --platform linux", 2, "", "invalid --platform: linux is not of the form"},

		{"--log=info --verbose ls --layout l", 1, "", "shale: --log and --verbose may not be given together"},
		{"--log loud ls --layout l", 1, "", "invalid --log: "},
		{"--progress fast ls --layout l", 1, "", "invalid --progress: "},
		{"--cpu-profile no/such ls --layout l", 1, "", "shale: create CPU profile: open no/such"},

		{"ls --layout l", 0, "latest\n", ""},
		{"list -layout=l", 0, "latest\n", ""},
		{"--no-lock --log=error --progress=none ls --layout l --json", 0, `["latest"]`, ""},
		{"rm --image l:nope", 0, "", ""},
		{"gc --layout l", 0, "", ""},
		{"gc --layout l --json", 0, `{"dry_run":false,"blobs":[],"bytes":0,"temp_dirs":[]}`, ""},
		{"--verbose rm --image l:nope", 0, "", "shale: info: there was no tag nope"},
		{"stat --image l", 0, "== HISTORY ==", ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := runShale(t, dir, strings.Fields(tt.args)...)
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			checkStream(t, "standard output", got.stdout, tt.stdout)
			checkStream(t, "standard error", got.stderr, tt.stderr)
			if tt.stderr != "" && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("standard error is not one line: %q", got.stderr)
			}
		})
	}
}

func checkStream(t *testing.T, name, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) || want == "" && got != "" {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func TestErrorsAreEscaped(t *testing.T) {
	got := runShale(t, t.TempDir(), "ls", "--layout", "a\n\x1b[31m\xff")
	if want := `shale list: open layout "a\n\x1b[31m\xff": no such file or directory` + "\n"; got.stderr != want {
		t.Errorf("standard error is %q, want %q", got.stderr, want)
	}
}

func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	dir := newLayout(t)
	for _, args := range []string{"ls --layout l", "stat --image l", "stat --json --image l", "--help", "--version"} {
		cmd := shaleCommand(t, dir, strings.Fields(args)...)
		cmd.Stdout = full
		got := runCommand(t, cmd)
		if got.code != exitError || !strings.Contains(got.stderr, "no space left on device") {
			t.Errorf("%s: exit code %d, standard error %q", args, got.code, got.stderr)
		}
	}
}

func TestBrokenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	cmd := shaleCommand(t, newLayout(t), "ls", "--layout", "l")
	cmd.Stdout = w
	if got := runCommand(t, cmd); got.code != exitBrokenPipe || got.stderr != "" {
		t.Errorf("exit code %d, standard error %q; want %d and nothing", got.code, got.stderr, exitBrokenPipe)
	}
}

// TestSignals sends signals to a shale that waits for the rest of a layer.
func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			dir := newLayout(t)
			before := files(t, dir)
			cmd := shaleCommand(t, dir, "raw", "add-layer", "--image", "l", "/dev/stdin")
			layer, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer layer.Close()
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// The pipe is smaller than this, so that it has been read from then.
			if _, err := layer.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			timeout := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait() // the exit code is looked at
			timeout.Stop()
			if got, want := cmd.ProcessState.ExitCode(), 128+int(s); got != want {
				t.Errorf("exit code %d, want %d: %v", got, want, cmd.ProcessState)
			}
			if want := "shale raw add-layer: " + s.String() + "\n"; stderr.String() != want {
				t.Errorf("standard error is %q, want %q", stderr.String(), want)
			}
			if after := files(t, dir); after != before {
				t.Errorf("files were left:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// files lists what is below dir.
func files(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		b.WriteString(path + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPermissionHint(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	dir := newLayout(t)
	for path := dir; path != "/" && path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) result {
		cmd := shaleCommand(t, dir, args...)
		// The test program itself is where nobody else may go.
		self := filepath.Join(dir, "shale")
		if _, err := os.Stat(self); err != nil {
			data, err := os.ReadFile(cmd.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(self, data, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Path = self
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return runCommand(t, cmd)
	}
	got := run("unpack", "--image", "l", "bundle")
	if got.code != exitError || !strings.Contains(got.stderr, "permission denied (") || !strings.Contains(got.stderr, "--rootless") {
		t.Errorf("exit code %d, standard error %q", got.code, got.stderr)
	}
	for _, args := range []string{"unpack --rootless --image l bundle", "new --image l:x"} {
		got := run(strings.Fields(args)...)
		if got.code != exitError || strings.Contains(got.stderr, "--rootless") {
			t.Errorf("%s: exit code %d, standard error %q", args, got.code, got.stderr)
		}
	}
}

// TestIgnoredSignals starts shale as shells start what is in the background, and
// as nohup does.
func TestIgnoredSignals(t *testing.T) {
	for _, tt := range []struct {
		signal string
		code   int
	}{{"INT", 130}, {"TERM", 143}, {"HUP", 0}} {
		dir := newLayout(t)
		// The layer ends only for the shale that a signal has not ended.
		script := `trap "" ` + tt.signal + `
			mkfifo layer
			"$0" raw add-layer --image l layer & pid=$!
			exec 3>layer
			head -c 1000000 /dev/zero >&3
			kill -` + tt.signal + ` $pid
			[ ` + tt.signal + ` != HUP ] || exec 3>&-
			wait $pid`
		cmd := shaleCommand(t, dir)
		cmd.Args = []string{"sh", "-c", script, cmd.Path}
		cmd.Path = "/bin/sh"
		if got := runCommand(t, cmd); got.code != tt.code {
			t.Errorf("SIG%s: exit code %d, want %d; standard error is %q", tt.signal, got.code, tt.code, got.stderr)
		}
	}
}
