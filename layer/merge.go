// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
)

// Sink is told what applying a layer does to the tree, one step after the
// other, in an order in which the steps can be done on a disk. A directory's
// metadata may change until the last layer is applied: a sink that keeps it
// reads it from the tree in the end.
type Sink interface {
	// Mkdir is called for a new directory, before anything in it.
	Mkdir(n *Node) error
	// Update is called when a directory that was there got new metadata.
	Update(n *Node) error
	// Put is called for a new inode that is not a directory. The content of a
	// regular file is body, of exactly n.Inode().Size bytes.
	Put(n *Node, body io.Reader) error
	// Link is called when n became one more name for target's inode.
	Link(n, target *Node) error
	// Remove is called when n goes, with all below it. It is still attached.
	Remove(n *Node) error
}

// Discard is the sink for those who want nothing but the tree.
var Discard Sink = discard{}

type discard struct{}

func (discard) Mkdir(*Node) error { return nil }

func (discard) Update(*Node) error { return nil }

func (discard) Put(*Node, io.Reader) error { return nil }

func (discard) Link(_, _ *Node) error { return nil }

func (discard) Remove(*Node) error { return nil }

// NewDigests returns a sink for those who want the tree, and the digests of what
// its files contain. It is for one tree at a time.
func NewDigests() Sink {
	return &digests{buf: make([]byte, 64<<10)}
}

type digests struct {
	discard
	buf []byte
}

func (d *digests) wantDigests() {}

func (d *digests) Put(n *Node, body io.Reader) error {
	if n.inode.Type != Regular {
		return nil
	}
	// Without the wrapper, io.CopyBuffer would not use the buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, d.buf)
	return err
}

// Errors of entries that cannot be applied.
var (
	ErrSymlinkLoop = errors.New("too many symbolic links on the way")
	ErrRootType    = errors.New("the root can only be a directory")
	ErrNoTarget    = errors.New("hardlink to something that is not there")
	ErrLinkDir     = errors.New("hardlink to a directory")
	ErrSelfLink    = errors.New("hardlink to itself")
	ErrNameTooLong = errors.New("name component longer than 255 bytes")
)

const (
	// maxSymlinks is how many links one name may lead through, as in Linux'
	// path walk with some room for chains over layers.
	maxSymlinks = 255
	// maxName is NAME_MAX of every Linux file system in use.
	maxName = 255
)

// place is where a path leads: a directory that exists and the names below it
// that do not.
type place struct {
	dir     *Node
	missing []string
}

// resolve follows path through the tree, symbolic links included, as if the
// tree's root were the root directory: ".." in the root stays there. A
// component that is neither a directory nor a link ends what exists: whoever
// creates below it replaces it.
func (t *Tree) resolve(path string) (place, error) {
	at := place{dir: t.root}
	todo := splitPath(path)
	links := 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch {
		case name == "..":
			at.up()
			continue
		case len(at.missing) > 0:
			at.missing = append(at.missing, name)
			continue
		}
		next := at.dir.child(name)
		switch {
		case next == nil:
			at.missing = append(at.missing, name)
		case next.IsDir():
			at.dir = next
		case next.inode.Type == Symlink:
			if links++; links > maxSymlinks {
				return place{}, ErrSymlinkLoop
			}
			target := next.inode.Target
			if strings.HasPrefix(target, "/") {
				at.dir = t.root
			}
			todo = append(splitPath(target), todo...)
		default:
			at.missing = append(at.missing, name)
		}
	}
	return at, nil
}

func (p *place) up() {
	if len(p.missing) > 0 {
		p.missing = p.missing[:len(p.missing)-1]
	} else if p.dir.parent != nil {
		p.dir = p.dir.parent
	}
}

// splitPath returns the components of path that mean anything.
func splitPath(path string) []string {
	var names []string
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		path = rest
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// parentOf returns the directory that path's last component is in, made where
// it is missing, and that component. An entry for a name that is not there is
// a fact about its ancestors too: they get the defaults of an implied
// directory.
func (t *Tree) parentOf(path string, sink Sink) (*Node, string, error) {
	dir, base := splitBase(path)
	at, err := t.resolve(dir)
	if err != nil {
		return nil, "", err
	}
	for _, name := range at.missing {
		if len(name) > maxName {
			return nil, "", ErrNameTooLong
		}
		if c := at.dir.child(name); c != nil {
			if err := t.remove(c, sink); err != nil {
				return nil, "", err
			}
		}
		implied := &Inode{Type: Directory, Mode: 0o755, Layer: t.layer, Entry: -1}
		if at.dir, err = t.mkdir(at.dir, name, implied, sink); err != nil {
			return nil, "", err
		}
	}
	return at.dir, base, nil
}

// splitBase cuts a cleaned path into its directory and its last component.
func splitBase(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// put adds an inode at path, or renews a directory's metadata there.
func (t *Tree) put(path string, ino *Inode, body io.Reader, sink Sink, keepDirlinks bool) error {
	ino.Layer = t.layer
	if path == "." {
		if ino.Type != Directory {
			return ErrRootType
		}
		return t.update(t.root, ino, sink)
	}
	dir, base, err := t.parentOf(path, sink)
	if err != nil {
		return err
	}
	if len(base) > maxName {
		return ErrNameTooLong
	}
	if old := dir.child(base); old != nil {
		if old.IsDir() && ino.Type == Directory {
			return t.update(old, ino, sink)
		}
		if keepDirlinks && ino.Type == Directory && t.isDirlink(old) {
			body, ino = nil, relink(old.inode, ino)
		}
		if err := t.remove(old, sink); err != nil {
			return err
		}
	}
	if ino.Type == Directory {
		_, err := t.mkdir(dir, base, ino, sink)
		return err
	}
	ino.Nlink = 1
	n := t.add(dir, base, ino)
	return sink.Put(n, body)
}

// isDirlink reports whether n is a symbolic link that leads to a directory.
func (t *Tree) isDirlink(n *Node) bool {
	if n.inode.Type != Symlink {
		return false
	}
	at, err := t.resolve(n.Path())
	return err == nil && len(at.missing) == 0
}

// relink returns the link old with the owner and time that the entry for the
// directory behind it brings: that is what a kept link gets.
func relink(old, ino *Inode) *Inode {
	link := *old
	link.UID, link.GID, link.Mtime = ino.UID, ino.GID, ino.Mtime
	link.Layer, link.Entry = ino.Layer, ino.Entry
	return &link
}

// link makes path one more name for what target stands for.
func (t *Tree) link(path, target string, sink Sink) error {
	if path == "." {
		return ErrRootType
	}
	dir, base, err := t.parentOf(path, sink)
	if err != nil {
		return err
	}
	if len(base) > maxName {
		return ErrNameTooLong
	}
	to, err := t.linkTarget(target)
	if err != nil {
		return err
	}
	if old := dir.child(base); old != nil {
		if old == to {
			return fmt.Errorf("%w: %s", ErrSelfLink, quote.Name(target))
		}
		if err := t.remove(old, sink); err != nil {
			return err
		}
		if t.gone(to) {
			return fmt.Errorf("%w: %s", ErrNoTarget, quote.Name(target))
		}
	}
	to.inode.Nlink++
	n := t.add(dir, base, to.inode)
	return sink.Link(n, to)
}

// linkTarget finds what a hardlink entry names: links on the way are followed,
// the last component is not.
func (t *Tree) linkTarget(target string) (*Node, error) {
	clean := cleanPath(target)
	if clean == "." {
		return nil, fmt.Errorf("%w: %s", ErrLinkDir, quote.Name(target))
	}
	dir, base := splitBase(clean)
	at, err := t.resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("hardlink to %s: %w", quote.Name(target), err)
	}
	var to *Node
	if len(at.missing) == 0 {
		to = at.dir.child(base)
	}
	switch {
	case to == nil:
		return nil, fmt.Errorf("%w: %s", ErrNoTarget, quote.Name(target))
	case to.IsDir():
		return nil, fmt.Errorf("%w: %s", ErrLinkDir, quote.Name(target))
	}
	return to, nil
}

// gone reports whether n has been taken out of the tree, alone or with a
// directory above it.
func (t *Tree) gone(n *Node) bool {
	for ; n.parent != nil; n = n.parent {
		if n.parent.child(n.name) != n {
			return true
		}
	}
	return n != t.root
}

func (t *Tree) mkdir(dir *Node, name string, ino *Inode, sink Sink) (*Node, error) {
	if err := limit.Check("", "directories in each other", int64(dir.depth())+1, maxDepth); err != nil {
		return nil, err
	}
	ino.Nlink = 1
	n := t.add(dir, name, ino)
	return n, sink.Mkdir(n)
}

func (t *Tree) update(n *Node, ino *Inode, sink Sink) error {
	ino.Nlink = 1
	n.inode = ino
	t.touch(n)
	return sink.Update(n)
}

func (t *Tree) add(dir *Node, name string, ino *Inode) *Node {
	// A name that is a part of a path would keep all of it.
	n := &Node{name: strings.Clone(name), inode: ino, upper: -1}
	dir.attach(n)
	t.entries++
	t.touch(n)
	return n
}

// touch marks n and its ancestors as part of the layer being applied.
func (t *Tree) touch(n *Node) {
	for ; n != nil && n.upper != t.layer; n = n.parent {
		n.upper = t.layer
	}
}

// remove takes n out of the tree, with all below it.
func (t *Tree) remove(n *Node, sink Sink) error {
	if err := sink.Remove(n); err != nil {
		return err
	}
	t.forget(n)
	n.parent.detach(n)
	return nil
}

func (t *Tree) forget(n *Node) {
	t.entries--
	n.inode.Nlink--
	switch k := n.kids; {
	case k == nil:
	case k.shared:
		t.entries -= k.count() // the inodes are of other trees, too
	default:
		for _, c := range k.list {
			t.forget(c)
		}
	}
}
