// SPDX-License-Identifier: Apache-2.0

// Package inspect reports on images. It only reads, and returns what it has
// found as data: how that is shown is for the caller to say.
//
// [Stat] tells what an image is: its manifest, its config, and its history with
// the layers that belong to it. [StatIndex] tells which platforms an index has images
// for. [Diff] tells how two images differ, or an image and a directory.
// [Files] lists what is in the layers of an image, and what of that is wasted.
//
// [Verify] looks for everything that can be wrong with a layout, whatever state that is
// in. [Codes] has all that it may find.
package inspect

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// ImageStat is what [Stat] reports of an image. As JSON it has the form that
// "umoci stat --json" prints.
type ImageStat struct {
	Manifest ManifestStat `json:"manifest"`

	// Config is nil for the config of an artifact, unless that is a document of a
	// kind that the image-spec knows.
	Config *ConfigStat `json:"config,omitzero"`

	// History has the entries of the config's history, oldest first. It is nil if
	// the config is not that of an image.
	History []HistoryEntry `json:"history,omitzero"`

	// Problems are contradictions within the image, as sentences for people.
	Problems []string `json:"-"`
}

// ManifestStat is the manifest of an image.
type ManifestStat struct {
	Descriptor ispec.Descriptor `json:"descriptor"` // with the annotations of what refers to the manifest
	Manifest   ispec.Manifest   `json:"-"`
	Blob       json.RawMessage  `json:"blob,omitzero"` // the document as it stands
}

// ConfigStat is the config of an image or an artifact.
type ConfigStat struct {
	Descriptor ispec.Descriptor `json:"descriptor"`
	Image      *ispec.Image     `json:"-"` // nil if it is not the config of an image
	Blob       json.RawMessage  `json:"blob,omitzero"`
}

// HistoryEntry is an entry of the history of an image, with the layer that it
// has made.
type HistoryEntry struct {
	// Layer is nil, and DiffID empty, for an entry that has made no layer, and for
	// one whose layer is missing from the image.
	Layer  *ispec.Descriptor `json:"layer"`
	DiffID digest.Digest     `json:"diff_id"`

	ispec.History
}

// Stat reads the manifest that path leads to, and its config. Layers are not
// opened.
func Stat(ctx context.Context, l *layout.Layout, path layout.Path) (*ImageStat, error) {
	s := &ImageStat{Manifest: ManifestStat{Descriptor: path.Target()}}
	m := &s.Manifest
	var err error
	if m.Manifest, err = l.Manifest(ctx, m.Descriptor); err != nil {
		return nil, err
	}
	if m.Blob, err = l.ReadBlob(ctx, m.Descriptor); err != nil {
		return nil, err
	}
	if s.Config, err = statConfig(ctx, l, m.Manifest.Config); err != nil {
		return nil, err
	}
	if s.Config != nil && s.Config.Image != nil {
		s.addHistory(s.Config.Image)
	}
	return s, nil
}

func statConfig(ctx context.Context, l *layout.Layout, d ispec.Descriptor) (*ConfigStat, error) {
	c := &ConfigStat{Descriptor: d}
	if layout.IsConfig(d.MediaType) {
		image, err := l.Config(ctx, d)
		if err != nil {
			return nil, err
		}
		c.Image = &image
	}
	document := isDocument(d.MediaType)
	if !document && len(d.Data) == 0 {
		return nil, checkThere(ctx, l, d)
	}
	blob, err := l.ReadBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	switch {
	case d.MediaType == ispec.MediaTypeEmptyJSON && string(blob) != "{}":
		return nil, fmt.Errorf("read config %s: %s is not {}", d.Digest, d.MediaType)
	case json.Valid(blob):
		c.Blob = blob
	case document:
		return nil, fmt.Errorf("read config %s: %s is not JSON", d.Digest, d.MediaType)
	}
	// What is embedded in a manifest under another media type may be anything.
	return c, nil
}

// checkThere returns an error unless the blob is in the layout.
func checkThere(ctx context.Context, l *layout.Layout, d ispec.Descriptor) error {
	blob, err := l.OpenBlob(ctx, d)
	if err != nil {
		return err
	}
	return blob.Close()
}

// isDocument reports whether the image-spec says that blobs of the type are
// JSON.
func isDocument(mediaType string) bool {
	switch mediaType {
	case ispec.MediaTypeEmptyJSON, ispec.MediaTypeDescriptor:
		return true
	}
	return layout.IsConfig(mediaType) || layout.IsManifest(mediaType) || layout.IsIndex(mediaType)
}

// addHistory tells which layer each entry of the history has made: those that
// are not marked as empty have made one each, in order (image-spec, "OCI Image
// Configuration", history).
func (s *ImageStat) addHistory(image *ispec.Image) {
	layers, diffIDs := s.Manifest.Manifest.Layers, image.RootFS.DiffIDs
	s.History = make([]HistoryEntry, 0, len(image.History))
	next := 0
	for _, h := range image.History {
		e := HistoryEntry{History: h}
		if !h.EmptyLayer {
			if next < len(layers) {
				e.Layer = &layers[next]
			}
			if next < len(diffIDs) {
				e.DiffID = diffIDs[next]
			}
			next++
		}
		s.History = append(s.History, e)
	}
	if len(diffIDs) != len(layers) {
		s.problem("the image has %d layers, and the config %d diff_ids", len(layers), len(diffIDs))
	}
	if next > len(layers) {
		s.problem("the image has %d layers, and the history tells of %d", len(layers), next)
	}
}

func (s *ImageStat) problem(format string, args ...any) {
	s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
}
