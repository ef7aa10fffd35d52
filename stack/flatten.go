// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
)

// FlattenOptions say what [Stack.Flatten] writes. The zero value means all.
type FlattenOptions struct {
	Options
	// Path, if not empty, is what is written, with all below it. Symbolic links on
	// the way are followed.
	Path string
	// Clamp, if not nil, is the latest modification time that an entry gets, as
	// seconds since the Unix epoch.
	Clamp *int64
	// Sorted sorts the entries by path, what is in a directory right after it. Tar
	// programs need that to restore times and permissions of directories; whoever
	// unpacks layers does not. Files that come before their turn, mostly those of all
	// layers but the lowest, are kept in a temporary file meanwhile.
	Sorted bool
	// TempDir is where that file is. If empty, os.TempDir.
	TempDir string
}

// Flatten writes the layers in the range as one plain tar layer, which does to the
// layers below what they do together. With all layers that is the root filesystem
// as an archive. The same layers give the same bytes; for the order see layer.Flat.
//
// Layers are read twice, first for the tree, then for the contents that are still
// in it: nothing is buffered on the way.
func (s *Stack) Flatten(ctx context.Context, w io.Writer, in Range, opt FlattenOptions) error {
	if in.From < 0 || in.To > len(s.Layers) || in.From > in.To {
		return fmt.Errorf("flatten layers %d to %d: there are %d", in.From, in.To, len(s.Layers))
	}
	tree := layer.NewTree()
	flat := layer.FlatOptions{Clamp: opt.Clamp}
	if in.From > 0 {
		if err := s.Apply(ctx, tree, Range{0, in.From}, layer.Discard, opt.Options); err != nil {
			return err
		}
		flat.Base = tree.Clone()
	}
	if err := s.Apply(ctx, tree, in, layer.Discard, opt.Options); err != nil {
		return err
	}
	if opt.Path != "" {
		var err error
		if flat.Root, err = tree.Follow(opt.Path); err != nil {
			return fmt.Errorf("%s: %w", quote.Name(opt.Path), err)
		}
		if flat.Root == nil {
			return fmt.Errorf("%s: %w in the image", quote.Name(opt.Path), fs.ErrNotExist)
		}
	}
	var kept *spool
	defer func() { kept.close() }()
	flat.Sorted = opt.Sorted
	flat.Spool = func() (_ layer.Spool, err error) {
		kept, err = newSpool(opt.TempDir)
		return kept, err
	}
	f := layer.NewFlat(w, tree, flat)
	if err := f.Start(); err != nil {
		return s.InLayer(err)
	}
	if err := s.Contents(ctx, f.Wanted(), f.Put, opt.Options); err != nil {
		return err
	}
	return f.Close()
}

// Contents calls fn for each of the inodes, with what the file contains. They are
// regular files of a tree that the layers have been applied to, layer by layer, in the
// order of their entries. Only layers that one of them is from are read, and none
// further than needed: that the layers are right is known from applying them.
func (s *Stack) Contents(ctx context.Context, inodes []*layer.Inode, fn func(*layer.Inode, io.Reader) error, opt Options) error {
	var needed []Range // of inodes, one for each layer
	total := Range{len(s.Layers), 0}
	for i, ino := range inodes {
		if ino.Layer < 0 || int(ino.Layer) >= len(s.Layers) {
			return fmt.Errorf("read contents: the image has no layer %d", ino.Layer)
		}
		if i == 0 || inodes[i-1].Layer != ino.Layer {
			needed = append(needed, Range{i, i})
			total.From, total.To = min(total.From, int(ino.Layer)), max(total.To, int(ino.Layer)+1)
		}
		needed[len(needed)-1].To = i + 1
	}
	if len(needed) == 0 {
		return nil
	}
	r := newReader(s, total, "reading", opt)
	for n, part := range needed {
		wanted := inodes[part.From:part.To]
		i := int(wanted[0].Layer)
		if err := r.contents(ctx, i, wanted, fn); err != nil {
			return s.inLayer(i, err)
		}
		r.read += s.Layers[i].Descriptor.Size
		r.report(r.read, n == len(needed)-1)
	}
	return nil
}

func (r *reader) contents(ctx context.Context, i int, wanted []*layer.Inode, fn func(*layer.Inode, io.Reader) error) error {
	src, err := r.open(ctx, i)
	if err != nil {
		return err
	}
	err = layer.Contents(ctx, &meter{src: src, r: r, before: r.read}, wanted, fn)
	if err != nil {
		return src.close(ctx, err)
	}
	src.stop()
	return nil
}
