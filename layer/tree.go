// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"slices"
	"strings"

	"github.com/shale-oci/shale/internal/rooted"
)

// Type is the type of an [Inode].
type Type uint8

// The types that a layer can hold.
const (
	Regular Type = iota + 1
	Directory
	Symlink
	CharDevice
	BlockDevice
	Fifo
)

// String returns the type's name for messages.
func (t Type) String() string {
	switch t {
	case Regular:
		return "regular file"
	case Directory:
		return "directory"
	case Symlink:
		return "symbolic link"
	case CharDevice:
		return "character device"
	case BlockDevice:
		return "block device"
	case Fifo:
		return "FIFO"
	}
	return "unknown type"
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value string
}

// Inode is what one or more names of a tree stand for. Its numbers are those of
// the layer: IDs are inside the container, not mapped.
type Inode struct {
	Mtime        rooted.Timespec
	Size         int64   // bytes, of a regular file
	Target       string  // of a symbolic link, as it is
	Xattrs       []Xattr // sorted by name
	Mode         uint32  // permission bits with setuid, setgid and sticky
	UID, GID     uint32
	Major, Minor uint32 // of a device
	Nlink        int32  // names in the tree
	Layer        int32  // the layer that it comes from, counted from 0; -1 if from none
	Entry        int32  // the entry of that layer, counted from 0; -1 if it is implied by one
	Type         Type
	HasDigest    bool     // Digest is known
	Digest       [32]byte // SHA-256 of a regular file's content
}

// Node is one name in a [Tree].
type Node struct {
	name   string
	parent *Node
	inode  *Inode
	kids   *children // nil if there are none
	upper  int32     // the last layer that touched this path or one below it
	pos    int32     // place in the parent's list
}

// Name returns the last component of the node's path; the root's is ".".
func (n *Node) Name() string { return n.name }

// Parent returns the directory that n is in, nil for the root.
func (n *Node) Parent() *Node { return n.parent }

// Inode returns what the name stands for. Names with the same inode are
// hardlinks of each other.
func (n *Node) Inode() *Inode { return n.inode }

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.inode.Type == Directory }

// Path returns the path below the root without a leading slash; the root's is
// ".".
func (n *Node) Path() string {
	if n.parent == nil {
		return "."
	}
	depth := n.depth()
	names := make([]string, depth)
	for p := n; p.parent != nil; p = p.parent {
		depth--
		names[depth] = p.name
	}
	return strings.Join(names, "/")
}

// depth returns how many directories n is in, the root among them.
func (n *Node) depth() int {
	depth := 0
	for ; n.parent != nil; n = n.parent {
		depth++
	}
	return depth
}

// Children returns the entries of a directory sorted by name, bytewise.
func (n *Node) Children() []*Node {
	k := n.own()
	if k == nil {
		return nil
	}
	list := slices.Clone(k.list)
	slices.SortFunc(list, func(a, b *Node) int { return strings.Compare(a.name, b.name) })
	return list
}

// Tree is what a stack of layers amounts to: names and the inodes that they
// stand for, all in memory. It needs about 220 bytes for an entry, and its name.
// A Tree is not safe for concurrent use.
type Tree struct {
	root    *Node
	layer   int32 // the layer being applied, counted from 0
	entries int   // names in the tree, with the root
}

// NewTree returns a tree of nothing but its root directory: mode 0755, owned by
// 0:0, modified at the Unix epoch, until a layer says otherwise.
func NewTree() *Tree {
	root := &Node{name: ".", upper: -1, inode: &Inode{Type: Directory, Mode: 0o755, Nlink: 1, Layer: -1, Entry: -1}}
	return &Tree{root: root, layer: -1, entries: 1}
}

// Layer returns the number of the layer that was applied last, or is being applied,
// counted from 0; -1 before the first.
func (t *Tree) Layer() int { return int(t.layer) }

// Root returns the root directory.
func (t *Tree) Root() *Node { return t.root }

// Len returns the number of names in the tree, with the root.
func (t *Tree) Len() int { return t.entries }

// Lookup returns the node at path, a slash-separated path below the root, or
// nil. Symbolic links on the way are not followed.
func (t *Tree) Lookup(path string) *Node {
	n := t.root
	for path != "" && n != nil {
		name, rest, _ := strings.Cut(path, "/")
		path = rest
		if name != "" && name != "." {
			n = n.child(name)
		}
	}
	return n
}

// Follow returns the node that path leads to, through symbolic links as if the
// tree's root were the root directory, the last component's too. It is nil if
// there is none; the error is [ErrSymlinkLoop].
func (t *Tree) Follow(path string) (*Node, error) {
	at, err := t.resolve(path)
	switch {
	case err != nil:
		return nil, err
	case len(at.missing) == 0:
		return at.dir, nil
	case len(at.missing) == 1:
		return at.dir.child(at.missing[0]), nil // it is a file, or nothing
	}
	return nil, nil
}

// Walk calls fn for every node, parents first and the entries of a directory
// sorted by name.
func (t *Tree) Walk(fn func(*Node) error) error { return walk(t.root, fn) }

func walk(n *Node, fn func(*Node) error) error {
	if err := fn(n); err != nil {
		return err
	}
	for _, c := range n.Children() {
		if err := walk(c, fn); err != nil {
			return err
		}
	}
	return nil
}
