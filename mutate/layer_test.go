// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// TestAppendLayer holds an image of blobs that were there before against one whose
// layers were added one by one.
func TestAppendLayer(t *testing.T) {
	for _, types := range []MediaTypes{OCITypes, DockerTypes} {
		l := newLayout(t)
		content := []string{"one", "two"}
		d, err := New(t.Context(), l, NewOptions{MediaTypes: types})
		must(t, err)
		want := openPath(t, l, layout.Path{d})
		got := Blank(l, NewOptions{MediaTypes: types})
		for _, c := range content {
			h := &ispec.History{CreatedBy: c}
			_, err := want.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte(c)), History: h, Compression: layer.Zstd, Level: 19})
			must(t, err)
			put, err := PutLayer(t.Context(), l, PutLayerOptions{Write: writing([]byte(c)), Compression: layer.Zstd, Level: 19})
			must(t, err)
			_, err = got.AppendLayer(t.Context(), put, h)
			must(t, err)
		}
		before := len(files(t, l))
		one := commit(t, got).Target()
		if n := len(files(t, l)) - before; n != 2 {
			t.Errorf("%s: %d blobs were written, want 2", types, n)
		}
		if two := commit(t, want).Target(); one.Digest != two.Digest || one.MediaType != two.MediaType {
			t.Errorf("%s: got %+v, want %+v", types, one, two)
		}
		must(t, l.SetRef(t.Context(), "blank", one))
		checkWhole(t, l, "blank")
	}
}

func TestAppendLayerRefuses(t *testing.T) {
	l := newLayout(t)
	put, err := PutLayer(t.Context(), l, PutLayerOptions{Write: writing([]byte("x"))})
	must(t, err)
	for name, spoil := range map[string]func(*Layer){
		"no blob":    func(l *Layer) { l.Descriptor.Digest = digest.FromString("nothing") },
		"size":       func(l *Layer) { l.Descriptor.Size++ },
		"media type": func(l *Layer) { l.Descriptor.MediaType = "text/plain" },
		"diffID":     func(l *Layer) { l.DiffID = "sha256:x" },
	} {
		bad := put
		spoil(&bad)
		i := Blank(l, NewOptions{})
		if _, err := i.AppendLayer(t.Context(), bad, nil); err == nil {
			t.Errorf("%s: not refused", name)
		}
		if n := len(i.Manifest().Layers); n != 0 {
			t.Errorf("%s: the image has %d layers", name, n)
		}
	}
	// A damaged blob stays, unless it is known to be.
	file := filepath.Join(l.Path(), "blobs", "sha256", put.Descriptor.Digest.Encoded())
	must(t, os.WriteFile(file, make([]byte, put.Descriptor.Size), 0o644))
	for _, replace := range []bool{false, true} {
		again, err := PutLayer(t.Context(), l, PutLayerOptions{Write: writing([]byte("x")), Replace: replace})
		must(t, err)
		if r, err := l.OpenBlob(t.Context(), again.Descriptor); err != nil || (r.Verify(t.Context()) == nil) != replace {
			t.Errorf("replace is %t, and the blob is not as it should be: %v", replace, err)
		}
	}
	stop := errors.New("stop")
	if _, err := PutLayer(t.Context(), l, PutLayerOptions{}); err == nil {
		t.Error("a layer of nothing")
	}
	if _, err := PutLayer(t.Context(), l, PutLayerOptions{Write: func(io.Writer) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// TestSetMediaTypes changes an image to Docker's types and back.
func TestSetMediaTypes(t *testing.T) {
	l := newLayout(t)
	i := newImage(t, l, "x")
	_, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("x"))})
	must(t, err)
	oci := commit(t, i).Target()
	i.SetMediaTypes("")
	i.SetMediaTypes(DockerTypes)
	docker := commit(t, i)
	if got := docker.Target().MediaType; got != layout.MediaTypeDockerManifest {
		t.Errorf("the image is a %s", got)
	}
	m := openPath(t, l, docker).Manifest()
	if m.MediaType != layout.MediaTypeDockerManifest || m.Config.MediaType != layout.MediaTypeDockerConfig ||
		m.Layers[0].MediaType != dockerLayer+".gzip" {
		t.Errorf("the manifest is %+v", m)
	}
	i.SetMediaTypes(OCITypes)
	if back := commit(t, i).Target(); !reflect.DeepEqual(back, oci) {
		t.Errorf("got %+v, want %+v", back, oci)
	}
}

// TestSetConfig begins with a config of another image.
func TestSetConfig(t *testing.T) {
	l := newLayout(t)
	i := newImage(t, l, "x")
	_, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("x")), History: &ispec.History{CreatedBy: "x"}})
	must(t, err)
	had := i.Config()
	must(t, i.SetConfig([]byte(`{"author":"me","config":{"Cmd":["sh"],"Healthcheck":{"Test":["NONE"]}},
		"rootfs":{"type":"layers","diff_ids":["sha256:none"]},"history":[{},{}],"docker_version":"1"}`)))
	target := commit(t, i).Target()
	got := openPath(t, l, layout.Path{target})
	c := got.Config()
	if c.Author != "me" || c.Config.Cmd[0] != "sh" || !reflect.DeepEqual(c.RootFS, had.RootFS) ||
		!reflect.DeepEqual(c.History, had.History) || c.Architecture != had.Architecture {
		t.Errorf("the config is %+v", c)
	}
	data := string(got.config.data)
	for _, want := range []string{`"docker_version":"1"`, `"Healthcheck":{"Test":["NONE"]}`} {
		if !strings.Contains(data, want) {
			t.Errorf("%s is lost: %s", want, data)
		}
	}
	if err := i.SetConfig([]byte(`{"Author":"x"}`)); err == nil {
		t.Error("a config with a member in another case is taken")
	}
	// A config that is written elsewhere, as it is to be, still has to come into the layout.
	other := newLayout(t)
	blank := Blank(other, NewOptions{})
	must(t, blank.SetConfig([]byte(`{"architecture":"a","os":"b","rootfs":{"type":"layers","diff_ids":[]}}`)))
	must(t, other.SetRef(t.Context(), "blank", commit(t, blank).Target()))
	checkWhole(t, other, "blank")
}

func TestConfigAnnotations(t *testing.T) {
	l := newLayout(t)
	i := newImage(t, l, "x")
	i.SetConfigAnnotations(map[string]string{"a": "b"})
	if got := openPath(t, l, commit(t, i)).ConfigAnnotations(); got["a"] != "b" {
		t.Errorf("got %v", got)
	}
}
