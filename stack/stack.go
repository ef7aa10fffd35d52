// SPDX-License-Identifier: Apache-2.0

// Package stack reads the layers of an image as one tree.
//
// [Open] checks that the manifest and the config of an image fit each other.
// [Stack.Apply] then applies layers to a layer.Tree, in order, through any sink:
// to a disk, to an archive, or to nothing. Whoever wants to know what an image
// contains comes through here: sizes, digests and diffIDs are checked, and errors
// name the layer. [Stack.Contents] goes through the layers a second time, for the
// content of files that the tree of the first time has picked.
package stack

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// ErrNotImage is returned for what a ref leads to and has no root filesystem.
var ErrNotImage = errors.New("not an image with layers")

// Stack is the layers of an image. It may be used by several goroutines at once.
type Stack struct {
	Descriptor ispec.Descriptor // of the manifest
	Manifest   ispec.Manifest
	Config     ispec.Image
	Layers     []Layer // the lowest first
	layout     *layout.Layout
}

// Layer is one layer of an image, with what the manifest and the config say of
// it.
type Layer struct {
	Descriptor  ispec.Descriptor
	Compression layer.Compression
	DiffID      digest.Digest
}

// Options say how layers are read. The zero value is the rule of the OCI
// image-spec.
type Options struct {
	// KeepDirlinks is that of layer.ApplyOptions.
	KeepDirlinks bool
	// Limits bound what the layers that are read in one go may cost.
	Limits layer.Limits
	// Warn receives what was left out or looks wrong. May be nil.
	Warn func(msg string)
	// Progress receives the stage "applying", or "reading" where only contents are
	// read, in bytes of layer blobs. May be nil.
	Progress progress.Func
}

// Open reads the manifest and the config of the image that from leads to, and
// checks that they fit each other. No layer is opened.
func Open(ctx context.Context, l *layout.Layout, from layout.Path) (*Stack, error) {
	s := &Stack{Descriptor: from.Target(), layout: l}
	var err error
	if s.Manifest, err = l.Manifest(ctx, s.Descriptor); err != nil {
		return nil, err
	}
	if s.Config, err = l.Config(ctx, s.Manifest.Config); err != nil {
		return nil, err
	}
	where := "config " + s.Manifest.Config.Digest.String()
	if t := s.Config.RootFS.Type; t != "layers" {
		return nil, fmt.Errorf("%s: %w: rootfs type %s", where, ErrNotImage, quote.Name(t))
	}
	diffIDs := s.Config.RootFS.DiffIDs
	if len(diffIDs) != len(s.Manifest.Layers) {
		return nil, fmt.Errorf("%s: %w: %d diff_ids for %d layers", where, ErrNotImage, len(diffIDs), len(s.Manifest.Layers))
	}
	for i, desc := range s.Manifest.Layers {
		_, c, err := layer.SplitMediaType(desc.MediaType)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		if err := diffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("%s: diffID %s: %w", where, quote.Name(string(diffIDs[i])), err)
		}
		s.Layers = append(s.Layers, Layer{desc, c, diffIDs[i]})
	}
	return s, nil
}

// InLayer adds to err which layer it is about, if it tells of an entry.
func (s *Stack) InLayer(err error) error { return s.inLayer(-1, err) }

// inLayer adds to err which layer it is about: the one that the entry is in, or
// layer i.
func (s *Stack) inLayer(i int, err error) error {
	if err == nil {
		return nil
	}
	var entry *layer.EntryError
	if errors.As(err, &entry) && entry.Layer >= 0 {
		i = int(entry.Layer)
	}
	if i < 0 || i >= len(s.Layers) {
		return err
	}
	return fmt.Errorf("layer %s: %w", s.Layers[i].Descriptor.Digest, err)
}
