// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// zshCompletion is a script for zsh's completion system: one function for each command.
func zshCompletion(root *manual) string {
	var b strings.Builder
	b.WriteString(`#compdef shale
# Made by "shale docs completions"; do not edit.

_shale_image() {
	if [[ $PREFIX == *:* ]]; then
		local layout=${${(Q)PREFIX%%:*}/#\~\//$HOME/}
		local -a tags
		# Tags are foreign: what a shell would do something with is left out.
		tags=(${${(f)"$(shale --log=fatal ls --layout $layout 2>/dev/null)"}:#*[^A-Za-z0-9._:@+/-]*})
		compset -P '*:'
		compadd -a tags
	else
		_files -/ -S ''
	fi
}

`)
	for _, m := range root.all() {
		fmt.Fprintf(&b, "%s() {\n", zshFunction(m))
		if len(m.commands) == 0 {
			b.WriteString("\t_arguments -S \\\n")
			zshFlags(&b, m.flagsWith(root))
			fmt.Fprintf(&b, "\t\t'*:argument:%s'\n}\n\n", zshArguments(m))
			continue
		}
		b.WriteString("\tlocal curcontext=$curcontext state line\n\t_arguments -C \\\n")
		zshFlags(&b, m.flagsWith(root))
		b.WriteString("\t\t'1:command:->command' \\\n\t\t'*::argument:->argument'\n\tcase $state in\n\tcommand)\n")
		b.WriteString("\t\tlocal -a commands=(\n")
		for _, sub := range m.commands {
			for _, name := range append([]string{sub.path[len(sub.path)-1]}, sub.aliases...) {
				fmt.Fprintf(&b, "\t\t\t%s\n", zshQuote(name+":"+sub.usage))
			}
		}
		b.WriteString("\t\t\t'help:show the help of a command'\n\t\t)\n\t\t_describe command commands\n\t\t;;\n")
		b.WriteString("\targument)\n\t\tcase $line[1] in\n")
		for _, sub := range m.commands {
			fmt.Fprintf(&b, "\t\t%s) %s ;;\n",
				strings.Join(append([]string{sub.path[len(sub.path)-1]}, sub.aliases...), " | "), zshFunction(sub))
		}
		b.WriteString("\t\tesac\n\t\t;;\n\tesac\n}\n\n")
	}
	// Where the file is autoloaded, it is the body of the function.
	b.WriteString("if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n\t_shale \"$@\"\nelse\n\tcompdef _shale shale\nfi\n")
	return b.String()
}

func zshFunction(m *manual) string {
	return "_" + strings.ReplaceAll(m.name("_"), "-", "_")
}

// zshFlags writes the specifications of flags: see _arguments in zshcompsys(1).
func zshFlags(b *strings.Builder, flags []manualFlag) {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	for _, f := range flags {
		for _, name := range f.names {
			spec := dashed(name)
			if f.list {
				spec = "*" + spec
			}
			if f.value != "" && len(name) > 1 {
				spec += "="
			}
			spec += "[" + escape.Replace(f.usage) + "]"
			if f.value != "" {
				spec += ":" + escape.Replace(f.value) + ":" + zshValues(f)
			}
			fmt.Fprintf(b, "\t\t%s \\\n", zshQuote(spec))
		}
	}
	b.WriteString("\t\t'(- *)--help[show help]' \\\n")
}

func zshValues(f manualFlag) string {
	if list := choicesOf(f); len(list) > 0 {
		return "(" + strings.Join(list, " ") + ")"
	}
	return map[valueKind]string{
		otherValue: " ", fileValue: "_files", directoryValue: "_files -/", imageValue: "_shale_image",
	}[kindOf(f)]
}

func zshArguments(m *manual) string {
	if list := argumentChoices[m.name(" ")]; list != nil {
		return "(" + strings.Join(list, " ") + ")"
	}
	if imageArguments[m.name(" ")] {
		return "_shale_image"
	}
	return "_files"
}

// zshQuote quotes s for a shell.
func zshQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
