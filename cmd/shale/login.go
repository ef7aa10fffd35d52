// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/transfer"
)

// loginFlags are the flags of login.
type loginFlags struct {
	registryFlags
	credentials transfer.Credentials
	stdin       bool
}

func (a *app) loginCommand() *cli.Command {
	var f loginFlags
	return a.command(command{
		name:  "login",
		usage: "keep a user's credentials for a registry",
		details: "The registry is asked whether it takes them. They are kept where docker keeps them: in the\n" +
			"credential helper that ~/.docker/config.json names, or else in that file. What is not\n" +
			"given is asked for, if there is a terminal.",
		examples: []string{
			"shale login registry.example --username me --password-stdin < token",
		},
		positional: argRule{names: []string{"<HOST>"}},
		groups:     []flagGroup{&f},
		run: func(ctx context.Context, args []string) error {
			if err := f.complete(ctx, a.stderr); err != nil {
				return err
			}
			host := args[0]
			loc := transfer.Location{Scheme: transfer.SchemeRegistry, Repo: host}
			plain, err := transfer.Login(ctx, host, f.credentials, f.options(loc))
			if err != nil {
				return err
			}
			if plain != "" {
				a.log.Warnf("the password is in %s, not encrypted: a credential helper would hide it", quote.Name(plain))
			}
			a.log.Infof("logged in to %s", host)
			return nil
		},
	})
}

func (f *loginFlags) flags() []cli.Flag {
	return append([]cli.Flag{&cli.StringFlag{
		Name: "username", Aliases: []string{"u"}, Destination: &f.credentials.User,
		Usage: "the `name` of the user",
	}, &cli.StringFlag{
		Name: "password", Aliases: []string{"p"}, Destination: &f.credentials.Password,
		Usage: "the `password`, or a token; others on this machine may see it: --password-stdin is better",
	}, &cli.BoolFlag{
		Name: "password-stdin", Destination: &f.stdin,
		Usage: "read the password from standard input",
	}}, f.registryFlags.flags()...)
}

func (f *loginFlags) check(given func(string) bool) error {
	if f.stdin && given("password") {
		return errors.New("--password and --password-stdin may not be given together")
	}
	if f.stdin && f.credentials.User == "" {
		return errors.New("--password-stdin needs --username")
	}
	return f.registryFlags.check(given)
}

// maxPassword limits what is read as a password, in bytes. Tokens are long.
const maxPassword = 64 << 10

// complete asks for what was not given.
func (f *loginFlags) complete(ctx context.Context, out io.Writer) error {
	if f.stdin {
		data, err := await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(os.Stdin, maxPassword)) })
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		f.credentials.Password = strings.TrimRight(string(data), "\r\n")
	}
	for _, ask := range []struct {
		prompt string
		value  *string
		secret bool
	}{{"Username: ", &f.credentials.User, false}, {"Password: ", &f.credentials.Password, true}} {
		if *ask.value != "" {
			continue
		}
		answer, err := prompt(ctx, out, ask.prompt, ask.secret)
		if err != nil {
			return err
		}
		*ask.value = answer
	}
	return nil
}

// await returns what read returns, or the error of ctx once that is done: nothing else
// ends the reading of a terminal.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := read()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// prompt asks somebody at the terminal.
func prompt(ctx context.Context, out io.Writer, question string, secret bool) (string, error) {
	fd := int(os.Stdin.Fd())
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", errors.New("--username and --password-stdin are needed where there is no terminal")
	}
	if secret {
		silent := *state
		silent.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
			return "", fmt.Errorf("keep the terminal from showing the password: %w", err)
		}
		defer func() {
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, state)
			_, _ = fmt.Fprintln(out)
		}()
	}
	if _, err := fmt.Fprint(out, question); err != nil {
		return "", err
	}
	line, err := await(ctx, func() (string, error) {
		return bufio.NewReader(io.LimitReader(os.Stdin, maxPassword)).ReadString('\n')
	})
	if err != nil && line == "" {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
