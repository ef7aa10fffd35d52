// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

//go:generate go run . docs man ../../docs/man
//go:generate go run . docs completions ../../completions

// docsCommand writes what is made of the commands: for those who build packages.
func (a *app) docsCommand() *cli.Command {
	return a.group(&cli.Command{
		Name: "docs", Hidden: true,
		Usage: "write the files that are made of the commands",
		Commands: []*cli.Command{
			a.command(command{
				name:       "man",
				usage:      "write the man pages into a directory",
				details:    "The directory is made if need be.",
				examples:   []string{"shale docs man /usr/share/man/man1"},
				positional: argRule{names: []string{"<directory>"}},
				run: func(_ context.Context, args []string) error {
					return writeFiles(args[0], manPages(manualOf(a.root())))
				},
			}),
			a.command(command{
				name:       "completions",
				usage:      "write the completions for shells into a directory",
				details:    "The directory is made if need be. The files are called as the shells expect it.",
				examples:   []string{"shale docs completions completions"},
				positional: argRule{names: []string{"<directory>"}},
				run: func(_ context.Context, args []string) error {
					return writeFiles(args[0], completions(manualOf(a.root())))
				},
			}),
		},
	})
}

func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manual is what documentation tells of a command.
type manual struct {
	path     []string // shale and the names below it
	aliases  []string
	usage    string
	details  string
	args     string
	examples []string
	exit     string
	flags    []manualFlag
	commands []*manual
}

// manualFlag is what documentation tells of a flag.
type manualFlag struct {
	names []string // without minus signs, the first being the full one
	value string   // what the value is called; empty if there is none
	usage string
	def   string // the default, where it is not empty
	list  bool   // may be given several times
}

// manualOf returns what there is to tell of a command and of all below it that is not
// hidden.
func manualOf(cmd *cli.Command, above ...string) *manual {
	m := &manual{path: append(slices.Clip(above), cmd.Name), aliases: cmd.Aliases, usage: cmd.Usage}
	switch c := cmd.Metadata[about].(type) {
	case *command:
		m.details, m.args, m.examples, m.exit = c.details, cmd.ArgsUsage, c.examples, c.exitStatus()
	case string:
		m.details, m.exit = c, groupExitStatus
	}
	for _, f := range cmd.Flags {
		if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
			m.flags = append(m.flags, describeFlag(f))
		}
	}
	for _, sub := range cmd.Commands {
		if !sub.Hidden && sub.Name != "help" {
			m.commands = append(m.commands, manualOf(sub, m.path...))
		}
	}
	return m
}

func describeFlag(f cli.Flag) manualFlag {
	m := manualFlag{names: f.Names()}
	if d, ok := f.(cli.DocGenerationFlag); ok {
		m.usage = strings.ReplaceAll(d.GetUsage(), "`", "")
		if d.TakesValue() {
			m.value = "value"
			if _, rest, ok := strings.Cut(d.GetUsage(), "`"); ok {
				m.value, _, _ = strings.Cut(rest, "`")
			}
			m.def = strings.Trim(d.GetValue(), `"`)
		}
	}
	_, m.list = f.(*cli.StringSliceFlag)
	if m.list {
		m.def = ""
	}
	return m
}

// name is how the command is called, with the given string between its parts.
func (m *manual) name(between string) string { return strings.Join(m.path, between) }

// all lists the command and all below it.
func (m *manual) all() []*manual {
	list := []*manual{m}
	for _, sub := range m.commands {
		list = append(list, sub.all()...)
	}
	return list
}
