// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// command is what makes one command different from the others.
type command struct {
	name    string
	aliases []string
	usage   string // in a few words
	details string // what it does, in the help text
	hidden  bool

	examples []string // command lines; what follows a # explains
	exit     string   // what exit status 1 means; empty for "1 error"
	trouble  int      // exit status of an error where 1 is an answer; 0 for 1

	positional argRule
	// flagsFirst ends the flags at the first positional argument.
	flagsFirst bool
	groups     []flagGroup
	flags      []cli.Flag

	// run gets the positional arguments after groups have been checked.
	run func(ctx context.Context, args []string) error
}

// flagGroup is a set of flags that several commands have.
type flagGroup interface {
	// flags binds the flags to the group's fields.
	flags() []cli.Flag
	// check looks at what was given, by whether the flag of a name was, and makes
	// of it what libraries take.
	check(given func(name string) bool) error
}

// argRule says which positional arguments a command takes.
type argRule struct {
	names []string // as in the help text; each must be there and not empty
	// other replaces the rule above, where the number depends on flags.
	other func(args []string) error
}

func (r argRule) check(args []string) error {
	if r.other != nil {
		return r.other(args)
	}
	if len(args) != len(r.names) {
		want := "none"
		if len(r.names) > 0 {
			want = strings.Join(r.names, " ")
		}
		return fmt.Errorf("invalid number of positional arguments: expected %s, got %d", want, len(args))
	}
	if i := slices.Index(args, ""); i >= 0 {
		return fmt.Errorf("%s is empty", r.names[i])
	}
	return nil
}

// command makes the cli.Command of c.
func (a *app) command(c command) *cli.Command {
	flags := c.flags
	for _, g := range c.groups {
		flags = append(flags, g.flags()...)
	}
	cmd := &cli.Command{
		Name: c.name, Aliases: c.aliases, Hidden: c.hidden,
		Usage: c.usage, Description: c.description(),
		ArgsUsage: strings.Join(c.positional.names, " "),
		Flags:     flags,
		Metadata:  map[string]any{about: &c},
		// Commas are part of values.
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			err := c.do(ctx, cmd)
			if err != nil {
				return &commandError{cmd: cmd, err: err}
			}
			return nil
		},
	}
	if c.flagsFirst {
		one := 1
		cmd.StopOnNthArg = &one
	}
	return cmd
}

// about is the key under which the metadata of a cli.Command has what it was made of: a
// *command, or the description of a group.
const about = "command"

// description is what the help text says beyond a list of flags.
func (c *command) description() string {
	var b strings.Builder
	b.WriteString(c.details + "\n")
	if len(c.examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, e := range c.examples {
			b.WriteString("   " + e + "\n")
		}
	}
	b.WriteString("\nExit status: " + c.exitStatus())
	return b.String()
}

func (c *command) exitStatus() string {
	return "0 success, " + cmp.Or(c.exit, "1 error") + ", 128+n ended by signal n."
}

func (c *command) do(ctx context.Context, cmd *cli.Command) error {
	args := cmd.Args().Slice()
	if err := c.positional.check(args); err != nil {
		return err
	}
	for _, g := range c.groups {
		if err := g.check(cmd.IsSet); err != nil {
			return err
		}
	}
	return c.run(ctx, args)
}

// groupExitStatus is what commands that have commands below them end with.
const groupExitStatus = "0 success, 1 error, 3 unknown command, 128+n ended by signal n."

// group completes a command that only has commands below it: bare, it prints
// its help.
func (a *app) group(c *cli.Command) *cli.Command {
	c.Metadata = map[string]any{about: c.Description}
	c.Description = strings.TrimLeft(c.Description+"\n\nExit status: "+groupExitStatus, "\n")
	c.Commands = append(c.Commands, helpCommand())
	c.OnUsageError = usageError
	// What follows an unknown command is not worth a message of its own.
	one := 1
	c.StopOnNthArg = &one
	// The library would give every command a help command, and so take "help" and
	// "h" from those that have positional arguments.
	c.HideHelpCommand = true
	c.Action = func(_ context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			return &unknownCommandError{parent: cmd, name: cmd.Args().First()}
		}
		showHelp(cmd)
		return nil
	}
	return c
}

// helpCommand shows the help of a command at any depth, as --help does.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Aliases: []string{"h"}, HideHelp: true,
		Usage:        "show a list of commands, or the help of one command",
		ArgsUsage:    "[command...]",
		OnUsageError: usageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			about := parent(cmd)
			for _, name := range cmd.Args().Slice() {
				sub := about.Command(name)
				if sub == nil {
					return &unknownCommandError{parent: about, name: name}
				}
				about = sub
			}
			showHelp(about)
			return nil
		},
	}
}

func parent(cmd *cli.Command) *cli.Command { return cmd.Lineage()[1] }

func showHelp(cmd *cli.Command) {
	template := cli.CommandHelpTemplate
	switch {
	case cmd.Root() == cmd:
		template = cli.RootCommandHelpTemplate
	case len(cmd.VisibleCommands()) > 0:
		template = cli.SubcommandHelpTemplate
	}
	cli.HelpPrinter(cmd.Root().Writer, template, cmd)
}

// usageError is called for a command line that cannot be parsed.
func usageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	showHelp(cmd)
	return &commandError{cmd: cmd, err: err}
}
