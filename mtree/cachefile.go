// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/sys/unix"
)

// The file of a stat cache, with all fixed numbers in little endian and all
// others as varints of package encoding/binary:
//
//	magic     8 bytes, the last of which is the version of the format
//	manifest  32 bytes: SHA-256 of the mtree manifest
//	stamp     device (8 bytes), seconds (8), nanoseconds (4)
//	entries   their number (4 bytes)
//	devices   number, then 8 bytes each
//	xattrs    number of different sets, then the sets
//	records   one per entry: first the root, then, for each directory in the
//	          order of the records, its children sorted by name
//	checksum  4 bytes: CRC-32C of all before
//
// So an entry needs no reference to its parent. Names share a prefix with the
// name before; inode numbers and times are differences to those before.
const (
	cacheMagic      = "shalesc\x01"
	cacheHeaderSize = 8 + sha256.Size + 20 + 4
	cacheMinRecord  = 14
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type cacheHeader struct {
	manifest [sha256.Size]byte
	stamp    Stamp
	entries  uint32
}

// WriteCache writes the stat cache of t for the mtree manifest with the given
// SHA-256 digest. The stamp must have been taken before the [Walk] that made t
// began, on the file system of the tree: what is on others will not be vouched
// for.
func (t *Tree) WriteCache(w io.Writer, manifest [sha256.Size]byte, stamp Stamp) error {
	if len(t.nodes) == 0 || !t.inodes {
		return errors.New("write stat cache: tree was not made by a walk")
	}
	e := cacheEncoder{w: w, tree: t, order: t.byLevel()}
	e.header(manifest, stamp)
	e.devices()
	e.xattrSets()
	e.records()
	e.flush()
	if e.err == nil {
		_, e.err = w.Write(binary.LittleEndian.AppendUint32(nil, e.crc))
	}
	if e.err != nil {
		return fmt.Errorf("write stat cache: %w", e.err)
	}
	return nil
}

type cacheEncoder struct {
	w     io.Writer
	tree  *Tree
	order []int32 // of the records
	buf   []byte
	crc   uint32
	err   error
	sets  map[int32]uint64 // number in tree.extras -> number of the set from 1

	ino          uint64
	mtime, ctime int64
}

// flush hands over what is in buf.
func (e *cacheEncoder) flush() {
	if e.err == nil {
		e.crc = crc32.Update(e.crc, castagnoli, e.buf)
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

func (e *cacheEncoder) uint(v uint64) { e.buf = binary.AppendUvarint(e.buf, v) }
func (e *cacheEncoder) int(v int64)   { e.buf = binary.AppendVarint(e.buf, v) }

func (e *cacheEncoder) string(s string) {
	e.uint(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *cacheEncoder) header(manifest [sha256.Size]byte, stamp Stamp) {
	e.buf = append(e.buf, cacheMagic...)
	e.buf = append(e.buf, manifest[:]...)
	e.buf = binary.LittleEndian.AppendUint64(e.buf, stamp.Dev)
	e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(stamp.Time.Sec))
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(stamp.Time.Nsec))
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(len(e.tree.nodes)))
}

func (e *cacheEncoder) devices() {
	e.uint(uint64(len(e.tree.devs)))
	for _, dev := range e.tree.devs {
		e.buf = binary.LittleEndian.AppendUint64(e.buf, dev)
	}
}

func (e *cacheEncoder) xattrSets() {
	e.sets = make(map[int32]uint64)
	var used []int32
	for _, i := range e.order {
		extra := e.tree.nodes[i].extra
		if len(e.tree.extras[extra].xattrs) > 0 && e.sets[extra] == 0 {
			used = append(used, extra)
			e.sets[extra] = uint64(len(used))
		}
	}
	e.uint(uint64(len(used)))
	for _, extra := range used {
		e.buf = appendXattrs(e.buf, e.tree.extras[extra].xattrs)
		if len(e.buf) > 64<<10 {
			e.flush()
		}
	}
}

// byLevel returns the numbers of the entries level by level, with those of one
// directory next to each other and sorted by name.
func (t *Tree) byLevel() []int32 {
	order := make([]int32, 1, len(t.nodes))
	for k := 0; k < len(order); k++ {
		d := &t.nodes[order[k]]
		for i := range d.count {
			order = append(order, d.first+i)
		}
	}
	return order
}

func (e *cacheEncoder) records() {
	var before []byte
	for k, i := range e.order {
		n := &e.tree.nodes[i]
		if k == 0 || i == e.tree.nodes[n.parent].first {
			before = nil
		}
		e.record(i, n, before)
		before = e.tree.nameBytes(i)
	}
}

// record writes entry i, whose elder sibling is called before.
func (e *cacheEncoder) record(i int32, n *node, before []byte) {
	more := &e.tree.extras[n.extra]
	name := e.tree.nameBytes(i)
	shared := 0
	for shared < len(before) && shared < len(name) && before[shared] == name[shared] {
		shared++
	}
	e.uint(uint64(shared))
	e.uint(uint64(len(name) - shared))
	e.buf = append(e.buf, name[shared:]...)
	e.uint(uint64(n.known))
	e.uint(uint64(n.mode))
	e.uint(uint64(n.uid))
	e.uint(uint64(n.gid))
	e.uint(uint64(n.nlink))
	e.uint(uint64(n.size))
	e.uint(uint64(n.dev))
	e.int(int64(n.ino - e.ino))
	e.int(n.mtime - e.mtime)
	e.uint(uint64(n.mnsec))
	e.int(n.ctime - e.ctime)
	e.uint(uint64(n.cnsec))
	e.ino, e.mtime, e.ctime = n.ino, n.mtime, n.ctime
	if n.known&keyDigest != 0 {
		e.buf = append(e.buf, n.digest[:]...)
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.uint(e.sets[n.extra])
	case unix.S_IFDIR:
		e.uint(e.sets[n.extra])
		e.uint(uint64(n.count))
	case unix.S_IFLNK:
		e.string(more.link)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.uint(more.rdev)
	}
	if len(e.buf) > 64<<10 {
		e.flush()
	}
}

// appendXattrs encodes a set of extended attributes.
func appendXattrs(buf []byte, xattrs []Xattr) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(xattrs)))
	for _, x := range xattrs {
		buf = append(binary.AppendUvarint(buf, uint64(len(x.Name))), x.Name...)
		buf = append(binary.AppendUvarint(buf, uint64(len(x.Value))), x.Value...)
	}
	return buf
}
