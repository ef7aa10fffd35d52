// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/pack"
)

// TestSwap swaps a directory with a link that leads out of the tree, over and over, while the
// tree is packed in all ways: nothing from outside gets into a layer.
func TestSwap(t *testing.T) {
	const secret = "this is from outside"
	root := tempRoot(t)
	outside := filepath.Join(root, "outside")
	dirs := []string{filepath.Join(root, "a"), filepath.Join(root, "b")}
	for _, dir := range append([]string{outside}, filepath.Join(dirs[0], "d"), filepath.Join(dirs[1], "d")) {
		must(t, os.MkdirAll(dir, 0o755))
		content := "this is from inside!"
		if dir == outside {
			content = secret
		}
		for _, name := range []string{"1", "2", "3"} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
			must(t, os.Chtimes(filepath.Join(dir, name), time.Unix(1, 0), time.Unix(1, 0)))
		}
	}
	var links []string
	for i, dir := range dirs {
		links = append(links, filepath.Join(root, "link"+string(rune('0'+i))))
		must(t, os.Symlink(outside, links[i]))
		if err := exchange(links[i], filepath.Join(dir, "d")); err != nil {
			t.Skipf("nothing can be exchanged here: %v", err)
		}
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = exchange(links[i%2], filepath.Join(dirs[i%2], "d"))
			}
		}
	})
	defer swapping.Wait()
	defer close(stop)
	good, bad := 0, 0
	l := newLayout(t)
	for range 80 {
		res, err := pack.Image(t.Context(), l, []pack.Snapshot{
			{Name: "a", Dir: dirs[0]}, {Name: "b", Dir: dirs[1], Parent: "a"}, {Name: "c", Upper: dirs[0], Parent: "b"},
		}, pack.Options{Map: mapping(), Compression: layer.None})
		if err != nil {
			bad++
			if !errors.Is(err, layer.ErrChanged) && !errors.Is(err, mtree.ErrChanged) && !errors.Is(err, fs.ErrNotExist) &&
				!errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EINVAL) {
				t.Errorf("got %v", err)
			}
			continue
		}
		good++
		for i, data := range plainLayers(t, l, res.Descriptor) {
			if bytes.Contains(data, []byte(secret)) {
				t.Fatalf("layer %d has content from outside", i)
			}
		}
	}
	t.Logf("%d packed, %d refused", good, bad)
}

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
