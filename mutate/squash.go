// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
)

// ErrNotBase is returned where an image does not begin with the layers of another.
var ErrNotBase = errors.New("not a base of the image")

// SquashOptions say which layers become one, and what that is. The zero value merges
// all layers.
type SquashOptions struct {
	// From and To are the layers that are merged: from From on and before To, counted
	// from 0. A To of 0 stands for the number of layers.
	From, To int
	// Compression is that of the new blob. Empty means that of the topmost layer that
	// is compressed, and gzip if none is.
	Compression layer.Compression
	// Level is that of the compression, as layer.NewWriter has it; 0 for the default.
	Level int
	// History takes the place of the entries of the merged layers. If it has no
	// comment, it gets one that tells what was merged.
	History ispec.History
	// Stack says how the layers are read.
	Stack stack.Options
}

// Squash merges layers into one, which does what they do together, and returns how
// many they were: 0 if there is nothing to merge in the range, and then the image has
// not changed. What is deleted or replaced within the range is gone; the tree that the
// image stands for stays the same to the last fact. The image is to be committed
// afterwards. The same layers give the same new one.
//
// The history has one entry for the new layer. Entries of the range that have no layer
// tell of the config, which stays, and so do they. If the history tells of no layers, it
// gets an entry only if there is but one layer now: else it would be taken for that
// of another. If the lowest layer is merged too, the annotations that name the base of
// the image go: nothing is shared with that any more.
func (i *Image) Squash(ctx context.Context, opt SquashOptions) (merged int, err error) {
	merged, err = i.squash(ctx, opt)
	if err != nil {
		return 0, fmt.Errorf("squash: %w", err)
	}
	return merged, nil
}

func (i *Image) squash(ctx context.Context, opt SquashOptions) (int, error) {
	s, err := i.stack()
	if err != nil {
		return 0, err
	}
	in := stack.Range{From: opt.From, To: opt.To}
	if in.To == 0 {
		in.To = len(s.Layers)
	}
	if in.From < 0 || in.From > in.To || in.To > len(s.Layers) {
		return 0, fmt.Errorf("layers from %d on and before %d: the image has %d", in.From, in.To, len(s.Layers))
	}
	if in.To-in.From < 2 {
		return 0, nil
	}
	if opt.Compression == "" {
		opt.Compression = i.defaultCompression()
	}
	if err := i.hold(ctx); err != nil {
		return 0, err
	}
	whole, err := putLayer(ctx, i.layout, PutLayerOptions{
		Compression: opt.Compression, Level: opt.Level,
		Write: func(w io.Writer) error {
			return s.Flatten(ctx, w, in, stack.FlattenOptions{Options: opt.Stack})
		},
	})
	if err != nil {
		return 0, err
	}
	whole.Descriptor.MediaType = layerType(whole.Descriptor.MediaType, i.isDocker())
	m, c := &i.manifest.value, &i.config.value
	c.History = squashHistory(c.History, s, in, opt.History)
	m.Layers = slices.Replace(slices.Clone(m.Layers), in.From, in.To, whole.Descriptor)
	c.RootFS.DiffIDs = slices.Replace(slices.Clone(c.RootFS.DiffIDs), in.From, in.To, whole.DiffID)
	if in.From == 0 {
		m.Annotations = maps.Clone(m.Annotations)
		delete(m.Annotations, ispec.AnnotationBaseImageDigest)
		delete(m.Annotations, ispec.AnnotationBaseImageName)
	}
	return in.To - in.From, nil
}

// stack returns the layers as the changes so far have made them.
func (i *Image) stack() (*stack.Stack, error) {
	if err := i.checkLayers(); err != nil {
		return nil, err
	}
	layers := make([]stack.Layer, len(i.manifest.value.Layers))
	for n, d := range i.manifest.value.Layers {
		_, c, err := layer.SplitMediaType(d.MediaType)
		id := i.config.value.RootFS.DiffIDs[n]
		if err == nil {
			err = id.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		layers[n] = stack.Layer{Descriptor: d, Compression: c, DiffID: id}
	}
	return stack.Of(i.layout, layers...), nil
}

// mergedWord begins the comment of an entry that stands for several.
const mergedWord = "merged "

// squashHistory returns the history with the entry in place of those of the layers in
// the range. Entries belong to layers in their order, from the bottom on.
func squashHistory(history []ispec.History, s *stack.Stack, in stack.Range, entry ispec.History) []ispec.History {
	var told []string // of the merged layers
	var out []ispec.History
	layers, place := 0, -1
	for _, h := range history {
		if h.EmptyLayer {
			out = append(out, h)
			continue
		}
		n := layers
		layers++
		// What is said of layers beyond the last one is said of none.
		if n < in.From || in.To <= n && n < len(s.Layers) {
			out = append(out, h)
			continue
		}
		if n < in.To {
			place = len(out)
			told = append(told, cmp.Or(tell(h), s.Layers[n].DiffID.String()))
		}
	}
	alone := in.To-in.From == len(s.Layers)
	switch {
	case place >= 0:
	case alone || in.From > 0 && layers == in.From:
		place = len(out)
	default:
		return out
	}
	for n := in.From + len(told); n < in.To; n++ {
		told = append(told, s.Layers[n].DiffID.String())
	}
	if entry.Comment == "" {
		entry.Comment = fmt.Sprintf("%s%d layers: %s", mergedWord, len(told), strings.Join(told, "; "))
	}
	entry.EmptyLayer = false
	entry.Created = cloneTime(entry.Created)
	return slices.Insert(out, place, entry)
}

// tell returns what an entry says of its layer.
func tell(h ispec.History) string {
	switch {
	case h.CreatedBy == "":
		return h.Comment
	case strings.HasPrefix(h.Comment, mergedWord):
		return h.CreatedBy + " (" + h.Comment + ")"
	}
	return h.CreatedBy
}

// Seam returns how many layers base has, which must be those that the image begins
// with. They are compared by their diffIDs: how they are compressed does not matter.
// The error is [ErrNotBase].
func (i *Image) Seam(base *Image) (int, error) {
	if err := errors.Join(i.checkLayers(), base.checkLayers()); err != nil {
		return 0, err
	}
	own, below := i.config.value.RootFS.DiffIDs, base.config.value.RootFS.DiffIDs
	for n := range min(len(own), len(below)) {
		if own[n] != below[n] {
			return 0, fmt.Errorf("%w: layer %d is %s there, and %s here", ErrNotBase, n+1, below[n], own[n])
		}
	}
	if len(own) < len(below) {
		return 0, fmt.Errorf("%w: it has %d layers, and the image only %d", ErrNotBase, len(below), len(own))
	}
	return len(below), nil
}
