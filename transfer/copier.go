// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// copier copies one graph of manifests and blobs.
type copier struct {
	opt      *Options
	src      Source
	dst      Destination
	result   *Result
	parallel int
	single   bool // whether the destination only holds images of one platform each

	found []candidate // by gatherIndexes
	docs  map[digest.Digest]*document
	order []digest.Digest // of docs, as they were found
	blobs map[digest.Digest]ispec.Descriptor
	own   map[digest.Digest][]byte // documents that are not in the source but made here
	taken []digest.Digest          // referrers
	notes []note                   // about referrers

	bytes atomic.Int64 // of the documents that were read

	mu    sync.Mutex // for result and warnings
	meter *meter
}

// document is a manifest or an index that is copied.
type document struct {
	desc     ispec.Descriptor
	data     []byte
	children []ispec.Descriptor // documents
	blobs    []ispec.Descriptor
	subject  *ispec.Descriptor
	artifact string // the type of what it is, if it says so
	notes    map[string]string
	height   int // above the lowest
}

// copy copies root and all below it, and then sets the ref.
func (c *copier) copy(ctx context.Context, root ispec.Descriptor) error {
	c.docs, c.order, c.blobs = map[digest.Digest]*document{}, nil, map[digest.Digest]ispec.Descriptor{}
	if err := c.gather(ctx, []ispec.Descriptor{root}); err != nil {
		return err
	}
	if c.opt.Referrers {
		if err := c.gatherReferrers(ctx); err != nil {
			return err
		}
	}
	if _, err := c.measure(root.Digest, 1); err != nil {
		return err
	}
	if err := c.copyBlobs(ctx); err != nil {
		return err
	}
	if err := c.copyDocuments(ctx); err != nil {
		return err
	}
	if err := c.putReferrers(ctx); err != nil {
		return err
	}
	return c.dst.SetRef(ctx, root)
}

// Limits of the manifests and indexes of one image, which are all held in memory.
const (
	maxDocuments     = 100_000
	maxDocumentBytes = 32 << 20 // of all together, which become several times as much
)

// gather reads the documents and all that they lead to, level by level.
func (c *copier) gather(ctx context.Context, level []ispec.Descriptor) error {
	for depth := 1; len(level) > 0; depth++ {
		if err := c.checkDepth(depth); err != nil {
			return err
		}
		var todo []*document
		for _, d := range level {
			if c.docs[d.Digest] == nil {
				doc := &document{desc: d}
				c.docs[d.Digest] = doc
				c.order = append(c.order, d.Digest)
				todo = append(todo, doc)
			}
			if len(c.docs) > maxDocuments {
				return errorf(layout.ErrTooLarge, "there are more than %d manifests and indexes", maxDocuments)
			}
		}
		err := forEach(ctx, c.parallel, todo, func(ctx context.Context, doc *document) error {
			return c.read(ctx, doc)
		})
		if err != nil {
			return err
		}
		level = level[:0:0]
		for _, doc := range todo {
			level = append(level, doc.children...)
			for _, d := range doc.blobs {
				if err := c.need(d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkDepth refuses documents that are too far below the root, whose depth is 1.
func (c *copier) checkDepth(depth int) error {
	most := cmp.Or(c.opt.Layout.MaxDepth, layout.DefaultMaxDepth)
	if err := limit.Check(limit.Depth, "manifests and indexes refer to each other", int64(depth), int64(most)); err != nil {
		return as(layout.ErrTooDeep, err)
	}
	return nil
}

// need notes down that a blob must be there.
func (c *copier) need(d ispec.Descriptor) error {
	if err := checkContent(d); err != nil {
		return err
	}
	if old, ok := c.blobs[d.Digest]; ok {
		if old.Size != d.Size {
			return errorf(layout.ErrInvalid, "blob %s has two sizes: %d and %d bytes", d.Digest, old.Size, d.Size)
		}
		return nil
	}
	c.blobs[d.Digest] = d
	return nil
}

// checkContent refuses descriptors that cannot be copied.
func checkContent(d ispec.Descriptor) error {
	if err := layout.CheckDescriptor(d); err != nil {
		return err
	}
	switch d.Digest.Algorithm() {
	case digest.SHA256, digest.SHA512:
		return nil
	}
	return errorf(layout.ErrInvalid, "digest algorithm %s is not supported", quote.Name(d.Digest.Algorithm().String()))
}

// read reads one document.
func (c *copier) read(ctx context.Context, doc *document) error {
	if err := checkContent(doc.desc); err != nil {
		return err
	}
	if c.bytes.Add(doc.desc.Size) > maxDocumentBytes {
		return errorf(layout.ErrTooLarge, "the manifests and indexes have more than %d bytes together", maxDocumentBytes)
	}
	var err error
	if doc.data, err = c.content(ctx, doc.desc); err != nil {
		return err
	}
	if err := doc.parse(); err != nil {
		return &Error{Op: "read manifest", Ref: doc.desc.Digest.String(), Err: err}
	}
	return nil
}

// content returns the whole of a document or a config, verified.
func (c *copier) content(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	if data, ok := c.own[d.Digest]; ok {
		return data, nil
	}
	if err := checkContent(d); err != nil {
		return nil, err
	}
	failed := func(err error) error { return &Error{Op: "read", Ref: d.Digest.String(), Err: err} }
	err := limit.Check(limit.Document, "bytes", d.Size, cmp.Or(c.opt.Layout.MaxDocument, layout.DefaultMaxDocument))
	if err != nil {
		return nil, failed(as(layout.ErrTooLarge, err))
	}
	if len(d.Data) > 0 {
		return d.Data, nil
	}
	r, err := c.src.Open(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read from
	data, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	switch {
	case err != nil:
		return nil, failed(err)
	case int64(len(data)) > d.Size:
		return nil, failed(fmt.Errorf("%w: more than %d bytes", layout.ErrSize, d.Size))
	case int64(len(data)) < d.Size:
		return nil, failed(fmt.Errorf("%w: %d bytes, not %d", layout.ErrSize, len(data), d.Size))
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, failed(fmt.Errorf("%w: the content is %s", layout.ErrDigest, got))
	}
	return data, nil
}

// parse finds out what a document leads to. Its subject is no part of it: what a
// signature is about need not be where the signature is.
func (doc *document) parse() error {
	if layout.IsIndex(doc.desc.MediaType) {
		index, err := layout.ParseIndex(doc.data, doc.desc.MediaType)
		if err != nil {
			return err
		}
		doc.subject, doc.artifact, doc.notes = index.Subject, index.ArtifactType, index.Annotations
		for _, d := range index.Manifests {
			if isDocument(d) {
				doc.children = append(doc.children, d)
			} else {
				doc.blobs = append(doc.blobs, d)
			}
		}
		return nil
	}
	manifest, err := layout.ParseManifest(doc.data, doc.desc.MediaType)
	if err != nil {
		return err
	}
	doc.subject, doc.notes = manifest.Subject, manifest.Annotations
	doc.artifact = cmp.Or(manifest.ArtifactType, manifest.Config.MediaType)
	doc.blobs = append([]ispec.Descriptor{manifest.Config}, manifest.Layers...)
	return nil
}

// measure finds out how far above the lowest documents each is, so that they are written
// from the bottom up.
func (c *copier) measure(d digest.Digest, depth int) (int, error) {
	doc := c.docs[d]
	if err := c.checkDepth(depth); err != nil {
		return 0, err
	}
	if doc.height > 0 {
		return doc.height, nil
	}
	height := 1
	for _, child := range doc.children {
		below, err := c.measure(child.Digest, depth+1)
		if err != nil {
			return 0, err
		}
		height = max(height, below+1)
	}
	doc.height = height
	return height, nil
}

// copyBlobs copies the blobs that the destination lacks, the largest first.
func (c *copier) copyBlobs(ctx context.Context) error {
	list := make([]ispec.Descriptor, 0, len(c.blobs))
	var total int64
	for _, d := range c.blobs {
		list = append(list, d)
		total += d.Size
	}
	slices.SortFunc(list, func(a, b ispec.Descriptor) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Digest, b.Digest))
	})
	c.meter = newMeter(c.opt.Progress, total)
	defer c.meter.end()
	return forEach(ctx, c.parallel, list, c.copyBlob)
}

func (c *copier) copyBlob(ctx context.Context, d ispec.Descriptor) error {
	ok, err := c.dst.Has(ctx, d)
	if err != nil {
		return err
	}
	if ok {
		c.meter.done(d)
		c.count(Kept, d)
		return nil
	}
	if t, ok := c.dst.(*layoutDestination); ok {
		t.setReport(d.Digest, func(n int) { c.meter.add(d, n) })
	}
	err = c.dst.PutBlob(ctx, d, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := c.open(ctx, d, offset)
		if err != nil {
			return nil, err
		}
		c.meter.at(d, offset)
		return &meteredReader{r, func(n int) { c.meter.add(d, n) }}, nil
	})
	if errors.Is(err, layout.ErrNotFound) && len(d.URLs) > 0 {
		// Such layers are had from elsewhere, by everybody.
		c.warn("layer %s is left out: the source does not have it, only its URLs", d.Digest)
		c.meter.done(d)
		return nil
	}
	if err != nil {
		return err
	}
	c.meter.done(d)
	c.count(c.method(d), d)
	return nil
}

// open opens a blob, which may be part of its descriptor.
func (c *copier) open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if len(d.Data) > 0 {
		return io.NopCloser(bytes.NewReader(d.Data[offset:])), nil
	}
	return c.src.Open(ctx, d, offset)
}

// method asks the destination how a blob got there.
func (c *copier) method(d ispec.Descriptor) Method {
	if t, ok := c.dst.(interface {
		method(d digest.Digest) Method
	}); ok {
		return t.method(d.Digest)
	}
	return Copied
}

func (c *copier) count(how Method, d ispec.Descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Blobs[how]++
	c.result.Bytes[how] += d.Size
}

func (c *copier) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.warn(format, args...)
}

// copyDocuments writes the manifests and indexes, from the bottom up.
func (c *copier) copyDocuments(ctx context.Context) error {
	levels := map[int][]*document{}
	top := 0
	for _, d := range sortedDocuments(c.docs) {
		if _, err := c.measure(d.desc.Digest, 1); err != nil {
			return err
		}
		levels[d.height] = append(levels[d.height], d)
		top = max(top, d.height)
	}
	for height := 1; height <= top; height++ {
		err := forEach(ctx, c.parallel, levels[height], func(ctx context.Context, doc *document) error {
			return c.dst.PutManifest(ctx, doc.desc, doc.data)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func sortedDocuments(docs map[digest.Digest]*document) []*document {
	list := make([]*document, 0, len(docs))
	for _, doc := range docs {
		list = append(list, doc)
	}
	slices.SortFunc(list, func(a, b *document) int { return cmp.Compare(a.desc.Digest, b.desc.Digest) })
	return list
}

// forEach calls fn for all items, for some of them at once, and returns the first error
// that was not the consequence of another.
func forEach[T any](ctx context.Context, parallel int, items []T, fn func(context.Context, T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	queue := make(chan T)
	for range min(parallel, len(items)) {
		wg.Go(func() {
			for item := range queue {
				if err := fn(ctx, item); err != nil {
					once.Do(func() {
						first = err
						cancel()
					})
				}
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		queue <- item
	}
	close(queue)
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}
