// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
)

// diffSide is one of the two sides: the tree of an image, or one on the disk.
type diffSide struct {
	source *DiffSource
	stack  *stack.Stack // of an image
	other  map[string]any
	tree   *layer.Tree
	known  *mtree.Tree // of an image: what a bundle knows of its files; may be nil
	disk   *diskTree   // of a directory
	// groups are the files with several names, in order. Their paths would take much
	// more memory than the names do.
	groups map[linkID][]diffName
}

func openSide(ctx context.Context, source *DiffSource) (*diffSide, error) {
	s := &diffSide{source: source, groups: map[linkID][]diffName{}}
	var err error
	if source.Layout != nil {
		if s.stack, err = stack.Open(ctx, source.Layout, source.Image); err == nil {
			s.other, err = otherMembers(ctx, source.Layout, s.stack.Manifest.Config)
		}
	} else {
		s.disk, err = openDiskTree(source)
	}
	if err != nil {
		return nil, s.name(err)
	}
	return s, nil
}

// name adds to err which side it is about.
func (s *diffSide) name(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", quote.Name(s.source.Name), err)
}

func (s *diffSide) describe() DiffSide {
	switch {
	case s.stack != nil:
		return DiffSide{
			Name: s.source.Name, Kind: "image", Digest: s.stack.Descriptor.Digest,
			Platform: layout.PlatformString(s.stack.Config.Platform),
		}
	case s.source.Baseline != nil:
		return DiffSide{Name: s.source.Name, Kind: "bundle"}
	}
	return DiffSide{Name: s.source.Name, Kind: "directory"}
}

// diffName is one name of a side. The zero value is none.
type diffName struct {
	name  string
	node  *layer.Node // in an image
	entry mtree.Entry // on the disk
}

// path returns the path of a name, which must not be none.
func (n *diffName) path() string {
	if n.node != nil {
		return n.node.Path()
	}
	return n.entry.Path()
}

func (s *diffSide) root() diffName {
	if s.disk != nil {
		return diffName{name: ".", entry: s.disk.tree.Root()}
	}
	return diffName{name: ".", node: s.tree.Root()}
}

// children returns the entries of a directory, sorted by name.
func (s *diffSide) children(of diffName) []diffName {
	var list []diffName
	switch {
	case of.node != nil:
		for _, c := range of.node.Children() {
			list = append(list, diffName{name: c.Name(), node: c})
		}
	case of.entry.Exists():
		for e := range of.entry.Children() {
			list = append(list, diffName{name: e.Name(), entry: e})
		}
	}
	return list
}

// inode returns what is known of a name, and nil for none.
func (s *diffSide) inode(n diffName) (*layer.Inode, error) {
	switch {
	case n.node != nil:
		return n.node.Inode(), nil
	case n.entry.Exists():
		return s.disk.inode(n.entry)
	}
	return nil, nil
}

// linkID identifies an inode with several names.
type linkID struct {
	inode    *layer.Inode
	dev, ino uint64
}

// linkOf returns the inode of a name that may have several.
func (s *diffSide) linkOf(n diffName) (id linkID, linked bool) {
	switch {
	case n.node != nil:
		ino := n.node.Inode()
		return linkID{inode: ino}, ino.Nlink > 1 && ino.Type != layer.Directory
	case n.entry.Exists():
		st := n.entry.Stat()
		return linkID{dev: st.Dev, ino: st.Ino}, st.Nlink > 1 && !st.IsDir()
	}
	return id, false
}

// linkLists makes lists of all names of files that have several. The one made last is
// kept: the names of a file often follow each other.
type linkLists struct {
	side *diffSide
	id   linkID
	list []string
}

// of returns the paths of all names that a file has, with leading slashes, and nil if
// there is one.
func (l *linkLists) of(n diffName) []string {
	id, linked := l.side.linkOf(n)
	if !linked {
		return nil
	}
	if id != l.id {
		group := l.side.groups[id]
		l.id, l.list = id, make([]string, len(group))
		for i := range group {
			l.list[i] = slashed(group[i].path())
		}
	}
	return l.list
}

// digest returns the SHA-256 of a regular file, if it is known.
func (s *diffSide) digest(path string, n diffName, ino *layer.Inode) ([sha256.Size]byte, bool) {
	switch {
	case ino.Size == 0:
		return sha256.Sum256(nil), true
	case s.disk != nil:
		return s.disk.digest(n.entry)
	case ino.HasDigest:
		return ino.Digest, true
	}
	return s.knownDigest(path, ino.Size)
}

// knownDigest returns the digest that a bundle of the image has noted for a file.
func (s *diffSide) knownDigest(path string, size int64) (sum [sha256.Size]byte, ok bool) {
	if s.known == nil {
		return sum, false
	}
	e, ok := s.known.Lookup(path)
	if !ok || !e.IsRegular() || e.Stat().Size != size {
		return sum, false
	}
	return e.Digest()
}

// keeps reports whether the side can keep owners, or an extended attribute, of what is
// of the type.
func (s *diffSide) keeps(t layer.Type, xattr string) bool {
	if s.disk == nil || !s.source.Map.Rootless {
		return true
	}
	if t == layer.Symlink || t == layer.Fifo {
		return false
	}
	const user = "user."
	return xattr == "" || len(xattr) > len(user) && xattr[:len(user)] == user && xattr != layer.RootlessXattr
}

// diskTree is a directory tree.
type diskTree struct {
	source  *DiffSource
	dir     *rooted.Dir
	tree    *mtree.Tree
	special map[int][]layer.Xattr // of entries that are neither file nor directory
	digests map[int][sha256.Size]byte
}

func openDiskTree(source *DiffSource) (*diskTree, error) {
	resolved, err := filepath.EvalSymlinks(source.Dir)
	if err != nil {
		return nil, err
	}
	dir, err := rooted.Open(resolved)
	if err != nil {
		return nil, err
	}
	return &diskTree{source: source, dir: dir, digests: map[int][sha256.Size]byte{}}, nil
}

func (t *diskTree) close() {
	t.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
}

// walk lists the tree. No file is read.
func (t *diskTree) walk(ctx context.Context, opt *DiffOptions) (err error) {
	if t.tree, err = t.list(ctx, opt, func(string, rooted.Stat) bool { return false }); err != nil {
		return err
	}
	return t.readSpecial(ctx)
}

func (t *diskTree) list(ctx context.Context, opt *DiffOptions, read func(string, rooted.Stat) bool) (*mtree.Tree, error) {
	walk := mtree.WalkOptions{Read: read, Rootless: t.source.Map.Rootless, Progress: opt.Progress}
	if t.source.Baseline != nil {
		walk.Cache = t.source.Baseline.Cache
	}
	tree, err := mtree.Walk(ctx, t.dir, walk)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote.Name(t.source.Name), err)
	}
	return tree, nil
}

// readSpecial reads what mtree leaves out: the extended attributes of symbolic links,
// devices and FIFOs, and of what the owner of a rootless tree has forbidden himself to
// read.
func (t *diskTree) readSpecial(ctx context.Context) error {
	t.special = map[int][]layer.Xattr{}
	var parent *rooted.Dir
	open := -1
	closeParent := func() {
		if parent != nil {
			parent.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		}
	}
	defer func() { closeParent() }()
	for i := range t.tree.Len() {
		e := t.tree.At(i)
		if !t.isSpecial(e) || i == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.source.Map.Rootless {
			if err := t.readLocked(e); err != nil {
				return t.name(e, err)
			}
			continue
		}
		if in := e.Parent().Index(); in != open {
			dir, err := t.dir.OpenPath(e.Parent().Path())
			if err != nil {
				return t.name(e, err)
			}
			closeParent()
			parent, open = dir, in
		}
		if list, _ := readXattrs(parent, e.Name()); len(list) > 0 {
			t.special[i] = list
		}
	}
	return nil
}

func (t *diskTree) isSpecial(e mtree.Entry) bool {
	if t.source.Map.Rootless {
		st := e.Stat()
		return (st.IsRegular() || st.IsDir()) && st.Perm()&0o400 == 0
	}
	return !e.IsRegular() && !e.IsDir()
}

// readLocked reads the attributes of what its owner may not read, which keep its owner
// inside the container, after making it readable for the moment if need be.
func (t *diskTree) readLocked(e mtree.Entry) (err error) {
	restore, err := t.dir.Unlock(e.Parent().Path())
	defer func() { err = errors.Join(err, restore()) }()
	if err != nil {
		return err
	}
	dir, err := t.dir.OpenPath(e.Parent().Path())
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	list, err := readXattrs(dir, e.Name())
	if errors.Is(err, fs.ErrPermission) {
		var relock func() error
		relock, err = dir.Unlock(e.Name())
		defer func() { err = errors.Join(err, relock()) }()
		if err != nil {
			return err
		}
		list, _ = readXattrs(dir, e.Name())
	}
	t.special[e.Index()] = list
	return nil
}

// readXattrs returns the extended attributes that can be read, and an error if there are
// others.
func readXattrs(dir *rooted.Dir, name string) ([]layer.Xattr, error) {
	names, err := dir.Listxattr(name)
	if err != nil {
		return nil, err
	}
	var list []layer.Xattr
	for _, attr := range names {
		value, gerr := dir.Getxattr(name, attr)
		if gerr != nil {
			err = gerr
			continue
		}
		list = append(list, layer.Xattr{Name: attr, Value: string(value)})
	}
	return list, err
}

// name adds to err which entry it is about.
func (t *diskTree) name(e mtree.Entry, err error) error {
	return fmt.Errorf("%s: %s: %w", quote.Name(t.source.Name), quote.Name(e.Path()), err)
}

func (t *diskTree) inode(e mtree.Entry) (*layer.Inode, error) {
	f := layer.OnDisk{Stat: e.Stat(), Target: e.Link()}
	var special bool
	if f.Xattrs, special = t.special[e.Index()]; !special {
		for _, x := range e.Xattrs() {
			f.Xattrs = append(f.Xattrs, layer.Xattr{Name: x.Name, Value: string(x.Value)})
		}
	}
	ino, err := f.Inode(&t.source.Map)
	if err != nil {
		return nil, t.name(e, err)
	}
	return ino, nil
}

func (t *diskTree) digest(e mtree.Entry) ([sha256.Size]byte, bool) {
	if sum, ok := t.digests[e.Index()]; ok {
		return sum, true
	}
	return e.Digest()
}

// hash reads the files at the paths for their digests. They must be what walk found.
func (t *diskTree) hash(ctx context.Context, paths map[string]mtree.Entry, opt *DiffOptions) error {
	if len(paths) == 0 {
		return nil
	}
	now, err := t.list(ctx, opt, func(path string, _ rooted.Stat) bool {
		_, wanted := paths[path]
		return wanted
	})
	if err != nil {
		return err
	}
	for path, was := range paths {
		is, ok := now.Lookup(path)
		if !ok || !sameFile(was.Stat(), is.Stat()) {
			return fmt.Errorf("%s: %s: %w", quote.Name(t.source.Name), quote.Name(path), mtree.ErrChanged)
		}
		sum, ok := is.Digest()
		if !ok {
			return fmt.Errorf("%s: %s: %w", quote.Name(t.source.Name), quote.Name(path), mtree.ErrChanged)
		}
		t.digests[was.Index()] = sum
	}
	return nil
}

// sameFile reports whether a file is the one that it was, and has not been written to.
func sameFile(was, is rooted.Stat) bool {
	return was.Dev == is.Dev && was.Ino == is.Ino && was.Size == is.Size && was.Mtime == is.Mtime && was.Mode == is.Mode
}
