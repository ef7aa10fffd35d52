// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// layoutSource reads from a layout.
type layoutSource struct {
	l   *layout.Layout
	loc Location
	own bool // whether to close the layout

	subjects map[digest.Digest][]ispec.Descriptor // what refers to a manifest; nil until asked for
}

// NewLayoutSource returns a source for the image that loc names in an open layout, which
// stays open.
func NewLayoutSource(l *layout.Layout, loc Location) Source { return &layoutSource{l: l, loc: loc} }

func (s *layoutSource) Close() error {
	if s.own {
		return s.l.Close()
	}
	return nil
}

// Resolve implements [Source]. Without a tag the only image of a layout is meant, if it
// has no more than one.
func (s *layoutSource) Resolve(ctx context.Context) (ispec.Descriptor, error) {
	if s.loc.Digest != "" {
		return s.pinned(ctx)
	}
	d, err := s.l.Lookup(ctx, s.loc.Ref())
	if s.loc.Tag == "" && errors.Is(err, layout.ErrNotFound) {
		if index, ierr := s.l.Index(ctx); ierr == nil && len(index.Manifests) == 1 {
			d, err = index.Manifests[0], nil
		}
	}
	if err != nil {
		return d, err
	}
	return checkRoot(d)
}

// checkRoot refuses what is no image.
func checkRoot(d ispec.Descriptor) (ispec.Descriptor, error) {
	if !isDocument(d) {
		return ispec.Descriptor{}, errorf(ErrUnsupported, "%s is %s, neither a manifest nor an index", d.Digest, quote.Name(d.MediaType))
	}
	return d, nil
}

// pinned finds a manifest or index by its digest, wherever index.json leads to it.
func (s *layoutSource) pinned(ctx context.Context) (ispec.Descriptor, error) {
	index, err := s.l.Index(ctx)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	var found *ispec.Descriptor
	for _, root := range index.Manifests {
		err := s.l.Walk(ctx, root, func(p layout.Path) error {
			d := p.Target()
			if found == nil && isDocument(d) && d.Digest == s.loc.Digest {
				found = &d
			}
			if found != nil || !isDocument(d) {
				return layout.SkipChildren
			}
			return nil
		})
		if found != nil {
			return *found, nil
		}
		if err != nil {
			return ispec.Descriptor{}, err
		}
	}
	return ispec.Descriptor{}, &Error{Op: "resolve", Ref: s.loc.String(),
		Err: errorf(layout.ErrNotFound, "there is no image with this digest")}
}

// Open implements [Source].
func (s *layoutSource) Open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return s.l.OpenBlobAt(ctx, d, offset)
}

// layoutDestination writes to a layout.
type layoutDestination struct {
	l    *layout.Layout
	loc  Location
	own  bool
	ctx  context.Context // for what must be done in any case
	made bool            // whether the layout was made for this, and should not stay for nothing
	link bool
	from *layout.Layout // where blobs can be taken from directly; nil if nowhere

	mu       sync.Mutex
	how      map[digest.Digest]layout.CopyMethod
	reports  map[digest.Digest]func(n int) // hear of further bytes that were read directly
	untagged []ispec.Descriptor            // entries of index.json besides the tagged one
	set      bool                          // whether there is a ref
}

// NewLayoutDestination returns a destination for the image that loc names in an open
// layout, which stays open.
func NewLayoutDestination(l *layout.Layout, loc Location) Destination {
	return newLayoutDestination(l, loc)
}

func newLayoutDestination(l *layout.Layout, loc Location) *layoutDestination {
	return &layoutDestination{l: l, loc: loc, how: map[digest.Digest]layout.CopyMethod{},
		reports: map[digest.Digest]func(int){}}
}

func (t *layoutDestination) Close() error {
	if !t.own {
		return nil
	}
	err := t.l.Close()
	if t.made && !t.set {
		err = both(err, removeEmpty(t.ctx, t.l.Path()))
	}
	return err
}

// Has implements [Destination]. What is there is kept from gc.
func (t *layoutDestination) Has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	if err := t.l.Hold(ctx, d); err != nil {
		return false, err
	}
	return t.l.HasBlob(ctx, d)
}

// PutBlob implements [Destination].
func (t *layoutDestination) PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error {
	if t.from == nil {
		return t.l.PutResumable(ctx, d, open)
	}
	how, err := t.l.CopyBlob(ctx, t.from, d, &layout.CopyOptions{Link: t.link, Report: t.reportOf(d.Digest)})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.how[d.Digest] = how
	return nil
}

// setReport says who hears of the progress of a blob that is not opened but copied by the
// layout itself.
func (t *layoutDestination) setReport(d digest.Digest, report func(n int)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reports[d] = report
}

func (t *layoutDestination) reportOf(d digest.Digest) func(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reports[d]
}

// method returns how a blob got here.
func (t *layoutDestination) method(d digest.Digest) Method {
	t.mu.Lock()
	defer t.mu.Unlock()
	if how, ok := t.how[d]; ok {
		return Method(how)
	}
	return Copied
}

// PutManifest implements [Destination].
func (t *layoutDestination) PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error {
	return t.l.PutVerified(ctx, bare(d), bytes.NewReader(data))
}

// bare returns the descriptor with nothing but what tells the content.
func bare(d ispec.Descriptor) ispec.Descriptor {
	return ispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// SetRef implements [Destination].
func (t *layoutDestination) SetRef(ctx context.Context, d ispec.Descriptor) error {
	ref := t.loc.Ref()
	if ref == "" {
		t.untagged = append(t.untagged, d)
	} else if !layout.ValidRef(ref) {
		return &Error{Op: "tag", Ref: ref, Err: invalid(fmt.Errorf("not a valid tag of a layout"))}
	}
	err := t.l.Update(ctx, func(index *ispec.Index) error {
		if ref != "" {
			index.Manifests = slices.DeleteFunc(index.Manifests, func(old ispec.Descriptor) bool {
				return old.Annotations[ispec.AnnotationRefName] == ref
			})
			index.Manifests = append(index.Manifests, tagged(d, ref))
		}
		for _, d := range t.untagged {
			if !lists(index.Manifests, d) {
				index.Manifests = append(index.Manifests, d)
			}
		}
		return nil
	})
	t.set = err == nil
	return err
}

// lists reports whether one of the descriptors is of the same content.
func lists(list []ispec.Descriptor, d ispec.Descriptor) bool {
	for _, other := range list {
		if other.Digest == d.Digest && other.MediaType == d.MediaType {
			return true
		}
	}
	return false
}

// tagged returns the descriptor as the entry of index.json for the ref.
func tagged(d ispec.Descriptor, ref string) ispec.Descriptor {
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[ispec.AnnotationRefName] = ref
	return d
}
