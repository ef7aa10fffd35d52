// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The programs that are run: shale itself, and what measures it.
var shale, measure string

// build builds them into a directory that every user may enter.
func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	const module = "github.com/shale-oci/shale/"
	cmd := exec.Command("go", "build", "-o", dir+"/", module+"cmd/shale", module+"test/hostile/measure")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	shale, measure = filepath.Join(dir, "shale"), filepath.Join(dir, "measure")
	return nil
}

// result is how one run of shale ended.
type result struct {
	line           string // the command line
	status, signal int
	peak           int64         // memory in KiB
	took           time.Duration // of the processors, since others use them too
	stdout, stderr string
}

// shale runs shale in the mode of the world, with nothing of the environment of
// the tests but the way to other programs.
func (w *world) shale(line string) result {
	w.Helper()
	w.give()
	args := strings.Fields(w.expand(line))
	if w.mode.Rootless && (args[0] == "insert" || slices.Contains(args[:2], "unpack")) {
		args = append(args, "--rootless")
	}
	report, to, err := os.Pipe()
	if err != nil {
		w.Fatal(err)
	}
	defer report.Close()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(measure, append([]string{w.program}, args...)...)
	cmd.Dir = w.cwd
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + w.tmp, "HOME=" + w.home}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{to}
	cmd.SysProcAttr = w.mode.Attr()
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		w.Fatalf("run shale %s: %v", line, err)
	}
	to.Close()
	stop := time.AfterFunc(w.timeout, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err = cmd.Wait()
	if !stop.Stop() {
		w.Fatalf("shale %s: still running after %v\n%s", line, w.timeout, &stderr)
	}
	r := result{line: "shale " + line, stdout: stdout.String(), stderr: stderr.String()}
	said, rerr := io.ReadAll(report)
	if _, serr := fmt.Sscan(string(said), &r.status, &r.signal, &r.peak, &r.took); err != nil || rerr != nil || serr != nil {
		w.Fatalf("measure shale %s: %v, %v, %q\n%s", line, err, rerr, said, &stderr)
	}
	return r
}

// must runs shale for something that the case needs to begin with.
func (w *world) must(line string) {
	w.Helper()
	if r := w.shale(line); r.status != 0 || r.signal != 0 {
		w.Fatalf("%s: status %d, signal %d\n%s", r.line, r.status, r.signal, r.stderr)
	}
}

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shale-hostile-")
	if err == nil {
		defer os.RemoveAll(dir) // only the two programs
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
