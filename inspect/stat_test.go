// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func stat(t *testing.T, dir, ref string) (*inspect.ImageStat, error) {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path, err := l.Resolve(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inspect.Stat(t.Context(), l, path)
}

// history is which layer each entry belongs to: its number, or a dash. A mark of
// exclamation follows if the diffID is not that of the layer.
func history(s *inspect.ImageStat) string {
	var b strings.Builder
	for _, h := range s.History {
		at := "-"
		for i, l := range s.Manifest.Manifest.Layers {
			if h.Layer != nil && h.Layer.Digest == l.Digest {
				at = fmt.Sprint(i)
				if ids := s.Config.Image.RootFS.DiffIDs; i >= len(ids) || h.DiffID != ids[i] || h.DiffID == "" {
					at += "!"
				}
			}
		}
		b.WriteString(at)
	}
	return b.String()
}

func TestHistory(t *testing.T) {
	var layers [][]byte
	for _, name := range []string{"a", "b", "c"} {
		layers = append(layers, ocitest.Layer(ocitest.File(name, name, 0o644)))
	}
	empty, full := ispec.History{EmptyLayer: true}, ispec.History{}
	tests := []struct {
		name     string
		layers   int
		history  []ispec.History
		cut      int // diffIDs too few
		want     string
		problems int
	}{
		{"none", 0, nil, 0, "", 0},
		{"one each", 2, []ispec.History{full, full}, 0, "01", 0},
		{"empty ones", 2, []ispec.History{empty, full, empty, empty, full, empty}, 0, "-0--1-", 0},
		{"too short", 3, []ispec.History{full}, 0, "0", 0},
		{"too long", 1, []ispec.History{full, empty, full, full}, 0, "0---", 1},
		{"diffIDs missing", 2, []ispec.History{full, full}, 1, "01!", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "l")
			ocitest.Image{
				Layers: layers[:tt.layers],
				Edit: func(i *ispec.Image, _ *ispec.Manifest) {
					i.History = tt.history
					i.RootFS.DiffIDs = i.RootFS.DiffIDs[:len(i.RootFS.DiffIDs)-tt.cut]
				},
			}.Write(t, dir, "latest")
			s, err := stat(t, dir, "latest")
			if err != nil {
				t.Fatal(err)
			}
			if got := history(s); got != tt.want {
				t.Errorf("the entries belong to the layers %s, want %s", got, tt.want)
			}
			if len(s.Problems) != tt.problems {
				t.Errorf("problems are %q, want %d", s.Problems, tt.problems)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	want := ocitest.Image{Author: "<me>"}.Write(t, dir, "latest")
	s, err := stat(t, dir, "latest")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Manifest, Config struct {
			Descriptor ispec.Descriptor
			Blob       json.RawMessage
		}
		History *[]any
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Manifest.Descriptor, want) {
		t.Errorf("descriptor of the manifest is %v, want %v", back.Manifest.Descriptor, want)
	}
	for _, d := range []ispec.Descriptor{back.Manifest.Descriptor, back.Config.Descriptor} {
		if d.Digest == "" {
			t.Errorf("a descriptor is missing in %s", data)
		}
	}
	blob, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", back.Config.Descriptor.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Config.Blob, bytes.TrimSpace(blob)) {
		t.Errorf("the config is %s, want %s", back.Config.Blob, blob)
	}
	if back.History == nil || len(*back.History) != 0 {
		t.Errorf("the history is %v, want an empty list", back.History)
	}
}

// TestArtifacts looks at configs that are not those of images.
func TestArtifacts(t *testing.T) {
	tests := []struct {
		name      string
		mediaType string
		content   string
		embed     bool // in the descriptor
		absent    bool // as a blob
		config    bool // is reported
		blob      string
		err       string
	}{
		{name: "empty", mediaType: ispec.MediaTypeEmptyJSON, content: "{}", config: true, blob: "{}"},
		{name: "not empty", mediaType: ispec.MediaTypeEmptyJSON, content: "{ }", err: "is not {}"},
		{name: "descriptor", mediaType: ispec.MediaTypeDescriptor, content: `{"a":1}`, config: true, blob: `{"a":1}`},
		{name: "no descriptor", mediaType: ispec.MediaTypeDescriptor, content: `{`, err: "is not JSON"},
		{name: "unknown", mediaType: "text/plain", content: "hello"},
		{name: "unknown and missing", mediaType: "text/plain", content: "hello", absent: true, err: "no such"},
		{name: "unknown but embedded", mediaType: "text/plain", content: "[1]", embed: true, absent: true, config: true, blob: "[1]"},
		{name: "embedded text", mediaType: "text/plain", content: "hello", embed: true, absent: true, config: true},
		{name: "no image config", mediaType: ispec.MediaTypeImageConfig, content: "[]", err: "config"},
		{name: "missing", mediaType: ispec.MediaTypeImageConfig, content: "{}", absent: true, err: "no such"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			dir := filepath.Join(t.TempDir(), "l")
			l, err := layout.Create(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			m := ispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2},
				MediaType: ispec.MediaTypeImageManifest,
				Config: ispec.Descriptor{
					MediaType: tt.mediaType, Digest: digest.FromString(tt.content), Size: int64(len(tt.content)),
				},
				Layers: []ispec.Descriptor{},
			}
			if tt.embed {
				m.Config.Data = []byte(tt.content)
			}
			if !tt.absent {
				if _, _, err := l.PutBlob(ctx, strings.NewReader(tt.content)); err != nil {
					t.Fatal(err)
				}
			}
			d := ispec.Descriptor{MediaType: m.MediaType}
			if d.Digest, d.Size, err = l.PutJSON(ctx, m); err != nil {
				t.Fatal(err)
			}
			s, err := inspect.Stat(ctx, l, layout.Path{d})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), m.Config.Digest.String()) {
					t.Errorf("error is %v, want one with %q and the digest", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.History != nil {
				t.Errorf("there is a history: %v", s.History)
			}
			if (s.Config != nil) != tt.config {
				t.Fatalf("config is %v", s.Config)
			}
			if s.Config != nil && string(s.Config.Blob) != tt.blob {
				t.Errorf("config is %q, want %q", s.Config.Blob, tt.blob)
			}
			if _, err := json.Marshal(s); err != nil {
				t.Errorf("not to be had as JSON: %v", err)
			}
		})
	}
}

func TestNotAManifest(t *testing.T) {
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "l"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = inspect.Stat(t.Context(), l, layout.Path{{MediaType: ispec.MediaTypeImageIndex, Digest: digest.FromString(""), Size: 0}})
	if !errors.Is(err, layout.ErrMediaType) {
		t.Errorf("error is %v, want %v", err, layout.ErrMediaType)
	}
}
