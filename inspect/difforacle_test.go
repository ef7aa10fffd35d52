// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	umoci "github.com/opencontainers/umoci/oci/layer"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// oraclePairs is how many random pairs of images Diff is compared with the oracle on, unless
// SHALE_DIFF_PAIRS says another number.
const oraclePairs = 100

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fastDir is a directory on a file system with nanosecond times and xattrs.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-diff-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// forked is a source of random numbers: those of first as long as count is above 0, then
// those of second.
type forked struct {
	first, second rand.Source
	count         int
}

func (f *forked) Uint64() uint64 {
	if f.count > 0 {
		f.count--
		return f.first.Uint64()
	}
	return f.second.Uint64()
}

// randomPair makes the layers of two images that have the lowest n in common.
func randomPair(seed uint64, n int, opt ocitest.StackOptions) (a, b ocitest.Stack) {
	counter := &forked{first: rand.NewPCG(seed, 1), count: 1 << 30}
	ocitest.RandomStack(rand.New(counter), n, opt)
	used := 1<<30 - counter.count
	rng := rand.New(rand.NewPCG(seed, 2))
	fork := func(stream uint64) ocitest.Stack {
		source := &forked{first: rand.NewPCG(seed, 1), second: rand.NewPCG(seed, stream), count: used}
		return ocitest.RandomStack(rand.New(source), n+rng.IntN(3), opt)
	}
	return fork(3), fork(4)
}

// unpackByUmoci unpacks layers with umoci's library.
func unpackByUmoci(t *testing.T, dir string, layers [][]byte) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)))
	format := umoci.DirRootfs{MapOptions: umoci.MapOptions{Rootless: os.Geteuid() != 0}}
	for i, l := range layers {
		if err := umoci.UnpackLayer(dir, bytes.NewReader(l), &umoci.UnpackOptions{OnDiskFormat: format}); err != nil {
			t.Fatalf("umoci: layer %d: %v", i, err)
		}
	}
}

// edited returns a layer of random edits of what the layers unpack to.
func edited(t *testing.T, rng *rand.Rand, layers [][]byte) []byte {
	t.Helper()
	dir := fastDir(t)
	root := filepath.Join(dir, "root")
	unpackByUmoci(t, root, layers)
	m := layer.MapOptions{Rootless: os.Geteuid() != 0}
	look := func() *mtree.Tree {
		d, err := rooted.Open(root)
		must(t, err)
		defer d.Close()
		tree, err := mtree.Walk(t.Context(), d, mtree.WalkOptions{Rootless: m.Rootless})
		must(t, err)
		return tree
	}
	before := look()
	ocitest.RandomEdits(t, rng, root, 10)
	after := look()
	var changes []layer.Change
	for _, d := range mtree.Simplify(mtree.Compare(before, after)) {
		c := layer.Change{Path: d.Path, Deleted: d.Kind == mtree.Deleted}
		if !c.Deleted {
			c.Stat = d.New.Stat()
		}
		changes = append(changes, c)
	}
	d, err := rooted.Open(root)
	must(t, err)
	defer d.Close()
	var out bytes.Buffer
	must(t, layer.Generate(t.Context(), &out, d, changes, layer.GenerateOptions{Map: m}))
	must(t, os.RemoveAll(dir))
	return out.Bytes()
}

// oracle says in a line for each path how two unpacked trees differ. With mixed, fractions
// of a second count only where both have one.
func oracle(a, b ocitest.Tree, mixed bool) []string {
	const second = int64(time.Second)
	sameTime := func(x, y int64) bool {
		return x == y || mixed && x/second == y/second && (x%second == 0 || y%second == 0)
	}
	names := maps.Clone(a)
	maps.Copy(names, b)
	groupsA, groupsB := groups(a), groups(b)
	var lines []string
	for name := range names {
		x, inA := a[name]
		y, inB := b[name]
		path := filepath.Join("/", name)
		switch {
		case !inA:
			lines = append(lines, path+"\tadded")
			continue
		case !inB:
			lines = append(lines, path+"\tdeleted")
			continue
		}
		var fields []string
		for _, f := range []struct {
			name    string
			differs bool
		}{
			{"type", x.Type != y.Type},
			{"mode", x.Mode != y.Mode && x.Type != "link" && y.Type != "link"},
			{"uid", x.UID != y.UID},
			{"gid", x.GID != y.GID},
			{"size", x.Type == y.Type && x.Size != y.Size},
			{"content", x.Type == y.Type && x.SHA256 != y.SHA256},
			{"target", x.Type == y.Type && x.Link != y.Link},
			{"device", x.Type == y.Type && x.Rdev != y.Rdev},
			{"xattrs", !maps.Equal(x.Xattrs, y.Xattrs)},
			{"mtime", !sameTime(x.Mtime, y.Mtime)},
			{"hardlinks", x.Type == y.Type && !slices.Equal(groupsA[name], groupsB[name])},
		} {
			if f.differs {
				fields = append(fields, f.name)
			}
		}
		if len(fields) > 0 {
			lines = append(lines, path+"\tchanged "+strings.Join(fields, ","))
		}
	}
	slices.Sort(lines) // by path: no name has a byte before the tab
	return lines
}

// groups returns for each name all names of the same file, if there are several.
func groups(tree ocitest.Tree) map[string][]string {
	byFirst, byName := map[string][]string{}, map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if first := tree[name].Group; first != "" {
			byFirst[first] = append(byFirst[first], name)
		}
	}
	for _, names := range byFirst {
		for _, name := range names {
			byName[name] = names
		}
	}
	return byName
}

// lines has the entries in the form of the oracle.
func lines(d *inspect.Difference) []string {
	var list []string
	for e := range d.Entries() {
		l := e.Path + "\t" + string(e.Kind)
		if e.Kind == inspect.DiffChanged {
			l += " " + strings.Join(e.Fields, ",")
		}
		list = append(list, l)
	}
	return list
}

func source(t *testing.T, dir, ref string) inspect.DiffSource {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	path, err := l.Resolve(t.Context(), ref, nil)
	must(t, err)
	return inspect.DiffSource{Name: ref, Layout: l, Image: path}
}

// TestDiffAgainstUnpacking compares random pairs of images with what walking the trees
// says that umoci's library unpacks. The same goes for images and trees in all
// combinations, with trees unpacked by shale.
func TestDiffAgainstUnpacking(t *testing.T) {
	pairs := oraclePairs
	if s := os.Getenv("SHALE_DIFF_PAIRS"); s != "" {
		var err error
		pairs, err = strconv.Atoi(s)
		must(t, err)
	}
	rootless := os.Geteuid() != 0
	opt := ocitest.StackOptions{Unprivileged: rootless}
	start := time.Now().Add(-time.Second).UnixNano()
	compared := 0
	for seed := range uint64(pairs) {
		rng := rand.New(rand.NewPCG(seed, 5))
		a, b := randomPair(seed, rng.IntN(4), opt)
		was, now := a.Layers(), b.Layers()
		if seed%3 == 0 {
			now = append(slices.Clip(was), edited(t, rng, was))
			was = append(was, edited(t, rng, was))
		}
		if loops(t, was) || loops(t, now) {
			t.Logf("seed %d: a layer leads through a link to itself, and cannot be applied", seed)
			continue
		}
		dir := fastDir(t)
		store := filepath.Join(dir, "layout")
		ocitest.Image{Layers: was, Compression: []string{"gzip", "none"}[seed%2]}.Write(t, store, "old")
		ocitest.Image{Layers: now, Compression: "none"}.Write(t, store, "new")
		images := [2]inspect.DiffSource{source(t, store, "old"), source(t, store, "new")}
		var trees [2]inspect.DiffSource
		var byShale, byUmoci [2]ocitest.Tree
		for i, layers := range [][][]byte{was, now} {
			trees[i] = unpackTree(t, images[i], filepath.Join(dir, "tree "+images[i].Name))
			byShale[i] = snapshot(t, trees[i].Dir)
			root := filepath.Join(dir, images[i].Name)
			unpackByUmoci(t, root, layers)
			byUmoci[i] = withTimes(snapshot(t, root), byShale[i], start)
		}
		diff := func(was, now inspect.DiffSource, want []string) {
			t.Helper()
			d, err := inspect.Diff(t.Context(), was, now, inspect.DiffOptions{Times: true})
			must(t, err)
			got := lines(d)
			if rootless && was.Layout != nil && now.Layout != nil {
				// For an ordinary user, umoci leaves them out of what is read-only.
				got, want = withoutXattrs(got), withoutXattrs(want)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, images: %t, %t\n%s\n%s\nto\n%s", seed, was.Layout != nil, now.Layout != nil, difference(want, got), a, b)
			}
		}
		want := oracle(byUmoci[0], byUmoci[1], false)
		diff(images[0], images[1], want)
		mixed := oracle(byShale[0], byShale[1], true)
		diff(images[0], trees[1], mixed)
		diff(trees[0], images[1], mixed)
		diff(trees[0], trees[1], oracle(byShale[0], byShale[1], false))
		diff(images[0], trees[0], nil)
		compared += len(want)
		must(t, os.RemoveAll(dir))
	}
	if compared < 10*pairs {
		t.Errorf("only %d differences in %d pairs", compared, pairs)
	}
}

// loops reports whether the layers have an entry that cannot be, because of links.
func loops(t *testing.T, layers [][]byte) bool {
	t.Helper()
	tree := layer.NewTree()
	for _, l := range layers {
		err := tree.Apply(t.Context(), bytes.NewReader(l), layer.Discard, layer.ApplyOptions{})
		if errors.Is(err, layer.ErrSymlinkLoop) {
			return true
		}
		must(t, err)
	}
	return false
}

// snapshot is a tree with the owners that it has inside the container.
func snapshot(t *testing.T, dir string) ocitest.Tree {
	t.Helper()
	tree := ocitest.Snapshot(t, dir)
	if os.Geteuid() != 0 {
		for name, f := range tree {
			f.UID, f.GID = 0, 0 // Unprivileged has no others
			tree[name] = f
		}
	}
	return tree
}

// withTimes gives the directories of tree the times of another one that umoci has left the
// present time on, by making the parents of an entry that a layer does not tell of.
func withTimes(tree, other ocitest.Tree, start int64) ocitest.Tree {
	for name, f := range tree {
		if is, ok := other[name]; ok && f.Type == "dir" && f.Mtime >= start {
			f.Mtime = is.Mtime
			tree[name] = f
		}
	}
	return tree
}

// unpackTree unpacks an image with shale's own engine: it and umoci's do not agree on all that the
// image-spec leaves open.
func unpackTree(t *testing.T, img inspect.DiffSource, dir string) inspect.DiffSource {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	root, err := rooted.Open(dir)
	must(t, err)
	defer root.Close()
	m := layer.MapOptions{Rootless: os.Geteuid() != 0}
	disk, err := layer.NewDisk(root, layer.DiskOptions{Map: m})
	must(t, err)
	s, err := stack.Open(t.Context(), img.Layout, img.Image)
	must(t, err)
	tree, err := s.Tree(t.Context(), disk, stack.Options{})
	must(t, err)
	must(t, disk.Finish(t.Context(), tree))
	return inspect.DiffSource{Name: dir, Dir: dir, Map: m}
}

func withoutXattrs(lines []string) []string {
	var list []string
	for _, l := range lines {
		l = strings.NewReplacer(",xattrs", "", "\tchanged xattrs,", "\tchanged ").Replace(l)
		if !strings.HasSuffix(l, "\tchanged xattrs") {
			list = append(list, l)
		}
	}
	return list
}

func difference(want, got []string) string {
	var b strings.Builder
	for _, l := range want {
		if !slices.Contains(got, l) {
			fmt.Fprintf(&b, "missing: %q\n", l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			fmt.Fprintf(&b, "false: %q\n", l)
		}
	}
	return cmp.Or(b.String(), "another order\n"+strings.Join(got, "\n")+"\nwant\n"+strings.Join(want, "\n"))
}
