// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// rebuild makes a tree of what another one says, its entries in an order of their own.
func rebuild(t *testing.T, tree *Tree) *Tree {
	t.Helper()
	facts := func(e Entry) Facts {
		f := Facts{Stat: e.Stat(), Link: e.Link(), Xattrs: e.Xattrs()}
		if sum, ok := e.Digest(); ok {
			f.Digest = &sum
		}
		return f
	}
	b, err := NewBuilder(facts(tree.Root()))
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[int]int{0: 0}
	for e := range tree.ManifestOrder() {
		if e.Index() == 0 {
			continue
		}
		if numbers[e.Index()], err = b.Add(numbers[e.Parent().Index()], e.Name(), facts(e)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// TestBuilder builds the trees of random directories anew, which must make no
// difference to any comparison.
func TestBuilder(t *testing.T) {
	for seed := range uint64(20) {
		dir := t.TempDir()
		rng := rand.New(rand.NewPCG(seed, 7))
		ocitest.RandomEdits(t, rng, dir, 30)
		before := walk(t, dir, WalkOptions{})
		built := rebuild(t, before)
		if deltas := Compare(built, before); len(deltas) > 0 {
			t.Fatalf("seed %d: %+v", seed, deltas)
		}
		ocitest.RandomEdits(t, rng, dir, 10)
		after := walk(t, dir, WalkOptions{})
		want, got := Compare(before, after), Compare(built, after)
		if len(want) != len(got) {
			t.Fatalf("seed %d: %d deltas, want %d", seed, len(got), len(want))
		}
		for i := range want {
			if want[i].Path != got[i].Path || want[i].Kind != got[i].Kind {
				t.Errorf("seed %d: got %+v, want %+v", seed, got[i], want[i])
			}
		}
	}
	if _, err := NewBuilder(Facts{}); err == nil {
		t.Error("a root that is no directory is taken")
	}
	b, err := NewBuilder(Facts{Stat: rooted.Stat{Mode: unix.S_IFDIR}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(0, "a/b", Facts{}); err == nil {
		t.Error("a name with a slash is taken")
	}
}

// TestCompareOptions changes what does not count.
func TestCompareOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(sec int64) {
		ts := []unix.Timespec{{Sec: sec}, {Sec: sec}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, file, ts, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, ts, 0); err != nil {
			t.Fatal(err)
		}
	}
	clamp := int64(1000)
	count := func(name string, was, now *Tree, opt CompareOptions, want int) {
		t.Helper()
		if got := CompareWith(was, now, opt); len(got) != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	at(2000)
	before := walk(t, dir, WalkOptions{})
	at(3000)
	after := walk(t, dir, WalkOptions{})
	count("times", before, after, CompareOptions{}, 2)
	count("times after the clamp", before, after, CompareOptions{Clamp: &clamp}, 0)
	at(500)
	count("times on both sides of the clamp", before, walk(t, dir, WalkOptions{}), CompareOptions{Clamp: &clamp}, 2)
	at(2000)

	if err := os.Link(file, filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	last := before
	before = walk(t, dir, WalkOptions{})
	count("a name elsewhere", last, before, CompareOptions{}, 1)
	count("a name elsewhere", last, before, CompareOptions{CountNames: true}, 0)
	if err := os.Link(file, filepath.Join(dir, "here")); err != nil {
		t.Fatal(err)
	}
	at(2000)
	count("a name here", before, walk(t, dir, WalkOptions{}), CompareOptions{CountNames: true}, 2)
	if err := os.Remove(filepath.Join(dir, "here")); err != nil {
		t.Fatal(err)
	}
	at(2000)

	if err := os.WriteFile(file, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	at(2000)
	after = walk(t, dir, WalkOptions{})
	count("content", before, after, CompareOptions{}, 1)
	for _, same := range []bool{true, false} {
		asked := 0
		want := 1
		if same {
			want = 0
		}
		count("content by callback", before, after, CompareOptions{SameContent: func(was, now Entry) bool {
			asked++
			return same
		}}, want)
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	}
	if unix.Setxattr(dir, "user.x", []byte("1"), 0) == nil {
		count("xattr", after, walk(t, dir, WalkOptions{}), CompareOptions{}, 1)
		count("xattr", after, walk(t, dir, WalkOptions{}), CompareOptions{IgnoreXattr: func(name string) bool { return name == "user.x" }}, 0)
	} else {
		t.Log("no xattrs here")
	}
	if os.Chown(file, 1, 2) == nil {
		at(2000)
		last := walk(t, dir, WalkOptions{})
		if err := os.Chown(file, 3, 4); err != nil {
			t.Fatal(err)
		}
		count("owner", last, walk(t, dir, WalkOptions{}), CompareOptions{}, 1)
		count("owner", last, walk(t, dir, WalkOptions{}), CompareOptions{IgnoreOwner: true}, 0)
	}
}
