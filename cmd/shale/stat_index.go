// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
)

// renderIndex writes s for people, in the manner of renderStat.
func renderIndex(w io.Writer, s *inspect.IndexStat) {
	p, index := &statPrinter{w: w}, s.Index.Index
	p.println("== INDEX ==")
	p.value("Schema Version", strconv.Itoa(index.SchemaVersion))
	p.value("Media Type", index.MediaType)
	p.optional("Artifact Type", index.ArtifactType)
	if len(index.Manifests) > 0 {
		p.section("Manifests:", func() {
			for _, d := range index.Manifests {
				p.descriptor(d)
			}
		})
	}
	if index.Subject != nil {
		p.section("Subject:", func() { p.descriptor(*index.Subject) })
	}
	p.table("Annotations", index.Annotations)
	p.descriptor(s.Index.Descriptor)

	p.println("\n== PLATFORMS ==")
	tw := tabwriter.NewWriter(w, 4, 2, 1, ' ', 0)
	fmt.Fprintln(tw, "PLATFORM\tMANIFEST\tLAYERS\tSIZE") //nolint:errcheck // see renderStat
	for _, image := range s.Platforms {
		layers, size := none, none
		if image.There {
			layers, size = strconv.Itoa(image.Layers), humanSize(image.Size)
		}
		row := []string{
			quoteValue(layout.PlatformString(image.Platform)), quoteText(image.Descriptor.Digest.String()), layers, size,
		}
		fmt.Fprintln(tw, strings.Join(row, "\t")) //nolint:errcheck // see renderStat
	}
	tw.Flush() //nolint:errcheck // see renderStat
}
