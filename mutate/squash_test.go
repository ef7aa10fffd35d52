// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// writeImage writes an image into a layout and opens it.
func writeImage(t testing.TB, l *layout.Layout, ref string, img ocitest.Image) *Image {
	t.Helper()
	img.Write(t, l.Path(), ref)
	return openRef(t, l, ref)
}

// again opens the image as it was committed.
func again(t testing.TB, i *Image) *Image {
	t.Helper()
	path := commit(t, i)
	must(t, i.layout.SetRef(t.Context(), "result", path.Root()))
	ocitest.AssertWhole(t, i.layout.Path())
	return openRef(t, i.layout, "result")
}

// sameTrees compares trees, and says with which stack they differ. A root that no layer
// says anything about may be as new as it likes.
func sameTrees(t *testing.T, what string, made ocitest.Stack, want, got ocitest.Tree) {
	t.Helper()
	if root := got["."]; want["."].Mtime == 0 {
		root.Mtime = 0
		got["."] = root
	}
	if diff := ocitest.Diff(want, got); len(diff) > 0 {
		t.Fatalf("%s:\n%s\n%s", what, strings.Join(diff[:min(len(diff), 20)], "\n"), made)
	}
}

// TestSquashSameTree: whatever range of the layers is merged, the image unpacks to the
// same tree, also with umoci's library, and again to the same layer.
func TestSquashSameTree(t *testing.T) {
	compressions := []string{"gzip", "zstd", "none"}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		made := ocitest.RandomStack(rng, 2+rng.IntN(4), ocitest.StackOptions{Unprivileged: os.Geteuid() != 0})
		from := rng.IntN(len(made) - 1)
		to := from + 2 + rng.IntN(len(made)-from-1)
		if seed%3 == 0 {
			from, to = 0, len(made)
		}
		dir := oracleDir(t)
		l := newLayout(t)
		image := ocitest.Image{Layers: made.Layers(), Compression: compressions[seed%3]}
		i := writeImage(t, l, "v1", image)
		want := byShale(t, filepath.Join(dir, "before"), i)
		merged, err := i.Squash(t.Context(), SquashOptions{From: from, To: to})
		must(t, err)
		if merged != to-from {
			t.Fatalf("seed %d: merged %d layers of %d to %d", seed, merged, from, to)
		}
		got := again(t, i)
		if n, history := len(got.manifest.value.Layers), got.config.value.History; n != len(made)-merged+1 || countLayers(history) != n {
			t.Fatalf("seed %d: %d layers and the history %v", seed, n, history)
		}
		what := fmt.Sprintf("seed %d, layers from %d on and before %d", seed, from, to)
		sameTrees(t, what, made, want, byShale(t, filepath.Join(dir, "after"), got))
		theirs, err := byUmoci(t, filepath.Join(dir, "umoci"), plainLayers(t, got)...)
		must(t, err)
		forgiveUmoci(theirs, want, merged < len(made))
		sameTrees(t, what+", by umoci", made, want, theirs)
		twice := openRef(t, l, "v1")
		_, err = twice.Squash(t.Context(), SquashOptions{From: from, To: to})
		must(t, err)
		if again(t, twice).path.Target().Digest != got.path.Target().Digest {
			t.Fatalf("%s: another digest the second time", what)
		}
		must(t, os.RemoveAll(dir))
	}
}

// TestSquashOverlay: what is merged above a base is right for those who unpack it into a
// directory of its own and have the kernel merge it with the base.
func TestSquashOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("no oracle: only root may mount an overlay with trusted xattrs and devices")
	}
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 12))
		made := ocitest.RandomStack(rng, 3+rng.IntN(3), ocitest.StackOptions{})
		dir := oracleDir(t)
		i := writeImage(t, newLayout(t), "v1", ocitest.Image{Layers: made.Layers()})
		want := byShale(t, filepath.Join(dir, "before"), i)
		_, err := i.Squash(t.Context(), SquashOptions{From: int(seed % 2)})
		must(t, err)
		got := byKernel(t, dir, plainLayers(t, again(t, i))...)
		for name, facts := range got {
			// Overlayfs counts the names that a whiteout hides.
			if facts.Nlink = want[name].Nlink; facts.Nlink == 1 {
				facts.Group = ""
			}
			got[name] = facts
		}
		sameTrees(t, fmt.Sprintf("seed %d", seed), made, want, got)
		must(t, os.RemoveAll(dir))
	}
}

// history makes the history of layers, and of changes without one for names in brackets.
func history(names ...string) []ispec.History {
	var all []ispec.History
	for n, name := range names {
		created := time.Unix(int64(1000+n), 0).UTC()
		empty := strings.HasPrefix(name, "(")
		all = append(all, ispec.History{Created: &created, CreatedBy: strings.Trim(name, "()"), EmptyLayer: empty})
	}
	return all
}

// storyOf is the inverse of history.
func storyOf(all []ispec.History) string {
	var names []string
	for _, h := range all {
		name := h.CreatedBy
		if h.Comment != "" {
			name += ": " + h.Comment
		}
		if h.EmptyLayer {
			name = "(" + name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " | ")
}

// layersNamed makes one layer for each name, with a file called so.
func layersNamed(names ...string) [][]byte {
	var all [][]byte
	for _, name := range names {
		all = append(all, ocitest.Layer(ocitest.File(name, name, 0o644)))
	}
	return all
}

func TestSquashHistory(t *testing.T) {
	diffID := func(name string) string { return digest.FromBytes(layersNamed(name)[0]).String() }
	for _, tc := range []struct {
		name     string
		history  []ispec.History
		from, to int
		comment  string
		want     string
	}{
		{"all", history("A", "B", "C"), 0, 0, "", "S: merged 3 layers: A; B; C"},
		{"the upper ones", history("A", "B", "C"), 1, 3, "", "A | S: merged 2 layers: B; C"},
		{"the lower ones", history("A", "B", "C"), 0, 2, "", "S: merged 2 layers: A; B | C"},
		{
			"what has no layer stays", history("(a)", "A", "(b)", "B", "(c)", "C", "(d)"), 0, 0, "",
			"(a) | (b) | (c) | S: merged 3 layers: A; B; C | (d)",
		},
		{
			"before and after the range too", history("A", "(b)", "B", "(c)", "C", "(d)"), 1, 3, "",
			"A | (b) | (c) | S: merged 2 layers: B; C | (d)",
		},
		{"a comment of the caller's", history("A", "B", "C"), 0, 0, "why", "S: why"},
		{"no history, one layer", nil, 0, 0, "", "S: merged 3 layers: " + diffID("a") + "; " + diffID("b") + "; " + diffID("c")},
		{"no history, more than one layer", nil, 0, 2, "", ""},
		{"no history, the upper ones", nil, 1, 3, "", ""},
		{"too short for the range", history("A", "B"), 1, 3, "", "A | S: merged 2 layers: B; " + diffID("c")},
		{"of what is below the range", history("A"), 1, 3, "", "A | S: merged 2 layers: " + diffID("b") + "; " + diffID("c")},
		{"of nothing but the config", history("(a)"), 0, 2, "", "(a)"},
		{"too long", history("A", "B", "C", "D"), 1, 3, "", "A | S: merged 2 layers: B; C"},
		{"too long, below the top", history("A", "B", "C", "D"), 0, 2, "", "S: merged 2 layers: A; B | C"},
		{"entries that say nothing", history("", "", ""), 0, 2, "", "S: merged 2 layers: " + diffID("a") + "; " + diffID("b") + " | "},
		{
			"merged before", append([]ispec.History{{CreatedBy: "S", Comment: "merged 2 layers: X; Y"}}, history("B", "C")...), 0, 2, "",
			"S: merged 2 layers: S (merged 2 layers: X; Y); B | C",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := writeImage(t, newLayout(t), "v1", ocitest.Image{Layers: layersNamed("a", "b", "c"), Edit: func(c *ispec.Image, _ *ispec.Manifest) {
				c.History = tc.history
			}})
			_, err := i.Squash(t.Context(), SquashOptions{
				From: tc.from, To: tc.to, History: ispec.History{CreatedBy: "S", Comment: tc.comment, EmptyLayer: true},
			})
			must(t, err)
			if got := storyOf(i.Config().History); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestSquashDocuments: nothing of the old layers stays in the manifest, and all else does.
func TestSquashDocuments(t *testing.T) {
	for _, tc := range []struct {
		docker      bool
		old         string
		compression layer.Compression
		want        string
	}{
		{false, "gzip", "", ispec.MediaTypeImageLayerGzip},
		{false, "zstd", "", ispec.MediaTypeImageLayerZstd},
		{false, "none", "", ispec.MediaTypeImageLayerGzip},
		{false, "gzip", layer.Zstd, ispec.MediaTypeImageLayerZstd},
		{false, "gzip", layer.None, ispec.MediaTypeImageLayer},
		{true, "gzip", "", ocitest.DockerLayer + ".gzip"},
	} {
		annotations := map[string]string{
			"keep": "this", ispec.AnnotationBaseImageName: "base", ispec.AnnotationBaseImageDigest: digest.FromString("").String(),
		}
		i := writeImage(t, newLayout(t), "v1", ocitest.Image{
			Layers: layersNamed("a", "b", "c"), Compression: tc.old, Docker: tc.docker, Annotations: annotations,
			Config: ispec.ImageConfig{Cmd: []string{"sh"}},
			Edit: func(_ *ispec.Image, m *ispec.Manifest) {
				for n := range m.Layers {
					m.Layers[n].Annotations = map[string]string{"of": "old"}
				}
			},
		})
		before := i.Manifest()
		_, err := i.Squash(t.Context(), SquashOptions{From: 1, Compression: tc.compression})
		must(t, err)
		got := again(t, i)
		m := got.Manifest()
		if !reflect.DeepEqual(m.Layers[0], before.Layers[0]) || !maps.Equal(m.Annotations, annotations) {
			t.Errorf("%+v: the rest has changed: %+v", tc, m)
		}
		whole := m.Layers[1]
		var size map[string]string
		if tc.compression != layer.None {
			size = map[string]string{AnnotationPlainSize: strconv.Itoa(len(plainLayers(t, got)[1]))}
		}
		if whole.MediaType != tc.want || !maps.Equal(whole.Annotations, size) {
			t.Errorf("%+v: the layer is %+v", tc, whole)
		}
		_, err = got.Squash(t.Context(), SquashOptions{})
		must(t, err)
		if all := again(t, got).Manifest(); !maps.Equal(all.Annotations, map[string]string{"keep": "this"}) || len(all.Layers) != 1 {
			t.Errorf("%+v: merged with the base: %+v", tc, all)
		}
		if cmd := got.Config().Config.Cmd; !slices.Equal(cmd, []string{"sh"}) {
			t.Errorf("the command is %v", cmd)
		}
	}
}

// TestSquashNothing: what is one layer already stays as it is.
func TestSquashNothing(t *testing.T) {
	l := newLayout(t)
	for name, layers := range map[string][][]byte{"none": nil, "one": layersNamed("a"), "three": layersNamed("a", "b", "c")} {
		i := writeImage(t, l, name, ocitest.Image{Layers: layers})
		before := i.path.Target().Digest
		opt := SquashOptions{}
		if name == "three" {
			opt = SquashOptions{From: 1, To: 2}
		}
		merged, err := i.Squash(t.Context(), opt)
		must(t, err)
		if after := commit(t, i).Target().Digest; after != before || merged != 0 {
			t.Errorf("%s: merged %d, and %s became %s", name, merged, before, after)
		}
		for _, opt := range []SquashOptions{{From: -1}, {From: 2, To: 1}, {From: 4}, {To: 4}} {
			if _, err := i.Squash(t.Context(), opt); err == nil {
				t.Errorf("%s: no error for %+v", name, opt)
			}
		}
	}
}

// TestSquashOfChanges: layers that are not committed yet are merged as well.
func TestSquashOfChanges(t *testing.T) {
	i := writeImage(t, newLayout(t), "v1", ocitest.Image{Layers: layersNamed("a")})
	_, err := i.AddLayer(t.Context(), AddLayerOptions{Write: writing(layersNamed("b")[0]), History: &ispec.History{CreatedBy: "B"}})
	must(t, err)
	_, err = i.Squash(t.Context(), SquashOptions{History: ispec.History{CreatedBy: "S"}})
	must(t, err)
	got := again(t, i)
	if want := "S: merged 2 layers: layer 1; B"; storyOf(got.Config().History) != want || len(got.manifest.value.Layers) != 1 {
		t.Errorf("the history is %s, want %s", storyOf(got.Config().History), want)
	}
	tree := byShale(t, filepath.Join(oracleDir(t), "x"), got)
	if tree["a"].Type != "file" || tree["b"].Type != "file" {
		t.Errorf("the tree is %v", tree)
	}
}

// TestSquashDamage: a layer that is not what it should be is not merged.
func TestSquashDamage(t *testing.T) {
	l := newLayout(t)
	i := writeImage(t, l, "v1", ocitest.Image{Layers: layersNamed("a", "b"), Edit: func(c *ispec.Image, _ *ispec.Manifest) {
		c.RootFS.DiffIDs[1] = digest.FromString("another")
	}})
	before := files(t, l)
	_, err := i.Squash(t.Context(), SquashOptions{})
	if !errors.Is(err, layer.ErrDiffID) || !strings.Contains(err.Error(), i.manifest.value.Layers[1].Digest.String()) {
		t.Errorf("got %v", err)
	}
	if after := files(t, l); !slices.Equal(before, after) {
		t.Errorf("there are new files: %v", after)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Squash(ctx, SquashOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	j := writeImage(t, l, "v2", ocitest.Image{Layers: layersNamed("a", "b"), Edit: func(c *ispec.Image, _ *ispec.Manifest) {
		c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1]
	}})
	if _, err := j.Squash(t.Context(), SquashOptions{}); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("with too few diffIDs: %v", err)
	}
}

func TestSeam(t *testing.T) {
	l := newLayout(t)
	i := writeImage(t, l, "app", ocitest.Image{Layers: layersNamed("a", "b", "c")})
	for _, tc := range []struct {
		layers []string
		want   string
	}{
		{[]string{}, "0"}, {[]string{"a"}, "1"}, {[]string{"a", "b"}, "2"}, {[]string{"a", "b", "c"}, "3"},
		{[]string{"a", "x"}, "layer 2 is " + digest.FromBytes(layersNamed("x")[0]).String()},
		{[]string{"a", "b", "c", "d"}, "it has 4 layers, and the image only 3"},
	} {
		base := writeImage(t, l, "base", ocitest.Image{Layers: layersNamed(tc.layers...), Compression: "zstd"})
		n, err := i.Seam(base)
		switch {
		case err == nil && fmt.Sprint(n) != tc.want:
			t.Errorf("%v: %d", tc.layers, n)
		case err != nil && (!errors.Is(err, ErrNotBase) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%v: %v", tc.layers, err)
		}
	}
}
