// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tarOf makes a layer that differs for different contents.
func tarOf(content string) []byte {
	return ocitest.Layer(ocitest.Dir("d", 0o755), ocitest.File("d/"+content[:min(8, len(content))], content, 0o644))
}

// write writes an image of the layers, each compressed in its own way: "gzip", "zstd",
// "none", or "gzip9" for the same content in other bytes.
func write(t testing.TB, dir, ref string, img ocitest.Image, compressions ...string) ispec.Descriptor {
	t.Helper()
	edit := img.Edit
	plain := img.Layers
	img.Edit = func(config *ispec.Image, m *ispec.Manifest) {
		for i, c := range compressions {
			m.Layers[i] = compressed(t, dir, m.Layers[i].MediaType, plain[i], c)
		}
		if edit != nil {
			edit(config, m)
		}
	}
	return img.Write(t, dir, ref)
}

func compressed(t testing.TB, dir, mediaType string, plain []byte, c string) ispec.Descriptor {
	t.Helper()
	base, _, err := layer.SplitMediaType(mediaType)
	must(t, err)
	level := 0
	if c == "gzip9" {
		c, level = "gzip", 9
	}
	var buf bytes.Buffer
	zw, err := layer.NewWriter(&buf, layer.Compression(c), level)
	must(t, err)
	_, err = zw.Write(plain)
	must(t, err)
	must(t, zw.Close())
	d := digest.FromBytes(buf.Bytes())
	must(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()), buf.Bytes(), 0o644))
	return ispec.Descriptor{MediaType: layer.JoinMediaType(base, layer.Compression(c)), Digest: d, Size: int64(buf.Len())}
}

func openLayout(t testing.TB, dir string) *layout.Layout {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func newLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "joined"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// whole checks all that a ref of a layout leads to: sizes, digests, diffIDs.
func whole(t testing.TB, l *layout.Layout, root ispec.Descriptor) {
	t.Helper()
	must(t, l.Walk(t.Context(), root, func(path layout.Path) error {
		d := path.Target()
		r, err := l.OpenBlob(t.Context(), d)
		if err != nil {
			return err
		}
		defer r.Close()
		return r.Verify(t.Context())
	}))
	members, err := l.Members(t.Context(), root)
	must(t, err)
	for _, m := range members {
		manifest, err := l.Manifest(t.Context(), m.Path.Target())
		must(t, err)
		config, err := l.Config(t.Context(), manifest.Config)
		if errors.Is(err, layout.ErrMediaType) {
			continue
		}
		must(t, err)
		if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
			t.Fatalf("%d layers, %d diffIDs", len(manifest.Layers), len(config.RootFS.DiffIDs))
		}
		for i, d := range manifest.Layers {
			checkDiffID(t, l, d, config.RootFS.DiffIDs[i])
		}
	}
}

func checkDiffID(t testing.TB, l *layout.Layout, d ispec.Descriptor, diffID digest.Digest) {
	t.Helper()
	_, c, err := layer.SplitMediaType(d.MediaType)
	must(t, err)
	r, err := l.OpenBlob(t.Context(), d)
	must(t, err)
	defer r.Close()
	s, err := layer.NewStream(t.Context(), r, layer.StreamOptions{Compression: c, DiffID: diffID})
	must(t, err)
	defer s.Close()
	_, err = io.Copy(io.Discard, s)
	must(t, err)
	must(t, s.Finish())
}

func lookup(t testing.TB, l *layout.Layout, ref string) ispec.Descriptor {
	t.Helper()
	d, err := l.Lookup(t.Context(), ref)
	must(t, err)
	return d
}

// files lists the regular files below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			list = append(list, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	}))
	slices.Sort(list)
	return list
}

// site is the usual example: two apps on a lib on a base, in one layout.
type site struct {
	dir string
	l   *layout.Layout
	opt Options
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "L")}
	base, lib := tarOf("base"+strings.Repeat("b", 100_000)), tarOf("lib")
	ocitest.Image{Layers: [][]byte{base}}.Write(t, s.dir, "debian")
	ocitest.Image{Layers: [][]byte{base, lib}}.Write(t, s.dir, "runtime")
	for _, app := range []string{"app1", "app2"} {
		ocitest.Image{Layers: [][]byte{base, lib, tarOf(app)}, Annotations: map[string]string{"x": app}}.Write(t, s.dir, app)
	}
	s.l = openLayout(t, s.dir)
	s.opt = s.options("app1", "app2")
	return s
}

func (s *site) options(refs ...string) Options {
	opt := Options{Tiers: []Tier{{"base", Image{s.l, "debian"}}, {"lib", Image{s.l, "runtime"}}}}
	for _, ref := range refs {
		opt.Images = append(opt.Images, Image{s.l, ref})
	}
	return opt
}

// out is a fresh path for an OUT.
func out(t testing.TB) string { return filepath.Join(t.TempDir(), "OUT") }

func splitTo(t testing.TB, opt Options) string {
	t.Helper()
	path := out(t)
	_, err := Split(t.Context(), path, opt)
	must(t, err)
	return path
}

func joinFrom(ctx context.Context, l *layout.Layout, path string) (*Joined, error) {
	return Join(ctx, l, JoinOptions{From: path})
}

// oneLine fails unless err is an error of one line that mentions all of want.
func oneLine(t testing.TB, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
		t.Errorf("not one line: %q", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("does not mention %s: %v", w, err)
		}
	}
}

// randomImages writes a random set of images and tiers, and returns how to split it.
func randomImages(t testing.TB, rng *rand.Rand, dir string) (refs []string, tiers []string) {
	pool := [][]byte{ocitest.Layer(), tarOf("again")}
	var prefix [][]byte
	pick := func() []byte {
		if rng.IntN(4) == 0 {
			return pool[rng.IntN(len(pool))]
		}
		return tarOf(fmt.Sprintf("%08x%s", rng.Uint32(), strings.Repeat("x", rng.IntN(5000))))
	}
	for range rng.IntN(8) {
		prefix = append(prefix, pick())
	}
	kinds := []string{"gzip", "gzip9", "zstd", "none"}
	compress := func(n int) []string {
		if rng.IntN(2) == 0 {
			return slices.Repeat([]string{"gzip"}, n)
		}
		list := make([]string, n)
		for i := range list {
			list[i] = kinds[rng.IntN(len(kinds))]
		}
		return list
	}
	docker := rng.IntN(3) == 0
	for i := range 1 + rng.IntN(5) {
		layers := slices.Clone(prefix)
		for range rng.IntN(5) {
			layers = append(layers, pick())
		}
		ref := fmt.Sprintf("app%d", i)
		write(t, dir, ref, ocitest.Image{Layers: layers, Docker: docker, Author: ref}, compress(len(layers))...)
		refs = append(refs, ref)
	}
	at := 0
	for i := range rng.IntN(4) {
		at += rng.IntN(len(prefix) - at + 1)
		ref := fmt.Sprintf("tier%d", i)
		write(t, dir, ref, ocitest.Image{Layers: prefix[:at], Docker: docker}, compress(at)...)
		tiers = append(tiers, ref)
	}
	return refs, tiers
}
