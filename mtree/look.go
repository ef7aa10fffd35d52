// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// found is what a worker has found out about one entry, before it is part of
// the tree.
type found struct {
	node
	more   extra
	vouch  bool // extra is that of the cache
	cached int32
}

// scratch is memory that a worker uses again and again.
type scratch struct {
	found []found
	stats []rooted.Stat
	hasher
}

// look finds out about entries of a directory. Their digests come later, unless
// they are known.
func (w *walker) look(j *job, s *scratch) error {
	dir, err := w.dirs.pin(j.dir)
	if err != nil {
		return walkError(j.dir.path(), err)
	}
	defer w.dirs.unpin(j.dir)
	if len(s.found) < len(j.ents) {
		s.found = make([]found, statBatch)
		s.stats = make([]rooted.Stat, statBatch)
	}
	all, stats := s.found[:len(j.ents)], s.stats[:len(j.ents)]
	clear(all)
	var (
		run     = w.opt.Cache.run(j.dir.cached)
		prefix  string
		subdirs []job
		hashing []pending
	)
	if (w.opt.Digest != nil || w.opt.Read != nil) && j.dir.depth > 0 {
		prefix = j.dir.path() + "/"
	}
	for i, ent := range j.ents {
		f, st := &all[i], &stats[i]
		if *st, err = w.lstat(j.dir, dir, ent.Name); err != nil {
			return walkError(j.dir.path(), err)
		}
		f.known = allKeywords
		f.setStat(st)
		f.cached = run.find(ent.Name)
		if f.isRegular() && w.opt.Digest != nil {
			if digest, ok := w.opt.Digest(prefix+ent.Name, *st); ok {
				f.digest, f.known = digest, f.known|keyDigest
			}
		}
		w.complete(f, dir, ent.Name, st, f.cached)
		switch {
		case f.isDir():
			sub := childRef(j.dir, ent.Name, st)
			sub.node, sub.cached = j.base+int32(i), f.cached
			subdirs = append(subdirs, job{dir: sub, list: true})
		case f.isRegular() && f.known&keyDigest == 0 && (w.opt.Read == nil || w.opt.Read(prefix+ent.Name, *st)):
			if hashing == nil {
				hashing = make([]pending, 0, len(j.ents)-i)
			}
			hashing = append(hashing, pending{node: j.base + int32(i), name: ent.Name, st: *st})
		}
	}
	if err := w.store(j, all, stats); err != nil {
		return walkError(j.dir.path(), err)
	}
	w.report(int64(len(all)-len(subdirs)-len(hashing)), false)
	slices.Reverse(subdirs)
	jobs := slices.Concat(subdirs, batches(j.dir, hashing))
	w.dirs.retain(j.dir, len(jobs))
	w.push(jobs...)
	return nil
}

// lstat is dir.Lstat, after making the directory searchable if need be.
func (w *walker) lstat(ref *dirRef, dir *rooted.Dir, name string) (rooted.Stat, error) {
	st, err := dir.Lstat(name)
	if err != nil && w.opt.Rootless && errors.Is(err, unix.EACCES) {
		if w.dirs.unlock(ref, dir) {
			return dir.Lstat(name)
		}
	}
	return st, err
}

// complete adds what lstat does not tell: from the cache if it vouches for the
// entry, from the disk if not.
func (w *walker) complete(f *found, dir *rooted.Dir, name string, st *rooted.Stat, cached int32) {
	if w.opt.Cache.vouches(cached, st) {
		c := &w.opt.Cache.tree.nodes[cached]
		f.vouch, f.extra = true, c.extra
		f.known |= c.known & keyLink
		if f.known&keyDigest == 0 && c.known&keyDigest != 0 {
			f.digest, f.known = c.digest, f.known|keyDigest
		}
		return
	}
	switch st.Type() {
	case unix.S_IFREG, unix.S_IFDIR:
		f.more.xattrs = readXattrs(dir, name)
	case unix.S_IFLNK:
		// A link that is gone by now has no target, as in go-mtree.
		if target, err := dir.Readlink(name); err == nil {
			f.more.link, f.known = target, f.known|keyLink
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		f.more.rdev = st.Rdev
	}
}

// readXattrs returns all extended attributes of name, or none if one of them
// cannot be read, as go-mtree does (which, however, also gives up on values of
// more than 1024 bytes).
func readXattrs(dir *rooted.Dir, name string) []Xattr {
	names, err := dir.Listxattr(name)
	if err != nil || len(names) == 0 {
		return nil
	}
	xattrs := make([]Xattr, 0, len(names))
	for _, attr := range names {
		value, err := dir.Getxattr(name, attr)
		if err != nil {
			return nil
		}
		xattrs = append(xattrs, Xattr{Name: attr, Value: value})
	}
	return xattrs
}

// store puts what was found into the nodes that reserve made.
func (w *walker) store(j *job, all []found, stats []rooted.Stat) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range all {
		if err := w.add(&all[i], &stats[i]); err != nil {
			return err
		}
		n, f := &w.tree.nodes[j.base+int32(i)], &all[i].node
		f.parent, f.name, f.nameLen = n.parent, n.name, n.nameLen
		*n = *f
	}
	return nil
}

// add puts what f shares with other entries into the tree.
func (w *walker) add(f *found, st *rooted.Stat) (err error) {
	if f.dev, err = w.tree.devIndex(st.Dev); err != nil {
		return err
	}
	if f.vouch || f.more.empty() {
		return nil
	}
	if w.interned == nil {
		w.interned = make(map[string]int32)
	}
	f.extra, err = w.tree.addExtra(f.more, w.interned)
	return err
}
