// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/quote"
)

// completionFiles are the names of the files with completions, by the name of the
// shell, as the shells look for them.
var completionFiles = map[string]string{"bash": "shale.bash", "fish": "shale.fish", "zsh": "_shale"}

func (a *app) completionCommand() *cli.Command {
	shells := strings.Join(slices.Sorted(maps.Keys(completionFiles)), ", ")
	return a.command(command{
		name:    "completion",
		usage:   "print the completion of command lines for a shell",
		details: "The shell is one of " + shells + ".",
		examples: []string{
			"source <(shale completion bash)                          # in ~/.bashrc",
			"source <(shale completion zsh)                           # in ~/.zshrc, after compinit",
			"shale completion fish > ~/.config/fish/completions/shale.fish",
		},
		positional: argRule{names: []string{"<shell>"}},
		run: func(_ context.Context, args []string) error {
			name, ok := completionFiles[args[0]]
			if !ok {
				return fmt.Errorf("invalid <shell>: %s is none of %s", quote.Name(args[0]), shells)
			}
			script := completions(manualOf(a.root()))[name]
			if script == "" {
				return errors.New("there is no such completion")
			}
			a.stdout.printf("%s", script)
			return nil
		},
	})
}

// completions returns the completions for all shells, by the names of their files.
func completions(root *manual) map[string]string {
	return map[string]string{
		completionFiles["bash"]: bashCompletion(root),
		completionFiles["fish"]: fishCompletion(root),
		completionFiles["zsh"]:  zshCompletion(root),
	}
}

// valueKind says how the value of a flag is completed.
type valueKind int

const (
	otherValue valueKind = iota
	fileValue
	directoryValue
	imageValue // path[:tag]
)

// kindOf returns how the value of a flag is completed, by what its help text calls it.
func kindOf(f manualFlag) valueKind {
	switch {
	case f.value == "path[:tag]", f.value == "source":
		return imageValue
	case f.value == "directory" && f.names[0] != "config.workingdir", f.names[0] == "layout":
		return directoryValue
	case f.value == "file", f.value == "path" && f.names[0] != "mask-path" && f.names[0] != "config.volume":
		return fileValue
	}
	return otherValue
}

// choices are the values of the flags that have only few.
var choices = map[string][]string{
	"compress": {"auto", "none", "gzip", "zstd"},
	"log":      {"debug", "info", "warn", "error", "fatal"},
	"progress": {"auto", "plain", "json", "none"},
	"userns":   {"auto", "on", "off"},
	"clear":    slices.Sorted(maps.Keys(clearings)),
	"ignore":   inspect.DiffFieldNames(),
}

// choicesOf returns the choices that a flag has: those that its help tells of, since
// flags of the same name need not have the same ones.
func choicesOf(f manualFlag) []string {
	return slices.DeleteFunc(slices.Clone(choices[f.names[0]]), func(choice string) bool {
		return !strings.Contains(f.usage, choice)
	})
}

// argumentChoices are the positional arguments of the commands that take one of a few.
var argumentChoices = map[string][]string{
	"shale completion": slices.Sorted(maps.Keys(completionFiles)),
}

// imageArguments are the commands whose positional arguments are images or directories.
var imageArguments = map[string]bool{"shale diff": true}

// names returns the names of the commands below m, aliases included.
func (m *manual) names() []string {
	var list []string
	for _, sub := range m.commands {
		list = append(append(list, sub.path[len(sub.path)-1]), sub.aliases...)
	}
	return append(list, "help")
}

// flagsWith returns the flags of m and, below root, those of root.
func (m *manual) flagsWith(root *manual) []manualFlag {
	if m == root {
		return m.flags
	}
	return append(slices.Clip(m.flags), root.flags...)
}
