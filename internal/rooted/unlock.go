// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"errors"
	"strings"
)

// Unlock lets the owner of a tree, who has no privilege, reach rel and read it:
// directories on the way without u+rwx and a last component without u+r (u+rwx
// for a directory) get these permissions. The function returned takes them away
// again; it is never nil. Modification times do not change.
func (d *Dir) Unlock(rel string) (restore func() error, err error) {
	type locked struct {
		dir  *Dir
		name string
		perm uint32
	}
	var undo []locked
	var open []*Dir
	restore = func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i].dir.Chmod(undo[i].name, undo[i].perm))
		}
		for _, dir := range open {
			errs = append(errs, dir.Close())
		}
		undo, open = nil, nil
		return errors.Join(errs...)
	}
	cur := d
	names := strings.Split(rel, "/")
	for i, name := range names {
		st, err := cur.Lstat(name)
		if err != nil {
			return restore, err
		}
		need := uint32(0)
		switch {
		case st.IsDir():
			need = 0o700
		case st.IsRegular():
			need = 0o400
		}
		if st.Perm()&need != need {
			if err := cur.Chmod(name, st.Perm()|need); err != nil {
				return restore, err
			}
			undo = append(undo, locked{cur, name, st.Perm()})
		}
		if i == len(names)-1 {
			break
		}
		if cur, err = cur.OpenDir(name); err != nil {
			return restore, err
		}
		open = append(open, cur)
	}
	return restore, nil
}
