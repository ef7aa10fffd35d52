// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// graph walks what manifests and indexes lead to, as far as it is there.
type graph struct {
	read  func(ctx context.Context, d ispec.Descriptor) ([]byte, error)
	has   func(ctx context.Context, d ispec.Descriptor) (bool, error)
	visit func(d ispec.Descriptor) // called once for each of its kind, parents first
	// whole makes it an error if anything is missing but subjects and layers that can
	// be had from elsewhere.
	whole bool

	seen map[visited]bool
	held int64 // bytes of the documents that lead to the one that is looked at
}

// maxHeld is how many bytes of documents that lead to each other are held in memory.
const maxHeld = 32 << 20

// visited is what makes two descriptors the same for a walk.
type visited struct {
	digest          digest.Digest
	index, manifest bool
}

func (g *graph) walk(ctx context.Context, d ispec.Descriptor, depth int) error {
	v := visited{d.Digest, layout.IsIndex(d.MediaType), layout.IsManifest(d.MediaType)}
	if g.seen[v] {
		return nil
	}
	if depth > layout.DefaultMaxDepth {
		return errorf(layout.ErrTooDeep, "%s: more than %d documents refer to each other", d.Digest, layout.DefaultMaxDepth)
	}
	if ok, err := g.has(ctx, d); err != nil {
		return err
	} else if !ok {
		if g.whole && len(d.URLs) == 0 {
			return errorf(layout.ErrNotFound, "there is no blob %s of %d bytes", d.Digest, d.Size)
		}
		return nil
	}
	if g.seen == nil {
		g.seen = map[visited]bool{}
	}
	g.seen[v] = true
	g.visit(d)
	if isDocument(d) {
		g.held += d.Size
		defer func() { g.held -= d.Size }()
		if g.held > maxHeld {
			return errorf(layout.ErrTooLarge, "%s: the documents that lead to it have more than %d bytes together", d.Digest, int64(maxHeld))
		}
	}
	children, subject, err := g.children(ctx, d)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := g.walk(ctx, child, depth+1); err != nil {
			return err
		}
	}
	if subject == nil {
		return nil
	}
	if ok, err := g.has(ctx, *subject); err != nil || !ok {
		return err
	}
	return g.walk(ctx, *subject, depth+1)
}

// children returns what is named in a manifest or an index.
func (g *graph) children(ctx context.Context, d ispec.Descriptor) (children []ispec.Descriptor, subject *ispec.Descriptor, err error) {
	switch {
	case layout.IsIndex(d.MediaType):
		data, err := g.read(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		index, err := layout.ParseIndex(data, d.MediaType)
		if err != nil {
			return nil, nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		return index.Manifests, index.Subject, nil
	case layout.IsManifest(d.MediaType):
		data, err := g.read(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		m, err := layout.ParseManifest(data, d.MediaType)
		if err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		return append([]ispec.Descriptor{m.Config}, m.Layers...), m.Subject, nil
	}
	return nil, nil, nil
}
