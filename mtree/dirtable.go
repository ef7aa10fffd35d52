// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"container/list"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// maxOpenDirs is how many directories a walk keeps open for what is still to be
// done in them. A deep tree can need more; then the one opened first is closed,
// and opened again when its turn comes. Tests make it smaller.
var maxOpenDirs = 256

// dirTable owns the open directories of a walk.
type dirTable struct {
	max int

	mu       sync.Mutex
	opened   list.List // of *dirRef, in the order in which they were opened
	unlocked map[*dirRef]struct{}
}

// dirRef is a directory that a walk has found. It is reachable from its parent
// by name even while it is not open.
type dirRef struct {
	parent *dirRef // nil for the root
	name   string
	depth  int
	node   int32 // its number in the tree
	cached int32 // its number in the cache's tree, -1 if it is not there

	// The following are guarded by dirTable.mu.
	dir  *rooted.Dir // nil while not open
	elem *list.Element
	pins int // users of dir, which must not be closed meanwhile
	refs int // jobs still to be done here, and directories here with any

	perm     uint32 // permission bits as found
	dev, ino uint64 // as found
	unlocked bool   // it has other permission bits for the moment
}

// path returns the path of the directory relative to the root.
func (r *dirRef) path() string {
	if r.parent == nil {
		return "."
	}
	var names []string
	for ; r.parent != nil; r = r.parent {
		names = append(names, r.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// rootRef returns the ref of the root, which stays open and the caller's, with
// the one job to list it.
func rootRef(dir *rooted.Dir, st *rooted.Stat) *dirRef {
	return &dirRef{dir: dir, cached: -1, refs: 1, perm: st.Perm(), dev: st.Dev, ino: st.Ino}
}

// childRef returns the ref of a directory in parent, with the one job to list it.
// The parent has to be told by retain.
func childRef(parent *dirRef, name string, st *rooted.Stat) *dirRef {
	return &dirRef{
		parent: parent, name: name, depth: parent.depth + 1, cached: -1,
		refs: 1, perm: st.Perm(), dev: st.Dev, ino: st.Ino,
	}
}

// retain counts n more jobs that need ref.
func (t *dirTable) retain(ref *dirRef, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref.refs += n
}

// release counts one job less. After the last one in a directory and all below
// it, the directory gets the permission bits back that it had, and is closed.
func (t *dirTable) release(ref *dirRef) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; ref != nil; ref = ref.parent {
		if ref.refs--; ref.refs > 0 {
			return nil
		}
		if err := t.relock(ref); err != nil {
			return err
		}
		t.close(ref)
	}
	return nil
}

// open opens ref for the first time, and pins it.
func (t *dirTable) open(ref *dirRef, rootless bool) (*rooted.Dir, error) {
	if ref.parent == nil {
		return t.pin(ref)
	}
	parent, err := t.pin(ref.parent)
	if err != nil {
		return nil, err
	}
	dir, err := parent.OpenDir(ref.name)
	if err != nil && rootless && errors.Is(err, unix.EACCES) {
		if parent.Chmod(ref.name, ref.perm|0o700) == nil {
			t.markUnlocked(ref)
			dir, err = parent.OpenDir(ref.name)
		}
	}
	t.unpin(ref.parent)
	if err != nil {
		return nil, err
	}
	if err := ref.check(dir); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	t.mu.Lock()
	t.register(ref, dir)
	ref.pins++
	t.mu.Unlock()
	return dir, nil
}

// check makes sure that dir is the directory that was seen before.
func (r *dirRef) check(dir *rooted.Dir) error {
	st, err := rooted.FromFd(dir.Fd())
	if err != nil {
		return err
	}
	if st.Dev != r.dev || st.Ino != r.ino {
		return errors.New("directory was replaced while it was walked")
	}
	return nil
}

// pin returns the open directory of ref, which stays open until unpin.
func (t *dirTable) pin(ref *dirRef) (*rooted.Dir, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.reopen(ref); err != nil {
		return nil, err
	}
	ref.pins++
	return ref.dir, nil
}

// unpin undoes pin.
func (t *dirTable) unpin(ref *dirRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref.pins--
}

// reopen opens ref again, step by step from the nearest directory above it that
// is open. The steps in between stay open as far as there is room, so that going
// up a very deep tree is not quadratic.
func (t *dirTable) reopen(ref *dirRef) error {
	var closed []*dirRef
	for ; ref.dir == nil; ref = ref.parent {
		closed = append(closed, ref)
	}
	for _, next := range slices.Backward(closed) {
		dir, err := ref.dir.OpenDir(next.name)
		if err != nil {
			return err
		}
		if err := next.check(dir); err != nil {
			return errors.Join(err, dir.Close())
		}
		ref.pins++
		t.register(next, dir)
		ref.pins--
		ref = next
	}
	return nil
}

// register notes that ref is open, and closes others if there are too many.
func (t *dirTable) register(ref *dirRef, dir *rooted.Dir) {
	ref.dir, ref.elem = dir, t.opened.PushBack(ref)
	for e := t.opened.Front(); t.opened.Len() > t.max && e != nil; {
		old := e.Value.(*dirRef)
		e = e.Next()
		if old.pins == 0 && old != ref {
			t.close(old)
		}
	}
}

// close closes ref unless it is closed already or the root.
func (t *dirTable) close(ref *dirRef) {
	if ref.elem == nil {
		return
	}
	t.opened.Remove(ref.elem)
	ref.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	ref.dir, ref.elem = nil, nil
}

// unlock lets the owner of ref, which is open as dir, read and search it, and
// reports whether that was possible.
func (t *dirTable) unlock(ref *dirRef, dir *rooted.Dir) bool {
	if dir.Chmod(".", ref.perm|0o700) != nil {
		return false
	}
	t.markUnlocked(ref)
	return true
}

func (t *dirTable) markUnlocked(ref *dirRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unlocked == nil {
		t.unlocked = make(map[*dirRef]struct{})
	}
	t.unlocked[ref] = struct{}{}
	ref.unlocked = true
}

// relock gives ref the permission bits back that it had before. Nothing else
// needs to be put back: neither chmod nor reading changes the time of the last
// modification.
func (t *dirTable) relock(ref *dirRef) error {
	if !ref.unlocked {
		return nil
	}
	delete(t.unlocked, ref)
	ref.unlocked = false
	if err := t.reopen(ref); err != nil {
		return fmt.Errorf("restore mode of %s: %w", quote.Name(ref.path()), err)
	}
	if err := ref.dir.Chmod(".", ref.perm); err != nil {
		return fmt.Errorf("restore mode of %s: %w", quote.Name(ref.path()), err)
	}
	return nil
}

// relockAll ends the walk, which may have failed: what is still unlocked gets
// its permission bits back, the deepest first, and all is closed.
func (t *dirTable) relockAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refs []*dirRef
	for ref := range t.unlocked {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b *dirRef) int { return b.depth - a.depth })
	var errs []error
	for _, ref := range refs {
		errs = append(errs, t.relock(ref))
	}
	for t.opened.Len() > 0 {
		t.close(t.opened.Front().Value.(*dirRef))
	}
	return errors.Join(errs...)
}
