// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Mode is who runs a program.
type Mode struct {
	// Name is "root", "userns", which is root of a new user namespace, or "user",
	// who has no privileges.
	Name string
	// Rootless says that shale has to be told so by --rootless.
	Rootless bool
	// Owner is who owns the files of the program, as the tests see it.
	Owner int
	attr  syscall.SysProcAttr
}

// AllModes returns the three modes. Those who are not root can be neither root nor
// another ordinary user: for them "user" is who they are.
func AllModes() []*Mode {
	euid := os.Geteuid()
	userns := &Mode{Name: "userns", Owner: euid, attr: syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: mapAll(euid),
		GidMappings: mapAll(os.Getegid()),
	}}
	user := &Mode{Name: "user", Rootless: true, Owner: euid}
	if euid == 0 {
		user.Owner = nobody
		user.attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return []*Mode{{Name: "root"}, userns, user}
}

// Attr returns what starts a process in the mode. The caller may add to it.
func (m *Mode) Attr() *syscall.SysProcAttr {
	attr := m.attr
	return &attr
}

// PossibleModes returns the modes in which this machine can run the program, which
// is run to find out, and for each of the others a line that says why it cannot.
func PossibleModes(program string, args ...string) (can []*Mode, cannot []string) {
	for _, m := range AllModes() {
		if err := m.try(program, args); err != nil {
			cannot = append(cannot, fmt.Sprintf("mode %s is left out: this machine does not allow it: %v", m.Name, err))
			continue
		}
		can = append(can, m)
	}
	return can, cannot
}

func (m *Mode) try(program string, args []string) error {
	if m.Name == "root" && os.Geteuid() != 0 {
		return errors.New("the tests are not run by root")
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = m.Attr()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Give makes the user of the mode the owner of dir and of all that is in it, and
// leaves modes as they are.
func (m *Mode) Give(dir string) error {
	if m.Owner == os.Geteuid() {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, unix.ENAMETOOLONG) {
			return nil // only the program itself, which owns it, makes such a thing
		}
		if err != nil {
			return err
		}
		return m.own(path)
	})
}

func (m *Mode) own(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); errors.Is(err, unix.ENAMETOOLONG) || int(st.Uid) == m.Owner {
		return nil
	} else if err != nil {
		return err
	}
	if err := os.Lchown(path, m.Owner, m.Owner); err != nil {
		return err
	}
	// The kernel takes these bits from a file that gets another owner.
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return unix.Chmod(path, st.Mode&0o7777)
	}
	return nil
}

// modeEnv tells a re-executed test binary which mode it was started in.
const modeEnv = "SHALE_TEST_MODE"

// Modes runs f as subtests: "direct" as whoever runs the tests, "userns" as
// root of a new user namespace, and "user" as an ordinary user without
// privileges, if the tests run as root. The latter two run in a process of
// their own. A mode that this machine does not allow is skipped, saying why.
func Modes(t *testing.T, f func(t *testing.T)) {
	t.Run("direct", f)
	for _, m := range AllModes()[1:] {
		t.Run(m.Name, func(t *testing.T) {
			if m.Name == "user" && os.Getenv(modeEnv) == "" && os.Geteuid() != 0 {
				t.Skip("the tests are run by an ordinary user already")
			}
			inMode(t, f, m.Attr())
		})
	}
}

// nobody is the ordinary user.
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
