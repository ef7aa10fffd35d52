// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

// LoadDockerArchive puts the images of the docker-archive at path into the layout l,
// and returns them in the order of the archive. A path that is "-" stands for standard
// input. Each image keeps the bytes of its config, and with them its ID; the manifest is
// the archive's own if it has one, as newer archives do. All content is verified. No
// ref moves: the images are held until l is closed, or something refers to them. The
// error is layout.ErrNotFound if the archive lacks one of Options.Names.
func LoadDockerArchive(ctx context.Context, path string, l *layout.Layout, opt DockerArchiveOptions) ([]DockerImage, error) {
	loc := Location{Scheme: SchemeDockerArchive, Path: path}
	a, err := openDockerArchive(ctx, loc, &Options{Limits: opt.Limits})
	if err != nil {
		return nil, err
	}
	defer a.Close() //nolint:errcheck // it was only read from
	images, err := a.selectImages(opt.Names)
	if err != nil {
		return nil, &Error{Op: "load", Ref: loc.String(), Err: err}
	}
	loader := dockerLoader{dockerArchive: a, l: l, opt: opt, made: map[layerOf]ispec.Descriptor{}}
	for i := range images {
		if err := loader.put(ctx, &images[i]); err != nil {
			return nil, &Error{Op: "load", Ref: loc.String(), Err: fmt.Errorf("image %s: %w", images[i].name(i), err)}
		}
	}
	return images, nil
}

func (img *DockerImage) name(n int) string {
	e := dockerEntry{RepoTags: img.Names}
	return e.name(n)
}

// selectImages returns the images that have one of the names; all if there are none.
func (a *dockerArchive) selectImages(names []string) ([]DockerImage, error) {
	if len(names) == 0 {
		return slices.Clone(a.images), nil
	}
	var images []DockerImage
	seen := map[int]bool{}
	for _, name := range names {
		at := slices.IndexFunc(a.images, func(img DockerImage) bool { return img.has(name) })
		if at < 0 {
			return nil, errorf(layout.ErrNotFound, "there is no %s in it, but %s", quote.Name(name), a.names())
		}
		seen[at] = true
	}
	for i, img := range a.images {
		if seen[i] {
			images = append(images, img)
		}
	}
	return images, nil
}

// has reports whether the image is called name, in its long or its short form.
func (img *DockerImage) has(name string) bool {
	want := CanonicalName(name)
	return slices.ContainsFunc(img.Names, func(n string) bool { return CanonicalName(n) == want })
}

// dockerLoader puts the images of an archive into a layout.
type dockerLoader struct {
	*dockerArchive
	l    *layout.Layout
	opt  DockerArchiveOptions
	made map[layerOf]ispec.Descriptor // the layers that were compressed
}

// layerOf is a blob that is the layer of a diffID.
type layerOf struct{ blob, diffID digest.Digest }

// put writes an image into the layout, from the leaves up.
func (a *dockerLoader) put(ctx context.Context, img *DockerImage) error {
	m, config, err := readImage(ctx, a.document, img.Manifest)
	if err != nil {
		return err
	}
	budget := a.opt.Limits.BudgetOf(m.Layers)
	changed := false
	for i, d := range m.Layers {
		if a.opt.Compression == "" {
			err = a.copy(ctx, d)
		} else if m.Layers[i], err = a.compress(ctx, d, config.RootFS.DiffIDs[i], budget); m.Layers[i].Digest != d.Digest {
			changed = true
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	if err := a.copy(ctx, m.Config); err != nil {
		return err
	}
	if !changed {
		return a.copy(ctx, img.Manifest)
	}
	img.Manifest.Digest, img.Manifest.Size, err = a.l.PutJSON(ctx, m)
	return err
}

// document reads a manifest or config, verified.
func (a *dockerArchive) document(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	if data, ok := a.manifests[d.Digest]; ok {
		return data, nil
	}
	if m, ok := a.configs[d.Digest]; ok && m.Size == d.Size {
		data := make([]byte, m.Size)
		if _, err := io.ReadFull(a.section(m), data); err != nil {
			return nil, cause(err)
		}
		if got := digest.FromBytes(data); got != d.Digest {
			return nil, errorf(layout.ErrDigest, "the config %s has become %s", d.Digest, got)
		}
		return data, nil
	}
	if a.archive == nil {
		return nil, errorf(layout.ErrNotFound, "blob %s is not in it", d.Digest)
	}
	return a.archive.ReadBlob(ctx, d)
}

// copy puts a blob into the layout.
func (a *dockerLoader) copy(ctx context.Context, d ispec.Descriptor) error {
	if err := a.l.Hold(ctx, d); err != nil {
		return err
	}
	if ok, err := a.l.HasBlob(ctx, d); err != nil || ok {
		return err
	}
	r, err := a.Open(ctx, d, 0)
	if err != nil {
		return err
	}
	err = a.l.PutVerified(ctx, d, r)
	return both(err, r.Close())
}

// compress puts a layer into the layout in the compression that is asked for, once.
func (a *dockerLoader) compress(ctx context.Context, d ispec.Descriptor, diffID digest.Digest, budget *layer.Budget) (ispec.Descriptor, error) {
	base, have, err := layer.SplitMediaType(d.MediaType)
	if err != nil {
		return d, err
	}
	if have == a.opt.Compression {
		return d, a.copy(ctx, d)
	}
	made, ok := a.made[layerOf{d.Digest, diffID}]
	if !ok {
		if made, err = a.recompress(ctx, d, layer.StreamOptions{
			Compression: have, DiffID: diffID, Budget: budget, Warn: a.opt.Warn,
		}); err != nil {
			return d, err
		}
		a.made[layerOf{d.Digest, diffID}] = made
	}
	made.MediaType = layer.JoinMediaType(base, a.opt.Compression)
	return made, nil
}

func (a *dockerLoader) recompress(ctx context.Context, d ispec.Descriptor, opt layer.StreamOptions) (ispec.Descriptor, error) {
	blob, err := a.Open(ctx, d, 0)
	if err != nil {
		return d, err
	}
	defer blob.Close() //nolint:errcheck // its content is checked by the diffID
	stream, err := layer.NewStream(ctx, blob, opt)
	if err != nil {
		return d, err
	}
	defer stream.Close()
	made, err := mutate.PutLayer(ctx, a.l, mutate.PutLayerOptions{
		Compression: a.opt.Compression,
		Write: func(w io.Writer) error {
			if _, err := io.Copy(w, stream); err != nil {
				return err
			}
			return stream.Finish()
		},
	})
	return made.Descriptor, err
}
