// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

func openImage(t testing.TB, l *layout.Layout, d ispec.Descriptor) *mutate.Image {
	t.Helper()
	i, err := mutate.Open(t.Context(), l, layout.Path{d})
	must(t, err)
	return i
}

// small makes a tree with one file.
func small(t testing.TB, content string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644))
	return dir
}

func TestRefsAndIndexes(t *testing.T) {
	l := newLayout(t)
	arm := &ispec.Platform{OS: "linux", Architecture: "arm64"}
	amd := &ispec.Platform{OS: "linux", Architecture: "amd64"}
	one := image(t, l, []pack.Snapshot{{Dir: small(t, "1")}}, pack.Options{
		Refs: []string{"a", "b"}, Platform: amd, IndexAnnotations: map[string]string{"of": "entry"},
	})
	for _, ref := range []string{"a", "b"} {
		d, err := l.Lookup(t.Context(), ref)
		must(t, err)
		if d.Digest != one.Descriptor.Digest || d.Annotations["of"] != "entry" {
			t.Errorf("%s is %+v", ref, d)
		}
	}
	two := image(t, l, []pack.Snapshot{{Dir: small(t, "2")}}, pack.Options{
		Refs: []string{"a", "new"}, Index: true, Platform: arm, IndexAnnotations: map[string]string{"of": "index"},
	})
	for ref, want := range map[string]int{"a": 2, "new": 1, "b": 0} {
		d, err := l.Lookup(t.Context(), ref)
		must(t, err)
		index, err := l.ImageIndex(t.Context(), d)
		if want == 0 {
			if err == nil {
				t.Errorf("%s leads to an index", ref)
			}
			continue
		}
		must(t, err)
		if len(index.Manifests) != want || index.Annotations["of"] != "index" {
			t.Errorf("%s is %+v", ref, index)
		}
		path, err := l.Resolve(t.Context(), ref, &layout.ResolveOptions{Platform: arm})
		must(t, err)
		if path.Target().Digest != two.Descriptor.Digest {
			t.Errorf("%s has %s for arm64", ref, path.Target().Digest)
		}
	}
	// The same platform again takes the old one's place; what is named to something else, too.
	image(t, l, []pack.Snapshot{{Dir: small(t, "3")}}, pack.Options{Refs: []string{"a"}, Index: true, Platform: arm})
	d, err := l.Lookup(t.Context(), "a")
	must(t, err)
	index, err := l.ImageIndex(t.Context(), d)
	must(t, err)
	if len(index.Manifests) != 2 || index.Manifests[1].Digest == two.Descriptor.Digest {
		t.Errorf("the index is %+v", index.Manifests)
	}
	if _, err := pack.Image(t.Context(), l, []pack.Snapshot{{Dir: small(t, "4")}}, pack.Options{Refs: []string{"good", "b/a/d:/"}}); err == nil {
		t.Error("a ref that is none is taken")
	}
	if _, err := l.Lookup(t.Context(), "good"); err == nil {
		t.Error("one ref of two is set")
	}
}

func TestConfigAndHistory(t *testing.T) {
	l := newLayout(t)
	at := time.Unix(1234, 0).UTC()
	config := []byte(`{"architecture":"riscv64","os":"linux","config":{"Cmd":["sh"],"OnBuild":["x"]},"history":[{"comment":"no"}],"rootfs":{"type":"layers","diff_ids":["sha256:no"]}}`)
	dir := small(t, "1")
	res := image(t, l, []pack.Snapshot{
		{Name: "a", Dir: dir, History: &ispec.History{CreatedBy: "first", Created: &time.Time{}}},
		{Name: "b", Parent: "a", Dir: dir},
	}, pack.Options{
		Config: config, Created: &at, MediaTypes: mutate.DockerTypes, Compression: layer.Gzip, Level: 9,
		Edit: func(i *mutate.Image) error {
			s := i.Settings()
			s.Author = "me"
			i.Set(s)
			return nil
		},
	})
	i := openImage(t, l, res.Descriptor)
	c, m := i.Config(), i.Manifest()
	if c.Architecture != "riscv64" || c.Author != "me" || c.Config.Cmd[0] != "sh" || !c.Created.Equal(at) || len(c.RootFS.DiffIDs) != 1 {
		t.Errorf("the config is %+v", c)
	}
	want := []ispec.History{{CreatedBy: "first", Created: &time.Time{}}, {CreatedBy: "shale pack", Created: &at, EmptyLayer: true}}
	if !reflect.DeepEqual(c.History, want) {
		t.Errorf("the history is %+v", c.History)
	}
	if m.MediaType != layout.MediaTypeDockerManifest || m.Layers[0].MediaType != ocitest.DockerLayer+".gzip" {
		t.Errorf("the manifest is %+v", m)
	}
	data, err := l.ReadBlob(t.Context(), m.Config)
	must(t, err)
	if !strings.Contains(string(data), `"OnBuild":["x"]`) {
		t.Errorf("a member is lost: %s", data)
	}
	// On top of that, with other types, another platform and nothing in the history.
	next := image(t, l, []pack.Snapshot{{Dir: small(t, "2")}}, pack.Options{
		Base: layout.Path{res.Descriptor}, NoHistory: true, MediaTypes: mutate.OCITypes,
		Config: []byte(`{"author":"you"}`), Platform: &ispec.Platform{OS: "linux", Architecture: "arm"},
	})
	i = openImage(t, l, next.Descriptor)
	c, m = i.Config(), i.Manifest()
	if c.Author != "you" || c.Architecture != "arm" || len(c.History) != 2 || len(c.RootFS.DiffIDs) != 2 ||
		m.Layers[0].MediaType != ispec.MediaTypeImageLayerGzip {
		t.Errorf("the config is %+v, the manifest %+v", c, m)
	}
	for name, opt := range map[string]pack.Options{
		"config":      {Config: []byte("{")},
		"compression": {Compression: "xz"},
		"level":       {Compression: layer.Gzip, Level: 99},
		"edit":        {Edit: func(*mutate.Image) error { return os.ErrInvalid }},
	} {
		opt.Refs = []string{"v1"}
		if _, err := pack.Image(t.Context(), l, []pack.Snapshot{{Dir: dir}}, opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if refs, err := l.Refs(t.Context()); err != nil || len(refs) > 0 {
		t.Errorf("the refs are %v, %v", refs, err)
	}
}

// TestPlatform says what an image on top of a base is for.
func TestPlatform(t *testing.T) {
	l := newLayout(t)
	arm := ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	base := image(t, l, []pack.Snapshot{{Dir: small(t, "1")}}, pack.Options{Platform: &arm})
	for _, tt := range []struct {
		platform *ispec.Platform
		want     ispec.Platform
	}{
		{nil, arm},
		{&ispec.Platform{OS: "linux", Architecture: "arm64"}, arm},
		{&ispec.Platform{OS: "linux", Architecture: "riscv64"}, ispec.Platform{OS: "linux", Architecture: "riscv64"}},
	} {
		res := image(t, l, []pack.Snapshot{{Dir: small(t, "2")}}, pack.Options{
			Base: layout.Path{base.Descriptor}, Platform: tt.platform,
		})
		if got := openImage(t, l, res.Descriptor).Config().Platform; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("with %v: got %v, want %v", tt.platform, got, tt.want)
		}
	}
}

// TestHardlinkedSnapshots packs snapshots that share their files, which are not read, against
// copies of them, which are: the layers are the same.
func TestHardlinkedSnapshots(t *testing.T) {
	root := tempRoot(t)
	a := filepath.Join(root, "a")
	must(t, os.Mkdir(a, 0o755))
	ocitest.RandomEdits(t, rand.New(rand.NewPCG(1, 10)), a, 60)
	link, plain := filepath.Join(root, "link"), filepath.Join(root, "plain")
	shell(t, root, "cp -al a link; cp -a a plain; for d in link plain; do echo new >$d/new; touch -d @5 $d/new; touch -d @7 $d; done")
	opened := watch(t, a)
	image(t, newLayout(t), []pack.Snapshot{{Dir: a}}, pack.Options{Map: mapping()})
	alone := opened()
	var results []pack.Result
	for _, b := range []string{link, plain} {
		l := newLayout(t)
		opened := watch(t, a)
		res := image(t, l, []pack.Snapshot{{Name: "a", Dir: a}, {Name: "b", Parent: "a", Dir: b}}, pack.Options{Map: mapping()})
		results = append(results, res)
		if n := opened(); (n > alone) != (b == plain) {
			t.Errorf("%d events of reading, and %d without %s", n, alone, b)
		}
		names := entriesOf(t, l, res)
		if slices.Sort(names); !slices.Equal(names, []string{"./", "new"}) {
			t.Errorf("the layer has %q", names)
		}
	}
	if results[0].Descriptor.Digest != results[1].Descriptor.Digest {
		t.Error("the images differ")
	}
	// On top of an image of the first, nothing is compared but the new file.
	l := newLayout(t)
	base := image(t, l, []pack.Snapshot{{Dir: a}}, pack.Options{Map: mapping()})
	for _, b := range []string{link, plain} {
		res := image(t, l, []pack.Snapshot{{Dir: b}}, pack.Options{Map: mapping(), Base: layout.Path{base.Descriptor}})
		if got, want := res.Layers[0].DiffID, results[0].Layers[1].DiffID; got != want {
			t.Errorf("%s: got %s, want %s", b, got, want)
		}
	}
}

// TestOwnersAndMasks packs with owners that do not matter and paths that are left out.
func TestOwnersAndMasks(t *testing.T) {
	root := tempRoot(t)
	shell(t, root, "mkdir -p a/tmp/x a/keep; echo 1 >a/tmp/x/y; echo 2 >a/keep/z; cp -a a b; rm -r b/tmp; echo 3 >b/keep/z; touch -d @5 a a/keep b/keep; touch -d @7 b")
	if os.Geteuid() == 0 {
		shell(t, root, "chown -R 1:2 b")
	} else {
		t.Log("only root can give files away")
	}
	l := newLayout(t)
	res := image(t, l, []pack.Snapshot{{Name: "a", Dir: root + "/a"}, {Name: "b", Parent: "a", Dir: root + "/b"}}, pack.Options{
		Owner: &layer.Owner{UID: 10, GID: 20}, Masks: []string{"/tmp/x"},
	})
	layers := plainLayers(t, l, res.Descriptor)
	var got []string
	for _, data := range layers {
		for _, hdr := range headers(t, data) {
			got = append(got, fmt.Sprintf("%s %d:%d", hdr.Name, hdr.Uid, hdr.Gid))
		}
	}
	want := []string{
		"./ 10:20", "keep/ 10:20", "keep/z 10:20", "tmp/ 10:20",
		"./ 10:20", ".wh.tmp 0:0", "keep/z 10:20",
	}
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q", got)
	}
}

// TestResultAsJSON looks at what the command prints.
func TestResultAsJSON(t *testing.T) {
	res := image(t, newLayout(t), []pack.Snapshot{{Name: "n", Dir: small(t, "1")}}, pack.Options{Refs: []string{"v1"}})
	data, err := json.Marshal(res)
	must(t, err)
	for _, want := range []string{`"manifest":{`, `"root":{`, `"layers":[{"snapshot":"n","descriptor":{`, `"diff_id":"sha256:`, `"refs":["v1"]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
}
