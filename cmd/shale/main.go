// SPDX-License-Identifier: Apache-2.0

// Command shale takes OCI images apart into layers, lets people change them, and
// puts them back together: on disk, without a daemon, without root.
//
// Each command has a file of its own. It parses its flags into a struct, makes
// one call of a library package, and renders what came back. What all commands
// share is here: main.go has the signals and the way out, app.go the command
// line, command.go what a command is, flags.go and its neighbours the groups of
// flags, errors.go the exit codes, console.go, log.go and progress.go what a
// person sees on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/shale-oci/shale/internal/userns"
)

func main() {
	if err := userns.Continue(); err != nil {
		fmt.Fprintln(os.Stderr, "shale:", err)
		os.Exit(exitError)
	}
	// A reader that goes away must not kill the work half-way: writes fail
	// instead, and only those to standard output matter.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	watchSignals(cancel)
	boundGarbage()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// interruption is the cause of a context that a signal has cancelled.
type interruption struct{ signal syscall.Signal }

func (i *interruption) Error() string { return i.signal.String() }

// exitCode is what a shell reports of a process that the signal has killed.
func (i *interruption) exitCode() int { return 128 + int(i.signal) }

// watchSignals cancels the work at the first signal, so that it can clean up,
// and ends the process at the second.
func watchSignals(cancel context.CancelCauseFunc) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	// What nohup has switched off stays off. Shells switch SIGINT off for all that
	// they run in the background, where somebody who sends it means it.
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		cancel(&interruption{(<-signals).(syscall.Signal)})
		again := &interruption{(<-signals).(syscall.Signal)}
		os.Exit(again.exitCode())
	}()
}

// interrupted returns the signal that has ended ctx, if one has.
func interrupted(ctx context.Context) *interruption {
	var i *interruption
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &i) {
		return i
	}
	return nil
}
