// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/shale-oci/shale/test/ocitest"
)

// facts lists all there is to know of what is at n and below it. The names of an inode
// are known by the first of them.
func facts(n *Node) []string {
	var list []string
	first := map[*Inode]string{}
	_ = walk(n, func(n *Node) error {
		if first[n.inode] == "" {
			first[n.inode] = n.Path()
		}
		list = append(list, fmt.Sprintf("%s %d %s %+v", n.Path(), n.upper, first[n.inode], *n.inode))
		return nil
	})
	return list
}

// stackOf applies layers to a tree that nobody else has.
func stackOf(t *testing.T, layers [][]byte) *Tree {
	t.Helper()
	tree, err := apply(t, Discard, ApplyOptions{}, layers...)
	must(t, err)
	return tree
}

// TestClone: a tree and its clones are what each of them would be alone, in whatever
// order layers are applied to them, and whoever looks at what meanwhile.
func TestClone(t *testing.T) {
	const base, trees = 2, 3
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		opt := ocitest.StackOptions{Entries: 5 + rng.IntN(30)}
		lower := ocitest.RandomStack(rng, base, opt).Layers()
		var layers [trees][][]byte
		made := [trees]*Tree{stackOf(t, lower)}
		for i := range made {
			layers[i] = slices.Clone(lower)
			if i > 0 {
				from := rng.IntN(i)
				made[i], layers[i] = made[from].Clone(), slices.Clone(layers[from])
			}
			for range 4 {
				j := rng.IntN(i + 1)
				look(rng, made[j])
				// Any layer goes on top of any other.
				next := ocitest.RandomStack(rng, 2, opt).Layers()[1]
				err := made[j].Apply(t.Context(), bytes.NewReader(next), Discard, ApplyOptions{})
				if err != nil { // and left it in the middle
					made[j] = stackOf(t, layers[j])
					continue
				}
				layers[j] = append(layers[j], next)
			}
		}
		for i := range made {
			sameBelow(t, made[i].root, made[(i+1)%trees].root)
		}
		for i, tree := range made {
			got, want := facts(tree.root), facts(stackOf(t, layers[i]).root)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, tree %d: got\n%q\nwant\n%q", seed, i, got, want)
			}
			checkTree(t, tree)
		}
	}
}

// look looks at some directories of a tree.
func look(rng *rand.Rand, tree *Tree) {
	for n := tree.root; n != nil && n.IsDir(); {
		kids := n.Children()
		if len(kids) == 0 {
			return
		}
		n = kids[rng.IntN(len(kids))]
	}
}

// sameBelow checks what two directories say about each other.
func sameBelow(t *testing.T, a, b *Node) {
	t.Helper()
	if a.SameBelow(b) {
		x, y := facts(a), facts(b)
		if !slices.Equal(x[1:], y[1:]) {
			t.Fatalf("not the same below:\n%q\n%q", x, y)
		}
		return
	}
	for _, c := range a.Children() {
		if d := b.child(c.name); d != nil {
			sameBelow(t, c, d)
		}
	}
}

// TestCloneShares: what no layer has touched is not copied, and directories that are the
// same are known to be, unless a name in them has another one elsewhere.
func TestCloneShares(t *testing.T) {
	tree := stackOf(t, [][]byte{ocitest.Layer(
		tdir("a"), tdir("a/b"), tfile("a/b/c"), tdir("d"), tfile("d/e"),
		tdir("h"), tfile("h/one"), tdir("i"), ocitest.Hardlink("i/two", "h/one"))})
	clone := tree.Clone()
	must(t, clone.Apply(t.Context(), bytes.NewReader(ocitest.Layer(tfile("d/f"), ocitest.Whiteout("i/two"))), Discard, ApplyOptions{}))
	for name, want := range map[string]bool{"a": true, "d": false, "h": false, "i": false} {
		if got := tree.Lookup(name).SameBelow(clone.Lookup(name)); got != want {
			t.Errorf("%s is the same below: %t, want %t", name, got, want)
		}
	}
	if got := clone.Lookup("h/one").Inode().Nlink; got != 1 {
		t.Errorf("%d names are left in the clone, want 1", got)
	}
	if got := tree.Lookup("h/one").Inode().Nlink; got != 2 {
		t.Errorf("there are %d names now, want 2", got)
	}
	checkTree(t, tree)
	checkTree(t, clone)
}
