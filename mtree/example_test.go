// SPDX-License-Identifier: Apache-2.0

package mtree_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/mtree"
)

// Example does what unpack, a person and repack do, one after another.
func Example() {
	ctx := context.Background()
	path, err := os.MkdirTemp("", "example-")
	check(err)
	defer os.RemoveAll(path)
	root := filepath.Join(path, "rootfs")
	check(os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	check(os.WriteFile(filepath.Join(root, "etc/motd"), []byte("hello\n"), 0o644))
	check(os.WriteFile(filepath.Join(root, "etc/issue"), []byte("Debian\n"), 0o644))
	bundle, err := rooted.Open(path)
	check(err)
	rootfs, err := bundle.OpenDir("rootfs")
	check(err)

	// What unpack leaves behind: the manifest, and the stat cache bound to it.
	stamp, err := mtree.TakeStamp(bundle)
	check(err)
	tree, err := mtree.Walk(ctx, rootfs, mtree.WalkOptions{})
	check(err)
	manifest, err := os.Create(filepath.Join(path, "x.mtree"))
	check(err)
	sum, err := tree.WriteManifest(manifest, mtree.NewHeader(root))
	check(err)
	check(manifest.Close())
	cache, err := os.Create(filepath.Join(path, mtree.CacheName("x.mtree")))
	check(err)
	check(tree.WriteCache(cache, sum, stamp))
	check(cache.Close())

	// Somebody changes the root filesystem.
	check(os.WriteFile(filepath.Join(root, "etc/motd"), []byte("good bye\n"), 0o644))
	check(os.Remove(filepath.Join(root, "etc/issue")))

	// What repack finds out.
	base, err := mtree.LoadBaseline(ctx, bundle, "x.mtree")
	check(err)
	now, err := mtree.Walk(ctx, rootfs, mtree.WalkOptions{Cache: base.Cache})
	check(err)
	for _, d := range mtree.Simplify(mtree.Mask(mtree.Compare(base.Tree, now), []string{"/proc"})) {
		if d.New.Exists() && d.New.IsDir() {
			continue // its time may have changed, or not
		}
		fmt.Println(d.Kind, d.Path)
	}
	// Output:
	// deleted etc/issue
	// modified etc/motd
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
