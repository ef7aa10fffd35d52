// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind says what has become of a path.
type Kind uint8

// The kinds of change. A path that is another type of file than before is
// Modified, with [Delta.TypeChanged] set.
const (
	Added Kind = iota + 1
	Deleted
	Modified
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Deleted:
		return "deleted"
	case Modified:
		return "modified"
	}
	return "unknown"
}

// Delta is how one path differs between an old and a new tree.
type Delta struct {
	Path string
	Kind Kind

	// Keys are the keywords of what was modified, as in an mtree manifest and in
	// its order, with extended attributes in the form "xattr.user.name". Two are
	// in no manifest: "device" is the number of a device node, and "hardlinks"
	// says that the inode has other names than before, or that another name of
	// it is modified.
	Keys []string

	// Old is the entry as it was; none if it was Added.
	Old Entry
	// New is the entry as it is; none if it was Deleted.
	New Entry
}

// TypeChanged reports whether the path is another type of file than before.
func (d *Delta) TypeChanged() bool {
	return d.Kind == Modified && d.Old.node().known&keyType != 0 &&
		(d.Old.node().mode^d.New.node().mode)&unix.S_IFMT != 0
}

// Compare returns what has changed from the tree as it was, which is from a
// manifest or a cache, to the tree as it is now, from a Walk. The deltas are in
// byte-lexical order of their paths.
//
// The rules are those of go-mtree v0.7.0's Check with umoci's keywords, with
// these exceptions:
//
//   - The size and nlink of a directory do not count. go-mtree compares them
//     like those of a file, so that the same directory on another file system
//     is reported.
//   - What the manifest does not say about an entry is not compared, whereas
//     go-mtree reports every keyword that only one side has. Extended attributes
//     have no keyword for "none", so that they are compared unless the
//     manifest's header says that they were not looked at.
//   - The numbers of device nodes and the grouping of hard links are compared
//     where the old tree knows them, which that of a cache does.
//   - If one name of an inode is added or modified, then all are modified, so
//     that a layer made of the deltas has them as hard links of each other.
//
// Modification times are compared in whole seconds, because a layer has no more.
func Compare(was, now *Tree) []Delta { return CompareWith(was, now, CompareOptions{}) }

// CompareOptions change what counts as a change. The zero value is the rule of
// [Compare].
type CompareOptions struct {
	// Clamp, if not nil, is the latest modification time that counts, in seconds
	// since the Unix epoch: all later ones are the same.
	Clamp *int64
	// IgnoreOwner leaves user and group out of account.
	IgnoreOwner bool
	// IgnoreXattr, if not nil, says by name which extended attributes are left out
	// of account.
	IgnoreXattr func(name string) bool
	// CountNames takes for the hard links of a file those of its names that are in the
	// tree. Names elsewhere, as in another tree that shares the file, do not count.
	CountNames bool
	// SameContent, if not nil, says whether a regular file contains what it did, in
	// place of the digests. It is asked about all but directories, where nothing else
	// differs: of a link or a device, a walk knows no extended attributes.
	SameContent func(was, now Entry) bool
}

// CompareWith is [Compare] with options.
func CompareWith(was, now *Tree, opt CompareOptions) []Delta {
	c := comparison{old: was, new: now, opt: opt, dirs: []pair{{0, 0}}}
	if opt.CountNames {
		c.oldNames, c.newNames = was.countNames(), now.countNames()
	}
	switch {
	case len(was.nodes) == 0 && len(now.nodes) == 0:
		return nil
	case len(was.nodes) == 0:
		c.added(0)
	case len(now.nodes) == 0:
		c.deleted(0)
	default:
		c.both(0, 0)
		for len(c.dirs) > 0 {
			p := c.dirs[len(c.dirs)-1]
			c.dirs = c.dirs[:len(c.dirs)-1]
			c.children(p)
		}
	}
	c.regroup()
	c.siblings()
	slices.SortFunc(c.deltas, func(a, b Delta) int { return comparePaths(a.Path, b.Path) })
	return c.deltas
}

// comparePaths is byte-lexical order with the root first.
func comparePaths(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	return strings.Compare(a, b)
}

// pair is the numbers of one path in both trees.
type pair struct{ old, new int32 }

type comparison struct {
	old, new *Tree
	opt      CompareOptions
	oldNames map[inode]uint32 // how many names inodes have in the tree, with CountNames
	newNames map[inode]uint32
	deltas   []Delta
	dirs     []pair // directories whose children are still to be compared
	linked   []pair // files that have or had more than one name
}

// children compares two directories of the same path, sorted as they are.
func (c *comparison) children(p pair) {
	o, n := &c.old.nodes[p.old], &c.new.nodes[p.new]
	i, iEnd := o.first, o.first+o.count
	j, jEnd := n.first, n.first+n.count
	for i < iEnd || j < jEnd {
		var order int
		switch {
		case i == iEnd:
			order = 1
		case j == jEnd:
			order = -1
		default:
			order = bytes.Compare(c.old.nameBytes(i), c.new.nameBytes(j))
		}
		switch {
		case order < 0:
			c.deleted(i)
			i++
		case order > 0:
			c.added(j)
			j++
		default:
			c.both(i, j)
			if c.old.nodes[i].count > 0 || c.new.nodes[j].count > 0 {
				// If one is no directory, it has no children.
				c.dirs = append(c.dirs, pair{i, j})
			}
			i++
			j++
		}
	}
}

// deleted notes that old entry i is gone, with all below it.
func (c *comparison) deleted(i int32) {
	c.old.lexical(i, func(i int32) bool {
		e := Entry{tree: c.old, i: i}
		c.deltas = append(c.deltas, Delta{Path: e.Path(), Kind: Deleted, Old: e})
		return true
	})
}

// added notes that new entry i was not there, with all below it.
func (c *comparison) added(i int32) {
	c.new.lexical(i, func(i int32) bool {
		e := Entry{tree: c.new, i: i}
		c.deltas = append(c.deltas, Delta{Path: e.Path(), Kind: Added, New: e})
		return true
	})
}

// both compares two entries of the same path, but not what is below them.
func (c *comparison) both(i, j int32) {
	o, n := &c.old.nodes[i], &c.new.nodes[j]
	if o.known == 0 || n.known == 0 {
		// A manifest has no such entry, only others below it.
		switch oe, ne := (Entry{tree: c.old, i: i}), (Entry{tree: c.new, i: j}); {
		case n.known != 0:
			c.deltas = append(c.deltas, Delta{Path: ne.Path(), Kind: Added, New: ne})
		case o.known != 0:
			c.deltas = append(c.deltas, Delta{Path: oe.Path(), Kind: Deleted, Old: oe})
		}
		return
	}
	changed := c.changed(o, n)
	if changed == 0 && c.opt.SameContent != nil && !o.isDir() &&
		!c.opt.SameContent(Entry{tree: c.old, i: i}, Entry{tree: c.new, i: j}) {
		changed = keyDigest
	}
	if changed != 0 {
		c.modified(pair{i, j}, changed)
	}
	if !n.isDir() && !o.isDir() && (n.nlink > 1 || o.nlink > 1) {
		c.linked = append(c.linked, pair{i, j})
	}
}

// changed returns the keywords in which two entries differ.
func (c *comparison) changed(o, n *node) keywords {
	var diff keywords
	set := func(key keywords, differs bool) {
		if differs {
			diff |= key
		}
	}
	set(keyType, (o.mode^n.mode)&unix.S_IFMT != 0)
	if !o.isDir() && !n.isDir() {
		set(keySize, o.size != n.size)
		set(keyNlink, o.names(c.oldNames) != n.names(c.newNames))
	}
	set(keyUID, o.uid != n.uid && !c.opt.IgnoreOwner)
	set(keyGID, o.gid != n.gid && !c.opt.IgnoreOwner)
	set(keyMode, (o.mode^n.mode)&0o7777 != 0)
	set(keyTime, c.opt.clamp(o.mtime) != c.opt.clamp(n.mtime))
	// What only one type of file has is gone with the type.
	set(keyDigest, c.opt.SameContent == nil && (n.known&keyDigest == 0 || o.digest != n.digest))
	var xattr keywords
	if o.extra != 0 || n.extra != 0 {
		oe, ne := &c.old.extras[o.extra], &c.new.extras[n.extra]
		set(keyLink, n.known&keyLink == 0 || oe.link != ne.link)
		set(keyDevice, oe.rdev != ne.rdev)
		if c.old.xattrs && !equalXattrs(c.opt.xattrs(oe.xattrs), c.opt.xattrs(ne.xattrs)) {
			xattr = keyXattr // though the old entry may not have the keyword
		}
	}
	return diff&o.known | xattr
}

func (o *CompareOptions) clamp(sec int64) int64 {
	if o.Clamp != nil && sec > *o.Clamp {
		return *o.Clamp
	}
	return sec
}

// xattrs returns those that count.
func (o *CompareOptions) xattrs(all []Xattr) []Xattr {
	if o.IgnoreXattr == nil || len(all) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(x Xattr) bool { return o.IgnoreXattr(x.Name) })
}

// equalXattrs compares without regard to order, which is up to the file system.
func equalXattrs(a, b []Xattr) bool {
	return len(a) == len(b) && (len(a) == 0 || len(changedXattrs(a, b)) == 0)
}

// changedXattrs returns the names of the attributes that differ, sorted.
func changedXattrs(a, b []Xattr) []string {
	a, b = sortXattrs(a), sortXattrs(b)
	var names []string
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			names, a = append(names, a[0].Name), a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			names, b = append(names, b[0].Name), b[1:]
		default:
			if !bytes.Equal(a[0].Value, b[0].Value) {
				names = append(names, a[0].Name)
			}
			a, b = a[1:], b[1:]
		}
	}
	return names
}

// sortXattrs returns xattrs sorted by name.
func sortXattrs(xattrs []Xattr) []Xattr {
	sorted := slices.Clone(xattrs)
	slices.SortFunc(sorted, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// modified notes a change of an entry that is in both trees.
func (c *comparison) modified(p pair, diff keywords) {
	d := Delta{Kind: Modified, Old: Entry{tree: c.old, i: p.old}, New: Entry{tree: c.new, i: p.new}}
	d.Path = d.New.Path()
	for i, name := range keywordNames {
		switch key := keywords(1) << i; {
		case diff&key == 0:
		case key == keyXattr:
			for _, attr := range changedXattrs(c.opt.xattrs(d.Old.Xattrs()), c.opt.xattrs(d.New.Xattrs())) {
				d.Keys = append(d.Keys, "xattr."+attr)
			}
		default:
			d.Keys = append(d.Keys, name)
		}
	}
	c.deltas = append(c.deltas, d)
}
