// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal, and returns its side for programs.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("the terminal cannot be opened: %v", err)
	}
	return tty
}

// TestPromptEnds: a signal ends the question for a password, and the terminal shows again
// what is typed.
func TestPromptEnds(t *testing.T) {
	tty, stdin := openTerminal(t), os.Stdin
	os.Stdin = tty
	defer func() { os.Stdin = stdin }()
	echo := func() bool {
		state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := prompt(ctx, io.Discard, "Password: ", true)
		done <- err
	}()
	for deadline := time.Now().Add(5 * time.Second); echo() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if echo() {
		t.Error("the password is shown")
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the question does not end")
	}
	if !echo() {
		t.Error("the terminal does not show what is typed")
	}
}
