// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// rootlessUnlessRoot is how the tests write to a disk: as root if they may.
func rootlessUnlessRoot() MapOptions { return MapOptions{Rootless: os.Geteuid() != 0} }

// unpack writes layers to a new directory.
func unpack(t *testing.T, opt DiskOptions, layers ...[]byte) (string, *Tree, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs")
	must(t, os.Mkdir(path, 0o755))
	root, err := rooted.Open(path)
	must(t, err)
	defer root.Close()
	disk, err := NewDisk(root, opt)
	must(t, err)
	tree, err := apply(t, disk, ApplyOptions{}, layers...)
	if err != nil {
		disk.Abort()
		return path, tree, err
	}
	return path, tree, disk.Finish(context.Background(), tree)
}

func TestDiskContent(t *testing.T) {
	// Around every size at which the way of writing changes.
	sizes := []int{0, 1, 4095, 4096, 4097, 32 << 10, 32<<10 + 1, wholeFile, wholeFile + 1, 3*wholeFile + 12345}
	var entries []ocitest.Entry
	for i, size := range sizes {
		data := bytes.Repeat([]byte{byte(i + 1), 7, 0}, size/3+1)[:size]
		entries = append(entries, ocitest.File(fmt.Sprintf("f%d", size), string(data), 0o640))
	}
	holes := make([]byte, 8*wholeFile)
	copy(holes[3*wholeFile+5:], "middle")
	entries = append(entries, ocitest.File("holes", string(holes), 0o600))
	path, tree, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(entries...))
	must(t, err)
	digests := tree.Digests()
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(path, e.Header.Name))
		must(t, err)
		if !bytes.Equal(data, e.Body) {
			t.Errorf("%s: content differs", e.Header.Name)
		}
		sum, ok := digests.Lookup(e.Header.Name, int64(len(e.Body)))
		if !ok || sum != sha256.Sum256(e.Body) {
			t.Errorf("%s: digest %x, %v", e.Header.Name, sum, ok)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(path, "holes"), &st))
	if used := st.Blocks * 512; used > 2*holeSize {
		t.Errorf("a file that is nearly all holes takes %d bytes", used)
	}
}

func TestDiskReplacesWhileWriting(t *testing.T) {
	// Every file is replaced or linked at once, while it may still be on its way.
	var entries []ocitest.Entry
	for i := range 300 {
		name := fmt.Sprintf("d%d/f", i%7)
		entries = append(entries, ocitest.File(name, strings.Repeat("old", 5000+i), 0o644))
		switch i % 3 {
		case 0:
			entries = append(entries, ocitest.File(name, fmt.Sprint("new", i), 0o600))
		case 1:
			entries = append(entries, ocitest.Hardlink(fmt.Sprintf("link%d", i), name))
		case 2:
			entries = append(entries, ocitest.File(fmt.Sprintf("d%d", i%7), "now a file", 0o600))
		}
	}
	path, tree, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(entries...))
	must(t, err)
	checkOnDisk(t, path, tree)
}

// checkOnDisk compares a tree with the disk by names, types, sizes and links.
func checkOnDisk(t *testing.T, path string, tree *Tree) {
	t.Helper()
	found := 0
	must(t, filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found++
		rel, err := filepath.Rel(path, p)
		must(t, err)
		n := tree.Lookup(rel)
		if n == nil {
			t.Errorf("%s is on the disk alone", rel)
			return nil
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		ino := n.Inode()
		if ino.Type != Directory && int32(st.Nlink) != ino.Nlink {
			t.Errorf("%s has %d links on the disk, %d in the tree", rel, st.Nlink, ino.Nlink)
		}
		if ino.Type == Regular && st.Size != ino.Size {
			t.Errorf("%s has %d bytes on the disk, %d in the tree", rel, st.Size, ino.Size)
		}
		if ino.Type != Symlink && st.Mode&0o7777 != ino.Mode {
			t.Errorf("%s has mode %o on the disk, %o in the tree", rel, st.Mode&0o7777, ino.Mode)
		}
		if st.Mtim.Sec != ino.Mtime.Sec || int32(st.Mtim.Nsec) != ino.Mtime.Nsec {
			t.Errorf("%s has mtime %v on the disk, %v in the tree", rel, st.Mtim, ino.Mtime)
		}
		return nil
	}))
	if found != tree.Len() {
		t.Errorf("%d names on the disk, %d in the tree", found, tree.Len())
	}
}

func TestDiskDeepAndLocked(t *testing.T) {
	deep := strings.TrimSuffix(strings.Repeat("d/", 3000), "/")
	path, tree, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(
		ocitest.Dir("locked", 0), ocitest.File("locked/f", "x", 0), ocitest.Dir("locked/d", 0o500),
		ocitest.File("locked/d/g", "y", 0o400), tfile(deep+"/f"),
	))
	must(t, err)
	if tree.Lookup(deep+"/f") == nil {
		t.Error("the deep file is not in the tree")
	}
	root, err := rooted.Open(path)
	must(t, err)
	defer root.Close()
	if st, err := root.Lstat("locked"); err != nil || st.Perm() != 0 {
		t.Errorf("locked: mode %o, %v", st.Perm(), err)
	}
	dir, err := root.OpenPath(deep)
	must(t, err)
	defer dir.Close()
	if _, err := dir.Lstat("f"); err != nil {
		t.Error(err)
	}
	must(t, root.RemoveAll("d"))
	must(t, root.RemoveAll("locked"))
}

func TestDiskTruncatedBody(t *testing.T) {
	whole := ocitest.Layer(ocitest.File("a", strings.Repeat("a", 10*wholeFile), 0o644))
	for _, cut := range []int{600, 5000, 3 * wholeFile, 10 * wholeFile} {
		_, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, whole[:cut])
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// TestDiskLateErrors has a file fail whose layer is over, or may be.
func TestDiskLateErrors(t *testing.T) {
	opt := DiskOptions{Map: rootlessUnlessRoot()}
	bad := ocitest.Layer(tfile("bad").Xattr("security.capability", "no capability"))
	_, _, err := unpack(t, opt, ocitest.Layer(tfile("a")), bad, ocitest.Layer(tfile("b"), tfile("c")))
	var entry *EntryError
	if !errors.As(err, &entry) || entry.Entry != "bad" || entry.Layer != 1 {
		t.Errorf("got %#v", err)
	}
	_, _, err = unpack(t, opt, ocitest.Layer(tfile("a")), ocitest.Layer(tdir("bad").Xattr("security.capability", "no capability")))
	if !errors.As(err, &entry) || entry.Entry != "bad" || entry.Layer != 1 {
		t.Errorf("got %#v", err)
	}
}

func TestDiskUnmappedOwner(t *testing.T) {
	opt := DiskOptions{Map: MapOptions{Rootless: false}}
	opt.Map.UIDMappings = mapping(0, 100000, 10)
	opt.Map.GIDMappings = mapping(0, 100000, 10)
	for _, e := range []ocitest.Entry{tfile("f").Owner(10, 0), tdir("d").Owner(0, 11)} {
		_, _, err := unpack(t, opt, ocitest.Layer(e))
		if !errors.Is(err, ErrUnmapped) || !strings.Contains(err.Error(), "id 1") {
			t.Errorf("%s: %v", e.Header.Name, err)
		}
	}
}
