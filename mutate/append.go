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

// AnnotationPlainSize is the annotation, known from umoci, by which the descriptor
// of a compressed layer says how many bytes its tar stream has. It is a hint: an
// image may say there what it likes.
const AnnotationPlainSize = "ci.umo.uncompressed_blob_size"

// dockerLayer is Docker's media type of a plain layer.
const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar"

// AddLayerOptions say what the new layer is.
type AddLayerOptions struct {
	// Write writes the tar stream of the layer, uncompressed. What it returns is
	// returned by AddLayer, and then there is no new layer.
	Write func(w io.Writer) error
	// Compression is that of the blob. Empty means that of the topmost layer that
	// is compressed, and gzip if none is.
	Compression layer.Compression
	// History describes how the layer came about. Without it tools that match
	// layers with history are confused.
	History *ispec.History
	// Annotations are those of the layer's descriptor.
	Annotations map[string]string
}

// AddLayer puts a layer on top of the image and returns its descriptor. The stream
// goes through in one pass, from Write to the blob: nothing of it is kept in
// memory. The image is to be committed afterwards.
func (i *Image) AddLayer(ctx context.Context, opt AddLayerOptions) (ispec.Descriptor, error) {
	config := &i.config.value
	if layers, ids := len(i.manifest.value.Layers), len(config.RootFS.DiffIDs); layers != ids {
		return ispec.Descriptor{}, fmt.Errorf("add layer: the config has %d diffIDs for %d layers: %w",
			ids, layers, layout.ErrInvalid)
	}
	if opt.Write == nil {
		return ispec.Descriptor{}, errors.New("add layer: there is nothing to write it")
	}
	if opt.Compression == "" {
		opt.Compression = i.defaultCompression()
	}
	if err := i.hold(ctx); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("add layer: %w", err)
	}
	blob, err := i.putLayer(ctx, opt)
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("add layer: %w", err)
	}
	base := ispec.MediaTypeImageLayer
	if i.path.Target().MediaType == layout.MediaTypeDockerManifest {
		base = dockerLayer
	}
	d := ispec.Descriptor{
		MediaType:   layer.JoinMediaType(base, opt.Compression),
		Digest:      blob.digest,
		Size:        blob.size,
		Annotations: maps.Clone(opt.Annotations),
	}
	if opt.Compression != layer.None {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[AnnotationPlainSize] = strconv.FormatInt(blob.plainSize, 10)
	}
	i.manifest.value.Layers = append(i.manifest.value.Layers, d)
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, blob.diffID)
	if opt.History != nil {
		i.addHistory(*opt.History, false)
	}
	return d, nil
}

// defaultCompression returns the compression of the topmost compressed layer. A
// layer is never plain unless somebody wants it so.
func (i *Image) defaultCompression() layer.Compression {
	layers := i.manifest.value.Layers
	for n := len(layers) - 1; n >= 0; n-- {
		if _, c, err := layer.SplitMediaType(layers[n].MediaType); err == nil && c != layer.None {
			return c
		}
	}
	return layer.Gzip
}

// layerBlob is what is known of a layer once it is written.
type layerBlob struct {
	digest, diffID  digest.Digest
	size, plainSize int64 // bytes
}

// putLayer writes the blob of a layer.
func (i *Image) putLayer(ctx context.Context, opt AddLayerOptions) (b layerBlob, err error) {
	blob, err := i.layout.CreateBlob(ctx)
	if err != nil {
		return b, err
	}
	defer blob.Close() //nolint:errcheck // does nothing once the blob is committed
	if opt.Compression == layer.None {
		// Then the diffID is the digest, which the blob counts anyway.
		if err := opt.Write(blob); err != nil {
			return b, err
		}
		b.digest, b.size, err = blob.Commit(ctx)
		b.diffID, b.plainSize = b.digest, b.size
		return b, err
	}
	w, err := layer.NewWriter(blob, opt.Compression, 0)
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
