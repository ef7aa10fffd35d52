// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Flat writes a merged tree, or what makes it differ from the tree of some of its
// lower layers, as one plain tar layer. It is used in three steps: [Flat.Start]
// writes what has no content; then [Flat.Put] is called for each inode of
// [Flat.Wanted], in that order; [Flat.Close] ends the archive.
//
// What comes is in an order that only the layers decide, so that the same layers
// give the same bytes: the whiteouts, then what has no content sorted by path,
// parents first, then the files as they come in the layers, each followed by its
// other names as hardlinks.
type Flat struct {
	tw     *tar.Writer
	opt    FlatOptions
	groups map[*Inode]*group // of inodes with several names
	wanted []*Node
	buf    []byte
}

// group is the names of an inode that has several.
type group struct {
	below *Node   // one in the base, where it is the same file; nil if there is none
	names []*Node // the others, sorted by path
}

// FlatOptions say what a [Flat] writes.
type FlatOptions struct {
	// Base, if not nil, is the tree of the lower layers, which are left out: what
	// is written is a layer that goes on top of them. The tree that is written
	// must have begun as a clone of it.
	Base *Tree
	// Root is the node that is written with all below it. If nil, that is the whole
	// tree. Names are those in the tree all the same.
	Root *Node
	// Clamp, if not nil, is the latest modification time that an entry gets, as
	// seconds since the Unix epoch.
	Clamp *int64
}

// NewFlat begins an archive that is written to w.
func NewFlat(w io.Writer, tree *Tree, opt FlatOptions) *Flat {
	if opt.Root == nil {
		opt.Root = tree.root
	}
	return &Flat{tw: tar.NewWriter(w), opt: opt, groups: map[*Inode]*group{}, buf: make([]byte, 64<<10)}
}

// Start writes whatever has no content, and finds out what is wanted.
func (f *Flat) Start() error {
	root := f.opt.Root
	var old *Node
	if f.opt.Base != nil {
		if old = f.opt.Base.Lookup(root.Path()); old != nil && old.IsDir() && root.IsDir() {
			if err := f.whiteouts(old, root); err != nil {
				return err
			}
		}
	}
	if err := f.each(root, old, f.group); err != nil {
		return err
	}
	if err := f.each(root, old, f.start); err != nil {
		return err
	}
	slices.SortFunc(f.wanted, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(a.inode.Layer, b.inode.Layer), cmp.Compare(a.inode.Entry, b.inode.Entry))
	})
	return nil
}

// Wanted returns the inodes whose contents are needed, in the order of their
// layers and entries.
func (f *Flat) Wanted() []*Inode {
	list := make([]*Inode, len(f.wanted))
	for i, n := range f.wanted {
		list[i] = n.inode
	}
	return list
}

// Put writes the next of the wanted inodes. Its content is body, of exactly
// ino.Size bytes.
func (f *Flat) Put(ino *Inode, body io.Reader) error {
	if len(f.wanted) == 0 || f.wanted[0].inode != ino {
		return errors.New("write archive: this file is not the next one")
	}
	n := f.wanted[0]
	f.wanted = f.wanted[1:]
	if err := f.tw.WriteHeader(f.header(n)); err != nil {
		return err
	}
	// Without the wrappers, io.CopyBuffer would not use the buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{f.tw}, struct{ io.Reader }{body}, f.buf); err != nil {
		return err
	}
	if g := f.groups[ino]; g != nil {
		for _, other := range g.names[1:] {
			if err := f.link(other, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends the archive. The error is not nil if contents are missing.
func (f *Flat) Close() error {
	if len(f.wanted) > 0 {
		return fmt.Errorf("end archive: %d files have not been written", len(f.wanted))
	}
	return f.tw.Close()
}

// whiteouts deletes what is in the base and not in the tree, below directories
// that are in both.
func (f *Flat) whiteouts(old, now *Node) error {
	for _, c := range old.Children() {
		n := now.child(c.name)
		switch {
		case n == nil:
			if err := writeWhiteout(f.tw, c.Path()); err != nil {
				return &EntryError{Entry: c.Path(), Layer: c.inode.Layer, Err: err}
			}
		case n.IsDir() && c.IsDir():
			if err := f.whiteouts(c, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls fn for n and all below it that is new, sorted by path, parents first.
// old is the node at the same path in the base, if there is one.
func (f *Flat) each(n, old *Node, fn func(n *Node, unchanged bool) error) error {
	unchanged := old != nil && old.inode.Layer == n.inode.Layer && old.inode.Entry == n.inode.Entry
	if err := fn(n, unchanged); err != nil {
		return err
	}
	for _, c := range n.Children() {
		var was *Node
		if old != nil {
			was = old.child(c.name)
		}
		if err := f.each(c, was, fn); err != nil {
			return err
		}
	}
	return nil
}

// group notes the names of inodes that have several.
func (f *Flat) group(n *Node, unchanged bool) error {
	if n.inode.Nlink < 2 || n.IsDir() {
		return nil
	}
	g := f.groups[n.inode]
	if g == nil {
		g = &group{}
		f.groups[n.inode] = g
	}
	switch {
	case !unchanged:
		g.names = append(g.names, n)
	case g.below == nil:
		g.below = n
	}
	return nil
}

// start writes the entry of a node, unless that needs content, or is another name
// of what does: all directories must be there before, for what was on the way to
// them in lower layers may be something else.
func (f *Flat) start(n *Node, unchanged bool) error {
	ino := n.inode
	g := f.groups[ino]
	var err error
	switch {
	case unchanged:
	case g != nil && g.below != nil:
		err = f.link(n, g.below)
	case ino.Type != Regular || ino.Size == 0:
		if g != nil && g.names[0] != n {
			err = f.link(n, g.names[0])
		} else {
			err = f.tw.WriteHeader(f.header(n))
		}
	case g == nil || g.names[0] == n:
		f.wanted = append(f.wanted, n)
	}
	if err != nil {
		return &EntryError{Entry: n.Path(), Layer: ino.Layer, Err: err}
	}
	return nil
}

// link writes n as a hardlink to target. The entry says of the file what the
// file's own entry says, for readers that believe the last.
func (f *Flat) link(n, target *Node) error {
	hdr := f.header(n)
	hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, target.Path(), 0
	hdr.Devmajor, hdr.Devminor = 0, 0
	return f.tw.WriteHeader(hdr)
}

// header describes a node.
func (f *Flat) header(n *Node) *tar.Header {
	ino := n.inode
	hdr := &tar.Header{
		Name: n.Path(), Mode: int64(ino.Mode), Uid: int(ino.UID), Gid: int(ino.GID),
		Devmajor: int64(ino.Major), Devminor: int64(ino.Minor),
	}
	switch ino.Type {
	case Regular:
		hdr.Typeflag, hdr.Size = tar.TypeReg, ino.Size
	case Directory:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case Symlink:
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, ino.Target
	case CharDevice:
		hdr.Typeflag = tar.TypeChar
	case BlockDevice:
		hdr.Typeflag = tar.TypeBlock
	case Fifo:
		hdr.Typeflag = tar.TypeFifo
	}
	t := ino.Mtime
	if f.opt.Clamp != nil && t.Sec >= *f.opt.Clamp {
		t.Sec, t.Nsec = *f.opt.Clamp, 0
	}
	hdr.ModTime = time.Unix(t.Sec, int64(t.Nsec))
	if t.Nsec != 0 {
		hdr.Format = tar.FormatPAX // without being asked for it, tar drops fractions
	}
	for _, x := range ino.Xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string, len(ino.Xattrs))
		}
		hdr.PAXRecords[paxXattr+x.Name] = x.Value
	}
	return hdr
}

// writeWhiteout writes the entry that deletes what path was, of which only the
// name counts.
func writeWhiteout(tw *tar.Writer, path string) error {
	dir, base := splitBase(path)
	if dir != "" {
		dir += "/"
	}
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base})
}
