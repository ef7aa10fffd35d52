// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

func linux(arch string) *ispec.Platform { return &ispec.Platform{OS: "linux", Architecture: arch} }

// platformImage writes an image for the platform, with one layer that it shares with
// none.
func platformImage(t testing.TB, l *layout.Layout, arch string) ispec.Descriptor {
	t.Helper()
	d, err := New(t.Context(), l, NewOptions{Platform: linux(arch)})
	must(t, err)
	i, err := Open(t.Context(), l, layout.Path{d})
	must(t, err)
	_, err = i.AddLayer(t.Context(), AddLayerOptions{Write: writing([]byte(arch))})
	must(t, err)
	d = commit(t, i).Target()
	d.Platform = linux(arch)
	return d
}

func putIndex(t testing.TB, l *layout.Layout, entries ...ispec.Descriptor) ispec.Descriptor {
	t.Helper()
	index := ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: entries}
	index.SchemaVersion = 2
	return put(t, l, ispec.MediaTypeImageIndex, asJSON(t, index))
}

// multi makes a ref that leads to an index of images for the architectures.
func multi(t testing.TB, l *layout.Layout, ref string, archs ...string) {
	t.Helper()
	var entries []ispec.Descriptor
	for _, arch := range archs {
		entries = append(entries, platformImage(t, l, arch))
	}
	must(t, l.SetRef(t.Context(), ref, putIndex(t, l, entries...)))
}

func find(t testing.TB, l *layout.Layout, ref, arch string) layout.Path {
	t.Helper()
	path, err := l.Resolve(t.Context(), ref, &layout.ResolveOptions{Platform: linux(arch)})
	must(t, err)
	return path
}

func openPath(t testing.TB, l *layout.Layout, path layout.Path) *Image {
	t.Helper()
	i, err := Open(t.Context(), l, path)
	must(t, err)
	return i
}

// changed adds a layer to the image and returns what that changes.
func changed(t testing.TB, l *layout.Layout, path layout.Path, layer string) []Change {
	t.Helper()
	i := openPath(t, l, path)
	_, err := i.AddLayer(t.Context(), AddLayerOptions{
		Write: writing([]byte(layer)), History: &ispec.History{CreatedBy: layer},
	})
	must(t, err)
	changes, err := CommitAll(t.Context(), i)
	must(t, err)
	return changes
}

func move(t testing.TB, l *layout.Layout, ref string, changes []Change) {
	t.Helper()
	must(t, l.MoveRef(t.Context(), ref, func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		return root(Graft(t.Context(), l, now, changes))
	}))
}

func root(changes []Change, err error) (*ispec.Descriptor, error) {
	if err != nil {
		return nil, err
	}
	d := changes[0].To.Root()
	return &d, nil
}

// told lists the platforms that a ref leads to, each with its history.
func told(t testing.TB, l *layout.Layout, ref string) string {
	t.Helper()
	root, err := l.Lookup(t.Context(), ref)
	must(t, err)
	members, err := l.Members(t.Context(), root)
	must(t, err)
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s:", m.Platform.Architecture)
		for _, h := range openPath(t, l, m.Path).Config().History {
			b.WriteString(" " + h.CreatedBy)
		}
		b.WriteString("; ")
	}
	return b.String()
}

// TestGraft changes two platforms of one image in all orders in which the refs that
// lead to them may move.
func TestGraft(t *testing.T) {
	tests := []struct {
		name  string
		steps string // ref<ref/arch: the image on the right, as it was at first, is changed for the ref on the left
		want  string
	}{
		{"in place", "v1<v1/a", "a: 1; b:; "},
		{"both in place", "v1<v1/a v1<v1/b", "a: 1; b: 2; "},
		{"into a new ref", "new<v1/a new<v1/b", "a: 1; b: 2; "},
		{"the same once more", "v1<v1/a v1<v1/b v1<v1/a", "a: 3; b: 2; "},
		{"the same once more, into a new ref", "new<v1/a new<v1/b new<v1/a", "a: 3; b: 2; "},
		{"in the place of another image", "old<v1/a", "a: 1; b:; "},
		{"both in the place of another image", "old<v1/a old<v1/b", "a: 1; b: 2; "},
		{"in the place of a single image", "one<v1/a", "a: 1; b:; "},
		{"a single image in the place of an index", "v1<one/b", "b: 1; "},
		{"without a predecessor", "other<v1/a", "a: 1; b:; "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLayout(t)
			multi(t, l, "v1", "a", "b")
			old := platformImage(t, l, "c")
			old.Platform = linux("a")
			must(t, l.SetRef(t.Context(), "old", putIndex(t, l, old)))
			multi(t, l, "other", "c", "d")
			must(t, l.SetRef(t.Context(), "one", platformImage(t, l, "b")))
			bases := map[string]layout.Path{}
			for _, base := range []string{"v1/a", "v1/b", "one/b"} {
				ref, arch, _ := strings.Cut(base, "/")
				bases[base] = find(t, l, ref, arch)
			}
			var last string
			for n, step := range strings.Fields(tt.steps) {
				to, base, _ := strings.Cut(step, "<")
				move(t, l, to, changed(t, l, bases[base], fmt.Sprint(n+1)))
				last = to
			}
			if got := told(t, l, last); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			checkWhole(t, l, last)
		})
	}
}

// checkWhole reads all that a ref leads to.
func checkWhole(t testing.TB, l *layout.Layout, ref string) {
	t.Helper()
	root, err := l.Lookup(t.Context(), ref)
	must(t, err)
	must(t, l.Walk(t.Context(), root, func(p layout.Path) error {
		r, err := l.OpenBlob(t.Context(), p.Target())
		if err != nil {
			return err
		}
		defer r.Close()
		return r.Verify(t.Context())
	}))
}

// TestGraftMeanwhile moves a ref twice at the same time.
func TestGraftMeanwhile(t *testing.T) {
	l := newLayout(t)
	multi(t, l, "v1", "a", "b")
	a, b := changed(t, l, find(t, l, "v1", "a"), "1"), changed(t, l, find(t, l, "v1", "b"), "2")
	first := true
	must(t, l.MoveRef(t.Context(), "v1", func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		if first {
			first = false
			move(t, l, "v1", b)
		}
		return root(Graft(t.Context(), l, now, a))
	}))
	if got, want := told(t, l, "v1"), "a: 1; b: 2; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestCommitAll changes all images of a nested index, each index but once.
func TestCommitAll(t *testing.T) {
	l := newLayout(t)
	inner := putIndex(t, l, platformImage(t, l, "b"), platformImage(t, l, "c"))
	inner.Annotations = map[string]string{"kept": "yes"}
	d := platformImage(t, l, "d")
	untouched := platformImage(t, l, "e")
	must(t, l.SetRef(t.Context(), "v1", putIndex(t, l, platformImage(t, l, "a"), inner, d, untouched)))
	var images []*Image
	for _, arch := range []string{"c", "a", "b", "d"} {
		i := openPath(t, l, find(t, l, "v1", arch))
		i.AddHistory(ispec.History{CreatedBy: arch})
		images = append(images, i)
	}
	before := len(files(t, l))
	changes, err := CommitAll(t.Context(), images...)
	must(t, err)
	if got, want := len(files(t, l))-before, 4*2+2; got != want {
		t.Errorf("%d blobs were written, want %d", got, want)
	}
	move(t, l, "v1", changes)
	if got, want := told(t, l, "v1"), "a: a; b: b; c: c; d: d; e:; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	root, err := l.Lookup(t.Context(), "v1")
	must(t, err)
	for n, c := range changes {
		if c.To.Root().Digest != root.Digest || !reflect.DeepEqual(c.To, find(t, l, "v1", []string{"c", "a", "b", "d"}[n])) {
			t.Errorf("path %d is %v", n, c.To)
		}
	}
	index, err := l.ImageIndex(t.Context(), root)
	must(t, err)
	if index.Manifests[1].Annotations["kept"] != "yes" || !reflect.DeepEqual(index.Manifests[3], untouched) {
		t.Errorf("got %+v", index.Manifests)
	}
	// Once more, and only one of them.
	images[2].AddHistory(ispec.History{CreatedBy: "again"})
	changes, err = CommitAll(t.Context(), images[2])
	must(t, err)
	move(t, l, "v1", changes)
	if got, want := told(t, l, "v1"), "a: a; b: b again; c: c; d: d; e:; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	multi(t, l, "v2", "a")
	if _, err := CommitAll(t.Context(), images[2], openPath(t, l, find(t, l, "v2", "a"))); err == nil {
		t.Error("no error for images of two refs")
	}
}

// TestSameManifestForTwoPlatforms changes an image for one of the platforms that it
// is for.
func TestSameManifestForTwoPlatforms(t *testing.T) {
	l := newLayout(t)
	a := platformImage(t, l, "a")
	b := a
	b.Platform = linux("b")
	must(t, l.SetRef(t.Context(), "v1", putIndex(t, l, a, b)))
	move(t, l, "v1", changed(t, l, find(t, l, "v1", "b"), "1"))
	if got, want := told(t, l, "v1"), "a:; b: 1; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDescriptor(t *testing.T) {
	l := newLayout(t)
	multi(t, l, "v1", "a", "b")
	i := openPath(t, l, find(t, l, "v1", "a"))
	// Annotations alone are a change as well.
	i.SetDescriptorAnnotations(map[string]string{"k": "v"})
	changes, err := CommitAll(t.Context(), i)
	must(t, err)
	move(t, l, "v1", changes)
	path := find(t, l, "v1", "a")
	if got := path.Target(); got.Annotations["k"] != "v" || got.Digest != changes[0].From.Target().Digest {
		t.Errorf("got %+v", got)
	}
	if got := openPath(t, l, path).DescriptorAnnotations(); !reflect.DeepEqual(got, map[string]string{"k": "v"}) {
		t.Errorf("got %v", got)
	}
	// The descriptor says another platform than before, and keeps what it alone says.
	root, err := l.Lookup(t.Context(), "v1")
	must(t, err)
	index, err := l.ImageIndex(t.Context(), root)
	must(t, err)
	index.Manifests[0].Platform.Variant = "v1"
	must(t, l.SetRef(t.Context(), "v1", putIndex(t, l, index.Manifests...)))
	path, err = l.Resolve(t.Context(), "v1", &layout.ResolveOptions{
		Platform: &ispec.Platform{OS: "linux", Architecture: "a", Variant: "v1"},
	})
	must(t, err)
	i = openPath(t, l, path)
	s := i.Settings()
	s.Platform.Architecture = "c"
	i.Set(s)
	changes, err = CommitAll(t.Context(), i)
	must(t, err)
	want := &ispec.Platform{OS: "linux", Architecture: "c", Variant: "v1"}
	if got := changes[0].To.Target(); !reflect.DeepEqual(got.Platform, want) || got.Annotations["k"] != "v" {
		t.Errorf("got %+v", got)
	}
	// A descriptor without a platform stays without one.
	i = newImage(t, l, "v2")
	s = i.Settings()
	s.Platform.Architecture = "c"
	i.Set(s)
	if got := commit(t, i).Target().Platform; got != nil {
		t.Errorf("got %v", got)
	}
}

// TestHoldsNeighbours collects garbage when no ref leads to the old index any more.
func TestHoldsNeighbours(t *testing.T) {
	l := newLayout(t)
	missing := platformImage(t, l, "x")
	missing.Digest = digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("0", 64))
	must(t, l.SetRef(t.Context(), "v1", putIndex(t, l, platformImage(t, l, "a"), platformImage(t, l, "b"), missing)))
	must(t, l.Close())
	writer, err := layout.Open(t.Context(), l.Path(), nil)
	must(t, err)
	other, err := layout.Open(t.Context(), l.Path(), nil)
	must(t, err)
	defer other.Close()
	changes := changed(t, writer, find(t, writer, "v1", "a"), "1")
	_, err = other.DeleteRef(t.Context(), "v1")
	must(t, err)
	_, err = other.GC(t.Context(), nil)
	must(t, err)
	move(t, writer, "v1", changes)
	must(t, writer.Close())
	_, err = other.GC(t.Context(), nil)
	must(t, err)
	for _, arch := range []string{"a", "b"} {
		path := find(t, other, "v1", arch)
		for _, d := range openPath(t, other, path).Manifest().Layers {
			r, err := other.OpenBlob(t.Context(), d)
			must(t, err)
			must(t, r.Verify(t.Context()))
			must(t, r.Close())
		}
	}
}

func TestRemove(t *testing.T) {
	l := newLayout(t)
	statement := put(t, l, ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+asJSON(t, ispec.DescriptorEmptyJSON)+`,"layers":[]}`)
	statement.Platform = &ispec.Platform{OS: "unknown", Architecture: "unknown"}
	a, b := platformImage(t, l, "a"), platformImage(t, l, "b")
	statement.Annotations = map[string]string{attestationOf: a.Digest.String()}
	nested := putIndex(t, l, b, platformImage(t, l, "c"))
	must(t, l.SetRef(t.Context(), "v1", putIndex(t, l, a, statement, nested)))
	for _, step := range []struct{ arch, left string }{{"b", "a:; c:; "}, {"a", "c:; "}, {"c", ""}} {
		left, err := Remove(t.Context(), l, find(t, l, "v1", step.arch))
		must(t, err)
		if left == nil {
			if step.left != "" {
				t.Errorf("nothing is left, want %s", step.left)
			}
			break
		}
		must(t, l.SetRef(t.Context(), "v1", *left))
		if got := told(t, l, "v1"); got != step.left {
			t.Errorf("got %s, want %s", got, step.left)
		}
		checkWhole(t, l, "v1")
	}
	root, err := l.Lookup(t.Context(), "v1")
	must(t, err)
	index, err := l.ImageIndex(t.Context(), root)
	must(t, err)
	if len(index.Manifests) != 1 {
		t.Errorf("the statement about a is still there: %+v", index.Manifests)
	}
	if root, err := Remove(t.Context(), l, layout.Path{a}); root != nil || err != nil {
		t.Errorf("got %v, %v", root, err)
	}
}

func TestEnv(t *testing.T) {
	s := Settings{Config: ispec.ImageConfig{Env: []string{"A=1", "AB=2", "C", "A=3"}}}
	s.SetEnv("AB", "x=y")
	s.SetEnv("D", "")
	s.SetEnv("A", "4")
	if want := []string{"A=4", "AB=x=y", "C", "A=3", "D="}; !slices.Equal(s.Config.Env, want) {
		t.Errorf("got %q, want %q", s.Config.Env, want)
	}
	s.UnsetEnv("A")
	s.UnsetEnv("C")
	s.UnsetEnv("none")
	if want := []string{"AB=x=y", "D="}; !slices.Equal(s.Config.Env, want) {
		t.Errorf("got %q, want %q", s.Config.Env, want)
	}
}
