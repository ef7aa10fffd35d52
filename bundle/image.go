// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// ErrNotImage is returned for what a ref leads to and cannot be unpacked.
var ErrNotImage = errors.New("not an image with layers")

// image is what unpacking needs to know of an image.
type image struct {
	manifest ispec.Descriptor
	config   ispec.Image
	layers   []imageLayer
}

type imageLayer struct {
	desc        ispec.Descriptor
	compression layer.Compression
	diffID      digest.Digest
}

// readImage reads the manifest and the config that from leads to, and checks
// that they fit each other before anything is unpacked.
func readImage(ctx context.Context, l *layout.Layout, from layout.Path) (*image, error) {
	img := &image{manifest: from.Target()}
	manifest, err := l.Manifest(ctx, img.manifest)
	if err != nil {
		return nil, err
	}
	if img.config, err = l.Config(ctx, manifest.Config); err != nil {
		return nil, err
	}
	where := "config " + manifest.Config.Digest.String()
	if t := img.config.RootFS.Type; t != "layers" {
		return nil, fmt.Errorf("%s: %w: rootfs type %s", where, ErrNotImage, quote.Name(t))
	}
	diffIDs := img.config.RootFS.DiffIDs
	if len(diffIDs) != len(manifest.Layers) {
		return nil, fmt.Errorf("%s: %w: %d diff_ids for %d layers", where, ErrNotImage, len(diffIDs), len(manifest.Layers))
	}
	for i, desc := range manifest.Layers {
		_, c, err := layer.SplitMediaType(desc.MediaType)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		if err := diffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("%s: diffID %s: %w", where, quote.Name(string(diffIDs[i])), err)
		}
		img.layers = append(img.layers, imageLayer{desc, c, diffIDs[i]})
	}
	return img, nil
}

// source is the stream of one layer and the blob behind it.
type source struct {
	blob   *layout.BlobReader
	used   *counter
	stream *layer.Stream
}

// counter counts what is read from a reader that another goroutine reads.
type counter struct {
	io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// layerReader opens the layers of an image, each a little before it is needed:
// while one is applied, the next is read and decompressed already.
type layerReader struct {
	layout *layout.Layout
	img    *image
	warn   func(string)
	report progress.Func
	read   int64 // compressed bytes of all layers read so far
	total  int64
	ahead  *source
}

func newLayerReader(l *layout.Layout, img *image, warn func(string), report progress.Func) *layerReader {
	r := &layerReader{layout: l, img: img, warn: warn, report: report}
	for _, il := range img.layers {
		r.total += il.desc.Size
	}
	return r
}

func (r *layerReader) open(ctx context.Context, i int) (*source, error) {
	il := r.img.layers[i]
	blob, err := r.layout.OpenBlob(ctx, il.desc)
	if err != nil {
		return nil, err
	}
	used := &counter{Reader: blob}
	stream, err := layer.NewStream(ctx, used, layer.StreamOptions{
		Compression: il.compression,
		DiffID:      il.diffID,
		Warn:        r.warn,
	})
	if err != nil {
		err = blame(ctx, blob, err)
		blob.Close() //nolint:errcheck // blame has told all there is
		return nil, err
	}
	return &source{blob, used, stream}, nil
}

// apply applies layer i to the tree. Layers are applied in order.
func (r *layerReader) apply(ctx context.Context, i int, tree *layer.Tree, sink layer.Sink, opt layer.ApplyOptions) error {
	return r.img.inLayer(i, r.applyOne(ctx, i, tree, sink, opt))
}

// inLayer adds to err which layer it is about: the one that the entry is in, or
// layer i.
func (img *image) inLayer(i int, err error) error {
	if err == nil {
		return nil
	}
	var entry *layer.EntryError
	if errors.As(err, &entry) && entry.Layer >= 0 {
		i = int(entry.Layer)
	}
	if i < 0 {
		return err
	}
	return fmt.Errorf("layer %s: %w", img.layers[i].desc.Digest, err)
}

func (r *layerReader) applyOne(
	ctx context.Context, i int, tree *layer.Tree, sink layer.Sink, opt layer.ApplyOptions,
) (err error) {
	src := r.ahead
	r.ahead = nil
	if src == nil {
		if src, err = r.open(ctx, i); err != nil {
			return err
		}
	}
	defer func() {
		src.stream.Close()
		if err != nil && ctx.Err() == nil {
			err = blame(ctx, src.blob, err)
		}
		src.blob.Close() //nolint:errcheck // Verify has told all there is
	}()
	if i+1 < len(r.img.layers) {
		if r.ahead, err = r.open(ctx, i+1); err != nil {
			return fmt.Errorf("next layer %s: %w", r.img.layers[i+1].desc.Digest, err)
		}
	}
	if err := tree.Apply(ctx, &meter{src: src, r: r, before: r.read}, sink, opt); err != nil {
		return err
	}
	if err := src.stream.Finish(); err != nil {
		return err
	}
	r.read += r.img.layers[i].desc.Size
	r.report.Report(progress.Event{
		Stage: "applying", Done: r.read, Total: r.total, Unit: progress.Bytes, End: i == len(r.img.layers)-1,
	})
	return src.blob.Verify(ctx)
}

// blame returns the reason for err: if the blob is not what its digest says,
// that is the one, whatever went wrong with its bytes first.
func blame(ctx context.Context, blob *layout.BlobReader, err error) error {
	if verr := blob.Verify(ctx); verr != nil {
		return verr
	}
	return err
}

// close stops reading ahead.
func (r *layerReader) close() {
	if r.ahead != nil {
		r.ahead.stream.Close()
		r.ahead.blob.Close() //nolint:errcheck // given up on
		r.ahead = nil
	}
}

// meter reads a layer and reports how much of its blob has been used.
type meter struct {
	src    *source
	r      *layerReader
	before int64
	last   int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.src.stream.Read(p)
	if at := m.src.used.n.Load(); at-m.last >= 1<<20 {
		m.last = at
		m.r.report.Report(progress.Event{
			Stage: "applying", Done: m.before + at, Total: m.r.total, Unit: progress.Bytes,
		})
	}
	return n, err
}
