// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AlsoVerify is a second opinion for AssertWhole. It is nil unless test/verifies is
// imported, which knows what must not be known here.
var AlsoVerify func(ctx context.Context, dir string) error

// AssertWhole fails the test if Verify finds anything wrong with the layout, or
// AlsoVerify does.
func AssertWhole(t testing.TB, dir string) {
	t.Helper()
	if err := Verify(dir); err != nil {
		t.Errorf("layout %s is not whole: %v", dir, err)
		return
	}
	if AlsoVerify == nil {
		return
	}
	if err := AlsoVerify(t.Context(), dir); err != nil {
		t.Errorf("layout %s is not whole: %v", dir, err)
	}
}

// Verify checks a layout from outside: that its files parse; that every blob
// that index.json leads to is there with the size and digest of its descriptor;
// and that every layer has the diffID that the config says, and every diffID a
// layer. Blobs that nothing leads to do not count.
func Verify(dir string) error {
	var header ispec.ImageLayout
	if err := readJSON(filepath.Join(dir, ispec.ImageLayoutFile), &header); err != nil {
		return err
	}
	if header.Version != ispec.ImageLayoutVersion {
		return fmt.Errorf("layout version %q", header.Version)
	}
	var index ispec.Index
	if err := readJSON(filepath.Join(dir, ispec.ImageIndexFile), &index); err != nil {
		return err
	}
	if index.SchemaVersion != 2 || index.Manifests == nil {
		return fmt.Errorf("index.json has schema version %d and manifests %v", index.SchemaVersion, index.Manifests)
	}
	v := verifier{store: store(dir), seen: map[digest.Digest]bool{}}
	for _, d := range index.Manifests {
		if err := v.node(d); err != nil {
			return fmt.Errorf("entry %q: %w", d.Annotations[ispec.AnnotationRefName], err)
		}
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("parse %s: %w", path, err)
	}
	return nil
}

type verifier struct {
	store store
	seen  map[digest.Digest]bool // nodes that are known to be whole
}

// blob returns a blob that has the size and digest of d.
func (v verifier) blob(d ispec.Descriptor) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	b, err := os.ReadFile(filepath.Join(string(v.store), "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != d.Size {
		return nil, fmt.Errorf("blob %s has %d bytes, not %d", d.Digest, len(b), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return nil, fmt.Errorf("blob %s has the digest %s", d.Digest, got)
	}
	return b, nil
}

// node checks an image or an index and all below it.
func (v verifier) node(d ispec.Descriptor) error {
	if v.seen[d.Digest] {
		return nil
	}
	b, err := v.blob(d)
	if err != nil {
		return err
	}
	switch d.MediaType {
	case ispec.MediaTypeImageIndex, DockerManifestList:
		var index ispec.Index
		if err := json.Unmarshal(b, &index); err != nil {
			return fmt.Errorf("parse index %s: %w", d.Digest, err)
		}
		for _, below := range index.Manifests {
			if err := v.node(below); err != nil {
				return err
			}
		}
	case ispec.MediaTypeImageManifest, DockerManifest:
		if err := v.image(b); err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
	default:
		return fmt.Errorf("blob %s has the media type %q", d.Digest, d.MediaType)
	}
	v.seen[d.Digest] = true
	return nil
}

func (v verifier) image(b []byte) error {
	var manifest ispec.Manifest
	if err := json.Unmarshal(b, &manifest); err != nil {
		return err
	}
	b, err := v.blob(manifest.Config)
	if err != nil {
		return err
	}
	var config ispec.Image
	if err := json.Unmarshal(b, &config); err != nil {
		return fmt.Errorf("parse config %s: %w", manifest.Config.Digest, err)
	}
	var diffIDs []digest.Digest
	for _, layer := range manifest.Layers {
		b, err := v.blob(layer)
		if err != nil {
			return err
		}
		diffID, err := diffIDOf(layer.MediaType, b)
		if err != nil {
			return fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		diffIDs = append(diffIDs, diffID)
	}
	if !slices.Equal(diffIDs, config.RootFS.DiffIDs) {
		return fmt.Errorf("the layers have the diffIDs %v, and the config says %v", diffIDs, config.RootFS.DiffIDs)
	}
	layers := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	if layers > len(manifest.Layers) {
		return fmt.Errorf("the history tells of %d layers, and there are %d", layers, len(manifest.Layers))
	}
	return nil
}

func diffIDOf(mediaType string, blob []byte) (_ digest.Digest, err error) {
	var r io.Reader = bytes.NewReader(blob)
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return "", err
		}
		r = z
	case strings.HasSuffix(mediaType, "zstd"):
		z, err := zstd.NewReader(r)
		if err != nil {
			return "", err
		}
		defer z.Close()
		r = z
	case !strings.HasSuffix(mediaType, ".tar"):
		return "", errors.New("unknown media type " + mediaType)
	}
	return digest.SHA256.FromReader(r)
}
