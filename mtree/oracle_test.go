// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gomtree "github.com/vbatts/go-mtree"
	"github.com/vbatts/go-mtree/pkg/govis"
)

func TestVisIsGovis(t *testing.T) {
	check := func(s string) {
		t.Helper()
		want, err := govis.Vis(s, gomtree.DefaultVisFlags)
		must(t, err)
		got := string(appendVis(nil, []byte(s)))
		if got != want {
			t.Errorf("appendVis(%q) = %q, want %q", s, got, want)
		}
		if back, err := unvis([]byte(got)); err != nil || back != s {
			t.Errorf("unvis(%q) = %q, %v, want %q", got, back, err, s)
		}
	}
	for c := range 256 {
		check(string([]byte{byte(c)}))
		check(string([]byte{'a', byte(c), '1'}))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		check(string(b))
	}
}

func TestUnvisOfForeignEncodings(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`a\sb\tc`, "a b\tc"},
		{`\x41\M-C\^A`, "A\xc3\x01"},
		{"\xffraw\\040bytes\xc3\xa9", "\xffraw bytes\xc3\xa9"},
	} {
		if got, err := unvis([]byte(c.in)); err != nil || got != c.want {
			t.Errorf("unvis(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{`\`, `\q`, `\x4`, `\M`, `\777`} {
		if got, err := unvis([]byte(in)); err == nil {
			t.Errorf("unvis(%q) = %q, want an error", in, got)
		}
	}
}

// withoutComments returns the lines that are neither comments nor blank.
func withoutComments(manifest []byte) []string {
	var lines []string
	for line := range strings.Lines(string(manifest)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// oracleLines returns the same of what go-mtree would write.
func oracleLines(dh *gomtree.DirectoryHierarchy) []string {
	var lines []string
	for _, e := range dh.Entries {
		if e.Type != gomtree.CommentType && e.Type != gomtree.BlankType {
			lines = append(lines, e.String())
		}
	}
	return lines
}

func TestManifestIsGoMtrees(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			w.fill(w.root, 12, 4)
			w.chown(w.root)
			dh, err := gomtree.Walk(w.root, nil, oracleKeywords, nil)
			must(t, err)
			tree := walk(t, w.root, WalkOptions{})
			got, want := withoutComments(manifest(t, tree)), oracleLines(dh)
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Fatalf("line %d:\n got %q\nwant %q", i, got[i], want[i])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
		})
	}
}

// TestManifestCommentsAreGoMtrees is about trees without control characters in
// names, where even the comments are the same.
func TestManifestCommentsAreGoMtrees(t *testing.T) {
	w := newWorld(t, 1)
	for _, name := range []string{"a b", "#c", "é", "d"} {
		w.make(w.path(name), 0)
	}
	dh, err := gomtree.Walk(w.root, nil, oracleKeywords, nil)
	must(t, err)
	var want, got bytes.Buffer
	_, err = dh.WriteTo(&want)
	must(t, err)
	_, err = walk(t, w.root, WalkOptions{}).WriteManifest(&got, NewHeader(w.root))
	must(t, err)
	mask := func(b []byte) string {
		lines := strings.Split(string(b), "\n")
		for i, line := range lines {
			if strings.Contains(line, "date: ") {
				lines[i] = line[:strings.Index(line, "date: ")+6+len("Mon Jan")]
			}
		}
		return strings.Join(lines, "\n")
	}
	if mask(got.Bytes()) != mask(want.Bytes()) {
		t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want.Bytes())
	}
}

func TestParseUndoesWrite(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, 100+seed)
		w.fill(w.root, 12, 4)
		tree := walk(t, w.root, WalkOptions{})
		text := manifest(t, tree)
		back := parse(t, text)
		if back.Len() != tree.Len() {
			t.Errorf("seed %d: %d entries, want %d", seed, back.Len(), tree.Len())
		}
		if deltas := Compare(back, tree); len(deltas) > 0 {
			t.Errorf("seed %d: %q", seed, summary(deltas))
		}
		if again := manifest(t, back); !slices.Equal(withoutComments(again), withoutComments(text)) {
			t.Errorf("seed %d: written again:\n%s\nwant\n%s", seed, again, text)
		}
	}
}

// oracleDeltas are those of go-mtree, in our form and order.
func oracleDeltas(t *testing.T, root string, manifest []byte) []string {
	t.Helper()
	spec, err := gomtree.ParseSpec(bytes.NewReader(manifest))
	must(t, err)
	found, err := gomtree.Check(root, spec, oracleKeywords, nil)
	must(t, err)
	kinds := map[gomtree.DifferenceType]Kind{gomtree.Missing: Deleted, gomtree.Extra: Added, gomtree.Modified: Modified}
	var s []string
	for _, d := range found {
		if d.Type() == gomtree.Modified && d.Old().IsDir() && d.New().IsDir() && !slices.ContainsFunc(d.Diff(), func(k gomtree.KeyDelta) bool {
			return k.Name() != "size" && k.Name() != "nlink"
		}) {
			continue // the documented difference
		}
		s = append(s, kinds[d.Type()].String()+" "+d.Path())
	}
	slices.Sort(s)
	return s
}

func TestCompareIsGoMtreesCheck(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, 1000+seed)
			w.fill(w.root, 10, 3)
			before := walk(t, w.root, WalkOptions{})
			text := manifest(t, before)
			for range 1 + w.rand.IntN(8) {
				w.edit()
			}
			after := walk(t, w.root, WalkOptions{})
			deltas := Compare(parse(t, text), after)
			var got []string
			for i, d := range deltas {
				if i > 0 && comparePaths(d.Path, deltas[i-1].Path) <= 0 {
					t.Errorf("%q comes after %q", d.Path, deltas[i-1].Path)
				}
				if !slices.Equal(d.Keys, []string{"hardlinks"}) {
					got = append(got, d.Kind.String()+" "+d.Path)
				}
			}
			slices.Sort(got)
			if want := oracleDeltas(t, w.root, text); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			// The tree itself in place of its manifest shows the same, and what no
			// manifest has.
			var more []string
			for _, d := range Compare(before, after) {
				if !slices.Equal(d.Keys, []string{"hardlinks"}) && !slices.Equal(d.Keys, []string{"device"}) {
					more = append(more, d.Kind.String()+" "+d.Path)
				}
			}
			if slices.Sort(more); !slices.Equal(more, got) {
				t.Errorf("from the tree %q\nfrom its manifest %q", more, got)
			}
		})
	}
}
