// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shale-oci/shale/internal/rooted"
)

// try calls fn, which does something to the file or directory at path, below e.root.
// If that is not permitted, fn is called once more while the owner has the right to
// enter the directories above, and with itself set to read what is at path.
func (e *evaluator) try(path string, itself bool, fn func() error) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	err := fn()
	if !e.lend || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	rel, rerr := filepath.Rel(filepath.Dir(e.root), path)
	if rerr != nil || !filepath.IsLocal(rel) {
		return err
	}
	l, lerr := newLoan(filepath.Dir(e.root))
	if lerr != nil {
		return err
	}
	defer l.end()
	steps := strings.Split(rel, "/")
	if !itself {
		steps = steps[:len(steps)-1]
	}
	for _, name := range steps {
		if lerr := l.step(name); lerr != nil {
			return errors.Join(err, lerr)
		}
	}
	return fn()
}

// loan is permissions that are given for a while.
type loan struct {
	dirs   []*rooted.Dir
	giveUp []func()
}

func newLoan(parent string) (*loan, error) {
	dir, err := rooted.Open(parent)
	if err != nil {
		return nil, err
	}
	return &loan{dirs: []*rooted.Dir{dir}}, nil
}

// step gives the owner what he needs for the entry called name of the directory that
// the last step led to, and enters it if it is a directory.
func (l *loan) step(name string) error {
	dir := l.dirs[len(l.dirs)-1]
	st, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	need := uint32(0)
	switch {
	case st.IsDir():
		need = 0o700
	case st.IsRegular():
		need = 0o400
	}
	if perm := st.Perm(); perm&need != need {
		if err := dir.Chmod(name, perm|need); err != nil {
			return err
		}
		l.giveUp = append(l.giveUp, func() {
			dir.Chmod(name, perm) //nolint:errcheck // there is nobody to tell
		})
	}
	if st.IsDir() {
		below, err := dir.OpenDir(name)
		if err != nil {
			return err
		}
		l.dirs = append(l.dirs, below)
	}
	return nil
}

// end takes everything back, the innermost first.
func (l *loan) end() {
	for _, f := range slices.Backward(l.giveUp) {
		f()
	}
	for _, d := range l.dirs {
		d.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
}
