// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestRebaseSameTree: an image on another base unpacks to what its own layers make of
// that base, by umoci's library, or cannot be put there because they make nothing of it.
func TestRebaseSameTree(t *testing.T) {
	refused := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 13))
		opt := ocitest.StackOptions{Unprivileged: os.Geteuid() != 0}
		made := ocitest.RandomStack(rng, 3+rng.IntN(2), opt)
		seam := 1 + rng.IntN(2)
		// The one new base has everything that the old one has, and something more.
		// The other is another one altogether, so that umoci leaves modes and owners of
		// what was there on directories that it has to make, into which an ordinary user
		// cannot always look.
		like := seed%2 == 0 || os.Geteuid() != 0
		var other [][]byte
		if like {
			other = append(made[:seam].Layers(), ocitest.Layer(ocitest.Dir("more", 0o711), ocitest.File("more/x", "x", 0o600)))
		} else {
			other = ocitest.RandomStack(rng, 1+rng.IntN(3), opt).Layers()
		}
		both := slices.Concat(other, made[seam:].Layers())
		dir := oracleDir(t)
		want, wrong := byUmoci(t, filepath.Join(dir, "umoci"), both...)

		l, elsewhere := newLayout(t), newLayout(t)
		i := writeImage(t, l, "app", ocitest.Image{Layers: made.Layers()})
		before := i.Manifest()
		old := writeImage(t, l, "old", ocitest.Image{Layers: made[:seam].Layers(), Compression: "none"})
		fresh := writeImage(t, elsewhere, "new", ocitest.Image{Layers: other, Compression: "zstd"})
		err := i.Rebase(t.Context(), RebaseOptions{Old: old, New: fresh})
		if (err != nil) != (wrong != nil) || like && err != nil {
			t.Fatalf("seed %d: %v, and umoci: %v\n%s", seed, err, wrong, made)
		}
		if err != nil {
			refused++
			var entry *layer.EntryError
			if !errors.As(err, &entry) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			continue
		}
		got := again(t, i)
		layers := slices.Concat(fresh.manifest.value.Layers, before.Layers[seam:])
		if !slices.EqualFunc(got.manifest.value.Layers, layers, sameBlob) {
			t.Fatalf("seed %d: the layers are %v", seed, got.manifest.value.Layers)
		}
		tree := byShale(t, filepath.Join(dir, "shale"), got)
		forgiveUmoci(want, tree, true)
		if like {
			sameTrees(t, fmt.Sprintf("seed %d", seed), made, want, tree)
		} else if !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(tree))) {
			t.Fatalf("seed %d: other names than umoci's", seed)
		}
		must(t, os.RemoveAll(dir))
	}
	if os.Geteuid() == 0 && (refused < 2 || refused > 18) {
		t.Errorf("refused %d of 20", refused)
	}
}

func sameBlob(a, b ispec.Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
}

// TestRebaseBack: on the new base and back again, the image is what it was.
func TestRebaseBack(t *testing.T) {
	l := newLayout(t)
	base := ocitest.Image{
		Layers: layersNamed("a", "b"), Author: "base",
		Config: ispec.ImageConfig{
			Env: []string{"PATH=/bin", "V=1"}, Cmd: []string{"sh"}, Labels: map[string]string{"of": "base"},
			Volumes: map[string]struct{}{"/b": {}}, StopSignal: "SIGTERM",
		},
	}
	app := base
	app.Layers = layersNamed("a", "b", "c")
	app.Config.Env = []string{"PATH=/bin", "V=1", "APP=1"}
	app.Config.Labels = map[string]string{"of": "base", "app": "1"}
	other := base
	other.Layers = layersNamed("x")
	other.Config = ispec.ImageConfig{
		Env: []string{"PATH=/sbin", "W=1"}, Cmd: []string{"bash"}, Entrypoint: []string{"init"}, User: "u",
		Labels: map[string]string{"of": "other"}, ExposedPorts: map[string]struct{}{"1/tcp": {}},
	}
	i, b1, b2 := writeImage(t, l, "app", app), writeImage(t, l, "b1", base), writeImage(t, l, "b2", other)
	before := i.Config()
	must(t, i.Rebase(t.Context(), RebaseOptions{Old: b1, New: b2, Name: "b2"}))
	there := again(t, i)
	c := there.Config()
	if want := []string{"PATH=/sbin", "W=1", "APP=1"}; !slices.Equal(c.Config.Env, want) {
		t.Errorf("the environment is %v, want %v", c.Config.Env, want)
	}
	if c.Author != "base" || !c.Created.Equal(*before.Created) {
		t.Errorf("author %q, created %v", c.Author, c.Created)
	}
	if want := "layer 1 | layer 3"; storyOf(c.History) != want {
		t.Errorf("the history is %s, want %s", storyOf(c.History), want)
	}
	must(t, there.Rebase(t.Context(), RebaseOptions{Old: b2, New: b1}))
	if after := again(t, there).Config(); !reflect.DeepEqual(after, before) {
		t.Errorf("got  %+v\nwant %+v", after, before)
	}
}

// TestRebaseConfig: of each setting, what the image changed stays, and all else is the
// new base's.
func TestRebaseConfig(t *testing.T) {
	type config = ispec.ImageConfig
	set := func(keys ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	for _, tc := range []struct {
		name                  string
		app, old, fresh, want config
		warnings              string
	}{
		{"taken over", config{User: "a"}, config{User: "a"}, config{User: "b"}, config{User: "b"}, ""},
		{"changed", config{User: "c"}, config{User: "a"}, config{User: "a"}, config{User: "c"}, ""},
		{"removed", config{}, config{User: "a"}, config{User: "a"}, config{}, ""},
		{"the same change", config{User: "b"}, config{User: "a"}, config{User: "b"}, config{User: "b"}, ""},
		{"changed in both", config{WorkingDir: "/c"}, config{WorkingDir: "/a"}, config{WorkingDir: "/b"}, config{WorkingDir: "/c"}, ""},
		{
			"lists as a whole",
			config{Entrypoint: []string{"x"}, Cmd: []string{"a", "b"}}, config{Entrypoint: []string{"x"}, Cmd: []string{"a"}},
			config{Entrypoint: []string{"y", "z"}, Cmd: []string{"a"}}, config{Entrypoint: []string{"y", "z"}, Cmd: []string{"a", "b"}}, "",
		},
		{
			"keys one by one",
			config{Labels: map[string]string{"same": "1", "changed": "2", "own": "1", "both": "x"}},
			config{Labels: map[string]string{"same": "1", "changed": "1", "removed": "1", "both": "1", "lost": "1"}},
			config{Labels: map[string]string{"same": "3", "changed": "1", "removed": "1", "both": "y", "new": "1"}},
			config{Labels: map[string]string{"same": "3", "changed": "2", "own": "1", "both": "x", "new": "1"}}, "",
		},
		{
			"ports and volumes",
			config{ExposedPorts: set("1", "2"), Volumes: set("/a")}, config{ExposedPorts: set("1"), Volumes: set("/a")},
			config{ExposedPorts: set("3")}, config{ExposedPorts: set("2", "3")}, "",
		},
		{
			"variables", config{Env: []string{"A=1", "PATH=/app:/bin", "NAME", "Z=1"}}, config{Env: []string{"PATH=/bin", "A=1", "GONE=1"}},
			config{Env: []string{"N=1", "PATH=/sbin", "A=2", "GONE=1"}}, config{Env: []string{"N=1", "PATH=/app:/bin", "A=2", "NAME", "Z=1"}}, "variable PATH",
		},
		{"signal", config{StopSignal: "1"}, config{StopSignal: "1"}, config{StopSignal: "2"}, config{StopSignal: "2"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			i := writeImage(t, l, "app", ocitest.Image{Layers: layersNamed("a", "b"), Config: tc.app})
			old := writeImage(t, l, "old", ocitest.Image{Layers: layersNamed("a"), Config: tc.old})
			fresh := writeImage(t, l, "new", ocitest.Image{Layers: layersNamed("x"), Config: tc.fresh})
			var warnings []string
			must(t, i.Rebase(t.Context(), RebaseOptions{Old: old, New: fresh, Stack: stack.Options{Warn: func(msg string) {
				warnings = append(warnings, msg)
			}}}))
			if got := again(t, i).Config().Config; !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
			if len(warnings) > 1 || strings.Join(warnings, "") == "" != (tc.warnings == "") || !strings.Contains(strings.Join(warnings, ""), tc.warnings) {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// TestRebaseForeign: members of the config that the image-spec does not know are merged in
// the same way.
func TestRebaseForeign(t *testing.T) {
	l := newLayout(t)
	open := func(ref, config, layers string) *Image {
		i := writeImage(t, l, ref, ocitest.Image{Layers: layersNamed(strings.Split(layers, "")...)})
		var all map[string]json.RawMessage
		must(t, json.Unmarshal(i.config.data, &all))
		all["config"] = json.RawMessage(config)
		all["docker_version"] = json.RawMessage(`"` + ref + `"`)
		m := i.manifest.value
		m.Config = put(t, l, ispec.MediaTypeImageConfig, asJSON(t, all))
		must(t, l.SetRef(t.Context(), ref, put(t, l, ispec.MediaTypeImageManifest, asJSON(t, m))))
		return openRef(t, l, ref)
	}
	i := open("app", `{"Healthcheck": {"Test": ["CMD", "old"]}, "Shell":["own"], "Cmd":["c"]}`, "ab")
	old := open("old", `{"Healthcheck":{"Test":["CMD","old"]},"Shell":["old"]}`, "a")
	fresh := open("new", `{"Healthcheck":{"Test":["CMD","new"]},"Shell":["old"],"OnBuild":["RUN x"],"Hostname":"h"}`, "x")
	must(t, i.Rebase(t.Context(), RebaseOptions{Old: old, New: fresh}))
	var got struct {
		Config  map[string]json.RawMessage `json:"config"`
		Version string                     `json:"docker_version"`
	}
	must(t, json.Unmarshal(again(t, i).config.data, &got))
	want := map[string]string{"Healthcheck": `{"Test":["CMD","new"]}`, "Shell": `["own"]`, "Cmd": `["c"]`, "Hostname": `"h"`}
	is := map[string]string{}
	for name, value := range got.Config {
		is[name] = string(value)
	}
	if !maps.Equal(is, want) || got.Version != "app" {
		t.Errorf("got %v of %s, want %v", is, got.Version, want)
	}
}

func TestRebaseHistory(t *testing.T) {
	for _, tc := range []struct {
		name            string
		app, old, fresh []ispec.History // of 3, 2 and 1 layers
		want            string
	}{
		{"plain", history("A", "B", "C"), history("A", "B"), history("X"), "X | C"},
		{
			"with changes of the config", history("A", "(a)", "B", "(b)", "(c)", "C", "(d)"), history("A", "(a)", "B", "(b)"),
			history("X", "(x)"), "X | (x) | (c) | C | (d)",
		},
		{"of another time", history("(0)", "A", "B", "(b)", "C"), history("A", "B", "(b)"), history("X"), "X | (b) | C"},
		{"none", nil, history("A", "B"), history("X"), ""},
		{"none of the old base", history("A", "B", "(b)", "C"), nil, history("X"), "X | (b) | C"},
		{"none of the new base", history("A", "B", "C"), history("A", "B"), nil, ": layer of the base, whose history does not tell of it | C"},
		{"too much of the new base", history("A", "B", "C"), history("A", "B"), history("X", "Y", "(y)"), "X | (y) | C"},
		{"too little", history("A"), history("A", "B"), history("X"), "X"},
		{"too little of the old base", history("A", "B", "C"), history("A"), history("X"), "X | C"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			open := func(ref string, h []ispec.History, layers ...string) *Image {
				return writeImage(t, l, ref, ocitest.Image{
					Layers: layersNamed(layers...), Edit: func(c *ispec.Image, _ *ispec.Manifest) { c.History = h },
				})
			}
			i := open("app", tc.app, "a", "b", "c")
			must(t, i.Rebase(t.Context(), RebaseOptions{Old: open("old", tc.old, "a", "b"), New: open("new", tc.fresh, "x")}))
			commit(t, i)
			if got := storyOf(i.Config().History); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestRebaseRefuses what is not clean, and leaves everything as it was.
func TestRebaseRefuses(t *testing.T) {
	l := newLayout(t)
	app := ocitest.Image{Layers: layersNamed("a", "b", "c")}
	old := ocitest.Image{Layers: layersNamed("a", "b")}
	fresh := ocitest.Image{Layers: layersNamed("x")}
	for _, tc := range []struct {
		name            string
		app, old, fresh ocitest.Image
		sentinel        error
		text            string
	}{
		{"another base", app, ocitest.Image{Layers: layersNamed("a", "y")}, fresh, ErrNotBase, "layer 2 is " + digest.FromBytes(layersNamed("y")[0]).String()},
		{"a larger base", app, ocitest.Image{Layers: layersNamed("a", "b", "c", "d")}, fresh, ErrNotBase, "4 layers"},
		{
			"another platform", app, old, ocitest.Image{Layers: layersNamed("x"), Platform: ispec.Platform{OS: "linux", Architecture: "arm64"}},
			nil, "linux/arm64",
		},
		{
			"a link to what is not there", ocitest.Image{Layers: append(layersNamed("a", "b"), ocitest.Layer(ocitest.Hardlink("c", "b")))}, old, fresh,
			layer.ErrNoTarget, "entry c: hardlink",
		},
		{
			"a new base with too few diffIDs", app, old,
			ocitest.Image{Layers: layersNamed("x", "y"), Edit: func(c *ispec.Image, _ *ispec.Manifest) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }},
			layout.ErrInvalid, "new base sha256:",
		},
		{
			"a new base that is damaged", app, old,
			ocitest.Image{Layers: layersNamed("x"), Edit: func(c *ispec.Image, _ *ispec.Manifest) { c.RootFS.DiffIDs[0] = digest.FromString("") }},
			layer.ErrDiffID, "sha256:",
		},
		{
			"a layer that is not there", app, old,
			ocitest.Image{Layers: layersNamed("x"), Edit: func(_ *ispec.Image, m *ispec.Manifest) { m.Layers[0].Digest = digest.FromString("none") }},
			layout.ErrNotFound, digest.FromString("none").String(),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := writeImage(t, l, "app", tc.app)
			b1, b2 := writeImage(t, l, "old", tc.old), writeImage(t, l, "new", tc.fresh)
			before := i.path.Target().Digest
			err := i.Rebase(t.Context(), RebaseOptions{Old: b1, New: b2})
			if err == nil || tc.sentinel != nil && !errors.Is(err, tc.sentinel) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
			if after := commit(t, i).Target().Digest; after != before {
				t.Errorf("the image has become %s", after)
			}
		})
	}
}

// TestRebaseURLs: what only URLs deliver is neither copied nor looked at.
func TestRebaseURLs(t *testing.T) {
	l, elsewhere := newLayout(t), newLayout(t)
	missing := digest.FromString("on the web")
	i := writeImage(t, l, "app", ocitest.Image{Layers: layersNamed("a", "b")})
	old := writeImage(t, l, "old", ocitest.Image{Layers: layersNamed("a")})
	fresh := writeImage(t, elsewhere, "new", ocitest.Image{Layers: layersNamed("x"), Edit: func(_ *ispec.Image, m *ispec.Manifest) {
		m.Layers[0].Digest, m.Layers[0].URLs = missing, []string{"https://example.com/x"}
	}})
	warned := ""
	must(t, i.Rebase(t.Context(), RebaseOptions{Old: old, New: fresh, Stack: stack.Options{Warn: func(msg string) { warned = msg }}}))
	commit(t, i)
	if got := i.Manifest().Layers[0]; got.Digest != missing || len(got.URLs) != 1 || !strings.Contains(warned, missing.String()) {
		t.Errorf("got %+v, warned %q", got, warned)
	}
}

func TestRebaseAnnotations(t *testing.T) {
	l := newLayout(t)
	i := writeImage(t, l, "app", ocitest.Image{Layers: layersNamed("a", "b"), Docker: true, Annotations: map[string]string{
		"own": "1", ispec.AnnotationBaseImageName: "old", ispec.AnnotationBaseImageDigest: digest.FromString("").String(),
	}})
	old := writeImage(t, l, "old", ocitest.Image{Layers: layersNamed("a")})
	fresh := writeImage(t, l, "new", ocitest.Image{Layers: layersNamed("x"), Annotations: map[string]string{"title": "base"}})
	must(t, i.Rebase(t.Context(), RebaseOptions{Old: old, New: fresh, Name: "new"}))
	m := again(t, i).Manifest()
	want := map[string]string{"own": "1", ispec.AnnotationBaseImageName: "new", ispec.AnnotationBaseImageDigest: fresh.path.Target().Digest.String()}
	if !maps.Equal(m.Annotations, want) {
		t.Errorf("got %v", m.Annotations)
	}
	for _, d := range m.Layers {
		if d.MediaType != ocitest.DockerLayer+".gzip" {
			t.Errorf("a layer is %s", d.MediaType)
		}
	}
}

// TestFindBase: by the digest of a manifest or of an index, and else by the name.
func TestFindBase(t *testing.T) {
	l := newLayout(t)
	arm := ocitest.Image{Layers: layersNamed("arm"), Platform: ispec.Platform{OS: "linux", Architecture: "arm64"}}
	amd := ocitest.Image{Layers: layersNamed("amd")}
	index := ocitest.Index{Nodes: []ocitest.Node{arm, amd}}.Write(t, l.Path(), "multi")
	single := amd.Write(t, l.Path(), "single")
	foreign := arm.Write(t, l.Path(), "arm")
	for _, tc := range []struct {
		digest, name string
		want         digest.Digest
		err          error
	}{
		{single.Digest.String(), "", single.Digest, nil},
		{index.Digest.String(), "", single.Digest, nil},
		{"", "multi", single.Digest, nil},
		{"", "single", single.Digest, nil},
		{digest.FromString("gone").String(), "single", single.Digest, nil},
		{digest.FromString("gone").String(), "docker.io/library/none:1", "", layout.ErrNotFound},
		{"", "\x1b", "", layout.ErrNotFound},
		{"nonsense", "", "", layout.ErrNotFound},
		{foreign.Digest.String(), "", foreign.Digest, nil}, // checked by Rebase
		{"", "", "", ErrNoBase},
	} {
		annotations := map[string]string{}
		if tc.digest != "" {
			annotations[ispec.AnnotationBaseImageDigest] = tc.digest
		}
		if tc.name != "" {
			annotations[ispec.AnnotationBaseImageName] = tc.name
		}
		i := writeImage(t, l, "app", ocitest.Image{Layers: layersNamed("amd", "x"), Annotations: annotations})
		path, err := i.FindBase(t.Context(), l)
		if !errors.Is(err, tc.err) || err == nil && path.Target().Digest != tc.want {
			t.Errorf("%+v: %v, %v", tc, path, err)
		}
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q has a control character", err)
		}
	}
	other := ocitest.Index{Nodes: []ocitest.Node{arm, arm}}
	other.Nodes[1] = ocitest.Image{Layers: layersNamed("s"), Platform: ispec.Platform{OS: "linux", Architecture: "s390x"}}
	d := other.Write(t, l.Path(), "others")
	i := writeImage(t, l, "app", ocitest.Image{Annotations: map[string]string{ispec.AnnotationBaseImageDigest: d.Digest.String()}})
	if _, err := i.FindBase(t.Context(), l); !errors.Is(err, layout.ErrNotFound) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("no base for the platform: %v", err)
	}
}
