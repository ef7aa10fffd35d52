// SPDX-License-Identifier: Apache-2.0

package layer

// Clone returns a tree that is the same as t, and to which other layers may be applied.
// Nodes of t from before are not t's any more: both trees make nodes of their own where
// they are looked at, directory by directory, and share the rest. So a clone takes
// little memory until both have been walked, and [Node.SameBelow] tells what two of them
// still have in common.
func (t *Tree) Clone() *Tree {
	t.root.share()
	inodes := map[*Inode]*Inode{} // of those with several names
	return &Tree{root: t.root.clone(nil, inodes), layer: t.layer, entries: t.entries}
}

// share marks the lists of entries below n that two trees may have: those where no inode
// has several names. Where one has, its other names can be anywhere, and have to stay
// names of the same inode. It reports whether n is alone in that sense, with all below.
func (n *Node) share() bool {
	alone := n.inode.Nlink == 1
	if n.kids == nil || n.kids.shared {
		return alone
	}
	shared := true
	for _, c := range n.kids.list {
		shared = c.share() && shared
	}
	n.kids.shared = shared
	return alone && shared
}

// clone copies n, and what is below it as far as that is not shared.
func (n *Node) clone(parent *Node, inodes map[*Inode]*Inode) *Node {
	c := &Node{name: n.name, parent: parent, inode: inodes[n.inode], upper: n.upper}
	if c.inode == nil {
		ino := *n.inode
		c.inode = &ino
		if ino.Nlink > 1 {
			inodes[n.inode] = c.inode
		}
	}
	switch k := n.kids; {
	case k == nil:
	case k.shared:
		c.kids = k
	default:
		for _, kid := range k.list {
			c.attach(kid.clone(c, inodes))
		}
	}
	return c
}

// own returns the entries of n, which are its own from now on. What is below them stays
// shared. It is nil if there are none.
func (n *Node) own() *children {
	if k := n.kids; k != nil && k.shared {
		n.kids = nil
		for _, c := range k.list {
			n.attach(c.clone(n, nil)) // no inode has several names
		}
	}
	return n.kids
}

// SameBelow reports whether the directories n and m are known to hold the same, with all
// below, because one tree is a clone of the other and neither was changed or looked at
// there. That there is no difference is certain; that there is one is not.
func (n *Node) SameBelow(m *Node) bool {
	return n.kids != nil && n.kids == m.kids && n.kids.shared
}

// count returns the number of names below.
func (k *children) count() int {
	n := len(k.list)
	for _, c := range k.list {
		if c.kids != nil {
			n += c.kids.count()
		}
	}
	return n
}
