// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// site is a layout and room for bundles.
type site struct {
	*testing.T
	dir    string
	layout *layout.Layout
}

// newSite makes a site on a file system with nanosecond times and xattrs.
func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-bundle-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { removeAll(t, dir) })
	return &site{T: t, dir: dir}
}

// removeAll removes a tree in which there may be directories without any
// permission.
func removeAll(t *testing.T, path string) {
	t.Helper()
	parent, err := rooted.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	if err := parent.RemoveAll(filepath.Base(path)); err != nil {
		t.Fatal(err)
	}
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// image writes an image and opens the layout.
func (s *site) image(ref string, img ocitest.Image) {
	s.Helper()
	img.Write(s.T, filepath.Join(s.dir, "layout"), ref)
	if s.layout == nil {
		var err error
		s.layout, err = layout.Open(context.Background(), filepath.Join(s.dir, "layout"), nil)
		s.must(err)
		s.Cleanup(func() { s.layout.Close() })
	}
}

func (s *site) resolve(ref string) layout.Path {
	s.Helper()
	path, err := s.layout.Resolve(context.Background(), ref, nil)
	s.must(err)
	return path
}

// unpackOptions are those that this user needs.
func unpackOptions() bundle.UnpackOptions {
	return bundle.UnpackOptions{Map: layer.MapOptions{Rootless: os.Geteuid() != 0}}
}

// unpack unpacks the image called ref and returns the bundle's path.
func (s *site) unpack(ref, name string) string {
	s.Helper()
	dir := filepath.Join(s.dir, name)
	s.must(bundle.Unpack(context.Background(), s.layout, s.resolve(ref), dir, unpackOptions()))
	return dir
}

func (s *site) repack(dir string, opt bundle.RepackOptions) bundle.RepackResult {
	s.Helper()
	res, err := bundle.Repack(context.Background(), s.layout, dir, opt)
	s.must(err)
	return res
}

// snapshot takes the tree of a bundle's root filesystem. A mode that somebody
// gave to the placeholder of a device is meant for the device, and a new mark tells
// of it. One that has got content is an ordinary file, whatever its mark.
func (s *site) snapshot(dir string) ocitest.Tree {
	s.Helper()
	tree := ocitest.Snapshot(s.T, filepath.Join(dir, "rootfs")).Seconds()
	for _, f := range tree {
		mark, ok := f.Xattrs[layer.DeviceXattr]
		if f.Size > 0 {
			delete(f.Xattrs, layer.DeviceXattr)
			continue
		}
		if ok && f.Mode != 0 {
			f.Xattrs[layer.DeviceXattr] = fmt.Sprintf("%s%04o", mark[:strings.LastIndexByte(mark, ' ')+1], f.Mode)
		}
	}
	return tree
}

// randomImage writes an image of a random stack.
func (s *site) randomImage(rng *rand.Rand, ref string) ocitest.Stack {
	stack := ocitest.RandomStack(rng, 1+rng.IntN(4), ocitest.StackOptions{Unprivileged: os.Geteuid() != 0})
	s.image(ref, ocitest.Image{Layers: stack.Layers(), Compression: []string{"gzip", "zstd", "none"}[rng.IntN(3)]})
	return stack
}

// TestRepackRoundTrip is the property that the package stands for: whatever is
// changed in a bundle, the image made of it unpacks to the same tree, and a
// bundle in which nothing is changed makes no other image.
func TestRepackRoundTrip(t *testing.T) {
	ocitest.Modes(t, func(t *testing.T) {
		for seed := range uint64(40) {
			s := newSite(t)
			rng := rand.New(rand.NewPCG(seed, 7))
			stack := s.randomImage(rng, "v0")
			dir := s.unpack("v0", "b0")
			for round := 1; round <= 2; round++ {
				edits := ocitest.RandomEdits(t, rng, filepath.Join(dir, "rootfs"), 1+rng.IntN(12))
				if rng.IntN(3) == 0 {
					s.must(removeCaches(dir))
				}
				ref := fmt.Sprintf("v%d", round)
				want := s.snapshot(dir)
				s.repack(dir, bundle.RepackOptions{Ref: ref, Refresh: true, History: &ispec.History{CreatedBy: "test"}})
				s.sameDigests(dir, ref)

				fresh := s.unpack(ref, "b"+ref)
				if diff := ocitest.Diff(want, s.snapshot(fresh)); len(diff) > 0 {
					t.Fatalf("seed %d, round %d:\n%s\nedits:\n%s\n%s", seed, round, strings.Join(diff, "\n"), edits, stack)
				}
				s.sameDigests(fresh, ref)
			}
		}
	})
}

// sameDigests repacks a bundle in which nothing has changed since it was made
// of the image called ref.
func (s *site) sameDigests(dir, ref string) {
	s.Helper()
	res := s.repack(dir, bundle.RepackOptions{History: &ispec.History{CreatedBy: "nothing"}})
	if want := s.resolve(ref).Target().Digest; res.Layer != nil || res.Path.Target().Digest != want {
		s.Fatalf("an unchanged bundle of %s became %s with %d changes", want, res.Path.Target().Digest, res.Changes)
	}
}

func removeCaches(dir string) error {
	caches, err := filepath.Glob(filepath.Join(dir, "*.stat*"))
	for _, cache := range caches {
		err = errors.Join(err, os.Remove(cache))
	}
	if len(caches) == 0 {
		err = errors.Join(err, errors.New("there is no stat cache to remove"))
	}
	return err
}

// TestRepackIsReproducible repacks the same edit of two bundles.
func TestRepackIsReproducible(t *testing.T) {
	for seed := range uint64(10) {
		s := newSite(t)
		s.randomImage(rand.New(rand.NewPCG(seed, 8)), "v0")
		epoch := int64(1_000_000_000)
		var digests []string
		for _, name := range []string{"one", "two"} {
			dir := s.unpack("v0", name)
			ocitest.RandomEdits(t, rand.New(rand.NewPCG(seed, 9)), filepath.Join(dir, "rootfs"), 8)
			s.must(os.WriteFile(filepath.Join(dir, "rootfs", "new"), []byte("x"), 0o644))
			res := s.repack(dir, bundle.RepackOptions{Clamp: &epoch})
			digests = append(digests, res.Path.Target().Digest.String())
		}
		if digests[0] != digests[1] {
			t.Errorf("seed %d: the same edit gives %s and %s", seed, digests[0], digests[1])
		}
	}
}

func TestMasks(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{
		Layers: [][]byte{ocitest.Layer(ocitest.Dir("data", 0o755), ocitest.Dir("tmp", 0o1777), ocitest.File("data/old", "x", 0o644))},
		Config: ispec.ImageConfig{Volumes: map[string]struct{}{"/data": {}}},
	})
	dir := s.unpack("v0", "b")
	for _, name := range []string{"data/new", "tmp/new", "new"} {
		s.must(os.WriteFile(filepath.Join(dir, "rootfs", name), []byte("x"), 0o644))
	}
	for _, tc := range []struct {
		opt  bundle.RepackOptions
		want string
	}{
		{bundle.RepackOptions{}, "new tmp tmp/new"},
		{bundle.RepackOptions{Masks: []string{"/tmp"}}, "new"},
		{bundle.RepackOptions{NoMaskVolumes: true, Masks: []string{"tmp"}}, "data data/new data/old new"},
	} {
		tc.opt.Ref = "v1"
		s.repack(dir, tc.opt)
		got := s.snapshot(s.unpack("v1", "fresh"))
		for _, name := range []string{"data/new", "tmp/new", "new"} {
			_, ok := got[name]
			if ok != strings.Contains(" "+tc.want+" ", " "+name+" ") {
				t.Errorf("masks %q, no mask volumes %v: %s is there: %v", tc.opt.Masks, tc.opt.NoMaskVolumes, name, ok)
			}
		}
		removeAll(t, filepath.Join(s.dir, "fresh"))
	}
}

func TestUnpackRefusesWhatIsThere(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "x", 0o644))}})
	for _, name := range []string{"rootfs", "config.json", "umoci.json"} {
		dir := filepath.Join(s.dir, "b-"+name)
		s.must(os.MkdirAll(filepath.Join(dir, name, "keep"), 0o755))
		before := ocitest.Snapshot(t, dir)
		err := bundle.Unpack(context.Background(), s.layout, s.resolve("v0"), dir, unpackOptions())
		if !errors.Is(err, bundle.ErrExists) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		ocitest.AssertSame(t, before, ocitest.Snapshot(t, dir))
	}
}

func TestFailedUnpackLeavesNothing(t *testing.T) {
	s := newSite(t)
	good := ocitest.Layer(ocitest.File("a/b/c", strings.Repeat("x", 100_000), 0o644))
	bad := ocitest.Layer(ocitest.Dir("locked", 0), ocitest.File("locked/f", "x", 0), ocitest.Hardlink("x", "nothing"))
	s.image("bad", ocitest.Image{Layers: [][]byte{good, bad}})
	s.image("short", ocitest.Image{Layers: [][]byte{good}, Edit: func(img *ispec.Image, _ *ispec.Manifest) { img.RootFS.DiffIDs = nil }})
	s.image("wrong", ocitest.Image{Layers: [][]byte{good, good}, Edit: func(img *ispec.Image, _ *ispec.Manifest) {
		img.RootFS.DiffIDs[1] = img.RootFS.DiffIDs[1][:20] + "0" + img.RootFS.DiffIDs[1][21:]
	}})
	s.image("user", ocitest.Image{Layers: [][]byte{good}, Config: ispec.ImageConfig{User: "4294967296"}})
	old := filepath.Join(s.dir, "old")
	s.must(os.Mkdir(old, 0o755))
	s.must(os.WriteFile(filepath.Join(old, "mine"), nil, 0o644))
	for ref, says := range map[string]string{"bad": "entry x: hardlink", "short": "0 diff_ids for 1 layers", "wrong": "diffID", "user": "4294967296"} {
		for _, dir := range []string{filepath.Join(s.dir, "new", "deep"), old} {
			err := bundle.Unpack(context.Background(), s.layout, s.resolve(ref), dir, unpackOptions())
			if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(s.dir, "new")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: left %v", ref, err)
		}
		entries, err := os.ReadDir(old)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: the old directory holds %v, %v", ref, entries, err)
		}
	}
}

// TestUnpackNamesTheLayer has a layer fail early, when the one after it is read
// already, and when it is over.
func TestUnpackNamesTheLayer(t *testing.T) {
	s := newSite(t)
	good := ocitest.Layer(ocitest.File("f", "x", 0o644), ocitest.File("g", "x", 0o644))
	late := ocitest.Layer(ocitest.File("late", "x", 0o644).Xattr("security.capability", "no capability"))
	dir := ocitest.Layer(ocitest.Dir("late", 0o755).Xattr("security.capability", "no capability"))
	for name, layers := range map[string][][]byte{
		"last":  {good, late},
		"then":  {good, late, good, good},
		"dir":   {good, dir, good},
		"magic": {good, ocitest.Layer(ocitest.File("magic", "x", 0o644))},
	} {
		s.image(name, ocitest.Image{Layers: layers})
		path := s.resolve(name)
		manifest, err := s.layout.Manifest(context.Background(), path.Target())
		s.must(err)
		d := manifest.Layers[1].Digest
		if name == "magic" {
			blob := filepath.Join(s.dir, "layout", "blobs", "sha256", d.Encoded())
			data, err := os.ReadFile(blob)
			s.must(err)
			data[0] ^= 1
			s.must(os.WriteFile(blob, data, 0o644))
		}
		err = bundle.Unpack(context.Background(), s.layout, path, filepath.Join(s.dir, name), unpackOptions())
		if err == nil || !strings.Contains(err.Error(), "layer "+d.String()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, and layer %s is bad", name, err, d)
		}
	}
}

func TestCancelledUnpackLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "x", 0o644))}})
	path := s.resolve("v0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := filepath.Join(s.dir, "b")
	if err := bundle.Unpack(ctx, s.layout, path, dir, unpackOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left %v", err)
	}
}

func TestRepackRefusesForeignBundles(t *testing.T) {
	s := newSite(t)
	s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.Dir("d", 0o755))}})
	for name, damage := range map[string]func(dir string){
		"empty metadata":   func(dir string) { s.must(os.Truncate(filepath.Join(dir, "umoci.json"), 0)) },
		"foreign metadata": func(dir string) { s.must(os.WriteFile(filepath.Join(dir, "umoci.json"), []byte(`{"a":1}`), 0o644)) },
		"old version": func(dir string) {
			s.must(os.WriteFile(filepath.Join(dir, "umoci.json"), []byte(`{"umoci_version":"1"}`), 0o644))
		},
		"no metadata": func(dir string) { s.must(os.Remove(filepath.Join(dir, "umoci.json"))) },
		"rootfs is a link": func(dir string) {
			s.must(os.Rename(filepath.Join(dir, "rootfs"), filepath.Join(dir, "real")))
			s.must(os.Symlink("real", filepath.Join(dir, "rootfs")))
		},
		"no mtree manifest": func(dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "*.mtree"))
			s.must(os.Remove(files[0]))
		},
	} {
		dir := s.unpack("v0", "b")
		damage(dir)
		if _, err := bundle.Repack(context.Background(), s.layout, dir, bundle.RepackOptions{Ref: "v1"}); err == nil {
			t.Errorf("%s: repacked", name)
		}
		if refs, err := s.layout.Refs(context.Background()); err != nil || len(refs) != 1 {
			t.Errorf("%s: refs %v, %v", name, refs, err)
		}
		removeAll(t, dir)
	}
}
