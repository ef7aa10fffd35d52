// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// Layer is a layer whose blob is in a layout. Any number of images may have it.
type Layer struct {
	Descriptor ispec.Descriptor // with the OCI media type
	DiffID     digest.Digest
}

// PutLayerOptions say what the blob of a layer is.
type PutLayerOptions struct {
	// Write writes the tar stream of the layer, uncompressed. What it returns is
	// returned by PutLayer, and then there is no blob.
	Write func(w io.Writer) error
	// Compression is that of the blob. Empty means gzip.
	Compression layer.Compression
	// Level is that of the compression, as layer.NewWriter has it; 0 for the default.
	Level int
	// Replace puts the blob in the place of one that is known to be damaged. Otherwise
	// one of the same name and size stays.
	Replace bool
}

// PutLayer writes the blob of a layer that belongs to no image yet: see
// [Image.AppendLayer]. The stream goes through in one pass, from Write to the blob:
// nothing of it is kept in memory. Layers may be written concurrently.
func PutLayer(ctx context.Context, l *layout.Layout, opt PutLayerOptions) (Layer, error) {
	if opt.Write == nil {
		return Layer{}, errors.New("put layer: there is nothing to write it")
	}
	if opt.Compression == "" {
		opt.Compression = layer.Gzip
	}
	added, err := putLayer(ctx, l, opt)
	if err != nil {
		return Layer{}, fmt.Errorf("put layer: %w", err)
	}
	return added, nil
}

func putLayer(ctx context.Context, l *layout.Layout, opt PutLayerOptions) (Layer, error) {
	b, err := writeLayer(ctx, l, opt)
	if err != nil {
		return Layer{}, err
	}
	d := ispec.Descriptor{
		MediaType: layer.JoinMediaType(ispec.MediaTypeImageLayer, opt.Compression),
		Digest:    b.digest,
		Size:      b.size,
	}
	if opt.Compression != layer.None {
		d.Annotations = map[string]string{AnnotationPlainSize: strconv.FormatInt(b.plainSize, 10)}
	}
	return Layer{Descriptor: d, DiffID: b.diffID}, nil
}

// AppendLayer puts a layer whose blob is in the layout on top of the image, with its
// history, which may be nil. In an image of Docker's media types it gets one of those.
// The image is to be committed afterwards.
func (i *Image) AppendLayer(ctx context.Context, l Layer, history *ispec.History) (ispec.Descriptor, error) {
	err := i.checkLayers()
	if err == nil {
		err = l.DiffID.Validate()
	}
	if err == nil {
		_, _, err = layer.SplitMediaType(l.Descriptor.MediaType)
	}
	if err == nil {
		err = i.hold(ctx)
	}
	if err == nil {
		err = i.layout.Hold(ctx, l.Descriptor)
	}
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("append layer %s: %w", l.Descriptor.Digest, err)
	}
	ok, err := i.layout.HasBlob(ctx, l.Descriptor)
	if err == nil && !ok {
		err = fmt.Errorf("the layout has no such blob of %d bytes: %w", l.Descriptor.Size, layout.ErrNotFound)
	}
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("append layer %s: %w", l.Descriptor.Digest, err)
	}
	l.Descriptor.Annotations = maps.Clone(l.Descriptor.Annotations)
	return i.push(l, history), nil
}

// push puts a layer that is known to fit on top.
func (i *Image) push(l Layer, history *ispec.History) ispec.Descriptor {
	d := l.Descriptor
	d.MediaType = layerType(d.MediaType, i.isDocker())
	i.manifest.value.Layers = append(i.manifest.value.Layers, d)
	i.config.value.RootFS.DiffIDs = append(i.config.value.RootFS.DiffIDs, l.DiffID)
	if history != nil {
		i.addHistory(*history, false)
	}
	return d
}

// layerBlob is what is known of a layer once it is written.
type layerBlob struct {
	digest, diffID  digest.Digest
	size, plainSize int64 // bytes
}

// writeLayer writes the blob of a layer.
func writeLayer(ctx context.Context, l *layout.Layout, opt PutLayerOptions) (b layerBlob, err error) {
	blob, err := l.CreateBlob(ctx)
	if err != nil {
		return b, err
	}
	defer blob.Close() //nolint:errcheck // does nothing once the blob is committed
	if opt.Replace {
		blob.Replace()
	}
	if opt.Compression == layer.None {
		// Then the diffID is the digest, which the blob counts anyway.
		if err := opt.Write(blob); err != nil {
			return b, err
		}
		b.digest, b.size, err = blob.Commit(ctx)
		b.diffID, b.plainSize = b.digest, b.size
		return b, err
	}
	w, err := layer.NewWriter(blob, opt.Compression, opt.Level)
	if err != nil {
		return b, err
	}
	plain := newHasher()
	err = opt.Write(io.MultiWriter(plain, w))
	b.diffID, b.plainSize = plain.sum()
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return b, err
	}
	b.digest, b.size, err = blob.Commit(ctx)
	return b, err
}
