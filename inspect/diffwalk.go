// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/shale-oci/shale/layer"
)

// diffPair is one path with what it is on both sides.
type diffPair struct {
	path  string
	names [2]diffName
	inos  [2]*layer.Inode // filled in by resolve
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// walk calls fn for every path that is on one side or both, in bytewise order of the
// paths, the root first. Directories of which two images share all that is in them are
// not entered.
func (d *differ) walk(fn func(*diffPair) error) error {
	root := diffPair{path: ".", names: [2]diffName{d.sides[0].root(), d.sides[1].root()}}
	if err := fn(&root); err != nil {
		return err
	}
	return d.below(&root, "", fn)
}

// diffStep is a path to be visited, or the directory that it is to be entered.
type diffStep struct {
	key  string // name, or name and a slash: the order in which paths follow each other
	pair diffPair
}

func (d *differ) below(p *diffPair, prefix string, fn func(*diffPair) error) error {
	if x, y := p.names[0].node, p.names[1].node; x != nil && y != nil && x.SameBelow(y) {
		return nil
	}
	a, b := d.sides[0].children(p.names[0]), d.sides[1].children(p.names[1])
	steps := make([]diffStep, 0, len(a)+len(b))
	sorted := true
	for len(a) > 0 || len(b) > 0 {
		var pair diffPair
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].name < b[0].name:
			pair.names[0], a = a[0], a[1:]
			pair.path = pair.names[0].name
		case len(a) == 0 || b[0].name < a[0].name:
			pair.names[1], b = b[0], b[1:]
			pair.path = pair.names[1].name
		default:
			pair.names = [2]diffName{a[0], b[0]}
			pair.path, a, b = a[0].name, a[1:], b[1:]
		}
		name := pair.path
		pair.path = prefix + name
		if n := len(steps); n > 0 && steps[n-1].key > name {
			sorted = false
		}
		steps = append(steps, diffStep{name, pair})
		if pair.names[0].isDir() || pair.names[1].isDir() {
			steps = append(steps, diffStep{name + "/", pair})
		}
	}
	if !sorted {
		slices.SortFunc(steps, func(a, b diffStep) int { return strings.Compare(a.key, b.key) })
	}
	for i := range steps {
		s := &steps[i]
		var err error
		if strings.HasSuffix(s.key, "/") {
			err = d.below(&s.pair, s.pair.path+"/", fn)
		} else {
			err = fn(&s.pair)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *diffName) isDir() bool {
	switch {
	case n.node != nil:
		return n.node.IsDir()
	case n.entry.Exists():
		return n.entry.IsDir()
	}
	return false
}

// resolve looks up what the names of a pair stand for.
func (d *differ) resolve(p *diffPair) (err error) {
	for i, s := range d.sides {
		if p.inos[i], err = s.inode(p.names[i]); err != nil {
			return err
		}
	}
	return nil
}

// survey goes through both trees once for what needs all of them: the names of files
// that have several, and the files whose content must be compared and is not known.
func (d *differ) survey(ctx context.Context) (need []diffPair, err error) {
	err = d.walk(func(p *diffPair) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, s := range d.sides {
			if id, linked := s.linkOf(p.names[i]); linked {
				s.groups[id] = append(s.groups[id], p.names[i])
			}
		}
		if !d.filter.match(p.path) {
			return nil
		}
		if err := d.resolve(p); err != nil {
			return err
		}
		if d.opt.Ignore&DiffContent != 0 {
			return nil
		}
		if _, known := d.sameContent(p); !known {
			need = append(need, *p)
		}
		return nil
	})
	for _, s := range d.sides {
		for id, names := range s.groups {
			if len(names) == 1 { // the others are not in the tree
				delete(s.groups, id)
			}
		}
	}
	return need, err
}

// sameContent reports whether two regular files of the same size contain the same. For
// all others there is nothing to be known.
func (d *differ) sameContent(p *diffPair) (same, known bool) {
	a, b := p.inos[0], p.inos[1]
	if a == nil || b == nil || a.Type != layer.Regular || b.Type != layer.Regular {
		return false, true
	}
	switch {
	case a.Size != b.Size:
		return false, true
	case a.Size == 0 || d.sameOrigin(p):
		return true, true
	}
	x, okx := d.sides[0].digest(p.path, p.names[0], a)
	y, oky := d.sides[1].digest(p.path, p.names[1], b)
	return x == y, okx && oky
}

// sameOrigin reports whether two files are one: the same entry of the same layer, or the
// same inode of a file system.
func (d *differ) sameOrigin(p *diffPair) bool {
	s, t := d.sides[0], d.sides[1]
	switch {
	case s.stack != nil && t.stack != nil:
		a, b := p.inos[0], p.inos[1]
		return a.Entry == b.Entry && s.stack.Layers[a.Layer].DiffID == t.stack.Layers[b.Layer].DiffID
	case s.disk != nil && t.disk != nil:
		a, b := p.names[0].entry.Stat(), p.names[1].entry.Stat()
		return a.Dev == b.Dev && a.Ino == b.Ino
	}
	return false
}

// compare returns what differs between the two sides of a path that both have.
func (d *differ) compare(p *diffPair) DiffFields {
	a, b := p.inos[0], p.inos[1]
	var f DiffFields
	set := func(field DiffFields, differs bool) {
		if differs {
			f |= field
		}
	}
	set(DiffType, a.Type != b.Type)
	set(DiffMode, a.Mode != b.Mode && a.Type != layer.Symlink && b.Type != layer.Symlink)
	if d.ownersKnown(p) {
		set(DiffUID, a.UID != b.UID)
		set(DiffGID, a.GID != b.GID)
	}
	set(DiffXattrs, d.xattrsDiffer(p))
	set(DiffMtime, d.timesDiffer(a, b))
	if a.Type == b.Type {
		switch a.Type {
		case layer.Regular:
			set(DiffSize, a.Size != b.Size)
			if d.opt.Ignore&DiffContent == 0 {
				same, _ := d.sameContent(p)
				set(DiffContent, !same)
			}
		case layer.Symlink:
			set(DiffTarget, a.Target != b.Target)
		case layer.CharDevice, layer.BlockDevice:
			set(DiffDevice, a.Major != b.Major || a.Minor != b.Minor)
		}
		set(DiffHardlinks, d.linksDiffer(p))
	}
	return f &^ d.opt.Ignore
}

// ownersKnown reports whether both sides can tell the owner of what they have.
func (d *differ) ownersKnown(p *diffPair) bool {
	return d.sides[0].keeps(p.inos[0].Type, "") && d.sides[1].keeps(p.inos[1].Type, "")
}

// xattrsDiffer compares extended attributes. One that is missing where it could not be kept
// does not count.
func (d *differ) xattrsDiffer(p *diffPair) bool {
	a, b := p.inos[0].Xattrs, p.inos[1].Xattrs
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			if d.sides[1].keeps(p.inos[0].Type, a[0].Name) {
				return true
			}
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			if d.sides[0].keeps(p.inos[1].Type, b[0].Name) {
				return true
			}
			b = b[1:]
		case a[0].Value != b[0].Value:
			return true
		default:
			a, b = a[1:], b[1:]
		}
	}
	return false
}

// timesDiffer compares modification times. Between an image and a directory, a fraction
// of a second counts only if both have one: most layers are made without.
func (d *differ) timesDiffer(a, b *layer.Inode) bool {
	x, y := a.Mtime, b.Mtime
	if (d.sides[0].disk == nil) != (d.sides[1].disk == nil) && (x.Nsec == 0 || y.Nsec == 0) {
		return x.Sec != y.Sec
	}
	return x != y
}

// linksDiffer reports whether the file has other names than before.
func (d *differ) linksDiffer(p *diffPair) bool {
	var ids [2]linkID
	var names [2][]diffName
	for i, s := range d.sides {
		id, linked := s.linkOf(p.names[i])
		if linked {
			ids[i], names[i] = id, s.groups[id]
		}
	}
	if len(names[0]) != len(names[1]) {
		return true
	}
	if len(names[0]) == 0 {
		return false
	}
	// A file may have very many names, each of which asks.
	differ, ok := d.linked[ids]
	if !ok {
		differ = !slices.EqualFunc(names[0], names[1], func(a, b diffName) bool { return a.path() == b.path() })
		d.linked[ids] = differ
	}
	return differ
}

// changes calls fn for each path that differs, with the fields for one that is on both
// sides.
func (d *differ) changes(fn func(*diffPair, DiffFields) error) error {
	return d.walk(func(p *diffPair) error {
		if !d.filter.match(p.path) {
			return nil
		}
		if err := d.resolve(p); err != nil {
			return err
		}
		if p.inos[0] == nil || p.inos[1] == nil {
			return fn(p, 0)
		}
		if fields := d.compare(p); fields != 0 {
			return fn(p, fields)
		}
		return nil
	})
}

// count fills in the summary.
func (d *differ) count(ctx context.Context, s *DiffSummary) error {
	return d.changes(func(p *diffPair, fields DiffFields) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, ino := &s.Changed, p.inos[1]
		switch {
		case p.inos[0] == nil:
			to = &s.Added
		case ino == nil:
			to, ino = &s.Deleted, p.inos[0]
		case fields == DiffMtime:
			s.TimeOnly++
			return nil
		}
		to.Paths++
		to.Bytes += ino.Size
		return nil
	})
}

func (d *differ) entries() iter.Seq[DiffEntry] {
	return func(yield func(DiffEntry) bool) {
		links := [2]linkLists{{side: d.sides[0]}, {side: d.sides[1]}}
		_ = d.changes(func(p *diffPair, fields DiffFields) error { // whose errors survey has met
			if fields == DiffMtime && !d.opt.Times {
				return nil
			}
			e := d.entry(p, fields)
			if !d.opt.NoLinks {
				for i, f := range []*DiffFile{e.Old, e.New} {
					if f != nil {
						f.Links = links[i].of(p.names[i])
					}
				}
			}
			if !yield(e) {
				return errStop
			}
			return nil
		})
	}
}

func (d *differ) entry(p *diffPair, fields DiffFields) DiffEntry {
	e := DiffEntry{Path: slashed(p.path), PathBytes: notUTF8(slashed(p.path)), Kind: DiffChanged, Fields: fields.names()}
	switch {
	case p.inos[0] == nil:
		e.Kind = DiffAdded
	case p.inos[1] == nil:
		e.Kind = DiffDeleted
	}
	e.Old, e.New = describeFile(p.inos[0]), describeFile(p.inos[1])
	if e.Kind == DiffChanged && d.compared(p) {
		for i, f := range []*DiffFile{e.Old, e.New} {
			if sum, ok := d.sides[i].digest(p.path, p.names[i], p.inos[i]); ok {
				f.Digest = toDigest(sum)
			}
		}
	}
	t := d.texts[p.path]
	e.Text, e.NoText = t.text, t.why
	return e
}

// compared reports whether it took digests to compare the content of the two files.
func (d *differ) compared(p *diffPair) bool {
	a, b := p.inos[0], p.inos[1]
	return a.Type == layer.Regular && b.Type == layer.Regular && a.Size == b.Size && !d.sameOrigin(p) &&
		d.opt.Ignore&DiffContent == 0
}
