// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
)

// loadPair makes the trees of two images. What they share from the bottom is applied
// once, and what it is made of cannot differ. Of the rest, the files are hashed whose
// content may have to be compared, as far as that can be told beforehand; survey finds
// those that have been missed.
func (d *differ) loadPair(ctx context.Context) error {
	a, b := d.sides[0], d.sides[1]
	shared := sharedLayers(a.stack, b.stack)
	base := layer.NewTree()
	if shared == len(a.stack.Layers) && shared == len(b.stack.Layers) {
		a.tree, b.tree = base, base // nothing differs, whatever it is
		return nil
	}
	maybe, err := d.upperNames(ctx, shared)
	if err != nil {
		return err
	}
	in := stack.Range{From: 0, To: shared}
	if err := a.stack.Apply(ctx, base, in, d.hashing(maybe.has), d.stackOptions()); err != nil {
		return a.name(err)
	}
	a.tree, b.tree = base.Clone(), base
	in = stack.Range{From: shared, To: len(a.stack.Layers)}
	if err := a.stack.Apply(ctx, a.tree, in, d.hashing(func(n *layer.Node) bool {
		return maybe.has(n) || hasSize(base, n)
	}), d.stackOptions()); err != nil {
		return a.name(err)
	}
	in.To = len(b.stack.Layers)
	err = b.stack.Apply(ctx, b.tree, in, d.hashing(func(n *layer.Node) bool { return hasSize(a.tree, n) }), d.stackOptions())
	return b.name(err)
}

// sharedLayers returns how many layers the images have in common from the bottom.
func sharedLayers(a, b *stack.Stack) int {
	n := 0
	for n < len(a.Layers) && n < len(b.Layers) && a.Layers[n].DiffID == b.Layers[n].DiffID {
		n++
	}
	return n
}

// hasSize reports whether the tree has a regular file in the place of n, of the same
// size.
func hasSize(tree *layer.Tree, n *layer.Node) bool {
	other := tree.Lookup(n.Path())
	return other != nil && other.Inode().Type == layer.Regular && other.Inode().Size == n.Inode().Size
}

// diffNames are names and sizes of files in layers that have not been applied yet. As their
// directories may be reached through symbolic links, only the last component counts. A
// nil diffNames has everything.
type diffNames map[nameSize]struct{}

type nameSize struct {
	name string
	size int64
}

// anySize is that of a file that is a hardlink, or becomes one.
const anySize = -1

// upperNames reads the names in the layers that are not shared, so that of the shared
// ones only the files are hashed that they can be compared with. Where the layers that
// are not shared are the larger part, reading them twice would take longer than hashing.
func (d *differ) upperNames(ctx context.Context, shared int) (diffNames, error) {
	lower := layersSize(d.sides[0].stack.Layers[:shared])
	upper := layersSize(d.sides[0].stack.Layers[shared:]) + layersSize(d.sides[1].stack.Layers[shared:])
	if upper > lower {
		return nil, nil
	}
	maybe := diffNames{}
	for _, s := range d.sides {
		in := stack.Range{From: shared, To: len(s.stack.Layers)}
		if err := s.stack.Headers(ctx, in, maybe.add, d.stackOptions()); err != nil {
			return nil, s.name(err)
		}
	}
	return maybe, nil
}

func layersSize(layers []stack.Layer) int64 {
	var size int64
	for _, l := range layers {
		size += l.Descriptor.Size
	}
	return size
}

func (m diffNames) add(_ int, hdr *tar.Header) error {
	// A part of a name would keep all of it.
	switch base := strings.Clone(path.Base(hdr.Name)); hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		m[nameSize{base, hdr.Size}] = struct{}{}
	case tar.TypeLink:
		m[nameSize{base, anySize}] = struct{}{}
		m[nameSize{strings.Clone(path.Base(hdr.Linkname)), anySize}] = struct{}{}
	}
	return nil
}

func (m diffNames) has(n *layer.Node) bool {
	if m == nil {
		return true
	}
	if _, ok := m[nameSize{n.Name(), anySize}]; ok {
		return true
	}
	_, ok := m[nameSize{n.Name(), n.Inode().Size}]
	return ok
}

// hashing returns a sink that hashes the regular files that want says yes to.
func (d *differ) hashing(want func(*layer.Node) bool) layer.Sink {
	if d.opt.Ignore&DiffContent != 0 {
		return layer.Discard
	}
	return &diffSink{Sink: layer.Discard, d: d, want: want, hasher: newDiffHasher()}
}

type diffSink struct {
	layer.Sink
	d      *differ
	want   func(*layer.Node) bool
	hasher *diffHasher
}

// Put hashes the file, or leaves its content unread.
func (s *diffSink) Put(n *layer.Node, body io.Reader) error {
	ino := n.Inode()
	if ino.Type != layer.Regular || ino.Size == 0 || !s.want(n) || !s.d.filter.all() && !s.d.filter.match(n.Path()) {
		return nil
	}
	return s.hasher.fill(ino, body)
}

// diffHasher hashes files, one after the other.
type diffHasher struct {
	hash hash.Hash
	buf  []byte
}

func newDiffHasher() *diffHasher { return &diffHasher{sha256.New(), make([]byte, 64<<10)} }

// fill notes the digest of an inode's content.
func (h *diffHasher) fill(ino *layer.Inode, body io.Reader) error {
	h.hash.Reset()
	// Without the wrappers, io.CopyBuffer would not use the buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{h.hash}, struct{ io.Reader }{body}, h.buf); err != nil {
		return err
	}
	h.hash.Sum(ino.Digest[:0])
	ino.HasDigest = true
	return nil
}
