// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gomtree "github.com/vbatts/go-mtree"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// oracleKeywords are umoci's.
var oracleKeywords = gomtree.ToKeywords(keywordNames[:manifestKeywords])

// must fails the test if there is an error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, path string) *rooted.Dir {
	t.Helper()
	d, err := rooted.Open(path)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func walk(t testing.TB, path string, opt WalkOptions) *Tree {
	t.Helper()
	d, err := rooted.Open(path)
	must(t, err)
	defer d.Close()
	tree, err := Walk(t.Context(), d, opt)
	must(t, err)
	checkTree(t, tree)
	return tree
}

// checkTree checks what every tree must be.
func checkTree(t testing.TB, tree *Tree) {
	t.Helper()
	var paths []string
	for e := range tree.All() {
		paths = append(paths, e.Path())
		if got, ok := tree.Lookup(e.Path()); !ok || got != e {
			t.Errorf("Lookup(%q) = %v, %v, want %v", e.Path(), got, ok, e)
		}
		if tree.Path(e.Index()) != e.Path() {
			t.Errorf("Path(%d) = %q, want %q", e.Index(), tree.Path(e.Index()), e.Path())
		}
		if e.Parent().Index() == e.Index() && e.Index() != 0 {
			t.Errorf("%q is its own parent", e.Path())
		}
	}
	if !slices.IsSortedFunc(paths, comparePaths) {
		t.Errorf("All is not in byte-lexical order: %q", paths)
	}
	n := 0
	for e := range tree.ManifestOrder() {
		n++
		if e.Name() == "" {
			t.Errorf("entry %d has no name", e.Index())
		}
	}
	if n != len(paths) {
		t.Errorf("ManifestOrder has %d entries, All has %d", n, len(paths))
	}
}

// manifest writes a tree's manifest; the same tree's at any time are the same.
func manifest(t testing.TB, tree *Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	h := NewHeader("/somewhere")
	h.Date = time.Unix(1_500_000_000, 0).UTC()
	_, err := tree.WriteManifest(&b, h)
	must(t, err)
	return b.Bytes()
}

func parse(t testing.TB, manifest []byte) *Tree {
	t.Helper()
	tree, err := Parse(bytes.NewReader(manifest))
	must(t, err)
	checkTree(t, tree)
	return tree
}

// summary is deltas in short: kind, path and keys of each.
func summary(deltas []Delta) []string {
	var s []string
	for _, d := range deltas {
		s = append(s, strings.TrimRight(fmt.Sprintf("%s %s %s", d.Kind, d.Path, strings.Join(d.Keys, ",")), " "))
	}
	return s
}

// world makes random trees and random edits of them. It is the same for the same
// seed, apart from what the file system does.
type world struct {
	t    testing.TB
	rand *rand.Rand
	root string

	canChown, canMknod bool
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 0)), root: t.TempDir()}
	// A user namespace may have root, but only one user and no devices.
	w.canChown = os.Lchown(w.root, 2, 2) == nil
	must(t, os.Lchown(w.root, os.Geteuid(), os.Getegid()))
	probe := w.path("probe")
	w.canMknod = unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
	must(t, os.RemoveAll(probe))
	return w
}

func (w *world) oneIn(n int) bool { return w.rand.IntN(n) == 0 }

func pick[T any](w *world, of ...T) T { return of[w.rand.IntN(len(of))] }

// name returns a name that no one would choose.
func (w *world) name() string {
	switch w.rand.IntN(6) {
	case 0:
		return pick(w, "with blank", "#hash", "gl*b?[x]", "back\\slash", "new\nline", "tab\t", "trail ", "\\", "\\\\",
			"a=b", "/set"[1:], "..a", "...", "type=dir", "é", "日本", "\xff\xfe", "\x01\x1b[31m", "\x7f", "\u00a0", "%41", "-", "~")
	case 1:
		b := make([]byte, 1+w.rand.IntN(8))
		for i := range b {
			for b[i] = byte(w.rand.Uint32()); b[i] == 0 || b[i] == '/'; {
				b[i]++
			}
		}
		if s := string(b); s != "." && s != ".." {
			return s
		}
		return "dots"
	default:
		return pick(w, "a", "b", "c", "d") + pick(w, "", "", ".", "-", ".x", "0", "a", "~") + pick(w, "", "", "1", "2")
	}
}

func (w *world) path(rel string) string { return filepath.Join(w.root, rel) }

// fill makes n entries in dir, some of which are directories with more.
func (w *world) fill(dir string, n, depth int) {
	for range n {
		w.make(filepath.Join(dir, w.name()), depth)
	}
}

// make makes one entry, unless there is one already.
func (w *world) make(path string, depth int) {
	if _, err := os.Lstat(path); err == nil {
		return
	}
	kind := w.rand.IntN(20)
	switch {
	case kind < 6 && depth > 0:
		must(w.t, os.Mkdir(path, 0o755))
		w.fill(path, w.rand.IntN(7), depth-1)
	case kind == 7:
		must(w.t, os.Symlink(w.name()+pick(w, "", "/", "/../x", " y"), path))
		w.touch(path)
		return
	case kind == 8:
		must(w.t, unix.Mkfifo(path, 0o600))
	case kind == 9 && w.canMknod:
		must(w.t, unix.Mknod(path, pick[uint32](w, unix.S_IFCHR, unix.S_IFBLK)|0o600, int(unix.Mkdev(1, w.rand.Uint32N(9)))))
	case kind == 10 && len(path) < 100:
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(w.t, err)
		must(w.t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Close(fd))
	case kind == 11:
		if old := w.any(func(fi fs.FileInfo) bool { return !fi.IsDir() }); old != "" {
			must(w.t, os.Link(old, path))
			return
		}
		fallthrough
	default:
		must(w.t, os.WriteFile(path, w.content(), 0o644))
	}
	w.chmod(path)
	w.chown(path)
	w.setxattr(path)
	w.touch(path)
}

func (w *world) content() []byte {
	return bytes.Repeat([]byte{byte('a' + w.rand.IntN(3))}, w.rand.IntN(3)*w.rand.IntN(2000))
}

func (w *world) chmod(path string) {
	if !w.oneIn(3) {
		return
	}
	perm := pick[uint32](w, 0o664, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0o700, 0o7777)
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		perm |= 0o700 // for tests that are not run by root
	}
	must(w.t, unix.Chmod(path, perm))
}

func (w *world) chown(path string) {
	if w.canChown && w.oneIn(4) {
		must(w.t, os.Lchown(path, w.rand.IntN(3), w.rand.IntN(3)))
	}
}

func (w *world) setxattr(path string) {
	fi, err := os.Lstat(path)
	must(w.t, err)
	if w.oneIn(5) && (fi.IsDir() || fi.Mode().IsRegular()) {
		err := unix.Lsetxattr(path, "user."+pick(w, "a", "b", "c d", "é=f"), w.content()[:0:0], 0)
		if w.oneIn(2) {
			err = unix.Lsetxattr(path, "user."+pick(w, "a", "b"), []byte{byte(w.rand.Uint32()), 0, 0xff}[:w.rand.IntN(4)], 0)
		}
		if !errors.Is(err, unix.ENOTSUP) {
			must(w.t, err)
		}
	}
}

func (w *world) touch(path string) {
	ts := []unix.Timespec{{}, {Sec: pick[int64](w, 0, -1, -5, 1e9, 1.7e9, time.Now().Unix()), Nsec: pick[int64](w, 0, 1, 999_999_999)}}
	must(w.t, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// any returns the path of some entry below the root that satisfies ok, or "".
func (w *world) any(ok func(fs.FileInfo) bool) string {
	var paths []string
	must(w.t, filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if fi, err := d.Info(); err == nil && path != w.root && ok(fi) {
			paths = append(paths, path)
		}
		return nil
	}))
	if len(paths) == 0 {
		return ""
	}
	return pick(w, paths...)
}

// edit changes something.
func (w *world) edit() {
	path := w.any(func(fs.FileInfo) bool { return true })
	if path == "" {
		w.fill(w.root, 3, 2)
		return
	}
	fi, err := os.Lstat(path)
	must(w.t, err)
	switch w.rand.IntN(10) {
	case 0:
		must(w.t, os.RemoveAll(path))
	case 1, 2: // perhaps another type
		must(w.t, os.RemoveAll(path))
		w.make(path, 2)
	case 3:
		w.make(filepath.Join(filepath.Dir(path), w.name()), 2)
	case 4:
		if fi.IsDir() {
			w.fill(path, 2, 1)
		} else if fi.Mode().IsRegular() {
			must(w.t, os.WriteFile(path, w.content(), 0o644))
			w.touch(path)
		}
	case 5:
		if fi.Mode()&fs.ModeSymlink == 0 {
			w.chmod(path)
		}
	case 6:
		w.chown(path)
	case 7:
		w.setxattr(path)
	case 8:
		w.touch(path)
	case 9:
		other := w.any(func(fi fs.FileInfo) bool { return !fi.IsDir() })
		if other != "" && other != path && !fi.IsDir() {
			must(w.t, os.Remove(path), os.Link(other, path))
		}
	}
}
