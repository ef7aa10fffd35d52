// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"iter"
)

// All iterates over the entries in byte-lexical order of their paths, from the
// root on.
func (t *Tree) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if len(t.nodes) > 0 {
			t.lexical(0, func(i int32) bool { return yield(Entry{tree: t, i: i}) })
		}
	}
}

// lexical visits top and all below it in byte-lexical order until visit returns
// false.
//
// Siblings come by name, but what is in directory "a" comes after siblings like
// "a.b", because '.' is less than '/'. Such directories wait on a stack: all that
// comes in between starts with their name, so that they nest.
func (t *Tree) lexical(top int32, visit func(i int32) bool) {
	type frame struct {
		next, end int32 // children still to visit
		waiting   int   // where the waiting directories of this frame start
	}
	var waiting []int32
	n := &t.nodes[top]
	if n.known != 0 && !visit(top) {
		return
	}
	frames := []frame{{next: n.first, end: n.first + n.count}}
	for len(frames) > 0 {
		f := &frames[len(frames)-1]
		waits := len(waiting) > f.waiting
		if waits && (f.next == f.end || t.contentBefore(waiting[len(waiting)-1], f.next)) {
			d := &t.nodes[waiting[len(waiting)-1]]
			waiting = waiting[:len(waiting)-1]
			frames = append(frames, frame{next: d.first, end: d.first + d.count, waiting: len(waiting)})
			continue
		}
		if f.next == f.end {
			frames = frames[:len(frames)-1]
			continue
		}
		i := f.next
		f.next++
		if t.nodes[i].known != 0 && !visit(i) {
			return
		}
		if t.nodes[i].count > 0 {
			waiting = append(waiting, i)
		}
	}
}

// contentBefore reports whether what is below dir comes before its later
// sibling in byte-lexical order.
func (t *Tree) contentBefore(dir, sibling int32) bool {
	d, s := t.nameBytes(dir), t.nameBytes(sibling)
	return !bytes.HasPrefix(s, d) || s[len(d)] > '/'
}

// ManifestOrder iterates over the entries in the order of mtree manifests: in
// each directory all that is no directory, then the directories with all below
// them, each sorted by name.
func (t *Tree) ManifestOrder() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		t.manifestOrder(func(i int32) bool {
			return t.nodes[i].known == 0 || yield(Entry{tree: t, i: i})
		}, func(int32) bool { return true })
	}
}

// manifestOrder calls enter for each entry and leave for each directory after
// all that is below it, until one of them returns false.
func (t *Tree) manifestOrder(enter, leave func(i int32) bool) {
	type frame struct {
		dir, next int32
		subdirs   bool // the second round, which is over the directories
	}
	if len(t.nodes) == 0 || !enter(0) {
		return
	}
	frames := []frame{{next: t.nodes[0].first}}
	for len(frames) > 0 {
		f := &frames[len(frames)-1]
		dir := &t.nodes[f.dir]
		if f.next == dir.first+dir.count {
			if !f.subdirs {
				f.subdirs, f.next = true, dir.first
				continue
			}
			if !leave(f.dir) {
				return
			}
			frames = frames[:len(frames)-1]
			continue
		}
		i := f.next
		f.next++
		n := &t.nodes[i]
		if n.isDir() != f.subdirs {
			continue
		}
		if !enter(i) {
			return
		}
		if n.isDir() {
			frames = append(frames, frame{dir: i, next: n.first})
		}
	}
}
