// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// AnnotationPlainSize is the annotation, known from umoci, by which the descriptor
// of a compressed layer says how many bytes its tar stream has. It is a hint: an
// image may say there what it likes.
const AnnotationPlainSize = "ci.umo.uncompressed_blob_size"

// AddLayerOptions say what the new layer is.
type AddLayerOptions struct {
	// Write writes the tar stream of the layer, uncompressed. What it returns is
	// returned by AddLayer, and then there is no new layer.
	Write func(w io.Writer) error
	// Compression is that of the blob. Empty means that of the topmost layer that
	// is compressed, and gzip if none is.
	Compression layer.Compression
	// Level is that of the compression, as layer.NewWriter has it; 0 for the default.
	Level int
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
	if err := i.checkLayers(); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("add layer: %w", err)
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
	added, err := putLayer(ctx, i.layout, PutLayerOptions{
		Write: opt.Write, Compression: opt.Compression, Level: opt.Level,
	})
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("add layer: %w", err)
	}
	if len(opt.Annotations) > 0 {
		all := maps.Clone(opt.Annotations)
		maps.Copy(all, added.Descriptor.Annotations)
		added.Descriptor.Annotations = all
	}
	return i.push(added, opt.History), nil
}

// checkLayers refuses an image to which no layer can be added.
func (i *Image) checkLayers() error {
	if layers, ids := len(i.manifest.value.Layers), len(i.config.value.RootFS.DiffIDs); layers != ids {
		return fmt.Errorf("the config has %d diffIDs for %d layers: %w", ids, layers, layout.ErrInvalid)
	}
	return nil
}

// DefaultCompression returns the compression that a new layer gets, if nothing else is
// said: that of the topmost compressed layer, or gzip. A layer is never plain unless
// somebody wants it so.
func (i *Image) DefaultCompression() layer.Compression { return i.defaultCompression() }

func (i *Image) defaultCompression() layer.Compression {
	layers := i.manifest.value.Layers
	for n := len(layers) - 1; n >= 0; n-- {
		if _, c, err := layer.SplitMediaType(layers[n].MediaType); err == nil && c != layer.None {
			return c
		}
	}
	return layer.Gzip
}
