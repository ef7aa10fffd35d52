// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
)

// renderStat writes s for people, in umoci's form. It does not look at errors:
// w is to remember them.
func renderStat(w io.Writer, s *inspect.ImageStat) {
	p := &statPrinter{w: w}
	p.println("== MANIFEST ==")
	p.manifest(&s.Manifest.Manifest)
	p.descriptor(s.Manifest.Descriptor)
	if s.Config != nil {
		p.println("\n== CONFIG ==")
		if s.Config.Image != nil {
			p.image(s.Config.Image)
		}
		p.descriptor(s.Config.Descriptor)
	}
	if s.History != nil {
		p.println("\n== HISTORY ==")
		renderHistory(w, s.History)
	}
}

// statPrinter writes keys with their values, one tab deeper in each section.
type statPrinter struct {
	w      io.Writer
	indent string
}

func (p *statPrinter) println(line string) {
	fmt.Fprintf(p.w, "%s%s\n", p.indent, line) //nolint:errcheck // see renderStat
}

// section writes what body writes, below heading.
func (p *statPrinter) section(heading string, body func()) {
	p.println(heading)
	outer := p.indent
	p.indent += "\t"
	body()
	p.indent = outer
}

// value writes the values of key in one line.
func (p *statPrinter) value(key string, values ...string) {
	for i, v := range values {
		values[i] = quoteItem(v)
	}
	p.println(key + ": " + strings.Join(values, ", "))
}

// optional writes key unless its value is empty.
func (p *statPrinter) optional(key, value string) {
	if value != "" {
		p.value(key, value)
	}
}

// list writes values one below the other.
func (p *statPrinter) list(key string, values []string) {
	if len(values) == 0 {
		p.println(key + ": (empty)")
		return
	}
	p.section(key+":", func() {
		for _, v := range values {
			p.println(quoteValue(v))
		}
	})
}

func (p *statPrinter) table(key string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	p.section(key+":", func() {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			p.value(quoteValue(k), m[k])
		}
	})
}

func (p *statPrinter) set(key string, m map[string]struct{}) {
	if len(m) > 0 {
		p.value(key, slices.Sorted(maps.Keys(m))...)
	}
}

func (p *statPrinter) manifest(m *ispec.Manifest) {
	p.value("Schema Version", strconv.Itoa(m.SchemaVersion))
	p.value("Media Type", m.MediaType)
	p.optional("Artifact Type", m.ArtifactType)
	p.section("Config:", func() { p.descriptor(m.Config) })
	if len(m.Layers) > 0 {
		p.section("Layers:", func() {
			for _, l := range m.Layers {
				p.descriptor(l)
			}
		})
	}
	if m.Subject != nil {
		p.section("Subject:", func() { p.descriptor(*m.Subject) })
	}
	p.table("Annotations", m.Annotations)
}

func (p *statPrinter) descriptor(d ispec.Descriptor) {
	p.section("Descriptor:", func() {
		p.value("Media Type", d.MediaType)
		p.optional("Artifact Type", d.ArtifactType)
		p.value("Digest", d.Digest.String())
		p.value("Size", humanSize(d.Size))
		if d.Platform != nil {
			p.platform(*d.Platform)
		}
		if len(d.URLs) > 0 {
			p.list("URLs", d.URLs)
		}
		p.table("Annotations", d.Annotations)
		if len(d.Data) > 0 {
			p.section(fmt.Sprintf("Data: (%d bytes)", len(d.Data)), func() { p.dump(d.Data) })
		}
	})
}

func (p *statPrinter) platform(f ispec.Platform) {
	p.section("Platform:", func() {
		p.value("OS", f.OS)
		p.optional("OS Version", f.OSVersion)
		if len(f.OSFeatures) > 0 {
			p.value("OS Features", slices.Clone(f.OSFeatures)...)
		}
		arch := quoteValue(f.Architecture)
		if f.Variant != "" {
			arch += " (" + quoteText(f.Variant) + ")"
		}
		p.println("Architecture: " + arch)
	})
}

func (p *statPrinter) image(i *ispec.Image) {
	if i.Created != nil {
		p.value("Created", i.Created.Format(time.RFC3339Nano))
	}
	p.value("Author", i.Author)
	p.platform(i.Platform)
	p.section("Image Config:", func() { p.config(&i.Config) })
}

func (p *statPrinter) config(c *ispec.ImageConfig) {
	p.value("User", c.User)
	escaped := ""
	if c.ArgsEscaped { //nolint:staticcheck // deprecated, but images have it
		escaped = " (escaped)"
	}
	if len(c.Entrypoint) > 0 {
		p.list("Entrypoint"+escaped, c.Entrypoint)
	}
	p.list("Command"+escaped, c.Cmd)
	p.optional("Working Directory", c.WorkingDir)
	if len(c.Env) > 0 {
		p.list("Environment", c.Env)
	}
	p.optional("Stop Signal", c.StopSignal)
	p.set("Exposed Ports", c.ExposedPorts)
	p.set("Volumes", c.Volumes)
	p.table("Labels", c.Labels)
}

// maxDump is how much of embedded data is shown, in bytes.
const maxDump = 256

// dump writes data as xxd does.
func (p *statPrinter) dump(data []byte) {
	shown := data[:min(len(data), maxDump)]
	offset := 0
	for line := range slices.Chunk(shown, 16) {
		var digits []string
		for pair := range slices.Chunk(line, 2) {
			digits = append(digits, hex.EncodeToString(pair))
		}
		p.println(fmt.Sprintf("%04x: %-39s  %s", offset, strings.Join(digits, " "), printable(line)))
		offset += len(line)
	}
	if rest := len(data) - len(shown); rest > 0 {
		p.println(fmt.Sprintf("....  (extra %d bytes omitted)", rest))
	}
}

// printable returns data with a dot for all that is not printable ASCII.
func printable(data []byte) string {
	text := slices.Clone(data)
	for i, b := range text {
		if b < ' ' || b > '~' {
			text[i] = '.'
		}
	}
	return string(text)
}

const none = "<none>"

func renderHistory(w io.Writer, history []inspect.HistoryEntry) {
	tw := tabwriter.NewWriter(w, 4, 2, 1, ' ', 0)
	fmt.Fprintln(tw, "LAYER\tCREATED\tCREATED BY\tSIZE\tCOMMENT") //nolint:errcheck // see renderStat
	for _, h := range history {
		layer, created, size := none, none, none
		if h.Layer != nil {
			layer, size = quoteText(h.Layer.Digest.String()), humanSize(h.Layer.Size)
		}
		if h.Created != nil {
			created = h.Created.Format(time.RFC3339Nano)
		}
		row := []string{layer, created, quoteText(h.CreatedBy), size, quoteText(h.Comment)}
		fmt.Fprintln(tw, strings.Join(row, "\t")) //nolint:errcheck // see renderStat
	}
	tw.Flush() //nolint:errcheck // see renderStat
}

// quoteText quotes s if it holds what Go's syntax escapes: never is anything
// printed that a terminal could take for a command.
func quoteText(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// quoteValue quotes s also where its beginning and end could not be seen.
func quoteValue(s string) string {
	if s == "" || strings.ContainsFunc(s, unicode.IsSpace) {
		return strconv.Quote(s)
	}
	return quoteText(s)
}

// quoteItem quotes s also where it could be taken for several.
func quoteItem(s string) string {
	if strings.Contains(s, ",") {
		return strconv.Quote(s)
	}
	return quoteValue(s)
}
