// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// modeEnv tells a re-executed test binary which mode it was started in.
const modeEnv = "SHALE_TEST_MODE"

// Modes runs f as subtests: "direct" as whoever runs the tests, "userns" as
// root of a new user namespace, and "user" as an ordinary user without
// privileges, if the tests run as root. The latter two run in a process of
// their own. A mode that this machine does not allow is skipped, saying why.
func Modes(t *testing.T, f func(t *testing.T)) {
	t.Run("direct", f)
	t.Run("userns", func(t *testing.T) {
		inMode(t, f, &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: mapAll(os.Geteuid()),
			GidMappings: mapAll(os.Getegid()),
		})
	})
	t.Run("user", func(t *testing.T) {
		if os.Getenv(modeEnv) == "" && os.Geteuid() != 0 {
			t.Skip("the tests are run by an ordinary user already")
		}
		inMode(t, f, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	})
}

const nobody = 65534

// mapAll maps all common IDs to themselves for root, and one to root for
// anybody else, who may not do more.
func mapAll(id int) []syscall.SysProcIDMap {
	if id == 0 {
		return []syscall.SysProcIDMap{{Size: 65536}}
	}
	return []syscall.SysProcIDMap{{HostID: id, Size: 1}}
}

// inMode runs f if this process is the one started for it, and otherwise
// starts that one.
func inMode(t *testing.T, f func(t *testing.T), attr *syscall.SysProcAttr) {
	t.Helper()
	if os.Getenv(modeEnv) == t.Name() {
		f(t)
		return
	}
	if os.Getenv(modeEnv) != "" {
		t.Skip("another mode's process")
	}
	// The test binary is in a directory that only its owner may enter.
	dir, err := os.MkdirTemp("", "shale-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // only files of this process's user
	binary := filepath.Join(dir, "test")
	if err := copyBinary(binary); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "tmp")
	for path, mode := range map[string]os.FileMode{dir: 0o755, temp: 0o1777} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}

	cmd := exec.Command(binary, "-test.v", "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), modeEnv+"="+t.Name(), "TMPDIR="+temp, "HOME="+temp)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Skipf("this machine does not allow it: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in mode %s: %v", t.Name(), err)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) && !strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Errorf("the process of mode %s did not run the test", t.Name())
	}
}

func copyBinary(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, from); err != nil {
		_ = out.Close() // the first error counts
		return err
	}
	return out.Close()
}
