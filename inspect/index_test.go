// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func TestStatIndex(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	image := func(arch string, layers ...string) ocitest.Image {
		i := ocitest.Image{Platform: ispec.Platform{OS: "linux", Architecture: arch}, Compression: "none"}
		for _, name := range layers {
			i.Layers = append(i.Layers, ocitest.Layer(ocitest.File(name, name, 0o644)))
		}
		return i
	}
	index := ocitest.Index{
		Nodes: []ocitest.Node{
			image("amd64", "a", "b"),
			ocitest.Index{Nodes: []ocitest.Node{image("arm64"), image("riscv64", "c")}},
			ocitest.Image{Platform: ispec.Platform{OS: "unknown", Architecture: "unknown"}},
		},
		Annotations: map[string]string{"k": "v"},
	}
	root := index.Write(t, dir, "multi")
	l, err := layout.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The index may list what nobody has copied.
	path, err := l.Resolve(t.Context(), "multi", &layout.ResolveOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", path.Target().Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	root.Annotations = map[string]string{"of": "the entry"}
	s, err := inspect.StatIndex(t.Context(), l, root)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		arch   string
		there  bool
		layers int
		large  bool
	}
	var got []row
	for _, p := range s.Platforms {
		got = append(got, row{p.Platform.Architecture, p.There, p.Layers, p.Size > 0})
	}
	want := []row{{"amd64", true, 2, true}, {"arm64", false, 0, false}, {"riscv64", true, 1, true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s.Index.Descriptor.Annotations["of"] != "the entry" || s.Index.Index.Annotations["k"] != "v" || len(s.Index.Index.Manifests) != 3 {
		t.Errorf("got %+v", s.Index)
	}
	var doc struct {
		Index     struct{ Blob ispec.Index }
		Platforms []struct {
			Platform   ispec.Platform
			Descriptor ispec.Descriptor
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(doc.Index.Blob, s.Index.Index) || len(doc.Platforms) != 3 || doc.Platforms[1].Descriptor.Digest != path.Target().Digest {
		t.Errorf("the JSON is %s", data)
	}
	if _, err := inspect.StatIndex(t.Context(), l, s.Platforms[0].Descriptor); !errors.Is(err, layout.ErrMediaType) {
		t.Errorf("got %v", err)
	}
}
