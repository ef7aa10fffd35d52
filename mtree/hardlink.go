// SPDX-License-Identifier: Apache-2.0

package mtree

import "slices"

// inode identifies a file among those of one tree.
type inode struct {
	dev uint16
	ino uint64
}

func (n *node) inode() inode { return inode{n.dev, n.ino} }

// countNames returns how many names in the tree the inodes have that have several
// anywhere.
func (t *Tree) countNames() map[inode]uint32 {
	names := make(map[inode]uint32)
	for i := range t.nodes {
		if n := &t.nodes[i]; n.nlink > 1 && !n.isDir() {
			names[n.inode()]++
		}
	}
	return names
}

// names is how many names n has, by a count in its tree if there is one.
func (n *node) names(counted map[inode]uint32) uint32 {
	if counted == nil || n.nlink < 2 {
		return n.nlink
	}
	return counted[n.inode()]
}

// regroup finds hard links that were made anew between other files: if {a,b} and
// {c,d} become {a,c} and {b,d}, then no keyword need tell. All names of all
// inodes in question count as modified.
//
// Inode numbers as such may change, as in a copy of the whole tree; only which
// names have the same one matters. So this looks for numbers on one side that
// belong to more than one on the other.
func (c *comparison) regroup() {
	if !c.old.inodes || !c.new.inodes || !slices.ContainsFunc(c.linked, func(p pair) bool {
		return c.old.nodes[p.old].ino != c.new.nodes[p.new].ino
	}) {
		return
	}
	toNew, toOld := make(map[inode]inode), make(map[inode]inode)
	badOld, badNew := make(map[inode]bool), make(map[inode]bool)
	for _, p := range c.linked {
		o, n := c.old.nodes[p.old].inode(), c.new.nodes[p.new].inode()
		if seen, ok := toNew[o]; ok && seen != n {
			badOld[o] = true
		}
		if seen, ok := toOld[n]; ok && seen != o {
			badNew[n] = true
		}
		toNew[o], toOld[n] = n, o
	}
	if len(badOld)+len(badNew) == 0 {
		return
	}
	reported := c.reported()
	for _, p := range c.linked {
		o, n := c.old.nodes[p.old].inode(), c.new.nodes[p.new].inode()
		if (badOld[o] || badNew[n]) && !reported[p.new] {
			c.modified(p, keyHardlinks)
		}
	}
}

// siblings completes the inodes of which some names are reported, but not all.
// That can be if two inodes of different content swap names.
func (c *comparison) siblings() {
	if !c.new.inodes {
		return
	}
	changed := make(map[inode]bool)
	for i := range c.deltas {
		if d := &c.deltas[i]; d.New.Exists() && !d.New.IsDir() && d.New.node().nlink > 1 {
			changed[d.New.node().inode()] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	reported := c.reported()
	for _, p := range c.linked {
		if changed[c.new.nodes[p.new].inode()] && !reported[p.new] {
			c.modified(p, keyHardlinks)
		}
	}
}

// reported returns the numbers of the new entries that there are deltas for.
func (c *comparison) reported() map[int32]bool {
	reported := make(map[int32]bool, len(c.deltas))
	for i := range c.deltas {
		if c.deltas[i].New.Exists() {
			reported[c.deltas[i].New.i] = true
		}
	}
	return reported
}
