// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Image is one image that is open to be looked at or unpacked, wherever it comes from.
type Image struct {
	// Layout holds the image: the source itself if that is a layout, and otherwise one
	// that is gone once the image is closed.
	Layout *layout.Layout
	// Path leads from what the source's name stands for to the image's manifest. Of an
	// index in between there is the document, and not necessarily its other images.
	Path layout.Path

	temp *tempDir // nil if the source is a layout
}

// OpenImage opens the image that src names. What is not in a layout is fetched into a
// temporary one in the directory tempDir, or that of [os.TempDir] if it is empty. Of the
// options, Platforms may have one entry, which says which image of an index is meant,
// that of this machine by default; besides it, Limits, Layout, Parallel, Registry,
// Warn and Progress count. The caller closes the image in any case: nothing else removes the
// temporary layout, but after a kill the next OpenImage in the same directory does.
func OpenImage(ctx context.Context, src Location, tempDir string, opt Options) (*Image, error) {
	img, err := openImage(ctx, src, tempDir, &opt)
	var told *Error
	if err != nil && (!errors.As(err, &told) || told.Ref != src.String()) {
		err = &Error{Op: "open", Ref: src.String(), Err: err}
	}
	return img, err
}

func openImage(ctx context.Context, src Location, tempDir string, opt *Options) (*Image, error) {
	var want *ispec.Platform
	switch len(opt.Platforms) {
	case 0:
	case 1:
		want = &opt.Platforms[0]
	default:
		return nil, invalid(errors.New("one image has one platform"))
	}
	p, err := newPlaces(opt, src)
	if err != nil {
		return nil, err
	}
	defer p.close()
	from, err := p.source(ctx, src)
	if err != nil {
		return nil, err
	}
	if s, ok := from.(*layoutSource); ok {
		img, err := openInLayout(ctx, s, want)
		if err != nil {
			return nil, both(err, from.Close())
		}
		return img, nil
	}
	img := &Image{}
	err = img.fetch(ctx, p, from, tempDir, want)
	if err = both(err, from.Close()); err != nil {
		return nil, both(err, img.Close())
	}
	return img, nil
}

func openInLayout(ctx context.Context, s *layoutSource, want *ispec.Platform) (*Image, error) {
	root, err := s.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	path, err := s.l.ResolveFrom(ctx, root, &layout.ResolveOptions{Platform: want})
	return &Image{Layout: s.l, Path: path}, err
}

// fetch copies the image into a temporary layout.
func (i *Image) fetch(ctx context.Context, p *places, from Source, tempDir string, want *ispec.Platform) error {
	root, err := from.Resolve(ctx)
	if err != nil {
		return err
	}
	if i.temp, err = newTempDir(tempDir); err != nil {
		return err
	}
	if i.Layout, err = layout.Create(ctx, filepath.Join(i.temp.path, "layout")); err != nil {
		return err
	}
	opt := *p.opt
	opt.Platforms = nil
	c := &copier{
		opt: &opt, src: from, parallel: p.parallel(),
		result: &Result{Blobs: map[Method]int{}, Bytes: map[Method]int64{}},
	}
	f := &imageFetcher{copier: c, to: i.Layout, seen: map[digest.Digest]bool{}, ask: want != nil}
	if err := f.indexes(ctx, root, false, 1); err != nil {
		return err
	}
	if i.Path, err = i.Layout.ResolveFrom(ctx, root, &layout.ResolveOptions{Platform: want}); err != nil {
		return err
	}
	d := i.Path.Target()
	c.dst = NewLayoutDestination(i.Layout, Location{Scheme: SchemeLayout, Path: i.Layout.Path(), Digest: d.Digest})
	return c.copy(ctx, bare(d))
}

// imageFetcher fetches the documents that it takes to choose an image.
type imageFetcher struct {
	copier *copier
	to     *layout.Layout
	seen   map[digest.Digest]bool
	ask    bool // whether a single image must be for a certain platform
}

// maxConfigs is how many images of an index are asked what they are for.
const maxConfigs = 1000

var errTooManyConfigs = errorf(layout.ErrTooLarge,
	"there are more than %d images, and nothing says for which platform", maxConfigs)

// indexes fetches the indexes that d leads to, and what says for which platform an image
// is where they do not: known tells whether they do.
func (f *imageFetcher) indexes(ctx context.Context, d ispec.Descriptor, known bool, depth int) error {
	if !isDocument(d) || f.seen[d.Digest] {
		return nil
	}
	f.seen[d.Digest] = true
	if depth > layout.DefaultMaxDepth {
		return errorf(layout.ErrTooDeep, "indexes refer to each other more than %d deep", layout.DefaultMaxDepth)
	}
	known = known || d.Platform != nil
	if layout.IsManifest(d.MediaType) && (known || depth == 1 && !f.ask) {
		return nil
	}
	doc := &document{desc: d}
	if err := f.copier.read(ctx, doc); err != nil {
		return err
	}
	if err := f.to.PutVerified(ctx, bare(d), bytes.NewReader(doc.data)); err != nil {
		return err
	}
	if layout.IsManifest(d.MediaType) {
		return f.config(ctx, doc)
	}
	for _, child := range doc.children {
		if err := f.indexes(ctx, child, known, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// config fetches the config of an image.
func (f *imageFetcher) config(ctx context.Context, doc *document) error {
	if len(f.seen) > maxConfigs {
		return errTooManyConfigs
	}
	config := doc.blobs[0]
	if !layout.IsConfig(config.MediaType) {
		return nil
	}
	data, err := f.copier.content(ctx, config)
	if err != nil {
		return err
	}
	return f.to.PutVerified(ctx, bare(config), bytes.NewReader(data))
}

// Close gives the image back: a temporary layout is removed.
func (i *Image) Close() error {
	var err error
	if i.Layout != nil {
		err = i.Layout.Close()
	}
	if i.temp != nil {
		err = both(err, i.temp.remove())
	}
	return err
}
