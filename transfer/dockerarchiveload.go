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
	a, err := openDockerArchive(ctx, loc)
	if err != nil {
		return nil, err
	}
	defer a.Close() //nolint:errcheck // it was only read from
	images, err := a.selectImages(opt.Names)
	if err != nil {
		return nil, &Error{Op: "load", Ref: loc.String(), Err: err}
	}
	for i := range images {
		if err := a.put(ctx, l, &images[i], opt); err != nil {
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

// put writes an image into a layout, from the leaves up.
func (a *dockerArchive) put(ctx context.Context, l *layout.Layout, img *DockerImage, opt DockerArchiveOptions) error {
	m, config, err := readImage(ctx, a.document, img.Manifest)
	if err != nil {
		return err
	}
	changed := false
	for i, d := range m.Layers {
		if opt.Compression == "" {
			err = a.copyTo(ctx, l, d)
		} else if m.Layers[i], err = a.compressTo(ctx, l, d, config.RootFS.DiffIDs[i], opt); m.Layers[i].Digest != d.Digest {
			changed = true
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	if err := a.copyTo(ctx, l, m.Config); err != nil {
		return err
	}
	if !changed {
		return a.copyTo(ctx, l, img.Manifest)
	}
	img.Manifest.Digest, img.Manifest.Size, err = l.PutJSON(ctx, m)
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

// copyTo puts a blob into a layout.
func (a *dockerArchive) copyTo(ctx context.Context, l *layout.Layout, d ispec.Descriptor) error {
	if err := l.Hold(ctx, d); err != nil {
		return err
	}
	if ok, err := l.HasBlob(ctx, d); err != nil || ok {
		return err
	}
	r, err := a.Open(ctx, d, 0)
	if err != nil {
		return err
	}
	err = l.PutVerified(ctx, d, r)
	return both(err, r.Close())
}

// compressTo puts a layer into a layout in the given compression.
func (a *dockerArchive) compressTo(
	ctx context.Context, l *layout.Layout, d ispec.Descriptor, diffID digest.Digest, opt DockerArchiveOptions,
) (ispec.Descriptor, error) {
	base, have, err := layer.SplitMediaType(d.MediaType)
	if err != nil {
		return d, err
	}
	if have == opt.Compression {
		return d, a.copyTo(ctx, l, d)
	}
	blob, err := a.Open(ctx, d, 0)
	if err != nil {
		return d, err
	}
	defer blob.Close() //nolint:errcheck // its content is checked by the diffID
	stream, err := layer.NewStream(ctx, blob, layer.StreamOptions{Compression: have, DiffID: diffID, Warn: opt.Warn})
	if err != nil {
		return d, err
	}
	defer stream.Close()
	made, err := mutate.PutLayer(ctx, l, mutate.PutLayerOptions{
		Compression: opt.Compression,
		Write: func(w io.Writer) error {
			if _, err := io.Copy(w, stream); err != nil {
				return err
			}
			return stream.Finish()
		},
	})
	made.Descriptor.MediaType = layer.JoinMediaType(base, opt.Compression)
	return made.Descriptor, err
}
