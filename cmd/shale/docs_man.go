// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// manPages returns the man pages of the commands, by the names of their files.
func manPages(root *manual) map[string]string {
	pages := map[string]string{}
	for _, m := range root.all() {
		pages[m.name("-")+".1"] = manPage(m, root)
	}
	return pages
}

// manPage is one man page: see man-pages(7) for the sections, and groff_man(7) for the
// macros.
func manPage(m, root *manual) string {
	p := &page{}
	title := strings.ToUpper(m.name("-"))
	p.line(`.\" Made by "shale docs man"; do not edit.`)
	p.line(".TH %s 1 \"\" shale \"User Commands\"", roff(title))
	p.line(".SH NAME")
	p.line("%s \\- %s", roff(m.name("-")), roff(m.usage))
	p.line(".SH SYNOPSIS")
	p.synopsis(m)
	p.line(".SH DESCRIPTION")
	p.paragraphs(m.details)
	if len(m.aliases) > 0 {
		p.line(".PP")
		p.line("Another name of the command is")
		p.line(".BR %s .", roff(strings.Join(m.aliases, ", ")))
	}
	if len(m.commands) > 0 {
		p.line(".SH COMMANDS")
		for _, sub := range m.commands {
			p.line(".TP")
			p.line(".BR %s (1)", roff(sub.name("-")))
			p.text(sub.usage)
		}
	}
	if len(m.flags) > 0 {
		p.line(".SH OPTIONS")
		p.flags(m.flags)
	}
	if m != root && len(root.flags) > 0 {
		p.line(".PP")
		p.line("The options of")
		p.line(".BR shale (1)")
		p.line("may be given as well.")
	}
	p.examples(m.examples)
	if m == root {
		p.environment()
	}
	p.line(".SH EXIT STATUS")
	p.text(m.exit)
	p.line(".SH SEE ALSO")
	p.seeAlso(m, root)
	return p.b.String()
}

// page is a man page that is being written.
type page struct{ b strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// text writes text that may begin with anything.
func (p *page) text(s string) {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	p.line("%s", roff(s))
}

func (p *page) synopsis(m *manual) {
	p.line(".B %s", roff(m.name(" ")))
	if len(m.flags) > 0 {
		p.line("[\\fIoption\\fR...]")
	}
	if len(m.commands) > 0 {
		p.line("\\fIcommand\\fR")
	}
	if m.args != "" {
		p.line("%s", roff(m.args))
	}
}

// paragraphs writes text whose lines are wrapped, and whose paragraphs are separated
// by empty lines.
func (p *page) paragraphs(s string) {
	for n, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if n > 0 {
			p.line(".PP")
		}
		for _, line := range strings.Split(paragraph, "\n") {
			p.text(strings.TrimSpace(line))
		}
	}
}

func (p *page) flags(flags []manualFlag) {
	for _, f := range flags {
		p.line(".TP")
		var names []string
		for _, name := range f.names {
			s := `\fB` + roff(dashed(name)) + `\fR`
			if f.value != "" {
				s += ` \fI` + roff(f.value) + `\fR`
			}
			names = append(names, s)
		}
		p.line("%s", strings.Join(names, ", "))
		usage := f.usage
		if f.def != "" {
			usage += " (default: " + f.def + ")"
		}
		if f.list && !strings.Contains(usage, "times") {
			usage += "; may be given several times"
		}
		p.text(usage)
	}
}

func (p *page) examples(examples []string) {
	if len(examples) == 0 {
		return
	}
	p.line(".SH EXAMPLES")
	p.line(".EX")
	for _, e := range examples {
		p.text(e)
	}
	p.line(".EE")
}

func (p *page) environment() {
	p.line(".SH ENVIRONMENT")
	for _, v := range environment {
		p.line(".TP")
		p.line(".B %s", roff(v.name))
		p.text(v.usage)
	}
}

// environment lists the variables that shale looks at.
var environment = []struct{ name, usage string }{
	{"SOURCE_DATE_EPOCH", "a time in seconds since 1970 that takes the place of the clock in what is made, " +
		"and is the latest time of a file in a new layer"},
}

func (p *page) seeAlso(m, root *manual) {
	var names []string
	for _, other := range root.all() {
		if other != m {
			names = append(names, other.name("-"))
		}
	}
	for n, name := range names {
		comma := ","
		if n == len(names)-1 {
			comma = ""
		}
		p.line(".BR %s (1)%s", roff(name), comma)
	}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// roff escapes what is special within a line.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`).Replace(s)
}
