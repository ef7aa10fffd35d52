// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
)

// Path is the way from an entry of index.json down to a blob: each descriptor is
// found in the document that the one before it describes.
type Path []ispec.Descriptor

// Root returns the first descriptor, which is the entry of index.json. It panics
// if the path is empty.
func (p Path) Root() ispec.Descriptor { return p[0] }

// Target returns the last descriptor, to which the path leads. It panics if the
// path is empty.
func (p Path) Target() ispec.Descriptor { return p[len(p)-1] }

// WithRef returns the path as it is when its root is the entry of ref.
func (p Path) WithRef(ref string) Path {
	p = slices.Clone(p)
	p[0].Annotations = maps.Clone(p[0].Annotations)
	if p[0].Annotations == nil {
		p[0].Annotations = map[string]string{}
	}
	p[0].Annotations[ispec.AnnotationRefName] = ref
	return p
}

// step returns the path that goes on to d. The result shares nothing with p.
func (p Path) step(d ispec.Descriptor) Path { return append(slices.Clip(p), d) }

// SkipChildren is what the callback of [Layout.Walk] returns to not go below the
// descriptor that it was called with. It is no error.
var SkipChildren = errors.New("skip what is below this descriptor") //nolint:staticcheck // no error, like fs.SkipDir

// Walk calls fn for root and everything that it refers to, depth first, parents
// before children, in the order in which the documents list them: of an index its
// manifests, of a manifest its config and layers, and of both their subject at
// last. Only documents of the types that [IsIndex] and [IsManifest] know are
// opened; all else is a leaf.
//
// A blob is visited once, however many ways lead to it, unless descriptors of
// different kinds (index, manifest, leaf) name it. The path given to fn is the
// first way found, and fn may keep it. Walk ends at the first error of fn, which
// it returns as it is. The error is ErrTooDeep for a path longer than Options.MaxDepth.
func (l *Layout) Walk(ctx context.Context, root ispec.Descriptor, fn func(Path) error) error {
	w := walker{l: l, fn: fn, seen: map[visit]bool{}}
	return w.walk(ctx, Path{root})
}

type walker struct {
	l    *Layout
	fn   func(Path) error
	seen map[visit]bool
}

// visit is what makes two descriptors the same for a walk.
type visit struct {
	digest   digest.Digest
	index    bool
	manifest bool
}

func (w *walker) walk(ctx context.Context, path Path) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := path.Target()
	v := visit{d.Digest, IsIndex(d.MediaType), IsManifest(d.MediaType)}
	if w.seen[v] {
		return nil
	}
	w.seen[v] = true
	if err := w.l.checkDepth(path); err != nil {
		return err
	}
	if err := w.fn(path); errors.Is(err, SkipChildren) {
		return nil
	} else if err != nil {
		return err
	}
	children, err := w.l.children(ctx, d)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := w.walk(ctx, path.step(child)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) checkDepth(path Path) error {
	err := limit.Check(limit.Depth, "documents refer to each other", int64(len(path)), int64(l.opt.MaxDepth))
	if err == nil {
		return nil
	}
	return opError("walk", string(path.Target().Digest), as(ErrTooDeep, err))
}

// children returns the descriptors in the document that d describes; none if d is
// a leaf.
func (l *Layout) children(ctx context.Context, d ispec.Descriptor) ([]ispec.Descriptor, error) {
	switch {
	case IsIndex(d.MediaType):
		index, err := l.ImageIndex(ctx, d)
		if err != nil {
			return nil, err
		}
		return withSubject(index.Manifests, index.Subject), nil
	case IsManifest(d.MediaType):
		manifest, err := l.Manifest(ctx, d)
		if err != nil {
			return nil, err
		}
		all := append([]ispec.Descriptor{manifest.Config}, manifest.Layers...)
		return withSubject(all, manifest.Subject), nil
	}
	return nil, nil
}

func withSubject(ds []ispec.Descriptor, subject *ispec.Descriptor) []ispec.Descriptor {
	if subject != nil {
		ds = append(ds, *subject)
	}
	return ds
}
