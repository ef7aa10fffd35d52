// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// Facts are what a [Builder] is told about one entry.
type Facts struct {
	// Stat is what lstat(2) would say. The inode number only tells which entries
	// are hard links of each other; the device and the change time do not count.
	Stat rooted.Stat
	// Link is the target of a symbolic link.
	Link string
	// Xattrs are the extended attributes, all of them.
	Xattrs []Xattr
	// Digest is that of the content of a regular file; nil if it is not known.
	Digest *[sha256.Size]byte
}

// Builder makes a [Tree] of facts that are known from elsewhere than a disk or a
// manifest.
type Builder struct{ p parser }

// NewBuilder begins a tree with its root, which is entry number 0.
func NewBuilder(root Facts) (*Builder, error) {
	b := &Builder{p: parser{tree: newTree(), interned: make(map[string]int32)}}
	b.p.tree.inodes, b.p.tree.xattrs = true, true
	b.p.tree.devs = []uint64{0}
	b.p.tree.nodes, b.p.lines = make([]node, 1), make([]int32, 1)
	return b, b.p.fill(0, root.attributes())
}

// Add adds an entry called name to the directory with the given number, and returns
// the number of the entry, by which others can be added to it. These numbers are the
// builder's, not those of the tree.
func (b *Builder) Add(dir int, name string, f Facts) (int, error) {
	i, err := b.p.add(int32(dir), name, f.attributes())
	return int(i), err
}

// Tree returns the tree. It ends the builder.
func (b *Builder) Tree() (*Tree, error) {
	if err := b.p.finish(); err != nil {
		return nil, err
	}
	return b.p.tree, nil
}

func (f *Facts) attributes() *attributes {
	a := &attributes{more: extra{link: f.Link, xattrs: f.Xattrs, rdev: f.Stat.Rdev}}
	a.setStat(&f.Stat)
	a.known = allKeywords
	if f.Stat.Type() == unix.S_IFLNK {
		a.known |= keyLink
	}
	if f.Digest != nil {
		a.digest, a.known = *f.Digest, a.known|keyDigest
	}
	return a
}
