// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// fishCompletion is a list of conditions and of what can be completed under them.
func fishCompletion(root *manual) string {
	var b strings.Builder
	b.WriteString(`# Made by "shale docs completions"; do not edit.

# The command that the line is about: the words that are commands, one below the other.
function __shale_command
    set -l words (commandline -opc)
    set -l command shale
    for word in $words[2..-1]
        switch "$command $word"
`)
	for _, m := range root.all() {
		for _, sub := range m.commands {
			for _, name := range append([]string{sub.path[len(sub.path)-1]}, sub.aliases...) {
				fmt.Fprintf(&b, "            case '%s %s'\n                set command '%s'\n", m.name(" "), name, sub.name(" "))
			}
		}
	}
	b.WriteString(`        end
    end
    echo $command
end

function __shale_is
    test (__shale_command) = "$argv"
end

function __shale_images
    set -l word (commandline -ct | string replace -r '^--image=' '')
    set -l path (string split -m 1 : -- $word)
    if test (count $path) -eq 2
        # Tags are foreign: what a shell would do something with is left out.
        for tag in (shale --log=fatal ls --layout (string replace -r '^~/' "$HOME/" -- $path[1]) 2>/dev/null)
            string match -qr '^[A-Za-z0-9._:@+/-]+$' -- $tag; and echo $path[1]:$tag
        end
    else
        __fish_complete_directories $word
    end
end

`)
	for _, m := range root.all() {
		is := "-n '__shale_is " + m.name(" ") + "'"
		for _, sub := range m.commands {
			for _, name := range append([]string{sub.path[len(sub.path)-1]}, sub.aliases...) {
				fmt.Fprintf(&b, "complete -c shale %s -f -a %s -d %s\n", is, name, fishQuote(sub.usage))
			}
		}
		if len(m.commands) > 0 {
			fmt.Fprintf(&b, "complete -c shale %s -f -a help -d 'show the help of a command'\n", is)
		}
		for _, choice := range argumentChoices[m.name(" ")] {
			fmt.Fprintf(&b, "complete -c shale %s -f -a %s\n", is, choice)
		}
		if imageArguments[m.name(" ")] {
			fmt.Fprintf(&b, "complete -c shale %s -f -a '(__shale_images)'\n", is)
		}
		for _, f := range m.flags {
			line := "complete -c shale " + is
			if m == root {
				line = "complete -c shale" // before and after every command
			}
			for _, name := range f.names {
				if len(name) == 1 {
					line += " -s " + name
				} else {
					line += " -l " + name
				}
			}
			fmt.Fprintf(&b, "%s%s -d %s\n", line, fishValues(f), fishQuote(f.usage))
		}
	}
	b.WriteString("complete -c shale -s h -l help -d 'show help'\n")
	return b.String()
}

func fishValues(f manualFlag) string {
	if f.value == "" {
		return ""
	}
	if list := choicesOf(f); len(list) > 0 {
		return " -x -a " + fishQuote(strings.Join(list, " "))
	}
	return map[valueKind]string{
		otherValue: " -x", fileValue: " -r -F", directoryValue: " -x -a '(__fish_complete_directories)'",
		imageValue: " -x -a '(__shale_images)'",
	}[kindOf(f)]
}

// fishQuote quotes s for fish, where a backslash escapes a quote within quotes.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
