// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

func FuzzClassify(f *testing.F) {
	for _, name := range []string{"a", ".wh.a", ".wh..wh..opq", ".wh.", ".wh..", "d/.wh...", ".wh.x/y", ".wh..wh.plnk/1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean := cleanPath(name)
		if clean == "" || strings.HasPrefix(clean, "/") || strings.Contains("/"+clean+"/", "/../") {
			t.Fatalf("cleanPath(%q) = %q", name, clean)
		}
		kind, err := classify(clean)
		if err != nil {
			return
		}
		for _, part := range splitPath(clean) {
			if kind == notWhiteout && strings.HasPrefix(part, whiteoutPrefix) {
				t.Errorf("%q would be created", clean)
			}
		}
		if _, base := splitBase(clean); kind == plainWhiteout {
			if target := strings.TrimPrefix(base, whiteoutPrefix); target == "" || target == "." || target == ".." {
				t.Errorf("%q would delete %q", clean, target)
			}
		}
	})
}

// FuzzApply applies arbitrary bytes as the second layer on a disk. Nothing
// outside the root may change, and what is on the disk must be what the tree
// says.
func FuzzApply(f *testing.F) {
	base := ocitest.Layer(tdir("d"), tfile("d/f"), ocitest.Symlink("out", "../.."), ocitest.Symlink("abs", "/tmp"),
		ocitest.Symlink("loop", "loop"), ocitest.Hardlink("g", "d/f"))
	for _, l := range [][]byte{
		base, ocitest.Layer(ocitest.Whiteout("d/f"), ocitest.Opaque("d")),
		ocitest.Layer(tfile("out/canary"), tfile("abs/x"), ocitest.Hardlink("h", "../canary")),
		ocitest.Layer(tfile("loop/x")), ocitest.Layer(tdir("out"), tdir("d").Mode(0), ocitest.Fifo("d/p", 0o600)),
		ocitest.Layer(ocitest.RawPAX(ocitest.PAXRecord("path", "../../canary")), tfile("x")),
		ocitest.Layer(tfile(".wh...")), bytes.Repeat([]byte{0}, 1024), []byte("junk"),
	} {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		canary := filepath.Join(dir, "canary")
		must(t, os.WriteFile(canary, []byte("untouched"), 0o600))
		path := filepath.Join(dir, "rootfs")
		must(t, os.Mkdir(path, 0o755))
		before := outside(t, dir)
		root, err := rooted.Open(path)
		must(t, err)
		defer root.Close()
		disk, err := NewDisk(root, DiskOptions{Map: rootlessUnlessRoot()})
		must(t, err)
		tree, err := apply(t, disk, ApplyOptions{}, base, data)
		if err != nil {
			disk.Abort()
		} else if err = disk.Finish(context.Background(), tree); err == nil {
			checkTree(t, tree)
			if os.Geteuid() == 0 {
				checkOnDisk(t, path, tree)
			}
		}
		if diff := ocitest.Diff(before, outside(t, dir), "nlink"); len(diff) > 0 {
			t.Errorf("outside of the root: %s", strings.Join(diff, "; "))
		}
		parent, err := rooted.Open(dir)
		must(t, err)
		defer parent.Close()
		must(t, parent.RemoveAll("rootfs"))
	})
}

// outside is a snapshot of all but the root filesystem.
func outside(t *testing.T, dir string) ocitest.Tree {
	t.Helper()
	tree := ocitest.Tree{}
	for name, facts := range ocitest.Snapshot(t, dir) {
		if name != "rootfs" && !strings.HasPrefix(name, "rootfs/") {
			tree[name] = facts
		}
	}
	return tree
}
