// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/urfave/cli/v3"
)

// parsed is what a command line means.
type parsed struct {
	ok     bool
	yes    bool
	value  string
	list   []string
	global string
	args   []string
}

func (p parsed) equal(q parsed) bool {
	return p.ok == q.ok && p.yes == q.yes && p.value == q.value && p.global == q.global &&
		slices.Equal(p.list, q.list) && slices.Equal(p.args, q.args)
}

// parse parses the arguments of a command with flags of every kind, in the way
// in which all commands do.
func parse(t testing.TB, args []string) (p parsed) {
	t.Helper()
	a := &app{stdout: newOutput(io.Discard), stderr: &console{w: io.Discard}}
	root := a.group(&cli.Command{
		Name: "shale", Writer: a.stdout, ErrWriter: a.stderr,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Flags:          []cli.Flag{&cli.StringFlag{Name: "global", Destination: &p.global}},
		Commands: []*cli.Command{a.command(command{
			name: "cmd",
			positional: argRule{other: func(args []string) error {
				p.args = args
				return nil
			}},
			flags: []cli.Flag{
				&cli.BoolFlag{Name: "yes", Destination: &p.yes},
				&cli.StringFlag{Name: "config.value", Aliases: []string{"f"}, Destination: &p.value},
				&cli.StringSliceFlag{Name: "list", Destination: &p.list},
			},
			run: func(context.Context, []string) error {
				p.ok = true
				return nil
			},
		})},
	})
	err := root.Run(t.Context(), append([]string{"shale", "cmd"}, args...))
	if p.ok != (err == nil) && !slices.ContainsFunc(args, asksHelp) {
		t.Fatalf("parse %q: error %v, and the command has run: %v", args, err, p.ok)
	}
	if !p.ok {
		return parsed{}
	}
	return p
}

func asksHelp(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(arg), "-"), "=")
	return name == "h" || name == "help"
}

func TestArguments(t *testing.T) {
	tests := []struct {
		args string
		want parsed
	}{
		{"", parsed{}},
		{"--yes", parsed{yes: true}},
		{"-yes", parsed{yes: true}},
		{"-yes=false", parsed{}},
		{"-yes false", parsed{yes: true, args: []string{"false"}}},
		{"--config.value v", parsed{value: "v"}},
		{"-config.value v", parsed{value: "v"}},
		{"--config.value=v", parsed{value: "v"}},
		{"-config.value=v=w", parsed{value: "v=w"}},
		{"-config.value=", parsed{}},
		{"-f v", parsed{value: "v"}},
		{"--f=v", parsed{value: "v"}},
		{"--config.value -c", parsed{value: "-c"}},
		{"--config.value --yes", parsed{value: "--yes"}},
		{"--config.value --", parsed{value: "--"}},
		{"--config.value a --config.value b", parsed{value: "b"}},
		{"--list a,b --list -c -list=d", parsed{list: []string{"a,b", "-c", "d"}}},
		{"a --yes b --config.value v c", parsed{yes: true, value: "v", args: []string{"a", "b", "c"}}},
		{"a -- --yes -- b", parsed{args: []string{"a", "--yes", "--", "b"}}},
		{"help", parsed{args: []string{"help"}}},
		{"h", parsed{args: []string{"h"}}},
		{"-", parsed{args: []string{"-"}}},
		{"a --global g", parsed{global: "g", args: []string{"a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			tt.want.ok = true
			if got := parse(t, strings.Fields(tt.args)); !got.equal(tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	for _, args := range []string{"--bogus", "-y", "---yes", "--config.value", "-yes=perhaps", "--yes --bogus a", "-fv"} {
		if got := parse(t, strings.Fields(args)); got.ok {
			t.Errorf("%s: got %+v, want an error", args, got)
		}
	}
}

// FuzzArguments holds the parser against Go's own, whose rules umoci's users
// know, with flags allowed after positional arguments.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"a|--yes|-f|-x|--list=a,b|--|--yes", "--list|--", "-f=|--global|x", "-yes=0|-h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "|")
		if slices.ContainsFunc(args, differs) {
			t.Skip("not the same in Go's parser")
		}
		if got, want := parse(t, args), reference(args); !got.equal(want) {
			t.Errorf("%q: got %+v, want %+v", args, got, want)
		}
	})
}

// differs reports whether the library treats arg as it likes: flags in white
// space, negative numbers, empty booleans, and requests for help.
func differs(arg string) bool {
	trimmed := strings.TrimSpace(arg)
	second := []rune(strings.TrimPrefix(trimmed, "-") + " ")[0]
	return trimmed != arg || asksHelp(arg) || strings.HasSuffix(arg, "yes=") ||
		strings.HasPrefix(arg, "-") && second != '-' && !unicode.IsLetter(second)
}

func reference(args []string) (p parsed) {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&p.yes, "yes", false, "")
	set.StringVar(&p.value, "config.value", "", "")
	set.StringVar(&p.value, "f", "", "")
	set.StringVar(&p.global, "global", "", "")
	set.Func("list", "", func(s string) error {
		p.list = append(p.list, s)
		return nil
	})
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return parsed{}
		}
		rest := set.Args()
		parsedArgs := args[:len(args)-len(rest)]
		if ended(set, parsedArgs) || len(rest) == 0 {
			p.args = append(p.args, rest...)
			break
		}
		p.args = append(p.args, rest[0])
		args = rest[1:]
	}
	p.ok = true
	return p
}

// ended reports whether the last of the arguments that were parsed is a "--"
// that is no value of a flag.
func ended(set *flag.FlagSet, args []string) bool {
	if len(args) == 0 || args[len(args)-1] != "--" {
		return false
	}
	// Without the last, a flag that had it as its value has none.
	probe := flag.NewFlagSet("", flag.ContinueOnError)
	probe.SetOutput(io.Discard)
	set.VisitAll(func(f *flag.Flag) {
		if f.Name == "yes" {
			probe.Bool(f.Name, false, "")
		} else {
			probe.String(f.Name, "", "")
		}
	})
	return probe.Parse(args[:len(args)-1]) == nil
}

func TestEveryCommand(t *testing.T) {
	a := &app{stdout: newOutput(io.Discard), stderr: &console{w: io.Discard}}
	err := a.root().Walk(func(c *cli.Command) error {
		if c.Usage == "" {
			t.Errorf("%s has no usage", c.Name)
		}
		if made, ok := c.Metadata[about].(*command); ok {
			if len(made.examples) == 0 {
				t.Errorf("%s has no examples", c.Name)
			}
			for _, e := range made.examples {
				if !strings.Contains(e, "shale ") {
					t.Errorf("%s: the example %q is none", c.Name, e)
				}
			}
			if !strings.Contains(c.Description, "\nExit status: 0 success, 1 ") {
				t.Errorf("%s does not tell its exit status: %q", c.Name, c.Description)
			}
		}
		if c.OnUsageError == nil {
			t.Errorf("%s prints usage errors in its own way", c.Name)
		}
		for _, f := range c.Flags {
			if _, ok := f.(*cli.StringSliceFlag); ok && !c.DisableSliceFlagSeparator {
				t.Errorf("%s splits lists at commas", c.Name)
			}
			if d, ok := f.(cli.DocGenerationFlag); !ok || d.GetUsage() == "" {
				t.Errorf("%s: flag %s has no usage", c.Name, f.Names()[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
