// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	umutate "github.com/opencontainers/umoci/mutate"
	"github.com/opencontainers/umoci/oci/cas/dir"
	"github.com/opencontainers/umoci/oci/casext"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// TestLikeUmoci makes the same changes with umoci's library: what comes out must be
// the same to the byte.
func TestLikeUmoci(t *testing.T) {
	ctx := t.Context()
	created := time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)
	tar := bytes.Repeat([]byte("tar"), 1000)
	history := []ispec.History{{CreatedBy: "add <layer> & more", Created: &created, Author: "a"}, {CreatedBy: "config", Comment: "c"}}
	config := ispec.ImageConfig{
		User: "1000:1000", Env: []string{"PATH=/bin", "X=<&>"}, Cmd: []string{"sh"}, WorkingDir: "/w",
		Labels: map[string]string{"b": "2", "a": "1"}, Volumes: map[string]struct{}{"/v": {}},
	}
	annotations := map[string]string{"x": "y"}

	l := newLayout(t)
	i := newImage(t, l, "v1")
	base := i.path.Target()
	_, err := i.AddLayer(ctx, AddLayerOptions{Write: writing(tar), Compression: layer.None, History: &history[0]})
	must(t, err)
	i.Set(Settings{
		Config: config, Annotations: annotations, Author: "somebody", Created: &created,
		Platform: ispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
	})
	i.AddHistory(history[1])
	ours := commit(t, i).Target()

	engine, err := dir.Open(filepath.Clean(l.Path()))
	must(t, err)
	defer engine.Close()
	m, err := umutate.New(engine, casext.DescriptorPath{Walk: []ispec.Descriptor{base}})
	must(t, err)
	_, err = m.Add(ctx, ispec.MediaTypeImageLayer, bytes.NewReader(tar), &history[0], umutate.NoopCompressor, nil) //nolint:staticcheck // the library has nothing else for it
	must(t, err)
	must(t, m.Set(ctx, config, umutate.Meta{
		Created: created, Author: "somebody", OS: "linux", Architecture: "arm", Variant: "v7",
	}, annotations, &history[1]))
	theirs, err := m.Commit(ctx)
	must(t, err)
	if d := theirs.Descriptor(); d.Digest != ours.Digest || d.Size != ours.Size {
		a, _ := l.ReadBlob(ctx, ours)
		b, _ := l.ReadBlob(ctx, d)
		t.Errorf("shale: %s\numoci: %s", a, b)
	}
	// And shale's next change goes on from what umoci wrote.
	next, err := Open(ctx, l, layout.Path{theirs.Descriptor()})
	must(t, err)
	if path := commit(t, next); path.Target().Digest != ours.Digest {
		t.Errorf("got %s", path.Target().Digest)
	}
}
