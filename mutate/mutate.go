// SPDX-License-Identifier: Apache-2.0

// Package mutate makes a new image out of an old one: with another layer on top,
// with another config, with another history, with fewer layers, or on another base.
//
// Start with [Open], or with [New] or [Blank] for an image that has nothing in it yet.
// Change the [Image] with [Image.AddLayer], [Image.AddHistory] and [Image.Set], merge
// its layers with [Image.Squash] or change those that it is built on with [Image.Rebase],
// and write it with [Image.Commit], which returns the path to the new image. Images for several
// platforms that one index leads to are changed together with [CommitAll]. A ref never
// moves here: that is the last step of whoever asked for the change, with
// layout.SetRef, or with layout.MoveRef and [Graft] where the ref may lead to an index
// that others change too.
//
// Nothing that is there is changed: blobs are only added. Members of the config,
// the manifest and the indexes above it that the image-spec does not know are kept,
// and an image of Docker's media types keeps to them.
package mutate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/layout"
)

// The documents of an image. Those of a changed image are made from the ones that
// were read, which the layout has checked.
var (
	configDoc   = jsondoc.New[ispec.Image](jsondoc.Rules{})
	manifestDoc = jsondoc.New[ispec.Manifest](jsondoc.Rules{Key: "digest"})
	indexDoc    = jsondoc.New[ispec.Index](jsondoc.Rules{Key: "digest", ByPosition: true})
)

// Image is an image that is being changed. It must not be used by several
// goroutines at once.
type Image struct {
	layout   *layout.Layout
	path     layout.Path
	manifest document[ispec.Manifest]
	config   document[ispec.Image]
	target   ispec.Descriptor // what is to describe the image
	platform ispec.Platform   // of the config as it was read
	held     bool             // whether gc spares what the image consists of
	foreign  bool             // whether the config was read from elsewhere
}

// document is a JSON document as it was read and as it is to be.
type document[T any] struct {
	data  []byte
	value T
}

// Open reads the image at the end of path, for changing it. Nothing is written
// before the first change. The error is layout.ErrMediaType if there is no image
// manifest at the end of path, or if its config is not an image config.
func Open(ctx context.Context, l *layout.Layout, path layout.Path) (*Image, error) {
	if len(path) == 0 {
		return nil, errors.New("open image: the path is empty")
	}
	i := &Image{layout: l, path: slices.Clone(path)}
	var err error
	if i.manifest, err = read(ctx, l, path.Target(), l.Manifest); err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	if i.config, err = read(ctx, l, i.manifest.value.Config, l.Config); err != nil {
		return nil, fmt.Errorf("open image %s: %w", path.Target().Digest, err)
	}
	i.target = path.Target()
	i.platform = clonePlatform(i.config.value.Platform)
	return i, nil
}

// read reads a document twice: parsed, and as it is.
func read[T any](ctx context.Context, l *layout.Layout, d ispec.Descriptor,
	parse func(context.Context, ispec.Descriptor) (T, error),
) (document[T], error) {
	value, err := parse(ctx, d)
	if err != nil {
		return document[T]{}, err
	}
	data, err := l.ReadBlob(ctx, d)
	return document[T]{data, value}, err
}

// Manifest returns a copy of the manifest as the changes so far have made it. The
// descriptor of the config in it is that of the last commit.
func (i *Image) Manifest() ispec.Manifest {
	m := i.manifest.value
	m.Layers = slices.Clone(m.Layers)
	m.Annotations = maps.Clone(m.Annotations)
	return m
}

// Config returns a copy of the config as the changes so far have made it.
func (i *Image) Config() ispec.Image {
	c := i.config.value
	c.Config = cloneConfig(c.Config)
	c.RootFS.DiffIDs = slices.Clone(c.RootFS.DiffIDs)
	c.History = slices.Clone(c.History)
	return c
}
