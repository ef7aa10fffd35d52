// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
)

// lower is the tree that a snapshot is compared with: a directory, or what layers amount
// to, or nothing.
type lower struct {
	dir  *rooted.Dir
	tree *mtree.Tree // of dir

	merged *layer.Tree // of layers
	opt    *layer.MapOptions
}

// lower finds out what is below a snapshot.
func (e *exporter) lower(ctx context.Context, n *node) (*lower, error) {
	switch {
	case !e.hasLower(n):
		return &lower{}, nil
	case n.parent != nil && n.parent.Dir != "":
		dir, err := openDir(n.parent.Dir)
		if err != nil {
			return nil, &SnapshotError{n.parent.name(), err}
		}
		tree, err := e.list(ctx, n.parent, dir)
		if err != nil {
			dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
			return nil, &SnapshotError{n.parent.name(), err}
		}
		return &lower{dir: dir, tree: tree}, nil
	}
	merged, err := e.merged(ctx, n, layer.NewDigests())
	return &lower{merged: merged, opt: &e.opt.Map}, err
}

// merged returns the tree of the layers below a snapshot.
func (e *exporter) merged(ctx context.Context, n *node, sink layer.Sink) (*layer.Tree, error) {
	below, err := e.below(ctx, n)
	if err != nil {
		return nil, err
	}
	done, err := e.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return below.Tree(ctx, sink, stack.Options{Limits: e.opt.Limits, Warn: e.opt.Warn, Progress: e.steps.of(n)})
}

func (l *lower) close() {
	if l.dir != nil {
		l.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
}

// facts returns the tree as it would be on the disk, to be compared with the tree now.
func (l *lower) facts(now *mtree.Tree) (*mtree.Tree, error) {
	if l.merged == nil {
		if l.tree == nil {
			return &mtree.Tree{}, nil
		}
		return l.tree, nil
	}
	c := converter{now: now, opt: l.opt, numbers: map[*layer.Node]int{}, inodes: map[*layer.Inode]uint64{}}
	err := l.merged.Walk(func(n *layer.Node) (err error) {
		if n.Parent() == nil {
			c.numbers[n] = 0
			c.builder, err = mtree.NewBuilder(c.facts(n))
			return err
		}
		c.numbers[n], err = c.builder.Add(c.numbers[n.Parent()], n.Name(), c.facts(n))
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.builder.Tree()
}

// converter makes facts about files of inodes in layers.
type converter struct {
	now     *mtree.Tree
	opt     *layer.MapOptions
	builder *mtree.Builder
	numbers map[*layer.Node]int
	inodes  map[*layer.Inode]uint64
}

// fileTypes are those of inodes as lstat(2) has them.
var fileTypes = map[layer.Type]uint32{
	layer.Regular: unix.S_IFREG, layer.Directory: unix.S_IFDIR, layer.Symlink: unix.S_IFLNK,
	layer.CharDevice: unix.S_IFCHR, layer.BlockDevice: unix.S_IFBLK, layer.Fifo: unix.S_IFIFO,
}

// nobody is an owner that no file has.
const nobody = 1<<32 - 1

func (c *converter) facts(n *layer.Node) mtree.Facts {
	ino := n.Inode()
	if _, ok := c.inodes[ino]; !ok {
		c.inodes[ino] = uint64(len(c.inodes) + 1)
	}
	f := mtree.Facts{
		Stat: rooted.Stat{
			Ino: c.inodes[ino], Mode: fileTypes[ino.Type] | ino.Mode, Nlink: uint64(ino.Nlink),
			Size: ino.Size, Mtime: ino.Mtime,
		},
		Link: ino.Target,
	}
	if ino.Type == layer.Symlink {
		f.Stat.Size = int64(len(ino.Target))
	}
	if ino.HasDigest {
		f.Digest = &ino.Digest
	}
	for _, x := range ino.Xattrs {
		f.Xattrs = append(f.Xattrs, mtree.Xattr{Name: x.Name, Value: []byte(x.Value)})
	}
	var err error
	if f.Stat.UID, f.Stat.GID, err = c.opt.ToHost(ino.UID, ino.GID); err != nil {
		f.Stat.UID, f.Stat.GID = nobody, nobody
	}
	if owner, ok := layer.OwnerXattr(ino.UID, ino.GID); ok && c.opt.Rootless {
		f.Xattrs = append(f.Xattrs, mtree.Xattr{Name: owner.Name, Value: []byte(owner.Value)})
	}
	if ino.Type == layer.CharDevice || ino.Type == layer.BlockDevice {
		f.Stat.Rdev = unix.Mkdev(ino.Major, ino.Minor)
		c.placeholder(n, &f)
	}
	return f
}

// placeholder makes the facts about a device those about the file that stands for it, where
// there is such a file now.
func (c *converter) placeholder(n *layer.Node, f *mtree.Facts) {
	now, ok := c.now.Lookup(n.Path())
	if !ok || !now.IsRegular() {
		return
	}
	mark := layer.DeviceMark(n.Inode())
	for _, x := range now.Xattrs() {
		if x.Name == mark.Name && string(x.Value) == mark.Value {
			f.Stat.Mode, f.Stat.Rdev = unix.S_IFREG, 0
			f.Xattrs = append(f.Xattrs, x)
		}
	}
}
