// SPDX-License-Identifier: Apache-2.0

package layer_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	umoci "github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/test/ocitest"
)

// stacks is how many random stacks each oracle sees.
const stacks = 150

// epoch gives a directory the metadata that a tree's root has before a layer
// says otherwise.
func epoch(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
}

// byShale unpacks a stack with the merge engine.
func byShale(t *testing.T, dir string, stack ocitest.Stack, opt layer.MapOptions) ocitest.Tree {
	t.Helper()
	epoch(t, dir)
	root, err := rooted.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	disk, err := layer.NewDisk(root, layer.DiskOptions{Map: opt})
	if err != nil {
		t.Fatal(err)
	}
	tree := layer.NewTree()
	for i, l := range stack.Layers() {
		if err := tree.Apply(context.Background(), bytes.NewReader(l), disk, layer.ApplyOptions{}); err != nil {
			t.Fatalf("layer %d: %v\n%s", i+1, err, stack)
		}
	}
	if err := disk.Finish(context.Background(), tree); err != nil {
		t.Fatal(err)
	}
	return ocitest.Snapshot(t, dir)
}

// byUmoci unpacks a stack with umoci's library.
func byUmoci(t *testing.T, dir string, stack ocitest.Stack, opt layer.MapOptions) ocitest.Tree {
	t.Helper()
	epoch(t, dir)
	format := umoci.DirRootfs{MapOptions: umoci.MapOptions{Rootless: opt.Rootless}}
	for i, l := range stack.Layers() {
		if err := umoci.UnpackLayer(dir, bytes.NewReader(l), &umoci.UnpackOptions{OnDiskFormat: format}); err != nil {
			t.Fatalf("umoci: layer %d: %v\n%s", i+1, err, stack)
		}
	}
	return ocitest.Snapshot(t, dir)
}

// byKernel has the kernel merge the layers, each unpacked by umoci's library
// with the whiteouts of overlayfs.
func byKernel(t *testing.T, dir string, stack ocitest.Stack) ocitest.Tree {
	t.Helper()
	var lowers []string
	for i, entries := range stack {
		l := ocitest.Layer(withoutRedundantWhiteouts(entries)...)
		lower := filepath.Join(dir, fmt.Sprint(i))
		epoch(t, lower)
		if err := umoci.UnpackLayer(lower, bytes.NewReader(l), &umoci.UnpackOptions{OnDiskFormat: umoci.OverlayfsRootfs{}}); err != nil {
			t.Fatalf("umoci: layer %d: %v\n%s", i+1, err, stack)
		}
		lowers = append(lowers, lower)
	}
	slices.Reverse(lowers)
	merged := filepath.Join(dir, "merged")
	epoch(t, merged)
	// The overlay of one directory needs a second one.
	empty := filepath.Join(dir, "empty")
	epoch(t, empty)
	options := "lowerdir=" + strings.Join(append(lowers, empty), ":")
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, options); err != nil {
		t.Skipf("no oracle: this user may not mount an overlay here: %v", err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH) //nolint:errcheck // the test is over
	return ocitest.Snapshot(t, merged)
}

// withoutRedundantWhiteouts leaves out the whiteouts below a directory that the
// same layer makes opaque. They delete nothing that is not gone already, but
// umoci's library makes their parents in the overlay's directory for them.
func withoutRedundantWhiteouts(entries []ocitest.Entry) []ocitest.Entry {
	const opaque = ".wh..wh..opq"
	var dirs []string
	for _, e := range entries {
		if path.Base(e.Header.Name) == opaque {
			dirs = append(dirs, path.Dir(path.Clean(e.Header.Name))+"/")
		}
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e ocitest.Entry) bool {
		name := path.Clean(e.Header.Name)
		base := path.Base(name)
		return base != opaque && strings.HasPrefix(base, ".wh.") && slices.ContainsFunc(dirs, func(dir string) bool {
			return strings.HasPrefix(name, dir)
		})
	})
}

// tempRoot is a directory on a file system with nanosecond times and xattrs.
func tempRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-oracle-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// compareStacks compares random stacks, unpacked by shale, with an oracle. What
// the oracle cannot know of a name, adjust takes over from shale's.
func compareStacks(
	t *testing.T, opt ocitest.StackOptions,
	oracle func(*testing.T, string, ocitest.Stack) ocitest.Tree, adjust func(oracle, shale ocitest.Facts) ocitest.Facts,
) {
	m := layer.MapOptions{Rootless: os.Geteuid() != 0}
	opt.Unprivileged = m.Rootless
	for seed := range uint64(stacks) {
		dir := tempRoot(t)
		rng := rand.New(rand.NewPCG(seed, 42))
		stack := ocitest.RandomStack(rng, 1+rng.IntN(6), opt)
		want := oracle(t, filepath.Join(dir, "oracle"), stack)
		got := byShale(t, filepath.Join(dir, "shale"), stack, m)
		for name, facts := range want {
			if shale, ok := got[name]; ok {
				want[name] = adjust(facts, shale)
			}
		}
		if diff := ocitest.Diff(want, got); len(diff) > 0 {
			t.Fatalf("seed %d:\n%s\n%s", seed, strings.Join(diff, "\n"), stack)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStacksAgainstUmoci(t *testing.T) {
	start := time.Now().Add(-time.Second).UnixNano()
	compareStacks(t, ocitest.StackOptions{}, func(t *testing.T, dir string, s ocitest.Stack) ocitest.Tree {
		return byUmoci(t, dir, s, layer.MapOptions{Rootless: os.Geteuid() != 0})
	}, func(oracle, shale ocitest.Facts) ocitest.Facts {
		// Making the implied parents of an entry leaves the present time on the
		// directory that they are in.
		if oracle.Type == "dir" && oracle.Mtime >= start {
			oracle.Mtime = shale.Mtime
		}
		return oracle
	})
}

func TestStacksAgainstOverlayfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("no oracle: only root may mount an overlay with trusted xattrs and devices")
	}
	opt := ocitest.StackOptions{NoLinkedParents: true, NoCrossLinks: true}
	compareStacks(t, opt, byKernel, func(oracle, shale ocitest.Facts) ocitest.Facts {
		// Overlayfs counts the links that a whiteout hides.
		oracle.Nlink, oracle.Group = shale.Nlink, shale.Group
		if oracle.Type != "dir" {
			return oracle
		}
		// A layer unpacked alone has made-up metadata for the directories that it
		// has no entry for, and overlayfs takes them for the layer's.
		oracle.Mode, oracle.UID, oracle.GID, oracle.Mtime = shale.Mode, shale.UID, shale.GID, shale.Mtime
		oracle.Xattrs = shale.Xattrs
		return oracle
	})
}
