// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/test/ocitest"
)

func linux(arch string) ispec.Platform { return ispec.Platform{OS: "linux", Architecture: arch} }

// multi writes an image for two platforms, "a" and "b", and opens the layout.
func (s *site) multi(ref string) {
	s.Helper()
	var nodes []ocitest.Node
	for _, arch := range []string{"a", "b"} {
		layer := ocitest.Layer(ocitest.File("arch", arch, 0o644))
		nodes = append(nodes, ocitest.Image{Layers: [][]byte{layer}, Platform: linux(arch), Author: "author of " + arch})
	}
	ocitest.Index{Nodes: nodes}.Write(s.T, filepath.Join(s.dir, "layout"), ref)
	var err error
	s.layout, err = layout.Open(context.Background(), filepath.Join(s.dir, "layout"), nil)
	s.must(err)
	s.Cleanup(func() { s.layout.Close() })
}

func (s *site) find(ref, arch string) layout.Path {
	s.Helper()
	p := linux(arch)
	path, err := s.layout.Resolve(context.Background(), ref, &layout.ResolveOptions{Platform: &p})
	s.must(err)
	return path
}

func (s *site) unpackPlatform(ref, arch, name string) string {
	s.Helper()
	dir := filepath.Join(s.dir, name)
	s.must(bundle.Unpack(context.Background(), s.layout, s.find(ref, arch), dir, unpackOptions()))
	return dir
}

func (s *site) touch(dir, name string) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(dir, "rootfs", name), []byte(name), 0o644))
}

// has returns the names at the top of an image, and its number of layers as that
// many dots.
func (s *site) has(ref, arch string) string {
	s.Helper()
	dir, err := os.MkdirTemp(s.dir, "look-")
	s.must(err)
	defer removeAll(s.T, dir)
	path := s.find(ref, arch)
	s.must(bundle.UnpackRootfs(context.Background(), s.layout, path, dir, unpackOptions()))
	var names []string
	entries, err := os.ReadDir(dir)
	s.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	i, err := mutate.Open(context.Background(), s.layout, path)
	s.must(err)
	return strings.Join(names, " ") + strings.Repeat(".", len(i.Manifest().Layers))
}

// TestRepackPlatforms repacks the bundles of two platforms again and again, with and
// without refreshing them, into one ref and into others, collecting garbage between.
func TestRepackPlatforms(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refresh bool
		ref     string
	}{
		{"in place", false, "v1"},
		{"in place, refreshed", true, "v1"},
		{"to another ref", false, "new"},
		{"to another ref, refreshed", true, "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.multi("v1")
			a, b := s.unpackPlatform("v1", "a", "bundle-a"), s.unpackPlatform("v1", "b", "bundle-b")
			repack := func(dir, file string) {
				s.touch(dir, file)
				res := s.repack(dir, bundle.RepackOptions{Ref: tt.ref, Refresh: tt.refresh})
				if root, err := s.layout.Lookup(context.Background(), tt.ref); err != nil || root.Digest != res.Path.Root().Digest {
					t.Errorf("after %s the ref leads to %s, %v, and not to the result %s", file, root.Digest, err, res.Path.Root().Digest)
				}
				// Another process, so that nothing is held.
				s.must(s.layout.Close())
				var err error
				s.layout, err = layout.Open(context.Background(), filepath.Join(s.dir, "layout"), nil)
				s.must(err)
				if tt.refresh || tt.ref != "v1" {
					// Otherwise what the bundle was made of would be no more.
					_, err = s.layout.GC(context.Background(), nil)
					s.must(err)
				}
			}
			repack(a, "a1")
			repack(b, "b1")
			repack(a, "a2")
			layers := ".."
			if tt.refresh {
				layers = "..."
			}
			if got, want := s.has(tt.ref, "a"), "a1 a2 arch"+layers; got != want {
				t.Errorf("a has %q, want %q", got, want)
			}
			if got, want := s.has(tt.ref, "b"), "arch b1.."; got != want {
				t.Errorf("b has %q, want %q", got, want)
			}
		})
	}
}

// TestRepackOfAnotherPlatform asks for a platform that the bundle is not of.
func TestRepackOfAnotherPlatform(t *testing.T) {
	s := newSite(t)
	s.multi("v1")
	dir := s.unpackPlatform("v1", "b", "bundle")
	s.touch(dir, "new")
	before := s.find("v1", "b")
	other, same := linux("a"), linux("b")
	_, err := bundle.Repack(context.Background(), s.layout, dir, bundle.RepackOptions{Ref: "v1", Platform: &other})
	if err == nil || !strings.Contains(err.Error(), "for linux/b, not for linux/a") {
		t.Errorf("got %v", err)
	}
	if got := s.find("v1", "b"); got.Target().Digest != before.Target().Digest {
		t.Error("the ref has moved")
	}
	s.repack(dir, bundle.RepackOptions{Ref: "v1", Platform: &same})
	if got, want := s.has("v1", "b"), "arch new.."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRepackAuthor says who is the author of the new layer.
func TestRepackAuthor(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  bundle.RepackOptions
		want string
	}{
		{"none", bundle.RepackOptions{History: &ispec.History{}}, ""},
		{"own", bundle.RepackOptions{History: &ispec.History{Author: "me"}}, "me"},
		{"the image's", bundle.RepackOptions{History: &ispec.History{}, ImageAuthor: true}, "somebody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.image("v1", ocitest.Image{Author: "somebody"})
			dir := s.unpack("v1", "bundle")
			s.touch(dir, "new")
			i, err := mutate.Open(context.Background(), s.layout, s.repack(dir, tt.opt).Path)
			s.must(err)
			if h := i.Config().History; h[len(h)-1].Author != tt.want {
				t.Errorf("got %q, want %q", h[len(h)-1].Author, tt.want)
			}
		})
	}
}
