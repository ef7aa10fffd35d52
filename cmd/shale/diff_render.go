// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/quote"
)

// diffSchema is the version of what diff --json prints: see docs/diff-json.md.
const diffSchema = 1

func (a *app) printDiff(d *inspect.Difference, f *diffFlags) error {
	switch {
	case f.summary:
		return a.printJSON(d.LuetSummary())
	case f.format == "luet":
		return a.printJSON([]inspect.LuetDiff{d.Luet()})
	case f.format == "json":
		return a.printDiffJSON(d)
	}
	renderDiff(a.stdout, d, f.times)
	return a.stdout.err
}

// printDiffJSON prints one line of JSON, entry by entry: all of them may take more
// memory than there is.
func (a *app) printDiffJSON(d *inspect.Difference) error {
	head, err := json.Marshal(struct {
		SchemaVersion int `json:"schemaVersion"`
		*inspect.Difference
	}{diffSchema, d})
	if err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	a.stdout.printf("%s", escapeControls(head[:len(head)-1]))
	separator := `,"entries":[`
	for e := range d.Entries() {
		doc, err := json.Marshal(&e)
		if err != nil {
			return fmt.Errorf("encode as JSON: %w", err)
		}
		a.stdout.printf("%s%s", separator, escapeControls(doc))
		if a.stdout.err != nil {
			break
		}
		separator = ","
	}
	if separator != "," {
		a.stdout.printf("%s", separator)
	}
	a.stdout.printf("]}\n")
	return a.stdout.err
}

// renderDiff writes a line for each difference, the diffs of contents below theirs, and
// a line that sums up. It does not look at errors: w is to remember them.
func renderDiff(w *output, d *inspect.Difference, times bool) {
	for _, c := range d.Config {
		name := c.Field
		if c.Key != "" {
			name += " " + quote.Name(c.Key)
		}
		w.printf("C %s: %s -> %s\n", name, configValue(c.Old), configValue(c.New))
	}
	for e := range d.Entries() {
		renderEntry(w, &e)
		if w.err != nil {
			return
		}
	}
	s := &d.Summary
	var sums []string
	for _, c := range []struct {
		count inspect.DiffCount
		what  string
	}{{s.Added, "added"}, {s.Deleted, "deleted"}, {s.Changed, "changed"}} {
		if c.count.Paths > 0 {
			sums = append(sums, fmt.Sprintf("%d %s (%s)", c.count.Paths, c.what, humanSize(c.count.Bytes)))
		}
	}
	if n := len(d.Config); n > 0 {
		sums = append(sums, fmt.Sprintf("%d in the config", n))
	}
	if s.TimeOnly > 0 {
		only := fmt.Sprintf("%d in time alone", s.TimeOnly)
		if !times {
			only += " (not listed without --times)"
		}
		sums = append(sums, only)
	}
	if len(sums) > 0 {
		w.printf("%s\n", strings.Join(sums, ", "))
	}
}

func renderEntry(w *output, e *inspect.DiffEntry) {
	path := quote.Name(e.Path)
	switch e.Kind {
	case inspect.DiffAdded:
		w.printf("A %s: %s\n", path, describeFile(e.New))
	case inspect.DiffDeleted:
		w.printf("D %s: %s\n", path, describeFile(e.Old))
	default:
		w.printf("M %s: %s\n", path, describeChange(e))
	}
	switch {
	case e.NoText != "":
		w.printf("(content not shown: %s)\n", e.NoText)
	case e.Text != "":
		w.printf("--- %s\n+++ %s\n", path, path)
		for line := range strings.Lines(e.Text) {
			w.printf("%s\n", showLine(strings.TrimSuffix(line, "\n")))
		}
	}
}

// describeFile says in a few words what a file is.
func describeFile(f *inspect.DiffFile) string {
	text := fmt.Sprintf("%s %s %d:%d", f.Type, f.Mode, f.UID, f.GID)
	switch f.Type {
	case "file":
		text += " " + humanSize(f.Size)
	case "symlink":
		text += " -> " + quote.Name(f.Target)
	case "char", "block":
		text += " " + f.Device
	}
	return text
}

// describeChange lists what differs, with values where they are short.
func describeChange(e *inspect.DiffEntry) string {
	was, is := e.Old, e.New
	var parts []string
	change := func(name, from, to string) { parts = append(parts, fmt.Sprintf("%s %s -> %s", name, from, to)) }
	for _, field := range e.Fields {
		switch field {
		case "type":
			change(field, was.Type, is.Type)
		case "mode":
			change(field, was.Mode, is.Mode)
		case "uid":
			change(field, fmt.Sprint(was.UID), fmt.Sprint(is.UID))
		case "gid":
			change(field, fmt.Sprint(was.GID), fmt.Sprint(is.GID))
		case "size":
			change(field, fmt.Sprint(was.Size), fmt.Sprint(is.Size))
		case "target":
			change(field, quote.Name(was.Target), quote.Name(is.Target))
		case "device":
			change(field, was.Device, is.Device)
		case "mtime":
			change(field, was.Mtime, is.Mtime)
		case "xattrs":
			parts = append(parts, "xattrs "+strings.Join(changedXattrs(was, is), " "))
		default:
			parts = append(parts, field)
		}
	}
	return strings.Join(parts, ", ")
}

// changedXattrs returns the names of the attributes that differ.
func changedXattrs(was, is *inspect.DiffFile) []string {
	var names []string
	for name, value := range was.Xattrs {
		if now, ok := is.Xattrs[name]; !ok || string(now) != string(value) {
			names = append(names, quote.Name(name))
		}
	}
	for name := range is.Xattrs {
		if _, ok := was.Xattrs[name]; !ok {
			names = append(names, quote.Name(name))
		}
	}
	slices.Sort(names)
	return names
}

// configValue returns a value of a ConfigChange in one line.
func configValue(v any) string {
	switch v := v.(type) {
	case nil:
		return none
	case string:
		return quoteValue(v)
	case []string:
		items := make([]string, len(v))
		for i, s := range v {
			items[i] = quoteItem(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return oneLine(fmt.Sprint(v))
}

// showLine returns a line of a file with tabs as they are, and all that a terminal would
// act on as escapes.
func showLine(line string) string {
	parts := strings.Split(line, "\t")
	for i, p := range parts {
		parts[i] = oneLine(p)
	}
	return strings.Join(parts, "\t")
}
