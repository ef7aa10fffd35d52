// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// MaxDepth is how many directories deep a tree may be. A deeper one is refused
// when it is walked, parsed or loaded.
const MaxDepth = 1 << 14

// maxName is the longest name in bytes. Nearly all file systems end at 255.
const maxName = 1023

// validName reports whether name can be that of an entry of a directory.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00") && len(name) <= maxName
}

var (
	errTooDeep = errors.New("more than 16384 directories deep")
	errTooMany = errors.New("more entries than one tree can hold")
)

// Tree is the facts about a directory and all below it, as found by [Walk],
// read from an mtree manifest by [Parse], or kept in a stat cache.
//
// A Tree takes about 120 bytes per entry and its name once. Symlink targets and
// extended attributes are extra. It does not change once it is made and may be
// used by several goroutines.
type Tree struct {
	nodes  []node
	names  []byte // all names, one after another
	devs   []uint64
	extras []extra // extras[0] is that of entries that have none

	// inodes says that device and inode numbers are known, so that hard links
	// can be told from files that merely look the same.
	inodes bool
	// xattrs says that an entry without extended attributes has none, rather
	// than that nobody looked.
	xattrs bool
}

// node is an entry. The children of a directory are neighbours in Tree.nodes,
// sorted by name; node 0 is the root.
type node struct {
	ino                   uint64
	size                  int64
	mtime, ctime          int64 // seconds
	mnsec, cnsec          int32
	mode, uid, gid, nlink uint32
	parent                int32
	first, count          int32 // the children
	name                  uint32
	extra                 int32
	nameLen               uint16
	dev                   uint16
	known                 keywords // 0: only implied by the path of another entry
	digest                [sha256.Size]byte
}

// extra is what few entries have.
type extra struct {
	link   string
	xattrs []Xattr
	rdev   uint64
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

func (n *node) isDir() bool     { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.mode&unix.S_IFMT == unix.S_IFREG }

// setStat takes over all of st but the device.
func (n *node) setStat(st *rooted.Stat) {
	n.ino, n.size = st.Ino, st.Size
	n.mtime, n.mnsec = st.Mtime.Sec, st.Mtime.Nsec
	n.ctime, n.cnsec = st.Ctime.Sec, st.Ctime.Nsec
	n.mode, n.uid, n.gid = st.Mode, st.UID, st.GID
	n.nlink = uint32(min(st.Nlink, 1<<32-1))
}

// newTree returns a tree without any entry.
func newTree() *Tree {
	return &Tree{extras: make([]extra, 1)}
}

// devIndex returns the number of dev in t.devs.
func (t *Tree) devIndex(dev uint64) (uint16, error) {
	i := slices.Index(t.devs, dev)
	if i < 0 {
		if i = len(t.devs); i > 1<<16-1 {
			return 0, errTooMany
		}
		t.devs = append(t.devs, dev)
	}
	return uint16(i), nil
}

// addName stores name for n.
func (t *Tree) addName(n *node, name string) error {
	if len(name) > maxName {
		return fmt.Errorf("name of %d bytes: %w", len(name), unix.ENAMETOOLONG)
	}
	if len(t.names)+len(name) > 1<<32-1 {
		return errTooMany
	}
	n.name, n.nameLen = uint32(len(t.names)), uint16(len(name))
	t.names = append(t.names, name...)
	return nil
}

// addExtra stores what few entries have and returns its number. Extended
// attributes that many entries share, such as security labels, are stored once;
// interned remembers which there are.
func (t *Tree) addExtra(e extra, interned map[string]int32) (int32, error) {
	if len(t.extras) > 1<<31-2 {
		return 0, errTooMany
	}
	i := int32(len(t.extras))
	if len(e.xattrs) > 0 {
		key := string(appendXattrs(nil, e.xattrs))
		if old, ok := interned[key]; ok {
			return old, nil
		}
		interned[key] = i
	}
	t.extras = append(t.extras, e)
	return i, nil
}

func (e *extra) empty() bool { return e.link == "" && e.rdev == 0 && len(e.xattrs) == 0 }

func (t *Tree) nameBytes(i int32) []byte {
	n := &t.nodes[i]
	return t.names[n.name : n.name+uint32(n.nameLen)]
}

// child returns the child of dir called name.
func (t *Tree) child(dir int32, name string) (int32, bool) {
	d := &t.nodes[dir]
	i, ok := slices.BinarySearchFunc(t.nodes[d.first:d.first+d.count], name, func(n node, name string) int {
		return compareName(t.names[n.name:n.name+uint32(n.nameLen)], name)
	})
	return d.first + int32(i), ok
}

// compareName is cmp.Compare for a name of a tree and one from elsewhere,
// without a copy of either.
func compareName(a []byte, b string) int {
	switch {
	case string(a) < b:
		return -1
	case string(a) > b:
		return 1
	}
	return 0
}

// Len returns the number of entries, the root among them.
func (t *Tree) Len() int { return len(t.nodes) }

// Root returns the entry of the root. It panics if the tree is empty, which
// only that of an empty manifest is.
func (t *Tree) Root() Entry { return t.At(0) }

// At returns the entry with the given number, which is at least 0 and below
// t.Len(). Number 0 is the root; the others are in no particular order.
func (t *Tree) At(i int) Entry {
	_ = t.nodes[i]
	return Entry{tree: t, i: int32(i)}
}

// Path returns the path of entry number i.
func (t *Tree) Path(i int) string { return t.At(i).Path() }

// Lookup returns the entry at path, which must be as [Entry.Path] returns it.
func (t *Tree) Lookup(path string) (Entry, bool) {
	if len(t.nodes) == 0 {
		return Entry{}, false
	}
	i := int32(0)
	if path != "." {
		for name := range strings.SplitSeq(path, "/") {
			var ok bool
			if i, ok = t.child(i, name); !ok {
				return Entry{}, false
			}
		}
	}
	if t.nodes[i].known == 0 {
		return Entry{}, false
	}
	return Entry{tree: t, i: i}, true
}

// Entry is one entry of a [Tree]. The zero Entry stands for none: see
// [Entry.Exists].
type Entry struct {
	tree *Tree
	i    int32
}

// Exists reports whether e is an entry at all.
func (e Entry) Exists() bool { return e.tree != nil }

// Index returns the number of e in its tree: see [Tree.At].
func (e Entry) Index() int { return int(e.i) }

func (e Entry) node() *node { return &e.tree.nodes[e.i] }

// Name returns the last component of the path; that of the root is ".".
func (e Entry) Name() string {
	if e.i == 0 {
		return "."
	}
	return string(e.tree.nameBytes(e.i))
}

// Path returns the path relative to the root, which itself is ".".
func (e Entry) Path() string {
	if e.i == 0 {
		return "."
	}
	size := -1
	for i := e.i; i != 0; i = e.tree.nodes[i].parent {
		size += 1 + int(e.tree.nodes[i].nameLen)
	}
	buf := make([]byte, size)
	end := size
	for i := e.i; i != 0; i = e.tree.nodes[i].parent {
		name := e.tree.nameBytes(i)
		end -= len(name)
		copy(buf[end:], name)
		if end > 0 {
			end--
			buf[end] = '/'
		}
	}
	return string(buf)
}

// Children returns the entries of a directory, sorted by name, bytewise. Anything
// else has none.
func (e Entry) Children() iter.Seq[Entry] {
	n := e.node()
	return func(yield func(Entry) bool) {
		for i := n.first; i < n.first+n.count; i++ {
			if !yield(Entry{tree: e.tree, i: i}) {
				return
			}
		}
	}
}

// Parent returns the directory that e is in; the root is its own parent.
func (e Entry) Parent() Entry {
	return Entry{tree: e.tree, i: e.node().parent}
}

// Stat returns what lstat(2) said. In a tree from a manifest, what the manifest
// does not say is zero.
func (e Entry) Stat() rooted.Stat {
	n := e.node()
	st := rooted.Stat{
		Ino: n.ino, Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: uint64(n.nlink),
		Rdev: e.tree.extras[n.extra].rdev, Size: n.size,
		Mtime: rooted.Timespec{Sec: n.mtime, Nsec: n.mnsec},
		Ctime: rooted.Timespec{Sec: n.ctime, Nsec: n.cnsec},
	}
	if e.tree.inodes {
		st.Dev = e.tree.devs[n.dev]
	}
	return st
}

// IsDir reports whether e is a directory.
func (e Entry) IsDir() bool { return e.node().isDir() }

// IsRegular reports whether e is a regular file.
func (e Entry) IsRegular() bool { return e.node().isRegular() }

// Digest returns the SHA-256 digest of the contents of a regular file.
func (e Entry) Digest() (digest [sha256.Size]byte, ok bool) {
	n := e.node()
	return n.digest, n.known&keyDigest != 0
}

// Link returns the target of a symbolic link.
func (e Entry) Link() string { return e.tree.extras[e.node().extra].link }

// Xattrs returns the extended attributes, in the order that the kernel lists
// them in. Only regular files and directories have any. The caller must not
// change them.
func (e Entry) Xattrs() []Xattr { return e.tree.extras[e.node().extra].xattrs }
