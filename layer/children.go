// SPDX-License-Identifier: Apache-2.0

package layer

import "hash/maphash"

// children holds the entries of a directory, in no order.
//
// Most directories are small, so that an index is only made for those that are
// not: a hash table of places in the list, probed linearly, which takes a tenth of
// what a map would.
type children struct {
	list   []*Node
	index  []int32 // places in list plus 1; 0 if free; at least a quarter is free
	shared bool    // with a clone: all of it, with what is below, stays as it is
}

// indexFrom is the number of entries from which on a directory has an index.
const indexFrom = 12

// seed makes it hard to choose names that all hash to one value.
var seed = maphash.MakeSeed()

// child returns the entry called name, or nil.
func (n *Node) child(name string) *Node {
	k := n.own()
	if k == nil {
		return nil
	}
	if k.index != nil {
		if at := k.index[k.slot(name)]; at > 0 {
			return k.list[at-1]
		}
		return nil
	}
	for _, c := range k.list {
		if c.name == name {
			return c
		}
	}
	return nil
}

// attach adds c, whose name is not there yet.
func (n *Node) attach(c *Node) {
	k := n.own()
	if k == nil {
		k = &children{}
		n.kids = k
	}
	c.parent = n
	c.pos = int32(len(k.list))
	k.list = append(k.list, c)
	switch {
	case k.index == nil && len(k.list) < indexFrom:
	case 4*len(k.list) > 3*len(k.index):
		k.grow()
	default:
		k.index[k.slot(c.name)] = c.pos + 1
	}
}

// detach takes c out of its directory's list; c keeps its parent.
func (n *Node) detach(c *Node) {
	k := n.kids
	last := len(k.list) - 1
	if k.index != nil {
		k.free(k.slot(c.name))
		if moved := k.list[last]; moved != c {
			k.index[k.slot(moved.name)] = c.pos + 1
		}
	}
	k.list[c.pos] = k.list[last]
	k.list[c.pos].pos = c.pos
	k.list[last] = nil
	k.list = k.list[:last]
	if last == 0 {
		n.kids = nil
	}
}

// grow makes the index for twice as many entries.
func (k *children) grow() {
	size := 2 * indexFrom
	for 4*len(k.list) > 2*size {
		size *= 2
	}
	k.index = make([]int32, size)
	for i, c := range k.list {
		k.index[k.slot(c.name)] = int32(i) + 1
	}
}

// slot returns where in the index name is, or would be.
func (k *children) slot(name string) int {
	i := k.home(name)
	for k.index[i] > 0 && k.list[k.index[i]-1].name != name {
		if i++; i == len(k.index) {
			i = 0
		}
	}
	return i
}

// home returns where in the index name is best.
func (k *children) home(name string) int {
	return int(maphash.String(seed, name) % uint64(len(k.index)))
}

// free empties a slot. What comes after it, and is there only because that was
// taken, moves up, so that every name is still found.
func (k *children) free(hole int) {
	size := len(k.index)
	for i := hole; ; {
		if i++; i == size {
			i = 0
		}
		at := k.index[i]
		if at == 0 {
			break
		}
		home := k.home(k.list[at-1].name)
		if (i-home+size)%size >= (i-hole+size)%size {
			k.index[hole] = at
			hole = i
		}
	}
	k.index[hole] = 0
}
