// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

var sets = flag.Int("sets", 40, "how many random sets of images to split and join")

// TestJoinIsTheInverse is the property that everything is about.
func TestJoinIsTheInverse(t *testing.T) {
	for i := range *sets {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(i), 4))
			dir := filepath.Join(t.TempDir(), "L")
			refs, tiers := randomImages(t, rng, dir)
			before := ocitest.Snapshot(t, dir)
			l := openLayout(t, dir)
			opt := Options{Link: rng.IntN(4) == 0}
			for _, r := range refs {
				opt.Images = append(opt.Images, Image{l, r})
			}
			for _, r := range tiers {
				opt.Tiers = append(opt.Tiers, Tier{r, Image{l, r}})
			}
			switch rng.IntN(4) {
			case 0:
				opt.Format = FormatArchive
			case 1:
				opt.MaxSize = minVolume + rng.Int64N(20_000)
			}
			path := splitTo(t, opt)
			to := newLayout(t)
			if _, err := joinFrom(t.Context(), to, path); err != nil {
				t.Fatalf("%d images, tiers %v: %v", len(refs), tiers, err)
			}
			for _, r := range refs {
				want, got := lookup(t, l, r), lookup(t, to, r)
				if want.Digest != got.Digest || want.Size != got.Size || want.MediaType != got.MediaType {
					t.Errorf("%s: got %v, want %v", r, got, want)
				}
				whole(t, to, got)
			}
			if opt.Format == "" && opt.MaxSize == 0 {
				checkTiers(t, path, tiers)
			}
			if !opt.Link { // which adds names to the files
				ocitest.AssertSame(t, before, ocitest.Snapshot(t, dir))
			}
		})
	}
}

// checkTiers checks that every tier below the topmost is an image of its own, and
// that nothing is on the disk twice.
func checkTiers(t *testing.T, path string, tiers []string) {
	t.Helper()
	inodes := map[string]os.FileInfo{}
	for _, name := range append(slices.Clone(tiers), TopTier) {
		tier := openLayout(t, filepath.Join(path, name))
		if name != TopTier {
			whole(t, tier, lookup(t, tier, name))
		}
		must(t, tier.Blobs(t.Context(), func(d digest.Digest, _ int64) error {
			info, err := os.Stat(filepath.Join(path, name, "blobs", "sha256", d.Encoded()))
			if other := inodes[d.Encoded()]; err == nil && other != nil && !os.SameFile(other, info) {
				t.Errorf("%s is there twice", d)
			}
			inodes[d.Encoded()] = info
			return err
		}))
	}
}

func TestLayersAndDiffIDsMustFit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	ocitest.Image{Layers: [][]byte{tarOf("a"), tarOf("b")}, Edit: func(config *ispec.Image, _ *ispec.Manifest) {
		config.RootFS.DiffIDs = config.RootFS.DiffIDs[:1]
	}}.Write(t, dir, "app")
	_, err := NewPlan(t.Context(), Options{Images: []Image{{openLayout(t, dir), "app"}}})
	oneLine(t, err, "2 layers", "1 diffIDs")
}

func TestTiers(t *testing.T) {
	s := newSite(t)
	path := splitTo(t, s.opt)
	base, lib, app := openLayout(t, path+"/base"), openLayout(t, path+"/lib"), openLayout(t, path+"/app")
	if got, want := lookup(t, base, "debian"), lookup(t, s.l, "debian"); got.Digest != want.Digest {
		t.Errorf("the base is %s, not %s", got.Digest, want.Digest)
	}
	m, err := lib.Manifest(t.Context(), lookup(t, lib, "runtime"))
	must(t, err)
	if len(m.Layers) != 1 || m.Annotations[ispec.AnnotationBaseImageDigest] != string(lookup(t, base, "debian").Digest) {
		t.Errorf("the lib is %+v", m)
	}
	refs, err := app.Refs(t.Context())
	must(t, err)
	if !slices.Equal(refs, []string{"app1", "app2"}) {
		t.Errorf("refs: %v", refs)
	}
	if again := splitTo(t, s.opt); !slices.Equal(files(t, path), files(t, again)) {
		t.Error("two splits differ")
	}
	if _, err := Split(t.Context(), path, s.opt); !errors.Is(err, fs.ErrExist) {
		t.Errorf("into an OUT that exists: %v", err)
	}
	if names, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestNotPrefix(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	a, b, c := tarOf("a"), tarOf("b"), tarOf("c")
	ocitest.Image{Layers: [][]byte{a, b}}.Write(t, dir, "app")
	for _, tc := range []struct {
		name   string
		layers [][]byte
		at     int
		got    bool
	}{
		{"another layer", [][]byte{a, c}, 1, true},
		{"swapped", [][]byte{b, a}, 0, true},
		{"longer than the image", [][]byte{a, b, c}, 2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ocitest.Image{Layers: tc.layers}.Write(t, dir, "base")
			l := openLayout(t, dir)
			path := out(t)
			_, err := Split(t.Context(), path, Options{Images: []Image{{l, "app"}}, Tiers: []Tier{{"base", Image{l, "base"}}}})
			var e *NotPrefixError
			if !errors.Is(err, ErrNotPrefix) || !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Layer != tc.at || e.TierDiffID != digest.FromBytes(tc.layers[tc.at]) || (e.ImageDiffID != "") != tc.got || e.TierCreatedBy == "" {
				t.Errorf("got %+v", e)
			}
			oneLine(t, err, "base", "app", string(e.TierDiffID), string(e.ImageDiffID), e.TierCreatedBy)
			if exists(path) {
				t.Error("there is an OUT")
			}
		})
	}
	t.Run("tiers in the wrong order", func(t *testing.T) {
		ocitest.Image{Layers: [][]byte{a}}.Write(t, dir, "base")
		l := openLayout(t, dir)
		_, err := NewPlan(t.Context(), Options{Images: []Image{{l, "app"}}, Tiers: []Tier{{"lib", Image{l, "app"}}, {"base", Image{l, "base"}}}})
		oneLine(t, err, "lowest tier comes first")
	})
}

func TestRecompressedBase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	layers := [][]byte{tarOf("a"), tarOf("b")}
	write(t, dir, "base", ocitest.Image{Layers: layers[:1]}, "gzip")
	want := write(t, dir, "app", ocitest.Image{Layers: layers}, "zstd", "gzip")
	l := openLayout(t, dir)
	var told []string
	opt := Options{
		Images: []Image{{l, "app"}}, Tiers: []Tier{{"base", Image{l, "base"}}},
		Warn: func(msg string) { told = append(told, msg) },
	}
	path := splitTo(t, opt)
	if len(told) != 1 || !strings.Contains(told[0], "recompressed") {
		t.Errorf("told: %q", told)
	}
	base := openLayout(t, path+"/base")
	whole(t, base, lookup(t, base, "base"))
	to := newLayout(t)
	_, err := joinFrom(t.Context(), to, path)
	must(t, err)
	if got := lookup(t, to, "app"); got.Digest != want.Digest {
		t.Errorf("got %s, want %s", got.Digest, want.Digest)
	}
}

// TestMultiPlatform has an index of two platforms with a statement about one, on a
// base that is for three.
func TestMultiPlatform(t *testing.T) {
	for _, docker := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "L")
		image := func(arch string, names ...string) ocitest.Image {
			var layers [][]byte
			for _, n := range names {
				layers = append(layers, tarOf(arch+n))
			}
			return ocitest.Image{Layers: layers, Docker: docker, Platform: ispec.Platform{OS: "linux", Architecture: arch}}
		}
		statement := ocitest.Image{Layers: [][]byte{tarOf("sbom")}, Platform: ispec.Platform{OS: "unknown", Architecture: "unknown"}}
		base := func(arch ...string) ocitest.Index {
			x := ocitest.Index{Docker: docker}
			for _, a := range arch {
				x.Nodes = append(x.Nodes, image(a, "base"))
			}
			return x
		}
		base("amd64", "arm64", "riscv64").Write(t, dir, "base")
		base("arm64", "amd64").Write(t, dir, "exact")
		want := ocitest.Index{Docker: docker, Nodes: []ocitest.Node{image("amd64", "base", "app"), image("arm64", "base", "app"), statement}}.Write(t, dir, "app")
		l := openLayout(t, dir)
		for _, ref := range []string{"base", "exact"} {
			path := splitTo(t, Options{Images: []Image{{l, "app"}}, Tiers: []Tier{{"base", Image{l, ref}}}})
			tier := openLayout(t, path+"/base")
			whole(t, tier, lookup(t, tier, ref))
			if same := lookup(t, tier, ref).Digest == lookup(t, l, ref).Digest; same != (ref == "exact") {
				t.Errorf("%s: same digest: %v", ref, same)
			}
			members, err := tier.Members(t.Context(), lookup(t, tier, ref))
			if err != nil || len(members) != 2 {
				t.Errorf("%d platforms, %v", len(members), err)
			}
			to := newLayout(t)
			_, err = joinFrom(t.Context(), to, path)
			must(t, err)
			if got := lookup(t, to, "app"); got.Digest != want.Digest {
				t.Errorf("got %s, want %s", got.Digest, want.Digest)
			}
			whole(t, to, want)
		}
	}
}

// TestReferrers has a signature with a subject, a statement about the signature, one
// by tag, an image with a subject that is not there, and an image that has nothing to
// do with it.
func TestReferrers(t *testing.T) {
	s := newSite(t)
	about := func(ref string, subject ispec.Descriptor, content string) ispec.Descriptor {
		subject.Annotations = nil
		return ocitest.Image{Layers: [][]byte{tarOf(content)}, Edit: func(_ *ispec.Image, m *ispec.Manifest) {
			m.Subject = &subject
			m.Layers[0].Annotations = map[string]string{"for": content}
		}}.Write(t, s.dir, ref)
	}
	app := lookup(t, s.l, "app1")
	signature := about("", app, "signature")
	second := about("", signature, "second")
	tagged := ocitest.Image{Layers: [][]byte{tarOf("cosign")}}.Write(t, s.dir, "sha256-"+app.Digest.Encoded()+".sig")
	about("orphan", ispec.Descriptor{MediaType: ispec.MediaTypeImageManifest, Digest: digest.FromString("gone"), Size: 4}, "orphan")
	other := about("", lookup(t, s.l, "app2"), "other")

	path := splitTo(t, s.options("app1"))
	to := newLayout(t)
	_, err := joinFrom(t.Context(), to, path)
	must(t, err)
	index, err := to.Index(t.Context())
	must(t, err)
	got := map[digest.Digest]bool{}
	for _, d := range index.Manifests {
		got[d.Digest] = true
		if d.Digest != app.Digest {
			whole(t, to, d)
		}
	}
	for _, d := range []ispec.Descriptor{app, signature, second, tagged} {
		if !got[d.Digest] {
			t.Errorf("%s does not travel along", d.Digest)
		}
	}
	if got[other.Digest] {
		t.Error("a referrer of another image travels along")
	}
	if _, err := to.Lookup(t.Context(), "sha256-"+app.Digest.Encoded()+".sig"); err != nil {
		t.Error(err)
	}
	orphans := splitTo(t, Options{Images: []Image{{s.l, "orphan"}}})
	to2 := newLayout(t)
	_, err = joinFrom(t.Context(), to2, orphans)
	must(t, err)
}

func TestEmbeddedData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	config := []byte("{}")
	want := ocitest.Image{Layers: [][]byte{tarOf("a"), config}, Compression: "none", Edit: func(_ *ispec.Image, m *ispec.Manifest) {
		m.Layers[1].Data = config
	}}.Write(t, dir, "data")
	must(t, os.Remove(filepath.Join(dir, "blobs/sha256", digest.FromBytes(config).Encoded())))
	l := openLayout(t, dir)
	for _, format := range []Format{FormatLayout, FormatArchive} {
		path := splitTo(t, Options{Images: []Image{{l, "data"}}, Format: format})
		to := newLayout(t)
		_, err := joinFrom(t.Context(), to, path)
		must(t, err)
		whole(t, to, lookup(t, to, "data"))
		if got := lookup(t, to, "data"); got.Digest != want.Digest {
			t.Errorf("got %v", got)
		}
	}
}

// TestForeignLayer has a layer that the layout lacks because its URLs deliver it.
func TestForeignLayer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	foreign := tarOf("foreign")
	want := write(t, dir, "app", ocitest.Image{Layers: [][]byte{tarOf("a"), foreign}, Edit: func(_ *ispec.Image, m *ispec.Manifest) {
		m.Layers[1].URLs = []string{"https://example.com/layer"}
	}}, "gzip", "none")
	must(t, os.Remove(filepath.Join(dir, "blobs/sha256", digest.FromBytes(foreign).Encoded())))
	l := openLayout(t, dir)
	told := ""
	path := splitTo(t, Options{Images: []Image{{l, "app"}}, Warn: func(msg string) { told = msg }})
	if !strings.Contains(told, "https://example.com/layer") {
		t.Errorf("told: %q", told)
	}
	to := newLayout(t)
	_, err := joinFrom(t.Context(), to, path)
	must(t, err)
	if got := lookup(t, to, "app"); got.Digest != want.Digest {
		t.Errorf("got %v", got)
	}
}

func TestEach(t *testing.T) {
	s := newSite(t)
	s.opt.Each = true
	path := splitTo(t, s.opt)
	for _, ref := range []string{"app1", "app2"} {
		to := newLayout(t)
		_, err := Join(t.Context(), to, JoinOptions{From: filepath.Join(path, ref), Ref: "new"})
		must(t, err)
		if got := lookup(t, to, "new"); got.Digest != lookup(t, s.l, ref).Digest {
			t.Errorf("%s: got %s", ref, got.Digest)
		}
		whole(t, to, lookup(t, to, "new"))
	}
}

func TestAgainst(t *testing.T) {
	s := newSite(t)
	first := splitTo(t, s.options("app1"))
	to := newLayout(t)
	_, err := joinFrom(t.Context(), to, first)
	must(t, err)
	var digests bytes.Buffer
	digests.WriteString("# what is there\n\n")
	must(t, to.Blobs(t.Context(), func(d digest.Digest, _ int64) error {
		_, err := fmt.Fprintf(&digests, "%s  some name\n", d.Encoded())
		return err
	}))
	list := filepath.Join(t.TempDir(), "digests")
	must(t, os.WriteFile(list, digests.Bytes(), 0o644))
	app2 := lookup(t, s.l, "app2")
	m, err := s.l.Manifest(t.Context(), app2)
	must(t, err)
	news := m.Layers[2].Size + m.Config.Size + app2.Size
	for name, site := range map[string]string{
		"layout": to.Path(), "OUT": first, "split.json": filepath.Join(first, FileName), "digests": list,
	} {
		t.Run(name, func(t *testing.T) {
			known, err := ReadKnown(t.Context(), site)
			must(t, err)
			opt := s.options("app2")
			opt.Against = known
			path := out(t)
			plan, err := Split(t.Context(), path, opt)
			must(t, err)
			top := plan.Outs[0].Tiers[2]
			if top.Bytes != news {
				t.Errorf("the app has %d bytes, not %d", top.Bytes, news)
			}
			for _, f := range files(t, path) {
				if d, ok := strings.CutPrefix(f, "app/blobs/sha256/"); ok && known.has(ispec.Descriptor{Digest: digest.Digest("sha256:" + d), Size: 0}) {
					t.Errorf("%s is known to be there", f)
				}
			}
			// Where nothing of the first is, the second cannot be joined.
			_, err = joinFrom(t.Context(), newLayout(t), path)
			oneLine(t, err, "left out", "tier base")
			if !errors.Is(err, ErrMissingTier) {
				t.Errorf("got %v", err)
			}
			// It can where it was joined, and with its tiers.
			here := newLayout(t)
			_, err = joinFrom(t.Context(), here, first)
			must(t, err)
			_, err = joinFrom(t.Context(), here, path)
			must(t, err)
			whole(t, here, lookup(t, here, "app2"))
			there := newLayout(t)
			_, err = Join(t.Context(), there, JoinOptions{From: path, Tiers: map[string]string{"base": first + "/base", "lib": first}})
			must(t, err)
			whole(t, there, lookup(t, there, "app2"))
		})
	}
	// What an OUT had left out is known, too.
	opt := s.options("app2")
	opt.Against, err = ReadKnown(t.Context(), first)
	must(t, err)
	second := splitTo(t, opt)
	known, err := ReadKnown(t.Context(), second)
	must(t, err)
	if known.Len() < 8 {
		t.Errorf("only %d blobs are known", known.Len())
	}
	must(t, os.WriteFile(list, []byte("nonsense\n"), 0o644))
	_, err = ReadKnown(t.Context(), list)
	oneLine(t, err, "line 1")
}

func TestOptions(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*Options){
		"no image":           func(o *Options) { o.Images = nil },
		"a tier twice":       func(o *Options) { o.Tiers[1].Name = "base" },
		"a tier called app":  func(o *Options) { o.Tiers[0].Name = "app" },
		"a tier that leaves": func(o *Options) { o.Tiers[0].Name = "../x" },
		"format":             func(o *Options) { o.Format = "zip" },
		"volumes of tars":    func(o *Options) { o.MaxSize, o.Format = 1<<20, FormatArchive },
		"tiny volumes":       func(o *Options) { o.MaxSize = 1 },
		"rename":             func(o *Options) { o.Rename = map[string]string{"a": "b"} },
		"no such tier":       func(o *Options) { o.Tiers[0].Ref = "nothing" },
		"isula, one tier":    func(o *Options) { o.Format, o.Tiers = FormatIsula, nil },
	} {
		opt := s.options("app1")
		change(&opt)
		path := out(t)
		_, err := Split(t.Context(), path, opt)
		oneLine(t, err)
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("%s: got %v", name, err)
		}
		if names, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(names) > 0 {
			t.Errorf("%s: left: %v", name, names)
		}
	}
}
