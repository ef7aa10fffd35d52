// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// The exit codes of shale. A run that a signal has ended exits with 128 plus
// its number.
const (
	exitOK             = 0
	exitError          = 1
	exitUnknownCommand = 3
	exitBrokenPipe     = 128 + int(syscall.SIGPIPE)
)

// end says on standard error what went wrong, if anything did, and returns the
// exit code. It is the only place where errors become words and numbers.
func (a *app) end(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var other *elsewhere
	if errors.As(err, &other) {
		return other.status
	}
	var output *outputError
	if errors.As(err, &output) && errors.Is(err, syscall.EPIPE) {
		// The reader has seen enough.
		return exitBrokenPipe
	}
	// A signal that came too late to stop anything has not ended the run.
	if i := interrupted(ctx); i != nil {
		if errors.Is(err, context.Canceled) {
			err = &interruptedError{err: err, by: i}
		}
		a.stderr.println(describe(err))
		return i.exitCode()
	}
	a.stderr.println(describe(err))
	var in *commandError
	if errors.As(err, &in) {
		if c, ok := in.cmd.Metadata[about].(*command); ok && c.trouble != 0 {
			return c.trouble
		}
	}
	// Of the library's own errors, only that of an unknown command is one of these.
	var coder cli.ExitCoder
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return exitError
}

// describe returns err as one line: the command, what happened, and a hint if
// there is one.
func describe(err error) string {
	var b strings.Builder
	var in *commandError
	switch {
	case errors.As(err, &in):
		b.WriteString(in.cmd.FullName())
	default:
		b.WriteString("shale")
	}
	b.WriteString(": ")
	b.WriteString(err.Error())
	if h := hint(err, in); h != "" {
		fmt.Fprintf(&b, " (%s)", h)
	}
	return b.String()
}

// hint returns what may help against err, which happened in the command in.
func hint(err error, in *commandError) string {
	if in == nil {
		return ""
	}
	if h := limitHint(err, in); h != "" {
		return h
	}
	switch {
	case errors.Is(err, layout.ErrNotFound) && in.cmd.Name == "repack":
		return "the layout must hold the image that the bundle was made of, as after: shale copy SOURCE " + quote.Name(in.cmd.String("image"))
	case errors.Is(err, layout.ErrNotFound) && in.has("image"):
		path, ref, perr := layout.ParseImage(in.cmd.String("image"))
		var missing *layout.Error
		if perr == nil && errors.As(err, &missing) && missing.Ref == ref {
			return "for the tags that there are: shale ls --layout " + quote.Name(path)
		}
	case transfer.DeniedHost(err) != "" && in.cmd.Name != "login":
		return "with other credentials: shale login " + quote.Name(transfer.DeniedHost(err))
	case errors.Is(err, transfer.ErrInsecure) && in.has("insecure"):
		return "--cert-dir says whom to trust, and --insecure goes without"
	case errors.Is(err, layout.ErrLock):
		return "if nobody else uses the layout, --no-lock does without"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && in.has("rootless") && !in.cmd.Bool("rootless"):
		return "without root's privileges, --rootless may help"
	}
	return ""
}

// commandError is an error of a command.
type commandError struct {
	cmd *cli.Command
	err error
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// has reports whether the command has the flag.
func (e *commandError) has(flag string) bool { return hasFlag(e.cmd, flag) }

// hasGlobal reports whether the flag is one that comes before the command.
func (e *commandError) hasGlobal(flag string) bool { return hasFlag(e.cmd.Root(), flag) }

func hasFlag(cmd *cli.Command, flag string) bool {
	for _, f := range cmd.Flags {
		for _, name := range f.Names() {
			if name == flag {
				return true
			}
		}
	}
	return false
}

// interruptedError is err told as what it is: the consequence of a signal.
type interruptedError struct {
	err error
	by  *interruption
}

func (e *interruptedError) Error() string { return e.by.Error() }
func (e *interruptedError) Unwrap() error { return e.err }

// unknownCommandError is a name that no command below parent has.
type unknownCommandError struct {
	parent *cli.Command
	name   string
}

func (e *unknownCommandError) Error() string {
	return fmt.Sprintf("unknown command %s (for a list: %s help)", quote.Name(e.name), e.parent.FullName())
}

// ExitCode implements [cli.ExitCoder].
func (e *unknownCommandError) ExitCode() int { return exitUnknownCommand }
