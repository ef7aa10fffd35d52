// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// node is a blob that an image leads to.
type node struct {
	desc  ispec.Descriptor
	layer bool // whether a manifest lists it as a layer
}

// graph walks what is below descriptors of a layout.
type graph struct {
	l        *layout.Layout
	layers   map[digest.Digest]bool
	subjects map[digest.Digest]bool
	absent   func(d ispec.Descriptor) // hears of layers that are only elsewhere
}

func newGraph(l *layout.Layout, absent func(ispec.Descriptor)) *graph {
	return &graph{l: l, layers: map[digest.Digest]bool{}, subjects: map[digest.Digest]bool{}, absent: absent}
}

// closure returns all that root leads to, and root itself, in the order of
// layout.Walk. A subject need not be there: the image-spec allows that. Neither
// need a layer that its descriptor has URLs for.
func (g *graph) closure(ctx context.Context, root ispec.Descriptor) ([]node, error) {
	var nodes []node
	err := g.l.Walk(ctx, root, func(path layout.Path) error {
		d := path.Target()
		isDocument := layout.IsIndex(d.MediaType) || layout.IsManifest(d.MediaType)
		n := node{desc: d, layer: !isDocument && g.layers[d.Digest]}
		if len(d.Data) == 0 && (g.subjects[d.Digest] || n.layer && len(d.URLs) > 0) {
			if ok, err := g.l.HasBlob(ctx, d); err != nil {
				return err
			} else if !ok {
				if n.layer {
					g.absent(d)
				}
				return layout.SkipChildren
			}
		}
		nodes = append(nodes, n)
		if !isDocument {
			return nil
		}
		return g.note(ctx, d)
	})
	return nodes, err
}

// note remembers which children of a document are layers and subjects.
func (g *graph) note(ctx context.Context, d ispec.Descriptor) error {
	if layout.IsIndex(d.MediaType) {
		index, err := g.l.ImageIndex(ctx, d)
		if err == nil && index.Subject != nil {
			g.subjects[index.Subject.Digest] = true
		}
		return err
	}
	m, err := g.l.Manifest(ctx, d)
	if err != nil {
		return err
	}
	for _, layer := range m.Layers {
		g.layers[layer.Digest] = true
	}
	if m.Subject != nil {
		g.subjects[m.Subject.Digest] = true
	}
	return nil
}

// referrers returns the entries of index.json, in its order, that say something
// about what is in known, or about each other: by their subject, or by the refs
// that are derived from a digest where there is no other way.
func referrers(ctx context.Context, l *layout.Layout, known map[digest.Digest]bool) ([]ispec.Descriptor, error) {
	index, err := l.Index(ctx)
	if err != nil {
		return nil, err
	}
	known = maps.Clone(known)
	var found []ispec.Descriptor
	for more := true; more; {
		more = false
		for _, d := range index.Manifests {
			if known[d.Digest] {
				continue
			}
			about, err := isAbout(ctx, l, d, known)
			if err != nil {
				return nil, err
			}
			if about {
				known[d.Digest] = true
				found = append(found, d)
				more = true
			}
		}
	}
	return found, nil
}

func isAbout(ctx context.Context, l *layout.Layout, d ispec.Descriptor, known map[digest.Digest]bool) (bool, error) {
	if alg, rest, ok := strings.Cut(d.Annotations[ispec.AnnotationRefName], "-"); ok {
		encoded, _, _ := strings.Cut(rest, ".")
		if known[digest.Digest(alg+":"+encoded)] {
			return true, nil
		}
	}
	var subject *ispec.Descriptor
	switch {
	case layout.IsManifest(d.MediaType):
		m, err := l.Manifest(ctx, d)
		if err != nil {
			return false, skipForeign(ctx)
		}
		subject = m.Subject
	case layout.IsIndex(d.MediaType):
		x, err := l.ImageIndex(ctx, d)
		if err != nil {
			return false, skipForeign(ctx)
		}
		subject = x.Subject
	}
	return subject != nil && known[subject.Digest], nil
}

// skipForeign drops the errors about other images of the layout: that these are
// broken is no reason not to split the ones that were asked for.
func skipForeign(ctx context.Context) error { return ctx.Err() }

// absentLayer tells of a layer that does not travel along.
func (o *Options) absentLayer(ref string) func(ispec.Descriptor) {
	return func(d ispec.Descriptor) {
		o.warn("layer %s of image %s is not in the layout, and is left for its URLs to deliver: %s",
			d.Digest, quote.Name(ref), quote.Name(fmt.Sprint(d.URLs)))
	}
}
