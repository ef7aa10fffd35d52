// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxRemoveDepth is how many levels of a tree RemoveAll holds open at a time.
const maxRemoveDepth = 128

// RemoveAll removes the entry called name and, if it is a directory, all below
// it, without following any link. It is no error if name does not exist.
// Directories that their owner may not read or write are made so first.
//
// A tree deeper than the descriptors that a process may have is no obstacle:
// what lies too deep is moved up to d, under a name that starts with name, and
// removed there.
func (d *Dir) RemoveAll(name string) error {
	if err := check("remove", name); err != nil {
		return err
	}
	r := remover{top: d, prefix: name}
	if len(r.prefix) > 200 {
		r.prefix = r.prefix[:200]
	}
	if err := r.remove(d, name, 0); err != nil {
		return err
	}
	for len(r.deep) > 0 {
		next := r.deep[0]
		r.deep = r.deep[1:]
		if err := r.remove(d, next, 0); err != nil {
			return err
		}
	}
	return nil
}

type remover struct {
	top    *Dir
	prefix string
	moved  int      // names given out so far
	deep   []string // directories moved up to top
}

func (r *remover) remove(d *Dir, name string, depth int) error {
	err := d.Remove(name)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return err
	}
	if st, serr := d.Lstat(name); serr != nil || !st.IsDir() {
		return err
	}
	if depth == maxRemoveDepth {
		return r.moveUp(d, name)
	}
	if err := r.clear(d, name, depth); err != nil {
		return err
	}
	if err := d.Rmdir(name); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// clear empties the directory called name, whatever its mode.
func (r *remover) clear(d *Dir, name string, depth int) error {
	sub, err := d.OpenDir(name)
	if errors.Is(err, unix.EACCES) {
		if err := d.Chmod(name, 0o700); err != nil {
			return err
		}
		sub, err = d.OpenDir(name)
	}
	if err != nil {
		return err
	}
	defer sub.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	if st, err := sub.Lstat("."); err == nil && st.Perm()&0o300 != 0o300 {
		// Root needs no permission, so that an error here need not matter.
		_ = sub.Chmod(".", 0o700)
	}
	entries, err := sub.Names()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.remove(sub, e.Name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// moveUp gives the directory called name a new name in top. Moving a directory
// needs write permission on it, for its "..".
func (r *remover) moveUp(d *Dir, name string) error {
	_ = d.Chmod(name, 0o700)
	for {
		r.moved++
		free := r.prefix + ".rm" + strconv.Itoa(r.moved)
		if _, err := r.top.Lstat(free); err == nil {
			continue
		}
		if err := d.Rename(name, r.top, free); err != nil {
			return err
		}
		r.deep = append(r.deep, free)
		return nil
	}
}
