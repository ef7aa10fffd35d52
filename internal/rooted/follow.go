// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links OpenFollow goes through, as in Linux.
const maxLinks = 40

// OpenFollow opens the regular file at path for reading, as a process would
// whose root directory is d: symbolic links on the way and at the end are
// followed, and neither they nor ".." lead out of d.
func (d *Dir) OpenFollow(path string) (*os.File, error) {
	stack := []*Dir{d} // the directory reached and those above it
	pop := func() {
		last := len(stack) - 1
		stack[last].Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		stack = stack[:last]
	}
	defer func() {
		for len(stack) > 1 {
			pop()
		}
	}()
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				pop()
			}
			continue
		}
		cur := stack[len(stack)-1]
		st, err := cur.Lstat(name)
		if err != nil {
			return nil, err
		}
		switch {
		case st.Type() == unix.S_IFLNK:
			if links++; links > maxLinks {
				return nil, pathError("open", path, unix.ELOOP)
			}
			target, err := cur.Readlink(name)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(target, "/") {
				for len(stack) > 1 {
					pop()
				}
			}
			todo = append(strings.Split(target, "/"), todo...)
		case len(todo) == 0:
			return cur.Open(name)
		default:
			next, err := cur.OpenDir(name)
			if err != nil {
				return nil, err
			}
			stack = append(stack, next)
		}
	}
	return nil, pathError("open", path, unix.EISDIR)
}
