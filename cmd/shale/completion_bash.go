// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// bashCompletion is a script that needs nothing but bash. It takes the line apart by
// itself, because bash has other ideas about colons and equals signs, and gives back
// what is to follow the last one of these.
func bashCompletion(root *manual) string {
	var b strings.Builder
	b.WriteString(`# Made by "shale docs completions"; do not edit.
# shellcheck shell=bash

_shale() {
	local line=${COMP_LINE:0:COMP_POINT} word cur='' prev='' command='shale' commands='' flags='' values='' args=files
	local -a words
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] && cur=${words[-1]} && unset 'words[-1]'
	for word in "${words[@]:1}"; do
		_shale_is_command "$command" "$word"
	done
	prev=${words[-1]}
	_shale_command "$command"

	local flag=${cur%%=*}
	if [[ $cur == -*=* ]]; then
		cur=${cur#*=}
	elif [[ $prev == -* && $prev != *=* ]]; then
		flag=$prev
	else
		flag=''
	fi
	if [[ -n $flag ]]; then
		flag=${flag#-}
		_shale_value "$command" "${flag#-}"
	fi
	if [[ -n $values ]]; then
		case $values in
		:files) _shale_files -f ;;
		:directories) _shale_files -d ;;
		:image) _shale_image ;;
		:any) COMPREPLY=() ;;
		*) _shale_words "$values" ;;
		esac
	elif [[ $cur == -* ]]; then
		_shale_words "$flags"
	elif [[ -n $commands ]]; then
		_shale_words "$commands"
	elif [[ $args == files ]]; then
		_shale_files -f
	elif [[ $args == images ]]; then
		_shale_image
	else
		_shale_words "$args"
	fi
	# What bash takes for a word of its own is not repeated.
	local rest=${cur%"${cur##*[:=]}"} n
	if [[ -n $rest && $COMP_WORDBREAKS == *[:=]* ]]; then
		for n in "${!COMPREPLY[@]}"; do
			COMPREPLY[n]=${COMPREPLY[n]#"$rest"}
		done
	fi
}

_shale_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_shale_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_shale_image() {
	local path=${cur%%:*} tag
	if [[ $cur == *:* ]]; then
		COMPREPLY=()
		# Tags are foreign: what a shell would do something with is left out.
		while read -r tag; do
			[[ $tag == "${cur#*:}"* && $tag != *[^A-Za-z0-9._:@+/-]* ]] && COMPREPLY+=("$path:$tag")
		done < <(shale --log=fatal ls --layout "${path/#\~\//$HOME/}" 2>/dev/null)
	else
		compopt -o nospace 2>/dev/null
		_shale_files -d
	fi
}

`)
	b.WriteString("# _shale_is_command goes one command down if there is one of this name.\n")
	b.WriteString("_shale_is_command() {\n\tcase \"$1 $2\" in\n")
	for _, m := range root.all() {
		for _, sub := range m.commands {
			for _, name := range append([]string{sub.path[len(sub.path)-1]}, sub.aliases...) {
				fmt.Fprintf(&b, "\t'%s %s') command='%s' ;;\n", m.name(" "), name, sub.name(" "))
			}
		}
	}
	b.WriteString("\tesac\n}\n\n# _shale_command says what there is to be said after a command.\n")
	b.WriteString("_shale_command() {\n\tcase $1 in\n")
	for _, m := range root.all() {
		var flags []string
		for _, f := range m.flagsWith(root) {
			for _, name := range f.names {
				flags = append(flags, dashed(name))
			}
		}
		fmt.Fprintf(&b, "\t'%s')\n\t\tflags='%s --help'\n", m.name(" "), strings.Join(flags, " "))
		if len(m.commands) > 0 {
			fmt.Fprintf(&b, "\t\tcommands='%s'\n", strings.Join(m.names(), " "))
		}
		if list := argumentChoices[m.name(" ")]; list != nil {
			fmt.Fprintf(&b, "\t\targs='%s'\n", strings.Join(list, " "))
		}
		if imageArguments[m.name(" ")] {
			b.WriteString("\t\targs='images'\n")
		}
		b.WriteString("\t\t;;\n")
	}
	b.WriteString("\tesac\n}\n\n# _shale_value says what values a flag of a command has, if it has any.\n")
	b.WriteString("_shale_value() {\n\tcase \"$1 $2\" in\n")
	for _, m := range root.all() {
		for _, f := range m.flagsWith(root) {
			if f.value != "" {
				fmt.Fprintf(&b, "\t%s) values='%s' ;;\n", bashPatterns(m, f), bashValues(f))
			}
		}
	}
	b.WriteString("\tesac\n}\n\ncomplete -F _shale shale\n")
	return b.String()
}

func bashPatterns(m *manual, f manualFlag) string {
	var list []string
	for _, name := range f.names {
		list = append(list, fmt.Sprintf("'%s %s'", m.name(" "), name))
	}
	return strings.Join(list, " | ")
}

func bashValues(f manualFlag) string {
	if list := choicesOf(f); len(list) > 0 {
		return strings.Join(list, " ")
	}
	return map[valueKind]string{
		otherValue: ":any", fileValue: ":files", directoryValue: ":directories", imageValue: ":image",
	}[kindOf(f)]
}
