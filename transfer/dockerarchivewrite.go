// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/tarfile"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// DockerArchiveOptions change how a docker-archive is read or written. The zero value
// is what most want.
type DockerArchiveOptions struct {
	// Names are the images to load, as NAME:TAG; all of them if empty.
	Names []string
	// Compression of the layers of images that are loaded. If empty, layers are kept
	// uncompressed, as they are in the archive, or as the archive's own manifest has
	// them.
	Compression layer.Compression
	// TempDir is the directory in which layers are decompressed, one after the other,
	// before they are written to an archive. Nobody else sees the files. If empty, that
	// of [os.TempDir].
	TempDir string
	// Limits bound what the layers of an image may become where they are uncompressed, as
	// Options.Limits do.
	Limits layer.Limits
	// Warn receives what looks wrong but is no error. May be nil.
	Warn func(msg string)
}

// SaveDockerArchive writes images of the layout l to w as a docker-archive, which
// "docker load", "podman load" and skopeo read: the configs as they are, so that the
// images keep their IDs, and the layers uncompressed. The manifests are not in it. The
// same images in the same order give the same bytes. The error is ErrUnsupported for
// what is not an image of one platform.
func SaveDockerArchive(ctx context.Context, w io.Writer, l *layout.Layout, images []DockerImage, opt DockerArchiveOptions) error {
	s := &dockerSaver{
		read: l.ReadBlob, limits: opt.Limits, warn: opt.Warn, tempDir: cmp.Or(opt.TempDir, os.TempDir()),
		open: func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) { return l.OpenBlob(ctx, d) },
	}
	if err := s.save(ctx, w, images); err != nil {
		return fmt.Errorf("save docker-archive: %w", err)
	}
	return nil
}

// dockerSaver writes a docker-archive.
type dockerSaver struct {
	read func(ctx context.Context, d ispec.Descriptor) ([]byte, error)
	open func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) // verified by its end
	// limits are for each image.
	limits layer.Limits
	warn   func(string)
	// tempDir is where layers are decompressed, one after the other.
	tempDir string

	entries []dockerEntry
	configs map[string]ispec.Descriptor // by their names in the archive
	layers  map[string]plannedLayer     // likewise
}

// plannedLayer is a layer to be written.
type plannedLayer struct {
	desc        ispec.Descriptor
	compression layer.Compression
	diffID      digest.Digest
	budget      *layer.Budget // of the first image that has it
}

func (s *dockerSaver) save(ctx context.Context, w io.Writer, images []DockerImage) error {
	s.entries, s.configs, s.layers = []dockerEntry{}, map[string]ispec.Descriptor{}, map[string]plannedLayer{}
	for _, img := range images {
		if err := s.plan(ctx, img); err != nil {
			return err
		}
	}
	tw := tarfile.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(s.configs)) {
		data, err := s.read(ctx, s.configs[name])
		if err == nil {
			err = tw.File(name, data)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.layers)) {
		if err := s.layer(ctx, tw, name, s.layers[name]); err != nil {
			return fmt.Errorf("layer %s: %w", s.layers[name].desc.Digest, err)
		}
	}
	manifest, err := json.Marshal(s.entries)
	if err != nil {
		return fmt.Errorf("encode %s: %w", dockerManifestName, err)
	}
	if err := tw.File(dockerManifestName, append(manifest, '\n')); err != nil {
		return err
	}
	return tw.Close()
}

// plan reads the documents of an image.
func (s *dockerSaver) plan(ctx context.Context, img DockerImage) error {
	m, config, err := readImage(ctx, s.read, img.Manifest)
	if err != nil {
		return err
	}
	e := dockerEntry{Config: m.Config.Digest.Encoded() + ".json", RepoTags: slices.Clone(img.Names), Layers: []string{}}
	budget := s.limits.BudgetOf(m.Layers)
	for i, l := range m.Layers {
		_, c, err := layer.SplitMediaType(l.MediaType)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		diffID := config.RootFS.DiffIDs[i]
		if err := checkDigest(ispec.Descriptor{Digest: diffID}); err != nil {
			return fmt.Errorf("layer %s: diffID: %w", l.Digest, err)
		}
		name := diffID.Encoded() + ".tar"
		if _, ok := s.layers[name]; !ok {
			s.layers[name] = plannedLayer{l, c, diffID, budget}
		}
		e.Layers = append(e.Layers, name)
	}
	s.configs[e.Config] = m.Config
	s.entries = append(s.entries, e)
	return nil
}

// readImage reads the manifest that d describes and the config that goes with it. The
// error is ErrUnsupported if it is not an image of one platform.
func readImage(
	ctx context.Context, read func(context.Context, ispec.Descriptor) ([]byte, error), d ispec.Descriptor,
) (m ispec.Manifest, config ispec.Image, err error) {
	if layout.IsIndex(d.MediaType) {
		return m, config, errorf(ErrUnsupported, "%s is an index, and a docker-archive holds images of one platform each", d.Digest)
	}
	if !layout.IsManifest(d.MediaType) {
		return m, config, errorf(ErrUnsupported, "%s is of type %s, and not an image", d.Digest, quote.Name(d.MediaType))
	}
	data, err := read(ctx, d)
	if err != nil {
		return m, config, err
	}
	if m, err = layout.ParseManifest(data, d.MediaType); err != nil {
		return m, config, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if !layout.IsConfig(m.Config.MediaType) {
		return m, config, errorf(ErrUnsupported, "%s has a config of type %s, and is not an image", d.Digest, quote.Name(m.Config.MediaType))
	}
	if data, err = read(ctx, m.Config); err != nil {
		return m, config, err
	}
	if config, err = layout.ParseConfig(data); err != nil {
		return m, config, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if n := len(config.RootFS.DiffIDs); n != len(m.Layers) {
		return m, config, errorf(layout.ErrInvalid, "%s: %d diffIDs for %d layers", d.Digest, n, len(m.Layers))
	}
	return m, config, nil
}

// layer writes a layer as a plain tar.
func (s *dockerSaver) layer(ctx context.Context, tw *tarfile.Writer, name string, p plannedLayer) error {
	blob, err := s.open(ctx, p.desc)
	if err != nil {
		return err
	}
	defer blob.Close() //nolint:errcheck // it is read to its end, which checks it
	stream, err := layer.NewStream(ctx, blob, layer.StreamOptions{
		Compression: p.compression, DiffID: p.diffID, Budget: p.budget, Warn: s.warn,
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	if p.compression == layer.None {
		if err := tw.Stream(ctx, name, p.desc.Size, stream, nil); err != nil {
			return err
		}
		return stream.Finish()
	}
	// A tar needs to know the size of a member first.
	temp, err := nameless(s.tempDir)
	if err != nil {
		return err
	}
	defer temp.Close() //nolint:errcheck // it was written to be read once
	size, err := io.Copy(temp, contextReader{ctx, stream})
	if err == nil {
		err = stream.Finish()
	}
	if err != nil {
		return err
	}
	return tw.Stream(ctx, name, size, io.NewSectionReader(temp, 0, size), nil)
}
