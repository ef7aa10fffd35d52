// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// files lists an image of the layers.
func files(t *testing.T, layers [][]byte, which string) ([]inspect.File, *inspect.FilesSummary) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "l")
	ocitest.Image{Layers: layers}.Write(t, dir, "x")
	list, sum, err := listFiles(t, dir, which)
	if err != nil {
		t.Fatal(err)
	}
	return list, sum
}

func listFiles(t *testing.T, dir, which string) (list []inspect.File, _ *inspect.FilesSummary, _ error) {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path, err := l.Resolve(t.Context(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := inspect.Files(t.Context(), l, path, inspect.FilesOptions{Layer: which}, func(f inspect.File) error {
		list = append(list, f)
		return nil
	})
	return list, sum, err
}

// brief is a listing in a few words: layer, type, path, and what is hidden.
func brief(list []inspect.File) string {
	var words []string
	for _, f := range list {
		word := fmt.Sprintf("%d%c%s", f.Layer, f.Type[0], f.Path)
		if f.Shadows > 0 {
			word += fmt.Sprintf("(%d)", f.Shadows)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestFilesOfLayers(t *testing.T) {
	layers := [][]byte{
		ocitest.Layer(
			ocitest.Dir("d", 0o750).Owner(1, 2),
			ocitest.File("d/a", "1", 0o644), ocitest.File("d/b", "22", 0o4711),
			ocitest.File("f", "333", 0o644), ocitest.Hardlink("g", "f"), ocitest.Symlink("s", "d/a"),
		),
		ocitest.Layer(
			ocitest.Whiteout("f"), // g still has it
			ocitest.File("d/a", "4444", 0o644),
			ocitest.Whiteout("d/b"),
			ocitest.File("new/x", "55555", 0o644), ocitest.Char("null", 0o666, 1, 3),
		),
		ocitest.Layer(ocitest.Dir("d", 0o700), ocitest.Opaque("d"), ocitest.File("d/a", "6", 0o644), ocitest.Fifo("g", 0o600)),
		ocitest.Layer(),
	}
	for which, want := range map[string]string{
		"":  "0d/ 3d/d 3f/d/a(4) 3f/g(3) 2d/new 2f/new/x 2c/null 1s/s",
		"1": "1d/d 1f/d/a 1f/d/b 1f/f 1f/g 1s/s",
		"2": "2w/f 2w/d/b(2) 2f/d/a(1) 2f/new/x 2c/null",
		"3": "3d/d 3f/d/a(4) 3f/g(3)",
		"4": "",
	} {
		list, sum := files(t, layers, which)
		if got := brief(list); got != want {
			t.Errorf("layer %s:\ngot  %s\nwant %s", which, got, want)
		}
		if which != "" {
			continue
		}
		var usage []string
		for _, l := range sum.Layers {
			usage = append(usage, fmt.Sprintf("%d files %d bytes %d wasted %d hidden", l.Files, l.Bytes, l.Wasted, l.Shadows))
		}
		want := "3 files 6 bytes 6 wasted 0 hidden, 2 files 9 bytes 4 wasted 3 hidden, 1 files 1 bytes 0 wasted 7 hidden, 0 files 0 bytes 0 wasted 0 hidden"
		if got := strings.Join(usage, ", "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if sum.Bytes != 16 || sum.Wasted != 10 || sum.Efficiency != 6.0/16 {
			t.Errorf("%+v", sum)
		}
		data, err := json.Marshal(list[2])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(data), `{"path":"/d/a","type":"file","mode":"0644","uid":0,"gid":0,"size":1,`+
			`"mtime":"2017-07-14T02:40:00Z","layer":3,"shadows":4}`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestFilesFacts(t *testing.T) {
	list, _ := files(t, [][]byte{ocitest.Layer(
		ocitest.File("a", "x", 0o6755).Owner(7, 8).Xattr("user.b", "1").Xattr("user.a", "2"),
		ocitest.Hardlink("b", "a"),
		ocitest.Block("c", 0o600, 8, 1),
		ocitest.Symlink("d\n", "\xff"),
	)}, "")
	a, b, c, d := list[1], list[2], list[3], list[4]
	if a.Mode != "6755" || a.UID != 7 || a.GID != 8 || !slices.Equal(a.Xattrs, []string{"user.a", "user.b"}) || a.Hardlink != "" {
		t.Errorf("%+v", a)
	}
	if b.Hardlink != "/a" || b.Size != 1 || b.Mode != "6755" {
		t.Errorf("%+v", b)
	}
	if c.Device != "8:1" || c.Type != "block" {
		t.Errorf("%+v", c)
	}
	if d.Path != "/d\n" || d.PathBytes != nil || d.Target != "\xff" || string(d.TargetBytes) != "\xff" {
		t.Errorf("%+v", d)
	}
}

func TestFilesFindsLayers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	ocitest.Image{Layers: goodLayers()}.Write(t, dir, "x")
	_, sum, err := listFiles(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range sum.Layers {
		want, part, err := listFiles(t, dir, fmt.Sprint(i+1))
		if err != nil || len(part.Layers) != i+1 {
			t.Fatal(err, part)
		}
		for _, name := range []string{string(l.Digest), string(l.DiffID)} {
			if got, _, err := listFiles(t, dir, name); err != nil || brief(got) != brief(want) {
				t.Errorf("%s: %v, %s", name, err, brief(got))
			}
		}
	}
	for _, name := range []string{"0", "-1", "4", "sha256:0", "x\x1b"} {
		if _, _, err := listFiles(t, dir, name); !errors.Is(err, layout.ErrNotFound) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFilesCountsEveryByte holds the account against one that looks at whole trees,
// after each layer.
func TestFilesCountsEveryByte(t *testing.T) {
	for seed := range uint64(20) {
		stack := ocitest.RandomStack(rand.New(rand.NewPCG(seed, 9)), 5, ocitest.StackOptions{Entries: 25})
		layers := stack.Layers()
		tree := layer.NewTree()
		var before map[*layer.Inode]int64
		brought := map[int32]int64{}
		var hidden []int64
		for _, l := range layers {
			if err := tree.Apply(t.Context(), bytes.NewReader(l), layer.Discard, layer.ApplyOptions{}); err != nil {
				t.Fatal(err)
			}
			after := map[*layer.Inode]int64{}
			if err := tree.Walk(func(n *layer.Node) error {
				if ino := n.Inode(); ino.Type == layer.Regular {
					after[ino] = ino.Size
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			var lost int64
			for ino, size := range before {
				if _, ok := after[ino]; !ok {
					lost += size
				}
			}
			hidden = append(hidden, lost)
			before = after
		}
		var left int64
		for ino, size := range before {
			left += size
			brought[ino.Layer] += size
		}
		list, sum := files(t, layers, "")
		if len(list) != tree.Len() {
			t.Errorf("seed %d: %d of %d names", seed, len(list), tree.Len())
		}
		if sum.Bytes-sum.Wasted != left {
			t.Errorf("seed %d: %d of %d bytes are wasted, and %d are seen", seed, sum.Wasted, sum.Bytes, left)
		}
		for i, l := range sum.Layers {
			if l.Shadows != hidden[i] || l.Bytes-l.Wasted != brought[int32(i)] {
				t.Errorf("seed %d: layer %d: %+v, and it hides %d, and %d of it are seen\n%s", seed, i, l, hidden[i], brought[int32(i)], stack)
			}
			var total int64
			one, _ := files(t, layers[:i+1], fmt.Sprint(i+1))
			for _, f := range one {
				total += f.Shadows
			}
			if total != l.Shadows {
				t.Errorf("seed %d: layer %d hides %d, and its names %d\n%s\n%s", seed, i, l.Shadows, total, brief(one), stack)
			}
		}
	}
}
