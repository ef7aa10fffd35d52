// SPDX-License-Identifier: Apache-2.0

package ocitest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apex/log"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/cas/dir"
	"github.com/opencontainers/umoci/oci/casext"
	umocilayer "github.com/opencontainers/umoci/oci/layer"

	"github.com/shale-oci/shale/test/ocitest"
)

func TestMain(m *testing.M) {
	log.SetLevel(log.ErrorLevel) // umoci's library logs every layer
	m.Run()
}

// members reads a layer back with archive/tar.
func members(t *testing.T, layer []byte) []tar.Header {
	t.Helper()
	var all []tar.Header
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *h)
	}
}

func TestLayer(t *testing.T) {
	exact := time.Unix(1, 5)
	got := members(t, ocitest.Layer(
		ocitest.Dir("a", 0o755).Owner(1, 2),
		ocitest.File("a/f", "hello", 0o4644).Mtime(exact).Xattr("user.x", "1\x00"),
		ocitest.Symlink("a/s", "f"),
		ocitest.Hardlink("a/h", "a/f"),
		ocitest.Whiteout("a/w"),
		ocitest.Opaque("a"),
		ocitest.Fifo("p", 0o600),
		ocitest.Char("c", 0o600, 1, 3),
		ocitest.RawMember(ocitest.RawHeader{Name: "../raw", Typeflag: '0', Size: "00000000003"}, []byte("abc")),
		ocitest.RawPAX(ocitest.PAXRecord("path", strings.Repeat("n", 120))),
		ocitest.File("short", "", 0o644),
	))
	want := []string{"a/", "a/f", "a/s", "a/h", "a/.wh.w", "a/.wh..wh..opq", "p", "c", "../raw", strings.Repeat("n", 120)}
	var names []string
	for _, h := range got {
		names = append(names, h.Name)
	}
	if !reflect.DeepEqual(names, want) {
		t.Fatalf("names %q, want %q", names, want)
	}
	if h := got[0]; h.Uid != 1 || h.Gid != 2 {
		t.Errorf("owner %d:%d", h.Uid, h.Gid)
	}
	if h := got[1]; !h.ModTime.Equal(exact) || h.PAXRecords["SCHILY.xattr.user.x"] != "1\x00" || h.Size != 5 || h.Mode != 0o4644 {
		t.Errorf("file %+v", h)
	}
	if h := got[3]; h.Linkname != "a/f" || h.Typeflag != tar.TypeLink {
		t.Errorf("hardlink %+v", h)
	}
	if h := got[8]; h.Size != 3 || !h.ModTime.Equal(ocitest.Epoch) {
		t.Errorf("raw member %+v", h)
	}
}

func TestPAXRecordCountsItsOwnLength(t *testing.T) {
	for n := range 1200 {
		record := ocitest.PAXRecord("k", strings.Repeat("v", n))
		if want := fmt.Sprintf("%d k=", len(record)); !strings.HasPrefix(record, want) {
			t.Fatalf("%d bytes begin with %q", len(record), record[:8])
		}
	}
}

// TestImageIsReadByUmoci writes each kind of image and has umoci's library
// read it back.
func TestImageIsReadByUmoci(t *testing.T) {
	layers := [][]byte{
		ocitest.Layer(ocitest.File("f", "one", 0o644)),
		ocitest.Layer(ocitest.File("g", "two", 0o644)),
	}
	for _, compression := range []string{"gzip", "zstd", "none"} {
		t.Run(compression, func(t *testing.T) {
			layout := filepath.Join(t.TempDir(), "layout")
			ocitest.Image{Layers: layers, Compression: compression}.Write(t, layout, "other")
			ocitest.Image{Layers: layers[:1], Compression: compression}.Write(t, layout, "latest")
			ocitest.Image{Layers: layers, Compression: compression}.Write(t, layout, "latest")
			rootfs := filepath.Join(t.TempDir(), "rootfs")
			if err := unpackWithUmoci(t, layout, "latest", rootfs); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{"f": "one", "g": "two"} {
				if b, err := os.ReadFile(filepath.Join(rootfs, name)); err != nil || string(b) != content {
					t.Errorf("%s: %q, %v", name, b, err)
				}
			}
		})
	}
}

func TestIndexHoldsPlatforms(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "layout")
	arm := ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	d := ocitest.Index{Nodes: []ocitest.Node{
		ocitest.Image{},
		ocitest.Image{Platform: arm},
	}}.Write(t, layout, "multi")
	b, err := os.ReadFile(filepath.Join(layout, "blobs", "sha256", d.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if d.MediaType != ispec.MediaTypeImageIndex || !strings.Contains(string(b), `"variant":"v8"`) || !strings.Contains(string(b), `"amd64"`) {
		t.Errorf("index %+v: %s", d, b)
	}
}

// unpackWithUmoci unpacks the only image called ref.
func unpackWithUmoci(t *testing.T, layout, ref, rootfs string) error {
	t.Helper()
	ctx := context.Background()
	engine, err := dir.Open(layout)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Close() }() // only read
	store := casext.NewEngine(engine)
	paths, err := store.ResolveReference(ctx, ref)
	if err != nil || len(paths) != 1 {
		t.Fatalf("resolve %q: %v, %v", ref, paths, err)
	}
	blob, err := store.FromDescriptor(ctx, paths[0].Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blob.Close() }() // only read
	manifest, ok := blob.Data.(ispec.Manifest)
	if !ok {
		t.Fatalf("%q is a %T", ref, blob.Data)
	}
	return umocilayer.UnpackRootfs(ctx, store, rootfs, manifest, &umocilayer.UnpackOptions{})
}

// TestRandomStackIsValid has umoci's library unpack many stacks: it must refuse
// none, and nothing may be left of the names that the model thinks gone.
func TestRandomStackIsValid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the stacks hold owners and devices")
	}
	for seed := range uint64(100) {
		stack := ocitest.RandomStack(rand.New(rand.NewPCG(seed, 1)), 4, ocitest.StackOptions{})
		temp := t.TempDir()
		layout, rootfs := filepath.Join(temp, "layout"), filepath.Join(temp, "rootfs")
		ocitest.Image{Layers: stack.Layers(), Compression: "none"}.Write(t, layout, "latest")
		if err := unpackWithUmoci(t, layout, "latest", rootfs); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, stack)
		}
		if len(ocitest.Snapshot(t, rootfs)) < 5 {
			t.Errorf("seed %d: hardly anything in\n%v", seed, stack)
		}
	}
}

// TestRandomStackCoversAll counts what the stacks hold, so that a mistake in
// the generator cannot quietly make the tests that use it weaker.
func TestRandomStackCoversAll(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		for _, layer := range ocitest.RandomStack(rand.New(rand.NewPCG(seed, 2)), 4, ocitest.StackOptions{}) {
			names := map[string]bool{}
			for _, e := range layer {
				h := e.Header
				seen[fmt.Sprintf("type %c", h.Typeflag)]++
				base := filepath.Base(h.Name)
				switch {
				case base == ".wh..wh..opq":
					seen["opaque"]++
				case strings.HasPrefix(base, ".wh."):
					seen["whiteout"]++
				case names[h.Name]:
					seen["duplicate"]++
				case h.Typeflag == tar.TypeDir && hasBelow(names, h.Name):
					seen["entry before its parent's"]++
				}
				names[h.Name] = true
				if h.ModTime.Nanosecond() != 0 {
					seen["fraction"]++
				}
				if len(h.PAXRecords) > 0 {
					seen["xattr"]++
				}
			}
		}
	}
	for _, what := range []string{"type 0", "type 1", "type 2", "type 3", "type 5", "type 6", "opaque", "whiteout", "duplicate", "entry before its parent's", "fraction", "xattr"} {
		if seen[what] < 20 {
			t.Errorf("%s: only %d in 200 stacks (%v)", what, seen[what], seen)
		}
	}
}

func hasBelow(names map[string]bool, dir string) bool {
	for name := range names {
		if name != dir && strings.HasPrefix(name, dir) {
			return true
		}
	}
	return false
}

func TestRandomIsRepeatable(t *testing.T) {
	a := ocitest.RandomStack(rand.New(rand.NewPCG(7, 7)), 5, ocitest.StackOptions{})
	b := ocitest.RandomStack(rand.New(rand.NewPCG(7, 7)), 5, ocitest.StackOptions{})
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gave two stacks")
	}
}

// TestRandomEdits applies edits in every mode: none may fail, and they must
// show in a snapshot.
func TestRandomEdits(t *testing.T) {
	ocitest.Modes(t, func(t *testing.T) {
		for seed := range uint64(10) {
			root := filepath.Join(t.TempDir(), "root")
			if err := os.MkdirAll(filepath.Join(root, "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
			before := ocitest.Snapshot(t, root)
			edits := ocitest.RandomEdits(t, rand.New(rand.NewPCG(seed, 3)), root, 40)
			if len(edits.Log) != 40 || len(ocitest.Diff(before, ocitest.Snapshot(t, root))) == 0 {
				t.Errorf("edits %v changed nothing", edits)
			}
			if seed == 0 {
				t.Logf("left out: %q", edits.Reduced)
			}
		}
	})
}

func TestDiffNamesEveryFact(t *testing.T) {
	root := t.TempDir()
	file, link := filepath.Join(root, "file"), filepath.Join(root, "link")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(file, []byte("1"), 0o644))
	must(os.Symlink("a", link))
	before := ocitest.Snapshot(t, root)
	changes := []struct {
		fact string
		do   func() error
	}{
		{"sha256", func() error { return os.WriteFile(file, []byte("2"), 0o644) }},
		{"size", func() error { return os.WriteFile(file, []byte("22"), 0o644) }},
		{"mode", func() error { return os.Chmod(file, 0o600) }},
		{"mtime", func() error { return os.Chtimes(file, time.Time{}, time.Unix(0, 1)) }},
		{"link", func() error { return errors.Join(os.Remove(link), os.Symlink("b", link)) }},
		{"nlink", func() error { return os.Link(file, filepath.Join(root, "second")) }},
		{"type", func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) }},
	}
	for _, c := range changes {
		must(c.do())
		lines := strings.Join(ocitest.Diff(before, ocitest.Snapshot(t, root)), "\n")
		if !strings.Contains(lines, c.fact+" ") {
			t.Errorf("no %s in\n%s", c.fact, lines)
		}
	}
	lines := ocitest.Diff(before, before)
	if len(lines) != 0 {
		t.Errorf("a tree differs from itself: %q", lines)
	}
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "layout")
	image := ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "content", 0o644))}}
	ocitest.Index{Nodes: []ocitest.Node{image}}.Write(t, layout, "latest")
	ocitest.AssertWhole(t, layout)
	blobs, err := filepath.Glob(filepath.Join(layout, "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 4 {
		t.Fatalf("blobs %q, %v", blobs, err)
	}
	for _, blob := range blobs {
		good, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string][]byte{
			"flipped":   append([]byte{good[0] ^ 1}, good[1:]...),
			"truncated": good[:len(good)-1],
			"longer":    append(good[:len(good):len(good)], 0),
		} {
			if err := os.WriteFile(blob, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if ocitest.Verify(layout) == nil {
				t.Errorf("%s %s went unseen", what, blob)
			}
		}
		if err := os.WriteFile(blob, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wrong := image
	wrong.Edit = func(config *ispec.Image, _ *ispec.Manifest) { config.RootFS.DiffIDs[0] = digest.FromString("another") }
	wrong.Write(t, layout, "wrong")
	if ocitest.Verify(layout) == nil {
		t.Error("a wrong diffID went unseen")
	}
}

func TestAssertAllocates(t *testing.T) {
	var kept []byte
	for most, want := range map[uint64]bool{1 << 20: false, 16 << 20: true} {
		r := &silent{TB: t}
		ocitest.AssertAllocates(r, most, func() { kept = make([]byte, 8<<20) })
		if r.failed == want {
			t.Errorf("8 MiB of at most %d: failed is %v", most, r.failed)
		}
	}
	for often, want := range map[int]bool{1: true, 100: false} {
		r, calls := &silent{TB: t}, 0
		ocitest.AssertPureAllocates(r, 1<<20, func() {
			if calls++; calls <= often {
				kept = make([]byte, 8<<20)
			}
		})
		if r.failed == want {
			t.Errorf("8 MiB of at most 1 in %d of %d calls: failed is %v", often, calls, r.failed)
		}
	}
	_ = kept
}

// silent is a test that only notes whether it has failed.
type silent struct {
	testing.TB
	failed bool
}

func (s *silent) Helper()               {}
func (s *silent) Errorf(string, ...any) { s.failed = true }
