// SPDX-License-Identifier: Apache-2.0

// Command measure runs a command and writes to descriptor 3 how it ended:
// "status signal memory time", the most memory that it had resident in KiB and
// the time that processors have spent on it in nanoseconds.
//
// The kernel counts for a process also what the process that started it had in
// memory at that moment. So it takes a small one in between to measure anything
// below the size of a test.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if err := measure(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(125)
	}
}

func measure(command []string) error {
	report := os.NewFile(3, "report")
	if len(command) == 0 || report == nil {
		return errors.New("usage: measure command [argument...] 3>report")
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	syscall.CloseOnExec(3)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	signal := 0
	if status.Signaled() {
		signal = int(status.Signal())
	}
	p := cmd.ProcessState
	usage := p.SysUsage().(*syscall.Rusage)
	_, err = fmt.Fprintln(report, p.ExitCode(), signal, usage.Maxrss, int64(p.UserTime()+p.SystemTime()))
	return err
}
