// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/split"
)

// renderOut writes what is or would be written, for people. It does not look at
// errors: w is to remember them.
func renderOut(w io.Writer, o *split.Out) {
	if o.Name != "" {
		fmt.Fprintf(w, "%s:\n", quoteText(o.Name)) //nolint:errcheck // see above
	}
	tw := tabwriter.NewWriter(w, 4, 2, 2, ' ', 0)
	fmt.Fprintln(tw, "TIER\tLAYERS\tBLOBS\tSIZE\tLEFT OUT\tIMAGE") //nolint:errcheck // see above
	for _, t := range o.Tiers {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\t%s\n", //nolint:errcheck // see above
			t.Name, t.Layers, t.Blobs, humanSize(t.Bytes), humanSize(t.LeftOutBytes), quoteText(orNone(t.Ref)))
	}
	tw.Flush()                                                               //nolint:errcheck // see above
	fmt.Fprintf(w, "to write: %d bytes (%s), for images of %d bytes (%s)\n", //nolint:errcheck // see above
		o.Bytes(), humanSize(o.Bytes()), o.ImageBytes, humanSize(o.ImageBytes))
	what := "that has the tiers below " + split.TopTier
	for _, t := range o.Tiers {
		if t.LeftOut > 0 {
			what = "that has what was left out"
		}
	}
	fmt.Fprintf(w, "a site %s saves %d bytes (%s)\n", what, o.Saved(), humanSize(o.Saved())) //nolint:errcheck // see above
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// inspectSplit prints what is in an OUT.
func (a *app) inspectSplit(ctx context.Context, path string, asJSON bool) error {
	report, err := split.Inspect(ctx, path)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(report)
	}
	renderReport(a.stdout, report)
	return nil
}

func renderReport(w io.Writer, r *split.Report) {
	p := &statPrinter{w: w}
	p.println("== IMAGES ==")
	for _, img := range r.Images {
		p.section(quoteText(img.Ref)+":", func() {
			p.value("Digest", img.Digest.String())
			for _, m := range img.Manifests {
				p.section("Platform "+quoteText(layout.PlatformString(m.Platform))+":", func() { reportManifest(p, &m) })
			}
		})
	}
	p.println("\n== TIERS ==")
	for _, t := range r.Tiers {
		p.section(t.Name+":", func() { reportTier(p, &t) })
	}
}

func reportManifest(p *statPrinter, m *split.FileManifest) {
	p.value("Manifest", m.Digest.String())
	p.section("Layers:", func() {
		for _, l := range m.Layers {
			p.println(fmt.Sprintf("%s  %s  %s", quoteText(l.Digest.String()), humanSize(l.Size), quoteText(orNone(l.Tier))))
		}
	})
}

func reportTier(p *statPrinter, t *split.TierReport) {
	p.optional("Image", t.Ref)
	p.value("Path", orNone(t.Path))
	p.value("Size", fmt.Sprintf("%s in %d blobs", humanSize(t.Bytes), t.Blobs))
	p.section("Layers:", func() {
		for _, l := range t.Layers {
			p.println(fmt.Sprintf("%s  %s  diffID %s", quoteText(l.Digest.String()), humanSize(l.Size), quoteText(l.DiffID.String())))
		}
	})
	list := func(heading string, blobs []split.FileBlob) {
		if len(blobs) == 0 {
			return
		}
		p.section(heading+":", func() {
			for _, b := range blobs {
				p.println(fmt.Sprintf("%s  %s", quoteText(b.Digest.String()), humanSize(b.Size)))
			}
		})
	}
	list("Left out", t.LeftOut)
	list("Missing", t.Missing)
}

// describeJoin says in one line how an image came about.
func describeJoin(j *split.Joined) string {
	var images, ways []string
	for _, img := range j.Images {
		images = append(images, fmt.Sprintf("%s (%s)", quote.Name(img.Ref), shorten(img.Digest)))
	}
	for _, how := range []layout.CopyMethod{layout.Kept, layout.Cloned, layout.Linked, layout.Copied} {
		if n := j.Blobs[how]; n > 0 {
			ways = append(ways, fmt.Sprintf("%d blobs (%s) %s", n, humanSize(j.Bytes[how]), how))
		}
	}
	return fmt.Sprintf("joined %s: %s", strings.Join(images, ", "), strings.Join(ways, ", "))
}

func shorten(d digest.Digest) string {
	encoded := d.Encoded()
	return d.Algorithm().String() + ":" + encoded[:min(12, len(encoded))]
}
