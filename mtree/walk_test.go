// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/rooted"
)

func TestWalkFacts(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "dir", "file")
	long := bytes.Repeat([]byte("v"), 3000)
	must(t, os.Mkdir(filepath.Join(root, "dir"), 0o2750), os.WriteFile(file, []byte("hello"), 0o4644),
		os.Chmod(file, 0o644|fs.ModeSetuid), os.Link(file, filepath.Join(root, "hard")),
		os.Symlink("../x y", filepath.Join(root, "link")), unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
		unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{{}, {Sec: -2, Nsec: 5e8}}, 0))
	xattrs := unix.Setxattr(file, "user.long", long, 0) == nil
	// Only root can; otherwise there is none.
	_ = unix.Mknod(filepath.Join(root, "dev"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	tree := walk(t, root, WalkOptions{})
	for _, path := range []string{"dir/file", "hard"} {
		e, ok := tree.Lookup(path)
		st := e.Stat()
		digest, hashed := e.Digest()
		if !ok || !e.IsRegular() || e.IsDir() || st.Size != 5 || st.Perm() != 0o4644 || st.Nlink != 2 ||
			st.Mtime != (rooted.Timespec{Sec: -2, Nsec: 5e8}) || !hashed || digest != sha256.Sum256([]byte("hello")) {
			t.Errorf("%s: %+v", path, st)
		}
		if xattrs && (len(e.Xattrs()) == 0 || e.Xattrs()[len(e.Xattrs())-1].Name != "user.long" ||
			!bytes.Equal(e.Xattrs()[len(e.Xattrs())-1].Value, long)) {
			t.Errorf("%s: xattrs %v", path, e.Xattrs())
		}
	}
	if e, _ := tree.Lookup("link"); e.Link() != "../x y" {
		t.Errorf("link to %q", e.Link())
	}
	if e, ok := tree.Lookup("dev"); ok && e.Stat().Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device %x", e.Stat().Rdev)
	}
	for _, path := range []string{"", "dir/", "/dir", "dir/none", "none", "dir/file/x", ".."} {
		if e, ok := tree.Lookup(path); ok || e.Exists() {
			t.Errorf("Lookup(%q) found %q", path, e.Path())
		}
	}
}

func TestWalkAsksForKnownDigests(t *testing.T) {
	w := newWorld(t, 1)
	w.fill(w.root, 20, 3)
	var mu sync.Mutex
	asked := map[string]bool{}
	known := [sha256.Size]byte{9}
	tree := walk(t, w.root, WalkOptions{Digest: func(path string, st rooted.Stat) ([sha256.Size]byte, bool) {
		mu.Lock()
		defer mu.Unlock()
		if asked[path] {
			t.Errorf("asked twice for %q", path)
		}
		asked[path] = true
		if fi, err := os.Lstat(w.path(path)); err != nil || !fi.Mode().IsRegular() || fi.Size() != st.Size {
			t.Errorf("asked for %q, which is %v, %v", path, fi, err)
		}
		return known, len(path)%2 == 0
	}})
	for e := range tree.All() {
		if e.IsRegular() != asked[e.Path()] {
			t.Errorf("%q: regular %v, asked %v", e.Path(), e.IsRegular(), asked[e.Path()])
		}
		if digest, ok := e.Digest(); ok != e.IsRegular() || ok && (digest == known) != (len(e.Path())%2 == 0) {
			t.Errorf("%q: digest %x, %v", e.Path(), digest, ok)
		}
	}
}

// countFds returns how many descriptors this process has.
func countFds(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// makeDeep makes a chain of directories below root with another directory in
// each, without ever naming a long path.
func makeDeep(t testing.TB, root string, depth int) {
	dir, err := rooted.Open(root)
	must(t, err)
	for range depth {
		must(t, dir.Mkdir("side", 0o755), dir.Mkdir("d", 0o755))
		next, err := dir.OpenDir("d")
		must(t, err, dir.Close())
		dir = next
	}
	must(t, dir.Close())
}

func TestWalkOfDeepTreeKeepsFewDirectoriesOpen(t *testing.T) {
	const depth = 3000
	root := t.TempDir()
	outer := openDir(t, filepath.Dir(root))
	makeDeep(t, root, depth)
	t.Cleanup(func() { must(t, outer.RemoveAll(filepath.Base(root))) })

	before := countFds(t)
	var most atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				most.Store(max(most.Load(), int64(countFds(t)-before)))
			}
		}
	}()
	start := time.Now()
	tree, err := Walk(t.Context(), openDir(t, root), WalkOptions{})
	must(t, err)
	t.Logf("walked in %v", time.Since(start))
	close(stop)
	<-done
	if want := 2*depth + 1; tree.Len() != want {
		t.Errorf("%d entries, want %d", tree.Len(), want)
	}
	if most.Load() > int64(maxOpenDirs)+50 {
		t.Errorf("%d descriptors open", most.Load())
	}
	if after := countFds(t) - 1; after > before {
		t.Errorf("%d descriptors left open", after-before)
	}
	deepest := strings.Repeat("d/", depth-1) + "side"
	if e, ok := tree.Lookup(deepest); !ok || e.Path() != deepest {
		t.Error("the deepest directory is not found")
	}
	// All the way through: manifest, cache, comparison.
	back, err := Parse(bytes.NewReader(manifest(t, tree)))
	must(t, err)
	if deltas := Compare(back, tree); len(deltas) > 0 {
		t.Errorf("%d deltas", len(deltas))
	}
	var b bytes.Buffer
	must(t, tree.WriteCache(&b, [32]byte{}, Stamp{}))
	if _, err := decodeCache(b.Bytes()); err != nil {
		t.Error(err)
	}
}

// TestReopening makes every directory but the last one opened close at once, so
// that all ways of opening them again are taken.
func TestReopening(t *testing.T) {
	root := t.TempDir()
	var grow func(dir string, depth int)
	grow = func(dir string, depth int) {
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(dir), 0o644))
		for i := range depth {
			sub := filepath.Join(dir, fmt.Sprint(i))
			must(t, os.Mkdir(sub, 0o755))
			grow(sub, depth-1)
		}
	}
	grow(root, 6)
	want := manifest(t, walk(t, root, WalkOptions{}))
	defer func(old int) { maxOpenDirs = old }(maxOpenDirs)
	for maxOpenDirs = range 4 {
		before := countFds(t)
		if got := manifest(t, walk(t, root, WalkOptions{})); !bytes.Equal(got, want) {
			t.Errorf("with %d open directories:\n%s\nwant\n%s", maxOpenDirs, got, want)
		}
		if after := countFds(t); after != before {
			t.Errorf("%d descriptors left open", after-before)
		}
	}
}

func TestWalkOfWideDirectory(t *testing.T) {
	root := t.TempDir()
	dir := openDir(t, root)
	const n = 3*statBatch + 7
	for i := range n {
		name := fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		if i%3 == 0 {
			must(t, dir.Mkdir(name, 0o755))
			continue
		}
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o644))
	}
	tree := walk(t, root, WalkOptions{})
	if tree.Len() != n+1 {
		t.Errorf("%d entries, want %d", tree.Len(), n+1)
	}
	for e := range tree.All() {
		if digest, ok := e.Digest(); ok && digest != sha256.Sum256([]byte(e.Name())) {
			t.Errorf("%s: wrong digest", e.Name())
		}
	}
	cached := walk(t, root, WalkOptions{Cache: &Cache{tree: tree, stamp: Stamp{
		Dev: tree.Root().Stat().Dev, Time: rooted.Timespec{Sec: 1 << 40, Nsec: 1},
	}}})
	if deltas := Compare(tree, cached); len(deltas) > 0 {
		t.Errorf("%d deltas", len(deltas))
	}
}

func TestWalkNoticesFilesThatChange(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "dir", "gro\nwing")
	must(t, os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, make([]byte, 8<<20), 0o644))
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"grows", func() error { return os.Truncate(name, 9<<20) }},
		{"shrinks", func() error { return os.Truncate(name, 100) }},
		{"is touched", func() error { return os.Chtimes(name, time.Unix(1, 0), time.Unix(2, 0)) }},
		{"is replaced", func() error {
			return errors.Join(os.WriteFile(name+".new", make([]byte, 8<<20), 0o644), os.Rename(name+".new", name))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := openDir(t, root)
			// The callback comes between lstat and reading.
			_, err := Walk(t.Context(), dir, WalkOptions{Digest: func(string, rooted.Stat) (d [sha256.Size]byte, ok bool) {
				must(t, c.change())
				return d, false
			}})
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), `"dir/gro\nwing"`) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("vanishes", func(t *testing.T) {
		dir := openDir(t, root)
		_, err := Walk(t.Context(), dir, WalkOptions{Digest: func(string, rooted.Stat) (d [sha256.Size]byte, ok bool) {
			must(t, os.Remove(name))
			return d, false
		}})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"dir/gro\nwing"`) {
			t.Errorf("error %v", err)
		}
	})
}

// TestWalkNeverLeavesTheRoot swaps a directory for a symlink while it is walked.
func TestWalkNeverLeavesTheRoot(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600),
		os.MkdirAll(filepath.Join(root, "p", "d", "e"), 0o755), os.Symlink(outside, filepath.Join(root, "p", "l")))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := filepath.Join(root, "p")
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(p, "d"), unix.AT_FDCWD, filepath.Join(p, "l"), unix.RENAME_EXCHANGE)
		}
	}()
	dir := openDir(t, root)
	for range 1000 {
		tree, err := Walk(t.Context(), dir, WalkOptions{})
		if err != nil {
			continue
		}
		for e := range tree.All() {
			if e.Name() == "secret" {
				t.Errorf("found %s", e.Path())
			}
		}
	}
	close(stop)
	<-done
}

func TestWalkIsCancelled(t *testing.T) {
	root := t.TempDir()
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), make([]byte, 1<<20), 0o644))
	}
	ctx, cancel := context.WithCancel(t.Context())
	before := countFds(t)
	_, err := Walk(ctx, openDir(t, root), WalkOptions{Digest: func(string, rooted.Stat) (d [sha256.Size]byte, ok bool) {
		cancel()
		return d, false
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if after := countFds(t) - 1; after > before {
		t.Errorf("%d descriptors left open", after-before)
	}
}

func TestWalkReportsProgress(t *testing.T) {
	w := newWorld(t, 11)
	for range 100 {
		w.fill(w.root, 10, 2)
	}
	var events []progress.Event
	tree := walk(t, w.root, WalkOptions{Progress: func(e progress.Event) { events = append(events, e) }})
	last := int64(-1)
	for i, e := range events {
		if e.Stage != "checking" || e.Unit != progress.Files || e.Done < last || e.End != (i == len(events)-1) {
			t.Errorf("event %d: %+v", i, e)
		}
		last = e.Done
	}
	if last != int64(tree.Len()) || len(events) < 2 {
		t.Errorf("%d events, the last at %d of %d", len(events), last, tree.Len())
	}
}

// TestRootless is about trees that their owner cannot read. Root can read
// everything, so that there it only checks that nothing changes.
func TestRootless(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "none", "inner"), 0o755),
		os.Mkdir(filepath.Join(root, "list"), 0o755), os.Mkdir(filepath.Join(root, "search"), 0o755))
	for _, name := range []string{"none/f", "none/inner/f", "list/f", "search/f", "f"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o600))
	}
	// One inode, unreadable, under two names in two directories.
	must(t, os.Link(filepath.Join(root, "f"), filepath.Join(root, "list", "hard")))
	before := map[string]unix.Stat_t{}
	modes := []struct {
		name string
		perm uint32
	}{
		{"none/f", 0}, {"none/inner/f", 0o200}, {"f", 0}, {"none/inner", 0}, {"none", 0}, {"list", 0o400}, {"search", 0o100},
	}
	for _, m := range modes {
		must(t, unix.Chmod(filepath.Join(root, m.name), m.perm))
	}
	t.Cleanup(func() {
		for _, name := range []string{"none", "none/inner", "list", "search"} {
			_ = os.Chmod(filepath.Join(root, name), 0o700)
		}
	})
	for _, name := range []string{"none", "list", "search", "f"} {
		before[name] = lstat(t, filepath.Join(root, name))
	}
	if os.Geteuid() != 0 {
		if _, err := Walk(t.Context(), openDir(t, root), WalkOptions{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("not rootless: error %v", err)
		}
	}
	check := func(tree *Tree) {
		t.Helper()
		for _, m := range modes {
			if e, ok := tree.Lookup(m.name); !ok {
				t.Errorf("%s is missing", m.name)
			} else if st := e.Stat(); st.Perm() != m.perm {
				t.Errorf("%s: mode %o, want %o", m.name, st.Perm(), m.perm)
			}
		}
		for name, old := range before {
			if st := lstat(t, filepath.Join(root, name)); st.Mode != old.Mode || st.Mtim != old.Mtim {
				t.Errorf("%s: mode %o and time %v afterwards, want %o and %v", name, st.Mode, st.Mtim, old.Mode, old.Mtim)
			}
		}
	}
	for _, most := range []int{1, 256} {
		func() {
			defer func(old int) { maxOpenDirs = old }(maxOpenDirs)
			maxOpenDirs = most
			tree := walk(t, root, WalkOptions{Rootless: true})
			check(tree)
			for _, name := range []string{"none/f", "none/inner/f", "list/f", "list/hard", "f"} {
				want := sha256.Sum256([]byte(strings.Replace(name, "list/hard", "f", 1)))
				if e, _ := tree.Lookup(name); !e.Exists() || e.node().digest != want {
					t.Errorf("%s: no or wrong digest", name)
				}
			}
		}()
	}
	// A walk that fails restores the modes, too.
	var failing atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Walk(ctx, openDir(t, root), WalkOptions{Rootless: true, Digest: func(path string, _ rooted.Stat) (d [sha256.Size]byte, ok bool) {
		if path == "none/inner/f" {
			failing.Store(true)
			cancel()
		}
		return d, true
	}})
	if !errors.Is(err, context.Canceled) || !failing.Load() {
		t.Errorf("error %v", err)
	}
	if tree := walk(t, root, WalkOptions{Rootless: true}); tree != nil {
		check(tree)
	}
}

func TestWalkRefusesTooDeepTrees(t *testing.T) {
	w := &walker{tree: newTree()}
	if _, err := w.reserve(&dirRef{depth: MaxDepth + 1}, nil); !errors.Is(err, errTooDeep) {
		t.Errorf("error %v", err)
	}
}

// TestWalkRead reads only the files that are asked for, and lists what directories hold.
func TestWalkRead(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "b/empty"), 0o755))
	for _, name := range []string{"a", "b/a", "c"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o644))
	}
	tree := walk(t, root, WalkOptions{Read: func(path string, st rooted.Stat) bool { return path == "b/a" && st.Size == 3 }})
	var got []string
	var list func(Entry)
	list = func(e Entry) {
		for c := range e.Children() {
			_, read := c.Digest()
			got = append(got, fmt.Sprint(c.Path(), " ", read))
			list(c)
		}
	}
	list(tree.Root())
	if want := []string{"a false", "b false", "b/a true", "b/empty false", "c false"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for range tree.Root().Children() {
		break // ends the loop
	}
}
