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

	"github.com/shale-oci/shale/internal/limit"
)

// Flat writes a merged tree, or what makes it differ from the tree of some of its
// lower layers, as one plain tar layer. It is used in three steps: [Flat.Start]
// writes what has no content; then [Flat.Put] is called for each inode of
// [Flat.Wanted], in that order; [Flat.Close] ends the archive.
//
// What comes is in an order that only the layers decide, so that the same layers
// give the same bytes: the whiteouts, then what has no content sorted by path,
// parents first, then the files as they come in the layers, each followed by its
// other names as hardlinks. With [FlatOptions.Sorted], all but the whiteouts is
// sorted by path.
//
// A layer that goes on top of others stands on its own feet, for tools that unpack it
// into a directory of its own before they merge: above what is new it has all
// directories, and of a file that got one more name all names.
type Flat struct {
	tw     *tar.Writer
	opt    FlatOptions
	groups map[*Inode]*group // of inodes with several names
	above  map[*Node]bool    // directories of the base with something new below
	wanted []*Node
	buf    []byte

	// Of sorted archives: what is still to be written, and where the contents are
	// that came before their turn.
	queue  []*Node
	spool  Spool
	spent  int64
	spools map[*Inode]int64
}

// group is the names of an inode that has several.
type group struct {
	names []*Node // sorted by path
	fresh bool    // one of them is not in the base, or is another file there
}

// Spool keeps contents until it is their turn.
type Spool interface {
	io.Writer
	io.ReaderAt
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
	// Sorted sorts the entries by path, parents first and what is in a directory right
	// after it, which is the order that tar programs extract best. Contents that come
	// before their turn are kept in a spool.
	Sorted bool
	// Spool makes the spool of a sorted archive, when it is first needed. What it
	// returns is the caller's to remove.
	Spool func() (Spool, error)
}

// NewFlat begins an archive that is written to w.
func NewFlat(w io.Writer, tree *Tree, opt FlatOptions) *Flat {
	if opt.Root == nil {
		opt.Root = tree.root
	}
	return &Flat{
		tw: tar.NewWriter(w), opt: opt, groups: map[*Inode]*group{}, above: map[*Node]bool{},
		spools: map[*Inode]int64{}, buf: make([]byte, 64<<10),
	}
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
	for _, g := range f.groups {
		for _, n := range g.names {
			if g.fresh {
				f.markAbove(n)
			}
		}
	}
	if err := f.each(root, old, f.start); err != nil {
		return err
	}
	slices.SortFunc(f.wanted, func(a, b *Node) int {
		layers := cmp.Compare(a.inode.Layer, b.inode.Layer)
		if f.opt.Sorted {
			// The lowest layer is mostly the largest: what is above it is in the spool
			// before that comes.
			layers = -layers
		}
		return cmp.Or(layers, cmp.Compare(a.inode.Entry, b.inode.Entry))
	})
	return f.advance()
}

// Wanted returns the inodes whose contents are needed, layer by layer: the lowest
// first, or the topmost for a sorted archive. Those of a layer are in the order of
// their entries.
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
	if f.opt.Sorted {
		return f.putSorted(n, body)
	}
	if err := f.file(n, body); err != nil {
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

// file writes the entry of a file with its content.
func (f *Flat) file(n *Node, body io.Reader) error {
	if err := f.writeHeader(f.header(n)); err != nil {
		return err
	}
	return f.copy(f.tw, body)
}

func (f *Flat) copy(w io.Writer, r io.Reader) error {
	// Without the wrappers, io.CopyBuffer would not use the buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, f.buf)
	return err
}

// putSorted writes a file if it is its turn, and otherwise keeps its content.
func (f *Flat) putSorted(n *Node, body io.Reader) error {
	if f.queue[0] == n {
		f.queue = f.queue[1:]
		if err := f.file(n, body); err != nil {
			return err
		}
		return f.advance()
	}
	if f.spool == nil {
		spool, err := f.opt.Spool()
		if err != nil {
			return err
		}
		f.spool = spool
	}
	if err := f.copy(f.spool, body); err != nil {
		return err
	}
	f.spools[n.inode] = f.spent
	f.spent += n.inode.Size
	return nil
}

// advance writes what a sorted archive can go on with.
func (f *Flat) advance() error {
	for len(f.queue) > 0 {
		n := f.queue[0]
		var err error
		if f.hasContent(n) {
			offset, ok := f.spools[n.inode]
			if !ok {
				return nil
			}
			delete(f.spools, n.inode)
			err = f.file(n, io.NewSectionReader(f.spool, offset, n.inode.Size))
		} else {
			err = f.entry(n)
		}
		if err != nil {
			return &EntryError{Entry: n.Path(), Layer: n.inode.Layer, Err: err}
		}
		f.queue = f.queue[1:]
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
	if now.SameBelow(old) {
		return nil
	}
	for _, c := range old.Children() {
		n := now.child(c.name)
		switch {
		case n == nil:
			f.mark(now)
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

// each calls fn for n and all below it that may be new, sorted by path, parents first.
// old is the node at the same path in the base, if there is one.
func (f *Flat) each(n, old *Node, fn func(n *Node, unchanged bool) error) error {
	unchanged := old != nil && old.inode.Layer == n.inode.Layer && old.inode.Entry == n.inode.Entry
	if err := fn(n, unchanged); err != nil {
		return err
	}
	if old != nil && n.SameBelow(old) {
		return nil
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

// mark notes that there is something new in the directory n.
func (f *Flat) mark(n *Node) {
	for ; f.opt.Base != nil && n != nil && !f.above[n]; n = n.parent {
		f.above[n] = true
	}
}

func (f *Flat) markAbove(n *Node) { f.mark(n.parent) }

// group notes the names of inodes that have several, and what is above those that are
// new.
func (f *Flat) group(n *Node, unchanged bool) error {
	if !unchanged {
		f.markAbove(n)
	}
	if n.inode.Nlink < 2 || n.IsDir() {
		return nil
	}
	g := f.groups[n.inode]
	if g == nil {
		g = &group{}
		f.groups[n.inode] = g
	}
	g.names = append(g.names, n)
	g.fresh = g.fresh || !unchanged
	return nil
}

// start decides about a node, and writes its entry unless that needs content, or is
// another name of what does: all directories must be there before, for what was on the
// way to them in lower layers may be something else.
func (f *Flat) start(n *Node, unchanged bool) error {
	g := f.groups[n.inode]
	switch {
	case g != nil && !g.fresh, g == nil && unchanged && !f.above[n]:
		return nil
	case n.parent == nil && n.inode.Layer < 0:
		return nil // nobody has said anything about the root
	}
	if f.hasContent(n) {
		f.wanted = append(f.wanted, n)
	}
	if f.opt.Sorted {
		f.queue = append(f.queue, n)
		return nil
	}
	if n.inode.Type == Regular && n.inode.Size > 0 {
		return nil
	}
	if err := f.entry(n); err != nil {
		return &EntryError{Entry: n.Path(), Layer: n.inode.Layer, Err: err}
	}
	return nil
}

// hasContent reports whether the entry of n is the one that its content comes with.
func (f *Flat) hasContent(n *Node) bool {
	g := f.groups[n.inode]
	return n.inode.Type == Regular && n.inode.Size > 0 && (g == nil || g.names[0] == n)
}

// entry writes the entry of a node that has no content.
func (f *Flat) entry(n *Node) error {
	if g := f.groups[n.inode]; g != nil && g.names[0] != n {
		return f.link(n, g.names[0])
	}
	return f.writeHeader(f.header(n))
}

// writeHeader refuses a header that readers would refuse for its size. What a layer says
// in a short one may need a long one here: the name may have led through links.
func (f *Flat) writeHeader(hdr *tar.Header) error {
	const record = 32 // bytes that a record has besides its key and its value, and the short ones
	extended := len(hdr.Name) + len(hdr.Linkname) + 8*record
	for key, value := range hdr.PAXRecords {
		extended += len(key) + len(value) + record
	}
	if err := limit.Check("", "bytes in the extended header", int64(extended), DefaultMaxHeader); err != nil {
		return err
	}
	return f.tw.WriteHeader(hdr)
}

// link writes n as a hardlink to target. The entry says of the file what the
// file's own entry says, for readers that believe the last.
func (f *Flat) link(n, target *Node) error {
	hdr := f.header(n)
	hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, target.Path(), 0
	hdr.Devmajor, hdr.Devminor = 0, 0
	return f.writeHeader(hdr)
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
