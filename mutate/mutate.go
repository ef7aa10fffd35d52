// SPDX-License-Identifier: Apache-2.0

// Package mutate makes a new image out of an old one: with another layer on top,
// with another config, or with another history.
//
// Start with [Open], or with [New] for an image that has nothing in it yet. Change
// the [Image] with [Image.AddLayer], [Image.AddHistory] and [Image.Set], and write
// it with [Image.Commit], which returns the path to the new image. A ref never
// moves here: that is the last step of whoever asked for the change, with
// layout.SetRef.
//
// Nothing that is there is changed: blobs are only added. Members of the config,
// the manifest and the indexes above it that the image-spec does not know are kept,
// and an image of Docker's media types keeps to them.
package mutate

import (
	"bytes"
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
	held     bool // whether gc spares what the image consists of
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

// Commit writes the changed config, the manifest, and every index on the path, in
// this order, and returns the path to the new image. In each index the descriptors
// of the old blob become those of the new one, with their annotations and
// platforms as they were. An image without changes is not written: its path is the
// old one. After a commit the image can be changed further.
func (i *Image) Commit(ctx context.Context) (layout.Path, error) {
	path, err := i.commit(ctx)
	if err != nil {
		return nil, fmt.Errorf("commit image: %w", err)
	}
	return path, nil
}

func (i *Image) commit(ctx context.Context) (layout.Path, error) {
	config, err := configDoc.Merge(&i.config.value, i.config.data)
	if err != nil {
		return nil, err
	}
	configChanged := !bytes.Equal(config, i.config.data)
	if configChanged {
		if err := i.hold(ctx); err != nil {
			return nil, err
		}
		if err := i.put(ctx, config, &i.manifest.value.Config); err != nil {
			return nil, err
		}
		i.config.data = config
	}
	manifest, err := manifestDoc.Merge(&i.manifest.value, i.manifest.data)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(manifest, i.manifest.data) {
		return slices.Clone(i.path), nil
	}
	if err := i.hold(ctx); err != nil {
		return nil, err
	}
	path := slices.Clone(i.path)
	if err := i.put(ctx, manifest, &path[len(path)-1]); err != nil {
		return nil, err
	}
	for n := len(path) - 2; n >= 0; n-- {
		if err := i.rewrite(ctx, path, n); err != nil {
			return nil, err
		}
	}
	i.manifest.data, i.path = manifest, path
	return slices.Clone(path), nil
}

// put writes a document and makes d, which described the one before, describe it.
func (i *Image) put(ctx context.Context, data []byte, d *ispec.Descriptor) error {
	var err error
	if d.Digest, d.Size, err = i.layout.PutBlob(ctx, bytes.NewReader(data)); err != nil {
		return err
	}
	d.Data, d.URLs = nil, nil // they were those of the old one
	return nil
}

// rewrite writes the index path[n] anew, with path[n+1] in the place of what
// i.path has there.
func (i *Image) rewrite(ctx context.Context, path layout.Path, n int) error {
	index, err := read(ctx, i.layout, path[n], i.layout.ImageIndex)
	if err != nil {
		return err
	}
	old, fresh := i.path[n+1], path[n+1]
	found := false
	for k := range index.value.Manifests {
		d := &index.value.Manifests[k]
		if d.Digest == old.Digest && d.MediaType == old.MediaType {
			d.Digest, d.Size, d.Data, d.URLs = fresh.Digest, fresh.Size, nil, nil
			found = true
		}
	}
	if !found {
		return fmt.Errorf("index %s does not list %s", path[n].Digest, old.Digest)
	}
	data, err := indexDoc.Merge(&index.value, index.data)
	if err != nil {
		return err
	}
	return i.put(ctx, data, &path[n])
}

// hold keeps gc from what the new image shares with the old one, which others may
// stop referring to at any time.
func (i *Image) hold(ctx context.Context) error {
	if i.held {
		return nil
	}
	m := i.manifest.value
	all := append(slices.Clone(i.path), m.Config)
	if err := i.layout.Hold(ctx, append(all, m.Layers...)...); err != nil {
		return err
	}
	// A gc that came first has removed the documents together with the layers.
	for _, d := range i.path {
		if ok, err := i.layout.HasBlob(ctx, d); err != nil {
			return err
		} else if !ok && len(d.Data) == 0 {
			return fmt.Errorf("blob %s has been removed meanwhile: %w", d.Digest, layout.ErrNotFound)
		}
	}
	i.held = true
	return nil
}
