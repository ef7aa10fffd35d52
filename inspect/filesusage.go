// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"io"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
)

// usage is a sink that keeps account of the bytes that layers bring and hide.
type usage struct {
	tree   *layer.Tree
	layers []LayerUsage
	only   int // the layer that is listed; -1 for all together

	// shadows says what the names in the tree hide, if that is anything.
	shadows map[*layer.Node]shadow
	// gone is what the layer being applied has removed, by directory and name, and how
	// many bytes of lower layers went with it. What the layer puts in the place takes
	// them over.
	gone map[*layer.Node]map[string]int64
	at   int // the layer that gone is about
	// mine are the names that the listed layer has.
	mine map[*layer.Node]bool
}

// shadow is what a name hides.
type shadow struct {
	bytes int64
	layer int // that the name is from
}

func newUsage(s *stack.Stack, layers, only int) *usage {
	u := &usage{
		tree: layer.NewTree(), layers: make([]LayerUsage, layers), only: only, at: -1,
		shadows: map[*layer.Node]shadow{}, mine: map[*layer.Node]bool{},
	}
	for i := range u.layers {
		l := s.Layers[i]
		u.layers[i] = LayerUsage{Digest: l.Descriptor.Digest, DiffID: l.DiffID, Size: l.Descriptor.Size}
	}
	return u
}

// now returns the layer that is being applied.
func (u *usage) now() int {
	if now := u.tree.Layer(); now != u.at {
		u.at, u.gone = now, map[*layer.Node]map[string]int64{}
	}
	return u.at
}

// Mkdir implements [layer.Sink]. A directory that is only implied is no entry of the
// layer, unless it hides something.
func (u *usage) Mkdir(n *layer.Node) error {
	u.take(n)
	if n.Inode().Entry >= 0 || u.shadows[n].bytes > 0 {
		u.note(n)
	}
	return nil
}

// Update implements [layer.Sink].
func (u *usage) Update(n *layer.Node) error {
	u.note(n)
	return nil
}

// Put implements [layer.Sink].
func (u *usage) Put(n *layer.Node, _ io.Reader) error {
	u.take(n)
	u.note(n)
	if ino := n.Inode(); ino.Type == layer.Regular {
		l := &u.layers[u.at]
		l.Files++
		l.Bytes += ino.Size
	}
	return nil
}

// Link implements [layer.Sink].
func (u *usage) Link(n, _ *layer.Node) error {
	u.take(n)
	u.note(n)
	return nil
}

// Remove implements [layer.Sink].
func (u *usage) Remove(n *layer.Node) error {
	now := u.now()
	r := removal{u: u, now: now, names: map[*layer.Inode]int32{}}
	r.remove(n)
	u.layers[now].Shadows += r.hidden
	dir := u.gone[n.Parent()]
	if dir == nil {
		dir = map[string]int64{}
		u.gone[n.Parent()] = dir
	}
	dir[n.Name()] += r.hidden + r.inherited
	return nil
}

// note remembers a name that the listed layer has.
func (u *usage) note(n *layer.Node) {
	if u.now() == u.only {
		u.mine[n] = true
	}
}

// take lets n hide what was removed from its place.
func (u *usage) take(n *layer.Node) {
	now := u.now()
	dir := u.gone[n.Parent()]
	bytes, ok := dir[n.Name()]
	if !ok {
		return
	}
	delete(dir, n.Name())
	if bytes > 0 {
		u.shadows[n] = shadow{bytes, now}
	}
}

// removal is a name that goes, with all below it.
type removal struct {
	u     *usage
	now   int
	names map[*layer.Inode]int32 // how many names go of inodes that have several
	// hidden is how many bytes of lower layers go. inherited is how many went before,
	// for something of the same layer that goes now.
	hidden, inherited int64
}

func (r *removal) remove(n *layer.Node) {
	u := r.u
	if s := u.shadows[n]; s.bytes > 0 {
		if s.layer == r.now {
			r.inherited += s.bytes
		}
		delete(u.shadows, n)
	}
	for _, bytes := range u.gone[n] {
		r.inherited += bytes
	}
	delete(u.gone, n)
	delete(u.mine, n)
	if ino := n.Inode(); ino.Type == layer.Regular && r.last(ino) {
		from := int(ino.Layer)
		u.layers[from].Wasted += ino.Size
		if from < r.now {
			r.hidden += ino.Size
		}
	}
	for _, c := range n.Children() {
		r.remove(c)
	}
}

// last reports whether the last name of an inode goes.
func (r *removal) last(ino *layer.Inode) bool {
	if ino.Nlink == 1 {
		return true
	}
	r.names[ino]++
	return r.names[ino] == ino.Nlink
}

// listed reports whether a name is to be listed.
func (u *usage) listed(n *layer.Node) bool { return u.only < 0 || u.mine[n] }

// hiddenBy returns how many bytes a name hides; where one layer is listed, how many
// that layer has hidden.
func (u *usage) hiddenBy(n *layer.Node) int64 {
	if s := u.shadows[n]; u.only < 0 || s.layer == u.only {
		return s.bytes
	}
	return 0
}

func (u *usage) summary(s *stack.Stack) *FilesSummary {
	sum := &FilesSummary{Manifest: s.Descriptor.Digest, Layers: u.layers, Efficiency: 1}
	for _, l := range u.layers {
		sum.Bytes += l.Bytes
		sum.Wasted += l.Wasted
	}
	if sum.Bytes > 0 {
		sum.Efficiency = float64(sum.Bytes-sum.Wasted) / float64(sum.Bytes)
	}
	return sum
}
