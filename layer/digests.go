// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Digests is what a [Tree] knows of the contents of its files, without the tree:
// some 70 bytes for an entry, in pieces that the garbage collector need not look
// into. It may be used by several goroutines at once.
type Digests struct {
	names string // all names, one after another
	nodes []contentNode
}

// Len returns the number of entries, with the root.
func (d *Digests) Len() int { return len(d.nodes) }

// contentNode is an entry. The children of a directory are neighbours, sorted by
// name; the first node is the root.
type contentNode struct {
	sum          [sha256.Size]byte
	size         int64 // bytes; -1 if the digest is not known
	name         uint32
	first, count int32 // the children
	nameLen      uint16
}

// Digests returns the digests of the tree's files that the sink has filled in. A
// device counts as the empty file that may be its placeholder.
func (t *Tree) Digests() *Digests {
	d := &Digests{nodes: make([]contentNode, 0, t.entries)}
	todo := make([]*Node, 0, t.entries)
	var names []byte
	add := func(n *Node) {
		todo = append(todo, n)
		c := contentNode{size: -1, name: uint32(len(names)), nameLen: uint16(len(n.name))}
		switch ino := n.inode; {
		case ino.HasDigest:
			c.sum, c.size = ino.Digest, ino.Size
		case ino.Type == CharDevice || ino.Type == BlockDevice:
			c.sum, c.size = sha256.Sum256(nil), 0
		}
		names = append(names, n.name...)
		d.nodes = append(d.nodes, c)
	}
	add(t.root)
	for i := range t.entries {
		kids := todo[i].Children()
		d.nodes[i].first, d.nodes[i].count = int32(len(d.nodes)), int32(len(kids))
		for _, c := range kids {
			add(c)
		}
	}
	d.names = string(names)
	return d
}

// Lookup returns the SHA-256 of the regular file at path, below the root, if it is
// known and the file has size bytes.
func (d *Digests) Lookup(path string, size int64) (sum [sha256.Size]byte, ok bool) {
	n := &d.nodes[0]
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		path = rest
		if name == "" || name == "." {
			continue
		}
		kids := d.nodes[n.first : n.first+n.count]
		i, found := slices.BinarySearchFunc(kids, name, func(n contentNode, name string) int {
			return strings.Compare(d.names[n.name:n.name+uint32(n.nameLen)], name)
		})
		if !found {
			return sum, false
		}
		n = &kids[i]
	}
	return n.sum, n.size == size && size >= 0
}
