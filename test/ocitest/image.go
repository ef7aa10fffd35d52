// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // the digest of all blobs
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, as older registries serve them.
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
)

// Node is something index.json can point to: an Image or an Index.
type Node interface {
	put(store) (ispec.Descriptor, error)
}

// Image is an image to be written. Its zero value is an image of no layers
// for linux/amd64.
type Image struct {
	// Layers are uncompressed tar streams, lowest first. LayerFiles are paths
	// of files with such streams, on top of Layers: for what is too large to
	// hold in memory.
	Layers     [][]byte
	LayerFiles []string

	// Compression of all layers: "gzip" (also if empty), "zstd" or "none".
	Compression string

	// Docker writes Docker's media types in place of OCI's.
	Docker bool

	// Platform is put into the config, and into the descriptor too if the
	// image is part of an Index. The zero value stands for linux/amd64.
	Platform ispec.Platform

	Config      ispec.ImageConfig
	Author      string
	Annotations map[string]string // of the manifest

	// Edit, if not nil, may change the config and the manifest before they
	// are written: the config with its diffIDs and history filled in, and the
	// manifest with all of its descriptors but that of the config.
	Edit func(*ispec.Image, *ispec.Manifest)
}

// Index is an image index to be written.
type Index struct {
	Nodes       []Node
	Docker      bool // write Docker's manifest list in place of an index
	Annotations map[string]string
}

// Write puts the image under the name ref into the layout at dir, which is
// made if need be, and returns the descriptor in index.json.
func (i Image) Write(t testing.TB, dir, ref string) ispec.Descriptor {
	t.Helper()
	return write(t, dir, ref, i)
}

// Write puts the index and all below it under the name ref into the layout at
// dir, which is made if need be, and returns the descriptor in index.json.
func (x Index) Write(t testing.TB, dir, ref string) ispec.Descriptor {
	t.Helper()
	return write(t, dir, ref, x)
}

func write(t testing.TB, dir, ref string, n Node) ispec.Descriptor {
	t.Helper()
	d, err := Put(dir, ref, n)
	if err != nil {
		t.Fatalf("write fixture: %v", err)
	}
	return d
}

// Put is Write for programs that are no tests. An empty ref makes an entry
// without a name; an entry of the same name is replaced.
func Put(dir, ref string, n Node) (ispec.Descriptor, error) {
	s := store(dir)
	if err := s.init(); err != nil {
		return ispec.Descriptor{}, err
	}
	d, err := n.put(s)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	if ref != "" {
		d.Annotations = map[string]string{ispec.AnnotationRefName: ref}
	}
	return d, s.addEntry(d)
}

// store is the path of a layout. It knows nothing of shale's own packages, so
// that what it writes can be held against what they write.
type store string

func (s store) init() error {
	if err := os.MkdirAll(filepath.Join(string(s), "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(s.index()); err == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(string(s), ispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return s.writeIndex(ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{}})
}

func (s store) index() string {
	return filepath.Join(string(s), ispec.ImageIndexFile)
}

func (s store) writeIndex(index ispec.Index) error {
	index.SchemaVersion = 2
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(s.index(), b, 0o644)
}

func (s store) addEntry(d ispec.Descriptor) error {
	b, err := os.ReadFile(s.index())
	if err != nil {
		return err
	}
	var index ispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return fmt.Errorf("parse %s: %w", s.index(), err)
	}
	ref := d.Annotations[ispec.AnnotationRefName]
	index.Manifests = slices.DeleteFunc(index.Manifests, func(old ispec.Descriptor) bool {
		return ref != "" && old.Annotations[ispec.AnnotationRefName] == ref
	})
	index.Manifests = append(index.Manifests, d)
	return s.writeIndex(index)
}

// putBlob stores what fill writes and returns its digest and size.
func (s store) putBlob(fill func(io.Writer) error) (_ digest.Digest, _ int64, err error) {
	blobs := filepath.Join(string(s), "blobs", "sha256")
	f, err := os.CreateTemp(blobs, "new-")
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), removeIfThere(f.Name())) }()

	hash := digest.SHA256.Digester()
	if err := fill(io.MultiWriter(f, hash.Hash())); err != nil {
		return "", 0, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return "", 0, err
	}
	if err := f.Chmod(0o644); err != nil {
		return "", 0, err
	}
	return hash.Digest(), size, os.Rename(f.Name(), filepath.Join(blobs, hash.Digest().Encoded()))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s store) putJSON(mediaType string, v any) (ispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	dgst, size, err := s.putBlob(func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	return ispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: size}, err
}

// putLayer stores one layer and returns its descriptor and its diffID.
func (i Image) putLayer(s store, layer io.Reader) (ispec.Descriptor, digest.Digest, error) {
	diffID := digest.SHA256.Digester()
	mediaType := ispec.MediaTypeImageLayer
	if i.Docker {
		mediaType = DockerLayer
	}
	dgst, size, err := s.putBlob(func(w io.Writer) error {
		z, suffix, err := compress(w, i.Compression, i.Docker)
		if err != nil {
			return err
		}
		mediaType += suffix
		if _, err := io.Copy(io.MultiWriter(z, diffID.Hash()), layer); err != nil {
			return err
		}
		return z.Close()
	})
	return ispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: size}, diffID.Digest(), err
}

// gzips are compressors that are used again, since making one costs more than a small
// layer, and under the race detector much more. Their level is the one that is cheapest
// for what does not compress.
var gzips = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a valid one
	}
	return z
}}

type pooledGzip struct{ *gzip.Writer }

func fastGzip(w io.Writer) io.WriteCloser {
	z := gzips.Get().(*gzip.Writer)
	z.Reset(w)
	return pooledGzip{z}
}

func (p pooledGzip) Close() error {
	err := p.Writer.Close()
	gzips.Put(p.Writer)
	return err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// compress returns a compressor and the suffix that goes with it in the media
// type.
func compress(w io.Writer, algorithm string, docker bool) (io.WriteCloser, string, error) {
	switch algorithm {
	case "", "gzip":
		if docker {
			return fastGzip(w), ".gzip", nil
		}
		return fastGzip(w), "+gzip", nil
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if docker {
			return z, ".zstd", err
		}
		return z, "+zstd", err
	case "none":
		return nopCloser{w}, "", nil
	}
	return nil, "", fmt.Errorf("unknown compression %q", algorithm)
}

func (i Image) put(s store) (ispec.Descriptor, error) {
	platform := i.platform()
	created := Epoch.UTC()
	config := ispec.Image{
		Created:  &created,
		Author:   i.Author,
		Platform: platform,
		Config:   i.Config,
		RootFS:   ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	manifest := ispec.Manifest{
		MediaType:   ispec.MediaTypeImageManifest,
		Layers:      []ispec.Descriptor{},
		Annotations: i.Annotations,
	}
	manifest.SchemaVersion = 2
	configType := ispec.MediaTypeImageConfig
	if i.Docker {
		manifest.MediaType, configType = DockerManifest, DockerConfig
	}

	add := func(layer io.Reader) error {
		desc, diffID, err := i.putLayer(s, layer)
		if err != nil {
			return err
		}
		manifest.Layers = append(manifest.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		at := created.Add(time.Duration(len(manifest.Layers)) * time.Second)
		config.History = append(config.History, ispec.History{
			Created:   &at,
			CreatedBy: fmt.Sprintf("layer %d", len(manifest.Layers)),
		})
		return nil
	}
	for _, layer := range i.Layers {
		if err := add(bytes.NewReader(layer)); err != nil {
			return ispec.Descriptor{}, err
		}
	}
	for _, name := range i.LayerFiles {
		if err := addFile(name, add); err != nil {
			return ispec.Descriptor{}, err
		}
	}

	if i.Edit != nil {
		i.Edit(&config, &manifest)
	}
	var err error
	if manifest.Config, err = s.putJSON(configType, config); err != nil {
		return ispec.Descriptor{}, err
	}
	return s.putJSON(manifest.MediaType, manifest)
}

func addFile(name string, add func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(add(f), f.Close())
}

func (i Image) platform() ispec.Platform {
	if i.Platform.OS == "" {
		return ispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	return i.Platform
}

func (x Index) put(s store) (ispec.Descriptor, error) {
	index := ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{}, Annotations: x.Annotations}
	index.SchemaVersion = 2
	if x.Docker {
		index.MediaType = DockerManifestList
	}
	for _, n := range x.Nodes {
		d, err := n.put(s)
		if err != nil {
			return ispec.Descriptor{}, err
		}
		if image, ok := n.(Image); ok {
			platform := image.platform()
			d.Platform = &platform
		}
		index.Manifests = append(index.Manifests, d)
	}
	return s.putJSON(index.MediaType, index)
}
