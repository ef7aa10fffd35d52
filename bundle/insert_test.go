// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// insert inserts into the image called ref and gives that ref to the result.
func (s *site) insert(ref string, opt bundle.InsertOptions) {
	s.Helper()
	opt.Map = unpackOptions().Map
	path, err := bundle.Insert(context.Background(), s.layout, s.resolve(ref), opt)
	s.must(err)
	s.must(s.layout.SetRef(context.Background(), ref, path.Root()))
}

func TestInsert(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(
		ocitest.Dir("etc", 0o755), ocitest.File("etc/keep", "x", 0o644), ocitest.File("etc/drop", "x", 0o644),
		ocitest.Dir("opt", 0o755), ocitest.File("opt/hidden", "x", 0o644),
	)}})
	src := filepath.Join(s.dir, "src")
	s.must(os.MkdirAll(filepath.Join(src, "sub"), 0o750))
	s.must(os.WriteFile(filepath.Join(src, "sub", "file"), []byte("content"), 0o640))
	s.must(os.Symlink("sub/file", filepath.Join(src, "link")))

	s.insert("v0", bundle.InsertOptions{Source: filepath.Join(src, "sub/file"), Target: "/etc/new"})
	s.insert("v0", bundle.InsertOptions{Source: filepath.Join(src, "link"), Target: "etc/link"})
	s.insert("v0", bundle.InsertOptions{Source: src, Target: "opt", Opaque: true})
	s.insert("v0", bundle.InsertOptions{Source: src + "/", Target: "/etc/"})
	s.insert("v0", bundle.InsertOptions{Target: "../etc/drop"})

	got := s.snapshot(s.unpack("v0", "b"))
	for name, want := range map[string]string{
		"etc/keep": "file", "etc/new": "file", "etc/link": "link", "etc/sub/file": "file",
		"opt": "dir", "opt/sub": "dir", "opt/sub/file": "file", "opt/link": "link",
		"etc/drop": "", "opt/hidden": "",
	} {
		if got[name].Type != want {
			t.Errorf("%s: %q, want %q", name, got[name].Type, want)
		}
	}
	if f := got["opt/sub/file"]; f.Mode != 0o640 || f.Size != 7 || got["etc/link"].Link != "sub/file" {
		t.Errorf("got %+v, %+v", f, got["etc/link"])
	}
}

func TestInsertRefuses(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.Dir("d", 0o755))}})
	before := s.resolve("v0")
	for name, opt := range map[string]bundle.InsertOptions{
		"no source":              {Source: filepath.Join(s.dir, "none"), Target: "x"},
		"a whiteout's name":      {Source: s.dir, Target: "d/.wh.x"},
		"deletion of the root":   {Target: "/"},
		"opaque deletion":        {Target: "d", Opaque: true},
		"an opaque file":         {Source: filepath.Join(s.dir, "layout", "index.json"), Target: "x", Opaque: true},
		"deletion of a whiteout": {Target: ".wh.x"},
		"a file as the root":     {Source: filepath.Join(s.dir, "layout", "index.json"), Target: "."},
	} {
		if _, err := bundle.Insert(context.Background(), s.layout, before, opt); err == nil {
			t.Errorf("%s: inserted", name)
		}
	}
}

func TestUnpackRootfs(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.Dir("d", 0o750), ocitest.File("d/f", "x", 0o600))}})
	s.image("bad", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.Dir("d", 0), ocitest.Hardlink("x", "none"))}})
	unpack := func(ref, dir string) error {
		return bundle.UnpackRootfs(context.Background(), s.layout, s.resolve(ref), filepath.Join(s.dir, dir), unpackOptions())
	}
	want := ocitest.Snapshot(t, filepath.Join(s.unpack("v0", "b"), "rootfs"))
	s.must(unpack("v0", "new"))
	ocitest.AssertSame(t, want, ocitest.Snapshot(t, filepath.Join(s.dir, "new")))
	s.must(os.Mkdir(filepath.Join(s.dir, "old"), 0o711))
	s.must(unpack("v0", "old"))
	ocitest.AssertSame(t, want, ocitest.Snapshot(t, filepath.Join(s.dir, "old")))

	if err := unpack("v0", "old"); !errors.Is(err, bundle.ErrExists) {
		t.Errorf("a directory with something in it: %v", err)
	}
	s.must(os.Mkdir(filepath.Join(s.dir, "empty"), 0o711))
	for _, dir := range []string{"empty", "missing"} {
		if err := unpack("bad", dir); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if st := ocitest.Snapshot(t, filepath.Join(s.dir, "empty")); len(st) != 1 || st["."].Mode != 0o711 {
		t.Errorf("left %v", st)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left %v", err)
	}
}

// A bundle is made of an image, changed, and made an image again.
func Example() {
	ctx := context.Background()
	l, err := layout.Open(ctx, "images", nil)
	if err != nil {
		return
	}
	defer l.Close()
	path, err := l.Resolve(ctx, "debian", nil)
	if err != nil {
		return
	}
	rootless := bundle.UnpackOptions{Map: layer.MapOptions{Rootless: true}}
	if err := bundle.Unpack(ctx, l, path, "bundle", rootless); err != nil {
		return
	}
	if err := os.WriteFile("bundle/rootfs/etc/motd", []byte("hello\n"), 0o644); err != nil {
		return
	}
	_, err = bundle.Repack(ctx, l, "bundle", bundle.RepackOptions{Ref: "debian-hello", Refresh: true})
	if err != nil {
		return
	}
}
