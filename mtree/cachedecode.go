// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// parseCacheHeader reads the part of fixed size.
func parseCacheHeader(b []byte) (cacheHeader, error) {
	var h cacheHeader
	if string(b[:7]) != cacheMagic[:7] {
		return h, errors.New("not a stat cache")
	}
	if string(b[:8]) != cacheMagic {
		return h, errors.New("in the format of another version")
	}
	b = b[8:]
	copy(h.manifest[:], b)
	b = b[sha256.Size:]
	h.stamp.Dev = binary.LittleEndian.Uint64(b)
	sec, nsec := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])
	if sec > 1<<62 || nsec >= 1e9 {
		return h, errCorrupt
	}
	h.stamp.Time = rooted.Timespec{Sec: int64(sec), Nsec: int32(nsec)}
	h.entries = binary.LittleEndian.Uint32(b[20:])
	return h, nil
}

// decodeCache reads a whole cache, the header of which has been looked at. It
// believes nothing, even if the checksum is right.
func decodeCache(data []byte) (*Tree, error) {
	if len(data) < cacheHeaderSize+4 {
		return nil, errCorrupt
	}
	body, sum := data[:len(data)-4], data[len(data)-4:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return nil, errCorrupt
	}
	h, err := parseCacheHeader(body)
	if err != nil {
		return nil, err
	}
	d := cacheDecoder{b: body[cacheHeaderSize:], tree: newTree()}
	d.tree.inodes, d.tree.xattrs = true, true
	d.devices()
	d.xattrSets()
	d.records(h.entries)
	if d.bad || len(d.b) > 0 {
		return nil, errCorrupt
	}
	return d.tree, nil
}

// cacheDecoder reads from b. After the first thing that is wrong, bad is set,
// and all numbers are 0.
type cacheDecoder struct {
	b    []byte
	bad  bool
	tree *Tree
	sets uint64

	ino          uint64
	mtime, ctime int64
}

func (d *cacheDecoder) fail() {
	d.bad, d.b = true, nil
}

func (d *cacheDecoder) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *cacheDecoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns the next n bytes, and reads a number of them first if n < 0.
func (d *cacheDecoder) bytes(n int) []byte {
	if n < 0 {
		n = int(d.uint(uint64(len(d.b))))
	}
	if n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *cacheDecoder) devices() {
	n := d.uint(1 << 16)
	for range n {
		if b := d.bytes(8); b != nil {
			d.tree.devs = append(d.tree.devs, binary.LittleEndian.Uint64(b))
		}
	}
}

func (d *cacheDecoder) xattrSets() {
	d.sets = d.uint(uint64(len(d.b)))
	for range d.sets {
		var e extra
		for range d.uint(uint64(len(d.b))) {
			x := Xattr{Name: string(d.bytes(-1)), Value: bytes.Clone(d.bytes(-1))}
			if d.bad {
				return
			}
			e.xattrs = append(e.xattrs, x)
		}
		d.tree.extras = append(d.tree.extras, e)
	}
}

func (d *cacheDecoder) records(entries uint32) {
	t := d.tree
	if entries < 1 || int(entries) > len(d.b)/cacheMinRecord {
		d.fail()
		return
	}
	t.nodes = make([]node, 0, entries)
	t.names = make([]byte, 0, 24*int(entries))
	d.record(int(entries)-1, 0, false)
	if d.bad || !t.nodes[0].isDir() || t.nodes[0].nameLen > 0 {
		d.fail()
		return
	}
	depth, levelEnd := 0, 1 // the entries from levelEnd on are deeper
	for k := 0; k < len(t.nodes) && !d.bad; k++ {
		if k == levelEnd {
			depth, levelEnd = depth+1, len(t.nodes)
		}
		if !t.nodes[k].isDir() {
			continue
		}
		t.nodes[k].first = int32(len(t.nodes))
		for i := range t.nodes[k].count {
			if !d.record(int(entries)-len(t.nodes)-1, int32(k), i > 0) {
				return
			}
		}
		if depth > MaxDepth {
			d.fail()
		}
	}
	if len(t.nodes) != int(entries) {
		d.fail()
	}
}

// record reads one entry, after which there can be at most left more, and
// reports whether it is all right.
func (d *cacheDecoder) record(left int, parent int32, sibling bool) bool {
	t := d.tree
	n := node{parent: parent}
	d.name(&n, sibling)
	n.known = keywords(d.uint(1<<16 - 1))
	n.mode = uint32(d.uint(1<<32 - 1))
	n.uid = uint32(d.uint(1<<32 - 1))
	n.gid = uint32(d.uint(1<<32 - 1))
	n.nlink = uint32(d.uint(1<<32 - 1))
	n.size = int64(d.uint(1<<63 - 1))
	n.dev = uint16(d.uint(1<<16 - 1))
	d.ino += uint64(d.int())
	d.mtime += d.int()
	n.mnsec = int32(d.uint(999_999_999))
	d.ctime += d.int()
	n.cnsec = int32(d.uint(999_999_999))
	n.ino, n.mtime, n.ctime = d.ino, d.mtime, d.ctime
	if n.known&keyDigest != 0 {
		copy(n.digest[:], d.bytes(sha256.Size))
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.extra = int32(d.uint(d.sets))
	case unix.S_IFDIR:
		n.extra = int32(d.uint(d.sets))
		n.count = int32(d.uint(uint64(max(left, 0))))
	case unix.S_IFLNK:
		d.extra(&n, extra{link: string(d.bytes(-1))})
	case unix.S_IFCHR, unix.S_IFBLK:
		d.extra(&n, extra{rdev: d.uint(1<<64 - 1)})
	}
	// An entry that nothing is known of would not count as one.
	if int(n.dev) >= len(t.devs) || n.known&allKeywords != allKeywords || left < 0 {
		d.fail()
	}
	if d.bad {
		return false
	}
	t.nodes = append(t.nodes, n)
	return true
}

func (d *cacheDecoder) extra(n *node, e extra) {
	if !d.bad && !e.empty() {
		n.extra = int32(len(d.tree.extras))
		d.tree.extras = append(d.tree.extras, e)
	}
}

// name reads the name of n, which must be greater than that of the sibling
// before it.
func (d *cacheDecoder) name(n *node, sibling bool) {
	t := d.tree
	var before []byte
	if sibling {
		before = t.nameBytes(int32(len(t.nodes) - 1))
	}
	shared := int(d.uint(uint64(len(before))))
	rest := d.bytes(-1)
	start := len(t.names)
	t.names = append(append(t.names, before[:shared]...), rest...)
	name := t.names[start:]
	n.name, n.nameLen = uint32(start), uint16(len(name))
	root := len(t.nodes) == 0
	if len(name) > maxName || len(t.names) > 1<<32-1 || sibling && bytes.Compare(name, before) <= 0 || !root && !validName(string(name)) {
		d.fail()
	}
}
