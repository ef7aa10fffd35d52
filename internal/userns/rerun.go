// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageEnv tells a process that was started by [Subordinates.Rerun] how far it
// is.
const stageEnv = "_SHALE_USERNS"

// Continue must be the first call in main of a program that uses
// [Subordinates.Rerun]. In the process that Rerun starts it waits until the
// namespace has its IDs and then runs the program once more: the kernel gives
// capabilities to those who are root when they run a program, and before that
// the process was nobody.
func Continue() error {
	stage := os.Getenv(stageEnv)
	if stage == "" {
		return nil
	}
	if err := os.Unsetenv(stageEnv); err != nil {
		return err
	}
	if stage != "wait" {
		return nil
	}
	ready := os.NewFile(3, "userns")
	var b [1]byte
	if n, err := ready.Read(b[:]); n != 1 {
		return fmt.Errorf("wait for the user namespace: %w", err)
	}
	if err := ready.Close(); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), stageEnv+"=run"))
}

// Rerun runs the program with its arguments once more, as root of a user
// namespace that has all of s, and returns its exit status. Signals go on to
// it.
func (s *Subordinates) Rerun() (status int, err error) {
	// The child is told when this thread ends, so it must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait, ready, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer wait.Close()  //nolint:errcheck // only a signal
	defer ready.Close() //nolint:errcheck // only a signal
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{wait}
	cmd.Env = append(os.Environ(), stageEnv+"=wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGTERM,
		Setpgid:    true, // or a terminal would send it signals besides those sent on
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make a user namespace: %w", err)
	}
	if err := s.giveIDs(cmd.Process.Pid); err != nil {
		return 0, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	if _, err := ready.Write([]byte{1}); err != nil {
		return 0, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // an error means that it has ended
		case err := <-done:
			return exitStatus(cmd.ProcessState), ignoreExit(err)
		}
	}
}

// giveIDs lets the set-uid tools map the IDs into the namespace of a process.
func (s *Subordinates) giveIDs(pid int) error {
	for _, m := range []struct {
		tool string
		args []string
	}{
		{"newuidmap", mapping(s.uid, s.UIDs)},
		{"newgidmap", mapping(s.gid, s.GIDs)},
	} {
		args := append([]string{strconv.Itoa(pid)}, m.args...)
		if out, err := exec.Command(m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", m.tool, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// exitStatus returns the status of a process that has ended, as a shell would.
func exitStatus(p *os.ProcessState) int {
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}

// ignoreExit drops the error that only says that a process did not succeed.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
