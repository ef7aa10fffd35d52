// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// image writes an image of the layers and opens it.
func image(t testing.TB, layers ...[]byte) *stack.Stack {
	t.Helper()
	dir := t.TempDir() + "/layout"
	ocitest.Image{Layers: layers}.Write(t, dir, "v1")
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	path, err := l.Resolve(t.Context(), "v1", nil)
	must(t, err)
	s, err := stack.Open(t.Context(), l, path)
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// facts is what a tree says of each name: the inode without where it comes from,
// and which names share one.
func facts(tree *layer.Tree) map[string]layer.Inode {
	first := map[*layer.Inode]string{}
	all := map[string]layer.Inode{}
	err := tree.Walk(func(n *layer.Node) error {
		ino := *n.Inode()
		ino.Layer, ino.Entry = 0, 0
		if !n.IsDir() && ino.Nlink > 1 {
			if first[n.Inode()] == "" {
				first[n.Inode()] = n.Path()
			}
			ino.Target += " first name " + first[n.Inode()]
		}
		all[n.Path()] = ino
		return nil
	})
	if err != nil {
		panic(err)
	}
	return all
}

func apply(t testing.TB, layers ...[]byte) *layer.Tree {
	t.Helper()
	tree := layer.NewTree()
	sink := layer.NewDigests()
	for _, l := range layers {
		must(t, tree.Apply(t.Context(), bytes.NewReader(l), sink, layer.ApplyOptions{}))
	}
	return tree
}

// TestFlatten: any range of layers, flattened and put in its place, gives the tree
// of all layers, and the same bytes each time.
func TestFlatten(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		made := ocitest.RandomStack(rng, 2+rng.IntN(4), ocitest.StackOptions{})
		layers := made.Layers()
		s := image(t, layers...)
		want := facts(apply(t, layers...))
		for from := range layers {
			for to := from + 1; to <= len(layers); to++ {
				var flat, again bytes.Buffer
				must(t, s.Flatten(t.Context(), &flat, stack.Range{From: from, To: to}, stack.FlattenOptions{}))
				must(t, s.Flatten(t.Context(), &again, stack.Range{From: from, To: to}, stack.FlattenOptions{}))
				if !bytes.Equal(flat.Bytes(), again.Bytes()) {
					t.Fatalf("seed %d: layers %d to %d: other bytes the second time", seed, from, to)
				}
				now := slices.Replace(slices.Clone(layers), from, to, flat.Bytes())
				if got := facts(apply(t, now...)); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d: layers %d to %d: %s\n%s", seed, from, to, difference(want, got), made)
				}
			}
		}
	}
}

func difference(want, got map[string]layer.Inode) string {
	var b strings.Builder
	for name, w := range want {
		if g, ok := got[name]; !ok {
			b.WriteString("missing " + name + "\n")
		} else if !reflect.DeepEqual(g, w) {
			b.WriteString("different " + name + "\n")
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			b.WriteString("too much: " + name + "\n")
		}
	}
	return b.String()
}

// TestFlattenUnpacks has the disk say the same as the tree.
func TestFlattenUnpacks(t *testing.T) {
	for seed := range uint64(15) {
		layers := ocitest.RandomStack(rand.New(rand.NewPCG(seed, 6)), 4, ocitest.StackOptions{}).Layers()
		s := image(t, layers...)
		var flat bytes.Buffer
		must(t, s.Flatten(t.Context(), &flat, s.All(), stack.FlattenOptions{}))
		ocitest.AssertSame(t, unpack(t, s), unpack(t, image(t, flat.Bytes())))
	}
}

func unpack(t *testing.T, s *stack.Stack) ocitest.Tree {
	t.Helper()
	path := t.TempDir()
	dir, err := rooted.Open(path)
	must(t, err)
	defer dir.Close()
	disk, err := layer.NewDisk(dir, layer.DiskOptions{Map: layer.MapOptions{Rootless: os.Geteuid() != 0}})
	must(t, err)
	tree, err := s.Tree(t.Context(), disk, stack.Options{})
	must(t, err)
	must(t, disk.Finish(t.Context(), tree))
	return ocitest.Snapshot(t, path)
}

func TestFlattenPath(t *testing.T) {
	s := image(t,
		ocitest.Layer(
			ocitest.Dir("usr", 0o755), ocitest.Dir("usr/bin", 0o755), ocitest.File("usr/bin/sh", "#!", 0o755),
			ocitest.Hardlink("usr/bin/ash", "usr/bin/sh"), ocitest.Symlink("bin", "usr/bin"), ocitest.File("x", "x", 0o644)),
		ocitest.Layer(ocitest.Hardlink("outside", "usr/bin/sh")),
	)
	var out bytes.Buffer
	must(t, s.Flatten(t.Context(), &out, s.All(), stack.FlattenOptions{Path: "/bin/"}))
	var names []string
	must(t, apply(t, out.Bytes()).Walk(func(n *layer.Node) error {
		names = append(names, n.Path())
		return nil
	}))
	if want := []string{".", "usr", "usr/bin", "usr/bin/ash", "usr/bin/sh"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	err := s.Flatten(t.Context(), io.Discard, s.All(), stack.FlattenOptions{Path: "bin/no"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "bin/no") {
		t.Errorf("got %v", err)
	}
	if err := s.Flatten(t.Context(), io.Discard, stack.Range{From: 1, To: 3}, stack.FlattenOptions{}); err == nil {
		t.Error("no error for a layer that is not there")
	}
}

func TestContents(t *testing.T) {
	s := image(t,
		ocitest.Layer(ocitest.File("a", "lower a", 0o644), ocitest.File("b", "lower b", 0o644)),
		ocitest.Layer(ocitest.File("c", "upper c", 0o644), ocitest.File("a", "upper a", 0o644)),
	)
	tree, err := s.Tree(t.Context(), layer.Discard, stack.Options{})
	must(t, err)
	inodes := []*layer.Inode{tree.Lookup("b").Inode(), tree.Lookup("a").Inode()}
	var got []string
	var stages []string
	must(t, s.Contents(t.Context(), inodes, func(_ *layer.Inode, r io.Reader) error {
		b, err := io.ReadAll(r)
		got = append(got, string(b))
		return err
	}, stack.Options{Progress: func(e progress.Event) { stages = append(stages, e.Stage) }}))
	if want := []string{"lower b", "upper a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(stages) == 0 || stages[0] != "reading" {
		t.Errorf("progress %v", stages)
	}
	broken := errors.New("broken")
	err = s.Contents(t.Context(), inodes, func(*layer.Inode, io.Reader) error { return broken }, stack.Options{})
	var entry *layer.EntryError
	if !errors.Is(err, broken) || !errors.As(err, &entry) || entry.Entry != "b" || !strings.Contains(err.Error(), s.Layers[0].Descriptor.Digest.String()) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Contents(ctx, inodes, nil, stack.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestApplyChecks: what is wrong with a layer is found, also behind the last entry.
func TestApplyChecks(t *testing.T) {
	s := image(t, ocitest.Layer(ocitest.File("a", "a", 0o644)), ocitest.Layer(ocitest.File("b", "b", 0o644)))
	s.Layers[1].DiffID = digest.FromString("something else")
	_, err := s.Tree(t.Context(), layer.Discard, stack.Options{})
	if !errors.Is(err, layer.ErrDiffID) || !strings.Contains(err.Error(), s.Layers[1].Descriptor.Digest.String()) {
		t.Errorf("got %v", err)
	}
	s.Layers[0].Descriptor.Size++
	_, err = s.Tree(t.Context(), layer.Discard, stack.Options{})
	if !errors.Is(err, layout.ErrSize) || !strings.Contains(err.Error(), s.Layers[0].Descriptor.Digest.String()) {
		t.Errorf("got %v", err)
	}
}
