// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "layout"))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// put writes a document as it is.
func put(t testing.TB, l *layout.Layout, mediaType, data string) ispec.Descriptor {
	t.Helper()
	d, size, err := l.PutBlob(t.Context(), strings.NewReader(data))
	must(t, err)
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return string(data)
}

// newImage makes an empty image with a ref and opens it.
func newImage(t testing.TB, l *layout.Layout, ref string) *Image {
	t.Helper()
	d, err := New(t.Context(), l, NewOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "amd64"}})
	must(t, err)
	must(t, l.SetRef(t.Context(), ref, d))
	return openRef(t, l, ref)
}

func openRef(t testing.TB, l *layout.Layout, ref string) *Image {
	t.Helper()
	path, err := l.Resolve(t.Context(), ref, nil)
	must(t, err)
	i, err := Open(t.Context(), l, path)
	must(t, err)
	return i
}

func commit(t testing.TB, i *Image) layout.Path {
	t.Helper()
	path, err := i.Commit(t.Context())
	must(t, err)
	return path
}

func writing(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		// In pieces of odd sizes, as tar streams come.
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(40_000))
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
}

// files lists what is in the layout, apart from temporary directories.
func files(t testing.TB, l *layout.Layout) []string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(l.Path(), func(p string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".shale-") {
			return fs.SkipDir
		}
		list = append(list, p)
		return err
	}))
	return list
}

func TestAddLayer(t *testing.T) {
	created := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, size := range []int{0, 1, 100_000, 3 << 20} {
		for _, tc := range []struct {
			compression layer.Compression
			mediaType   string
		}{
			{layer.None, ispec.MediaTypeImageLayer},
			{layer.Gzip, ispec.MediaTypeImageLayerGzip},
			{layer.Zstd, ispec.MediaTypeImageLayerZstd},
			{"", ispec.MediaTypeImageLayerGzip},
		} {
			t.Run(string(tc.compression)+" "+strconv.Itoa(size), func(t *testing.T) {
				l := newLayout(t)
				i := newImage(t, l, "v1")
				data := bytes.Repeat([]byte("shale"), size/5+1)[:size]
				d, err := i.AddLayer(t.Context(), AddLayerOptions{
					Write:       writing(data),
					Compression: tc.compression,
					History:     &ispec.History{CreatedBy: "test", Created: &created, EmptyLayer: true},
					Annotations: map[string]string{"k": "v"},
				})
				must(t, err)
				path := commit(t, i)

				manifest, err := l.Manifest(t.Context(), path.Target())
				must(t, err)
				config, err := l.Config(t.Context(), manifest.Config)
				must(t, err)
				if len(manifest.Layers) != 1 || !reflect.DeepEqual(manifest.Layers[0], d) || d.MediaType != tc.mediaType {
					t.Errorf("got %+v, want %+v", manifest.Layers, d)
				}
				want := map[string]string{"k": "v", AnnotationPlainSize: strconv.Itoa(size)}
				if tc.compression == layer.None {
					delete(want, AnnotationPlainSize)
				}
				if !reflect.DeepEqual(d.Annotations, want) {
					t.Errorf("annotations %v, want %v", d.Annotations, want)
				}
				if got := config.RootFS.DiffIDs; len(got) != 1 || got[0] != digest.FromBytes(data) {
					t.Errorf("diffIDs %v", got)
				}
				if got := config.History; len(got) != 1 || got[0].CreatedBy != "test" || got[0].EmptyLayer || !got[0].Created.Equal(created) {
					t.Errorf("history %+v", got)
				}
				if got := plain(t, l, d); !bytes.Equal(got, data) {
					t.Errorf("the layer holds %d bytes, want %d", len(got), len(data))
				}
			})
		}
	}
}

// plain returns what is in a layer.
func plain(t testing.TB, l *layout.Layout, d ispec.Descriptor) []byte {
	t.Helper()
	_, c, err := layer.SplitMediaType(d.MediaType)
	must(t, err)
	blob, err := l.OpenBlob(t.Context(), d)
	must(t, err)
	defer blob.Close()
	r, err := layer.NewReader(blob, c, nil)
	must(t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	must(t, err)
	return data
}

func TestDefaultCompression(t *testing.T) {
	for _, tc := range []struct {
		have string
		want layer.Compression
	}{
		{"", layer.Gzip},
		{"none", layer.Gzip},
		{"zstd", layer.Zstd},
		{"gzip zstd", layer.Zstd},
		{"zstd gzip", layer.Gzip},
		{"zstd none", layer.Zstd},
	} {
		i := newImage(t, newLayout(t), "v1")
		for n, c := range strings.Fields(tc.have) {
			_, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte{byte(n)}), Compression: layer.Compression(c)})
			must(t, err)
		}
		if got := i.defaultCompression(); got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.have, got, tc.want)
		}
	}
	// Layers of types that nobody knows do not count.
	i := newImage(t, newLayout(t), "v1")
	i.manifest.value.Layers = []ispec.Descriptor{{MediaType: ispec.MediaTypeImageLayerZstd}, {MediaType: "application/x+gzip"}}
	if got := i.defaultCompression(); got != layer.Zstd {
		t.Errorf("got %s", got)
	}
}

// TestDockerStaysDocker checks that no media types are mixed.
func TestDockerStaysDocker(t *testing.T) {
	for compression, want := range map[layer.Compression]string{
		layer.None: "application/vnd.docker.image.rootfs.diff.tar",
		layer.Gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
		layer.Zstd: "application/vnd.docker.image.rootfs.diff.tar.zstd",
	} {
		l := newLayout(t)
		config := put(t, l, layout.MediaTypeDockerConfig, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"},"container_config":{"Cmd":["x"]}}`)
		manifest := put(t, l, layout.MediaTypeDockerManifest,
			`{"schemaVersion":2,"mediaType":"`+layout.MediaTypeDockerManifest+`","config":`+asJSON(t, config)+`,"layers":[]}`)
		i, err := Open(t.Context(), l, layout.Path{manifest})
		must(t, err)
		d, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("x")), Compression: compression})
		must(t, err)
		path := commit(t, i)
		m, err := l.Manifest(t.Context(), path.Target())
		must(t, err)
		if d.MediaType != want || m.MediaType != layout.MediaTypeDockerManifest || m.Config.MediaType != layout.MediaTypeDockerConfig {
			t.Errorf("%s: layer %s, manifest %s, config %s", compression, d.MediaType, m.MediaType, m.Config.MediaType)
		}
		data, err := l.ReadBlob(t.Context(), m.Config)
		must(t, err)
		if !strings.Contains(string(data), `"container_config":{"Cmd":["x"]}`) {
			t.Errorf("config is %s", data)
		}
	}
}

func TestCommitWithoutChange(t *testing.T) {
	l := newLayout(t)
	// Not as encoding/json would write it, so that writing it back would show.
	config := put(t, l, ispec.MediaTypeImageConfig, ` {"os":"linux", "architecture":"amd64", "created":"2020-01-01T00:00:00.000Z", "rootfs":{"diff_ids":[],"type":"layers"}} `)
	manifest := put(t, l, ispec.MediaTypeImageManifest, `{"layers":[],"schemaVersion":2,"config":`+asJSON(t, config)+`}`)
	must(t, l.SetRef(t.Context(), "v1", manifest))
	before := files(t, l)
	i := openRef(t, l, "v1")
	i.Set(i.Settings())
	path := commit(t, i)
	if path.Target().Digest != manifest.Digest {
		t.Errorf("got %s", path.Target().Digest)
	}
	if after := files(t, l); !reflect.DeepEqual(after, before) {
		t.Errorf("written: %v", after)
	}
}

func TestForeignMembersStay(t *testing.T) {
	l := newLayout(t)
	layerBlob := put(t, l, ispec.MediaTypeImageLayer, "layer")
	config := put(t, l, ispec.MediaTypeImageConfig, `{"docker_version":"1.0","os":"linux","architecture":"amd64",`+
		`"config":{"Env":["A=b"],"Healthcheck":{"Test":["CMD"]},"OnBuild":null},`+
		`"rootfs":{"type":"layers","diff_ids":["`+layerBlob.Digest.String()+`"],"base_layer":"x"},`+
		`"history":[{"created_by":"one","step":1},{"created_by":"two","empty_layer":true}]}`)
	withExtra := func(d ispec.Descriptor) string {
		return strings.TrimSuffix(asJSON(t, d), "}") + `,"foreign":{"a":[1]}}`
	}
	manifest := put(t, l, ispec.MediaTypeImageManifest,
		`{"schemaVersion":2,"config":`+withExtra(config)+`,"layers":[`+withExtra(layerBlob)+`],"com.example":true}`)
	inner := put(t, l, ispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"manifests":[`+withExtra(manifest)+`],"note":"inner"}`)
	other := put(t, l, ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+asJSON(t, config)+`,"layers":[]}`)
	outer := put(t, l, ispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"manifests":[`+asJSON(t, other)+`,`+withExtra(inner)+`],"note":"outer"}`)

	manifest.Annotations = map[string]string{"kept": "yes"}
	i, err := Open(t.Context(), l, layout.Path{outer, inner, manifest})
	must(t, err)
	s := i.Settings()
	s.Config.Env = append(s.Config.Env, "C=d")
	i.Set(s)
	i.AddHistory(ispec.History{CreatedBy: "three"})
	_, err = i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("new")), Compression: layer.None, History: &ispec.History{CreatedBy: "four"}})
	must(t, err)
	path := commit(t, i)
	if len(path) != 3 || path.Target().Annotations["kept"] != "yes" {
		t.Fatalf("got %+v", path)
	}

	newConfig := i.Manifest().Config
	fresh := put(t, l, ispec.MediaTypeImageLayer, "new")
	for n, want := range []string{
		`{"schemaVersion":2,"manifests":[` + asJSON(t, other) + `,` + withExtra(bare(path[1])) + `],"note":"outer"}`,
		`{"schemaVersion":2,"manifests":[` + withExtra(bare(path[2])) + `],"note":"inner"}`,
		`{"schemaVersion":2,"config":` + withExtra(newConfig) + `,"layers":[` + withExtra(layerBlob) + `,` + asJSON(t, fresh) + `],"com.example":true}`,
	} {
		got, err := l.ReadBlob(t.Context(), path[n])
		must(t, err)
		if string(got) != want+"\n" {
			t.Errorf("step %d:\ngot  %s\nwant %s", n, got, want)
		}
	}
	got, err := l.ReadBlob(t.Context(), newConfig)
	must(t, err)
	want := `{"architecture":"amd64","os":"linux",` +
		`"config":{"Env":["A=b","C=d"],"Healthcheck":{"Test":["CMD"]},"OnBuild":null},` +
		`"rootfs":{"type":"layers","diff_ids":["` + layerBlob.Digest.String() + `","` + fresh.Digest.String() + `"],"base_layer":"x"},` +
		`"history":[{"created_by":"one","step":1},{"created_by":"two","empty_layer":true},{"created_by":"three","empty_layer":true},{"created_by":"four"}],` +
		`"docker_version":"1.0"}` + "\n"
	if string(got) != want {
		t.Errorf("config:\ngot  %s\nwant %s", got, want)
	}
}

func bare(d ispec.Descriptor) ispec.Descriptor {
	d.Annotations = nil
	return d
}

// TestNestedIndex checks that every way to the old image leads to the new one, and
// that what stands beside it is not touched.
func TestNestedIndex(t *testing.T) {
	l := newLayout(t)
	a, err := New(t.Context(), l, NewOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "amd64"}})
	must(t, err)
	b, err := New(t.Context(), l, NewOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "arm64"}})
	must(t, err)
	a.Platform = &ispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}
	a.Annotations = map[string]string{"a": "1"}
	again := a
	again.Annotations = map[string]string{"a": "2"}
	b.Platform = &ispec.Platform{OS: "linux", Architecture: "arm64"}
	index := ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{a, b, again}}
	index.SchemaVersion = 2
	root := put(t, l, ispec.MediaTypeImageIndex, asJSON(t, index))
	must(t, l.SetRef(t.Context(), "v1", root))

	path, err := l.Resolve(t.Context(), "v1", &layout.ResolveOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}})
	must(t, err)
	i, err := Open(t.Context(), l, path)
	must(t, err)
	i.AddHistory(ispec.History{CreatedBy: "x"})
	path = commit(t, i)
	if path.Root().Annotations[ispec.AnnotationRefName] != "v1" {
		t.Errorf("root lost its annotations: %+v", path.Root())
	}
	for n := range index.Manifests {
		if index.Manifests[n].Digest == a.Digest {
			index.Manifests[n].Digest, index.Manifests[n].Size = path.Target().Digest, path.Target().Size
		}
	}
	got, err := l.ReadBlob(t.Context(), path.Root())
	must(t, err)
	if want := asJSON(t, index) + "\n"; string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The ref has not moved.
	if d, err := l.Lookup(t.Context(), "v1"); err != nil || d.Digest != root.Digest {
		t.Errorf("got %s, %v", d.Digest, err)
	}
}

func TestEmbeddedDataDoesNotSurvive(t *testing.T) {
	l := newLayout(t)
	configData := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`
	config := put(t, l, ispec.MediaTypeImageConfig, configData)
	config.Data = []byte(configData)
	config.Annotations = map[string]string{"kept": "yes"}
	manifestData := `{"schemaVersion":2,"config":` + asJSON(t, config) + `,"layers":[]}`
	manifest := put(t, l, ispec.MediaTypeImageManifest, manifestData)
	manifest.Data = []byte(manifestData)
	i, err := Open(t.Context(), l, layout.Path{manifest})
	must(t, err)
	i.AddHistory(ispec.History{CreatedBy: "x"})
	path := commit(t, i)
	m, err := l.Manifest(t.Context(), path.Target())
	must(t, err)
	if path.Target().Data != nil || m.Config.Data != nil || m.Config.Annotations["kept"] != "yes" {
		t.Errorf("got %+v, %+v", path.Target(), m.Config)
	}
	if _, err := l.Config(t.Context(), m.Config); err != nil {
		t.Error(err)
	}
}

func TestCommitTwice(t *testing.T) {
	l := newLayout(t)
	i := newImage(t, l, "v1")
	i.AddHistory(ispec.History{CreatedBy: "one"})
	first := commit(t, i)
	if again := commit(t, i); !reflect.DeepEqual(again, first) {
		t.Errorf("got %v, want %v", again, first)
	}
	i.AddHistory(ispec.History{CreatedBy: "two"})
	second := commit(t, i)
	if second.Target().Digest == first.Target().Digest {
		t.Error("the second commit is the first")
	}
	must(t, l.SetRef(t.Context(), "v1", second.Root()))
	if got := openRef(t, l, "v1").Config().History; len(got) != 2 || got[1].CreatedBy != "two" {
		t.Errorf("got %+v", got)
	}
}

func TestSettings(t *testing.T) {
	l := newLayout(t)
	i := newImage(t, l, "v1")
	created := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Settings{
		Config: ispec.ImageConfig{
			User: "u", Env: []string{"A=b"}, Cmd: []string{"sh"}, Labels: map[string]string{"l": "m"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/v": {}},
		},
		Platform:    ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8", OSFeatures: []string{"f"}},
		Author:      "somebody",
		Created:     &created,
		Annotations: map[string]string{"a": "b"},
	}
	i.Set(want)
	must(t, l.SetRef(t.Context(), "v1", commit(t, i).Root()))
	i = openRef(t, l, "v1")
	if got := i.Settings(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// What is handed out is a copy.
	s, c, m := i.Settings(), i.Config(), i.Manifest()
	s.Config.Env[0], s.Config.Labels["l"], s.Annotations["a"], *s.Created = "X=y", "x", "x", time.Time{}
	c.Config.Env[0], c.Config.Volumes["/x"] = "X=y", struct{}{}
	m.Annotations["a"] = "x"
	if got := i.Settings(); !reflect.DeepEqual(got, want) {
		t.Errorf("changed through a copy: %+v", got)
	}
}

func TestAddLayerFails(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
		l := newLayout(t)
		i := newImage(t, l, "v1")
		before := files(t, l)
		_, err := i.AddLayer(t.Context(), AddLayerOptions{Compression: c, Write: func(w io.Writer) error {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
			return boom
		}})
		if !errors.Is(err, boom) {
			t.Errorf("%s: got %v", c, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = i.AddLayer(ctx, AddLayerOptions{Compression: c, Write: func(w io.Writer) error {
			cancel()
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
			return nil
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", c, err)
		}
		if _, err := i.AddLayer(t.Context(), AddLayerOptions{Compression: c}); err == nil {
			t.Errorf("%s: no error without Write", c)
		}
		if path := commit(t, i); path.Target().Digest != openRef(t, l, "v1").path.Target().Digest {
			t.Errorf("%s: a layer that failed changed the image", c)
		}
		if after := files(t, l); !reflect.DeepEqual(after, before) {
			t.Errorf("%s: left %v", c, after)
		}
		if left, _ := filepath.Glob(filepath.Join(l.Path(), ".shale-*", "tmp-*")); len(left) > 0 {
			t.Errorf("%s: left %v", c, left)
		}
	}
	i := newImage(t, newLayout(t), "v1")
	if _, err := i.AddLayer(t.Context(), AddLayerOptions{Compression: "xz", Write: writing(nil)}); err == nil {
		t.Error("xz: no error")
	}
}

func TestRefused(t *testing.T) {
	l := newLayout(t)
	ctx := t.Context()
	if _, err := Open(ctx, l, nil); err == nil {
		t.Error("no error for an empty path")
	}
	artifact := put(t, l, "application/x", "{}")
	manifest := put(t, l, ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+asJSON(t, artifact)+`,"layers":[]}`)
	if _, err := Open(ctx, l, layout.Path{manifest}); !errors.Is(err, layout.ErrMediaType) {
		t.Errorf("artifact: %v", err)
	}
	if _, err := Open(ctx, l, layout.Path{artifact}); !errors.Is(err, layout.ErrMediaType) {
		t.Errorf("no manifest: %v", err)
	}

	// H13: fewer diffIDs than layers.
	config := put(t, l, ispec.MediaTypeImageConfig, `{"rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest = put(t, l, ispec.MediaTypeImageManifest,
		`{"schemaVersion":2,"config":`+asJSON(t, config)+`,"layers":[`+asJSON(t, artifact)+`]}`)
	i, err := Open(ctx, l, layout.Path{manifest})
	must(t, err)
	if _, err := i.AddLayer(ctx, AddLayerOptions{Write: writing(nil)}); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("too few diffIDs: %v", err)
	}

	// A path that is none.
	empty := put(t, l, ispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`)
	i = newImage(t, l, "v1")
	i, err = Open(ctx, l, layout.Path{empty, i.path.Target()})
	must(t, err)
	i.AddHistory(ispec.History{})
	if _, err := i.Commit(ctx); err == nil || !strings.Contains(err.Error(), empty.Digest.String()) {
		t.Errorf("got %v", err)
	}
}

// TestBaseRemovedMeanwhile deletes the ref of the old image and collects garbage
// while the new one is being made.
func TestBaseRemovedMeanwhile(t *testing.T) {
	setUp := func(t *testing.T) (writer, other *layout.Layout, i *Image) {
		l := newLayout(t)
		base := newImage(t, l, "base")
		_, err := base.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("base"))})
		must(t, err)
		must(t, l.SetRef(t.Context(), "base", commit(t, base).Root()))
		must(t, l.Close())
		writer, err = layout.Open(t.Context(), l.Path(), nil)
		must(t, err)
		t.Cleanup(func() { _ = writer.Close() })
		other, err = layout.Open(t.Context(), l.Path(), nil)
		must(t, err)
		t.Cleanup(func() { _ = other.Close() })
		return writer, other, openRef(t, writer, "base")
	}
	removeBase := func(t *testing.T, l *layout.Layout) {
		_, err := l.DeleteRef(t.Context(), "base")
		must(t, err)
		_, err = l.GC(t.Context(), nil)
		must(t, err)
	}
	t.Run("while the layer is written", func(t *testing.T) {
		writer, other, i := setUp(t)
		_, err := i.AddLayer(t.Context(), AddLayerOptions{Write: func(w io.Writer) error {
			removeBase(t, other)
			return writing([]byte("top"))(w)
		}})
		must(t, err)
		path := commit(t, i)
		removeBase(t, other)
		must(t, writer.SetRef(t.Context(), "new", path.Root()))
		must(t, writer.Close())
		removeBase(t, other)
		must(t, other.Walk(t.Context(), path.Root(), func(p layout.Path) error {
			r, err := other.OpenBlob(t.Context(), p.Target())
			if err != nil {
				return err
			}
			defer r.Close()
			return r.Verify(t.Context())
		}))
	})
	t.Run("before the first change", func(t *testing.T) {
		_, other, i := setUp(t)
		removeBase(t, other)
		if _, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte("top"))}); !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("AddLayer: %v", err)
		}
		i.AddHistory(ispec.History{})
		if _, err := i.Commit(t.Context()); !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("Commit: %v", err)
		}
	})
}

func TestReadOnlyOpen(t *testing.T) {
	l := newLayout(t)
	newImage(t, l, "v1")
	must(t, l.Close())
	ro, err := layout.Open(t.Context(), l.Path(), nil)
	must(t, err)
	defer ro.Close()
	i := openRef(t, ro, "v1")
	_ = commit(t, i)
	if left, _ := filepath.Glob(filepath.Join(l.Path(), ".shale-*")); len(left) > 0 {
		t.Errorf("opening wrote %v", left)
	}
}

func TestHasher(t *testing.T) {
	for _, size := range []int{0, 1, hasherBuffer - 1, hasherBuffer, hasherBuffer + 1, 10*hasherBuffer + 7} {
		data := make([]byte, size)
		for n := range data {
			data[n] = byte(n * 7)
		}
		h := newHasher()
		must(t, writing(data)(h))
		if d, n := h.sum(); d != digest.FromBytes(data) || n != int64(size) {
			t.Errorf("%d bytes: got %s, %d", size, d, n)
		}
	}
}

func BenchmarkAddLayer(b *testing.B) {
	data := make([]byte, 32<<20)
	for n := range data {
		data[n] = byte(rand.IntN(8))
	}
	for _, c := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
		b.Run(string(c), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			i := newImage(b, newLayout(b), "v1")
			for b.Loop() {
				if _, err := i.AddLayer(b.Context(), AddLayerOptions{Write: writing(data), Compression: c}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
