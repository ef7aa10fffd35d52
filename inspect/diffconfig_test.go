// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestDiffConfig changes one thing at a time, and all of them.
func TestDiffConfig(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	set := func(keys ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	type edit func(*ispec.Image, *ispec.Manifest)
	base := func(i *ispec.Image, m *ispec.Manifest) {
		i.Config = ispec.ImageConfig{
			User: "1", Env: []string{"A=1", "B=2", "B=3"}, Entrypoint: []string{"/x"}, Labels: map[string]string{"a": "1", "b": "2"},
			Volumes: set("/v"), ExposedPorts: set("80/tcp"), StopSignal: "SIGTERM",
		}
		m.Annotations = map[string]string{"k": "v"}
	}
	changes := []struct {
		edit edit
		want []inspect.ConfigChange
	}{
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Architecture, i.Variant, i.OSVersion = "arm", "v7", "10" },
			[]inspect.ConfigChange{{Field: "platform", Old: "linux/amd64", New: "linux/arm/v7"}, {Field: "platform", Key: "os.version", New: "10"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Created = &day },
			[]inspect.ConfigChange{{Field: "created", Old: "2017-07-14T02:40:00Z", New: "2026-01-02T02:04:05.000000006Z"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Author = "me" }, []inspect.ConfigChange{{Field: "author", New: "me"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.User = "" }, []inspect.ConfigChange{{Field: "user", Old: "1"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Env = []string{"A=", "C", "B=3"} },
			[]inspect.ConfigChange{{Field: "env", Key: "A", Old: "1", New: ""}, {Field: "env", Key: "C", New: ""}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Entrypoint = nil }, []inspect.ConfigChange{{Field: "entrypoint", Old: []string{"/x"}}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Cmd = []string{"a", "b"} }, []inspect.ConfigChange{{Field: "cmd", New: []string{"a", "b"}}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.WorkingDir = "/w" }, []inspect.ConfigChange{{Field: "workingDir", New: "/w"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Volumes = set("/w") },
			[]inspect.ConfigChange{{Field: "volumes", Key: "/v", Old: true}, {Field: "volumes", Key: "/w", New: true}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.ExposedPorts = nil }, []inspect.ConfigChange{{Field: "exposedPorts", Key: "80/tcp", Old: true}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Labels = map[string]string{"b": "3", "c": ""} },
			[]inspect.ConfigChange{{Field: "labels", Key: "a", Old: "1"}, {Field: "labels", Key: "b", Old: "2", New: "3"}, {Field: "labels", Key: "c", New: ""}}},
		{func(i *ispec.Image, _ *ispec.Manifest) { i.Config.StopSignal = "SIGINT" },
			[]inspect.ConfigChange{{Field: "stopSignal", Old: "SIGTERM", New: "SIGINT"}}},
		{func(i *ispec.Image, _ *ispec.Manifest) {
			i.History = append(i.History, ispec.History{EmptyLayer: true})
		},
			[]inspect.ConfigChange{{Field: "history", Old: 0, New: 1}}},
		{func(_ *ispec.Image, m *ispec.Manifest) { m.Annotations["k"] = "w" }, []inspect.ConfigChange{{Field: "annotations", Key: "k", Old: "v", New: "w"}}},
	}
	check := func(opt inspect.DiffOptions, want []inspect.ConfigChange, edits ...edit) {
		t.Helper()
		d := diffImages(t, ocitest.Image{Edit: base}, ocitest.Image{Edit: func(i *ispec.Image, m *ispec.Manifest) {
			base(i, m)
			for _, e := range edits {
				e(i, m)
			}
		}}, opt)
		if !reflect.DeepEqual(d.Config, want) || d.Same() != (len(want) == 0) {
			t.Errorf("got %+v, same %t, want %+v", d.Config, d.Same(), want)
		}
	}
	var all []edit
	every := []inspect.ConfigChange{}
	for _, c := range changes {
		check(inspect.DiffOptions{Times: true}, c.want, c.edit)
		ignore, err := inspect.ParseDiffFields("config." + c.want[0].Field)
		must(t, err)
		check(inspect.DiffOptions{Times: true, Ignore: ignore}, []inspect.ConfigChange{}, c.edit)
		all, every = append(all, c.edit), append(every, c.want...)
	}
	check(inspect.DiffOptions{Times: true}, every, all...)
	check(inspect.DiffOptions{Times: true, Ignore: inspect.DiffConfig}, []inspect.ConfigChange{}, all...)
	check(inspect.DiffOptions{}, slices.DeleteFunc(slices.Clone(every), func(c inspect.ConfigChange) bool { return c.Field == "created" }), all...)
	// Whoever reads the list from its end sees another value of B first.
	order := func(i *ispec.Image, _ *ispec.Manifest) { i.Config.Env = []string{"B=2", "A=1", "B=3"} }
	check(inspect.DiffOptions{}, []inspect.ConfigChange{{Field: "env", Old: []string{"A=1", "B=2", "B=3"}, New: []string{"B=2", "A=1", "B=3"}}}, order)
}

// TestDiffLuet has the form of luet, names, sizes and all.
func TestDiffLuet(t *testing.T) {
	a := layersOf(ocitest.Layer(
		ocitest.Dir("gone", 0o755), ocitest.File("gone/a", "12345", 0o644), ocitest.Dir("gone/sub", 0o755), ocitest.Symlink("gone/sub/l", "123"),
		ocitest.File("content", "one", 0o644), ocitest.File("mode", "four", 0o644), ocitest.File("owner", "five5", 0o644),
		ocitest.Symlink("link", "x"), ocitest.Dir("dir", 0o755), ocitest.File("dir/f", "sixsix", 0o644), ocitest.File("time", "", 0o644)))
	b := layersOf(ocitest.Layer(
		ocitest.File("content", "two", 0o644), ocitest.File("mode", "four", 0o755), ocitest.File("owner", "five5", 0o644).Owner(1, 0),
		ocitest.Symlink("link", "yy"), ocitest.Dir("dir", 0o700), ocitest.File("dir/f", "sixsix", 0o644),
		ocitest.File("time", "", 0o644).Mtime(ocitest.Epoch.Add(time.Hour)), ocitest.Dir("new", 0o755), ocitest.File("new/\x1b\xff", "12", 0o644)))
	d := diffImages(t, a, b, inspect.DiffOptions{})
	list, err := json.Marshal([]inspect.LuetDiff{d.Luet()})
	must(t, err)
	want := `[{"Image1":"old","Image2":"new","DiffType":"File","Diff":{` +
		`"Adds":[{"Name":"/new","Size":2},{"Name":"/new/\u001b\ufffd","Size":2}],` +
		`"Dels":[{"Name":"/gone","Size":8},{"Name":"/gone/a","Size":5},{"Name":"/gone/sub","Size":3},{"Name":"/gone/sub/l","Size":3}],` +
		`"Mods":[{"Name":"/content","Size":3},{"Name":"/dir","Size":6},{"Name":"/link","Size":2},{"Name":"/mode","Size":4},{"Name":"/owner","Size":5}]}}]`
	if string(list) != want {
		t.Errorf("got %s\nwant %s", list, want)
	}
	sum, err := json.Marshal(d.LuetSummary())
	must(t, err)
	want = `{"summary":[{"image1":"old","image2":"new","add_files":1,"add_sizes":2,"del_files":2,"del_sizes":8,"change_files":4,"change_sizes":14}]}`
	if string(sum) != want {
		t.Errorf("got %s\nwant %s", sum, want)
	}
	d = diffImages(t, a, a, inspect.DiffOptions{})
	if list, err = json.Marshal(d.Luet().Diff); err != nil || string(list) != `{"Adds":[],"Dels":[],"Mods":[]}` {
		t.Errorf("got %s, %v", list, err)
	}
}

// TestDiffContent shows text, and says why there is none, wherever the files are.
func TestDiffContent(t *testing.T) {
	large := strings.Repeat("a line\n", 20_000)
	layer := func(what string) []byte {
		return ocitest.Layer(ocitest.File("text", "one\n"+what+"\n\x1b[31mred\n", 0o644), ocitest.Hardlink("text2", "text"),
			ocitest.File("binary", what+"\x00", 0o644), ocitest.File("latin1", what+"\xe4", 0o644), ocitest.File("large", large+what, 0o644),
			ocitest.File("empty", strings.Repeat(what, len(what)-3), 0o644), ocitest.File("mode", "same", int64(0o600+8*len(what))))
	}
	store, dir := filepath.Join(t.TempDir(), "layout"), t.TempDir()
	layersOf(layer("two")).Write(t, store, "old")
	layersOf(layer("four")).Write(t, store, "new")
	images := [2]inspect.DiffSource{source(t, store, "old"), source(t, store, "new")}
	trees := [2]inspect.DiffSource{unpackTree(t, images[0], filepath.Join(dir, "old")), unpackTree(t, images[1], filepath.Join(dir, "new"))}
	text := "@@ -1,3 +1,3 @@\n one\n-two\n+four\n \x1b[31mred\n"
	want := map[string]string{
		"/text": text, "/text2": text, "/binary": "no: binary", "/latin1": "no: binary", "/large": "no: large",
		"/empty": "@@ -0,0 +1 @@\n+four\n\\ No newline at end of file\n", "/mode": "",
	}
	for _, sides := range [][2]inspect.DiffSource{images, trees, {images[0], trees[1]}, {trees[0], images[1]}} {
		d, err := inspect.Diff(t.Context(), sides[0], sides[1], inspect.DiffOptions{Content: true})
		must(t, err)
		got := map[string]string{}
		for e := range d.Entries() {
			if got[e.Path] = e.Text; e.NoText != "" {
				got[e.Path] = e.Text + "no: " + e.NoText
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestDiffOtherConfig compares what the image-spec does not know of.
func TestDiffOtherConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Create(t.Context(), dir)
	must(t, err)
	defer l.Close()
	add := func(mediaType string, doc any) ispec.Descriptor {
		t.Helper()
		digest, size, err := l.PutJSON(t.Context(), doc)
		must(t, err)
		return ispec.Descriptor{MediaType: mediaType, Digest: digest, Size: size}
	}
	put := func(ref, config string) {
		t.Helper()
		doc := json.RawMessage(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"config":` + config + `}`)
		m := ispec.Manifest{MediaType: ispec.MediaTypeImageManifest, Config: add(ispec.MediaTypeImageConfig, doc), Layers: []ispec.Descriptor{}}
		m.SchemaVersion = 2
		must(t, l.SetRef(t.Context(), ref, add(ispec.MediaTypeImageManifest, m)))
	}
	put("a", `{"Healthcheck":{"Test":["CMD","a"],"Interval":1},"OnBuild":null,"Hostname":"","AttachStdin":false,"Shell":["sh"],"User":"1"}`)
	put("b", `{"Healthcheck":{"Interval":1,"Test":["CMD","b"]},"Memory":0,"User":"1","ArgsEscaped":true}`)
	d, err := inspect.Diff(t.Context(), source(t, dir, "a"), source(t, dir, "b"), inspect.DiffOptions{})
	must(t, err)
	got, err := json.Marshal(d.Config)
	must(t, err)
	want := `[{"field":"other","key":"ArgsEscaped","new":true},` +
		`{"field":"other","key":"Healthcheck","old":{"Interval":1,"Test":["CMD","a"]},"new":{"Interval":1,"Test":["CMD","b"]}},` +
		`{"field":"other","key":"Shell","old":["sh"]}]`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	// The config object may be missing.
	put("c", "null")
	d, err = inspect.Diff(t.Context(), source(t, dir, "c"), source(t, dir, "b"), inspect.DiffOptions{})
	must(t, err)
	if len(d.Config) != 3 {
		t.Errorf("got %+v", d.Config)
	}
}
