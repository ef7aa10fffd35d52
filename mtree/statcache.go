// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/shale-oci/shale/internal/rooted"
)

// Cache is a stat cache that has been read back: it tells [Walk] which files
// need not be read, because nothing about them has changed since their digests
// were taken.
//
// A file counts as unchanged if device, inode, size, mode, owner, group,
// modification time and change time are all as they were, and its change time
// had settled when the cache was made: see [Stamp]. Nobody can set a change time
// but by setting the clock; a clock that was set back is noticed when the cache
// is loaded. Extended attributes, link targets and the names in an inode are
// covered by the change time as well.
//
// The whole tree is in the cache, so that for [Compare] it can stand in for the
// manifest that it was made with: both were written from the same [Tree], and
// the digest of the manifest is in the cache. If the manifest was changed since,
// or the cache is not whole, there is no Cache.
type Cache struct {
	tree  *Tree
	stamp Stamp
}

// Tree returns the tree as it was when the cache and its manifest were written.
func (c *Cache) Tree() *Tree { return c.tree }

// CacheName returns the name of the stat cache of the given mtree manifest.
func CacheName(manifest string) string { return manifest + ".statcache" }

// maxCache is the size in bytes of the largest stat cache that is read.
const maxCache = 2 << 30

var errCorrupt = errors.New("damaged")

// LoadCache reads the stat cache called name in dir, which was made for the
// mtree manifest with the given SHA-256 digest and for a tree on the file system
// of dir. Without a cache that can be used, c is nil and why says why, in words
// for a log: a file that is missing, damaged, in another format, for another
// manifest or from another file system, or a clock that has been set back.
// Nothing is wrong then, only slow.
func LoadCache(dir *rooted.Dir, name string, manifest [sha256.Size]byte) (c *Cache, why string) {
	c, err := loadCache(dir, name, manifest)
	if err != nil {
		return nil, fmt.Sprintf("stat cache not used: %v", err)
	}
	return c, ""
}

func loadCache(dir *rooted.Dir, name string, manifest [sha256.Size]byte) (*Cache, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	st, err := rooted.FromFd(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	if st.Size > maxCache {
		return nil, fmt.Errorf("%d bytes are too many", st.Size)
	}
	// The header first: a foreign cache is not worth reading.
	var header [cacheHeaderSize]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return nil, errCorrupt
	}
	h, err := parseCacheHeader(header[:])
	if err != nil {
		return nil, err
	}
	if h.manifest != manifest {
		return nil, errors.New("made for another manifest")
	}
	now, err := TakeStamp(dir)
	if err != nil {
		return nil, err
	}
	if now.Dev != h.stamp.Dev {
		return nil, errors.New("made on another file system")
	}
	if now.Time.Before(h.stamp.Time) {
		return nil, errors.New("made in the future, or the clock was set back")
	}
	data := make([]byte, st.Size)
	copy(data, header[:])
	if _, err := io.ReadFull(f, data[cacheHeaderSize:]); err != nil {
		return nil, errCorrupt
	}
	tree, err := decodeCache(data)
	if err != nil {
		return nil, err
	}
	return &Cache{tree: tree, stamp: h.stamp}, nil
}

// vouches reports whether what has st now is what entry i of the cache was.
func (c *Cache) vouches(i int32, st *rooted.Stat) bool {
	if c == nil || i < 0 {
		return false
	}
	n := &c.tree.nodes[i]
	return n.ino == st.Ino && n.size == st.Size && n.mode == st.Mode && n.uid == st.UID && n.gid == st.GID &&
		n.mtime == st.Mtime.Sec && n.mnsec == st.Mtime.Nsec &&
		n.ctime == st.Ctime.Sec && n.cnsec == st.Ctime.Nsec &&
		c.tree.devs[n.dev] == st.Dev && st.Dev == c.stamp.Dev && c.stamp.settled(st.Ctime)
}

// run is the entries of one directory of a cache, to be looked up in the order
// of their names.
type run struct {
	tree      *Tree
	next, end int32
	started   bool
}

// run returns the run of the given directory, which is empty if there is none.
func (c *Cache) run(dir int32) run {
	if c == nil || dir < 0 {
		return run{}
	}
	d := &c.tree.nodes[dir]
	return run{tree: c.tree, next: d.first, end: d.first + d.count}
}

// find returns the number of the entry called name, or -1. Names must be asked
// for in ascending order.
func (r *run) find(name string) int32 {
	if r.next == r.end {
		return -1
	}
	if !r.started {
		// A batch of a large directory need not start at the beginning.
		r.started = true
		r.next, _ = r.tree.child(r.tree.nodes[r.next].parent, name)
	}
	for ; r.next < r.end; r.next++ {
		switch compareName(r.tree.nameBytes(r.next), name) {
		case 0:
			r.next++
			return r.next - 1
		case 1:
			return -1
		}
	}
	return -1
}
