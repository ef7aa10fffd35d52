// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// changesOf lists everything below path as changed.
func changesOf(t *testing.T, path string) []Change {
	t.Helper()
	var changes []Change
	must(t, filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir, err := rooted.Open(filepath.Dir(p))
		must(t, err)
		defer dir.Close()
		st, err := dir.Lstat(filepath.Base(p))
		must(t, err)
		rel, err := filepath.Rel(path, p)
		must(t, err)
		changes = append(changes, Change{Path: rel, Stat: st})
		return nil
	}))
	slices.Reverse(changes) // Generate has an order of its own
	return changes
}

func generate(t *testing.T, path string, changes []Change, opt GenerateOptions) ([]byte, error) {
	t.Helper()
	root, err := rooted.Open(path)
	must(t, err)
	defer root.Close()
	var buf bytes.Buffer
	err = Generate(context.Background(), &buf, root, changes, opt)
	return buf.Bytes(), err
}

func headers(t *testing.T, layer []byte) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	for tr := tar.NewReader(bytes.NewReader(layer)); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, hdr)
	}
}

// rich is a layer with something of everything that this user may have.
func rich() []byte {
	entries := []ocitest.Entry{
		tdir("d"), ocitest.File("d/f", "content", 0o4750), ocitest.Hardlink("d/g", "d/f"),
		ocitest.Symlink("l", "/etc/passwd"), ocitest.Hardlink("l2", "l"),
		ocitest.Fifo("p", 0o622), ocitest.Dir("sticky", 0o1777), ocitest.File("non-\xff-utf8", "x", 0o600),
		ocitest.File("new\nline", "x", 0o600), ocitest.File("minus", "x", 0o644).Mtime(time.Unix(-5, 0)),
		ocitest.File(strings.Repeat("n", 255), "", 0o644), ocitest.File("x", "x", 0o644).Xattr("user.k", "v\x00w"),
		ocitest.Dir("d/sub", 0o700).Xattr("user.dir", "1"), ocitest.File("d.conf", "between d and d/", 0o644),
		ocitest.File("big", strings.Repeat("0123456789abcdef", 100_000), 0o644),
	}
	if os.Geteuid() == 0 {
		entries = append(entries, ocitest.Char("null", 0o666, 1, 3), ocitest.Block("sda", 0o660, 8, 0).Owner(0, 6),
			tfile("owned").Owner(1000, 2000), ocitest.Symlink("lowned", "x").Owner(7, 8),
			tfile("cap").Owner(3, 3).Xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	}
	return ocitest.Layer(entries...)
}

func TestGenerateRoundTrip(t *testing.T) {
	path, tree, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, rich())
	must(t, err)
	layer, err := generate(t, path, changesOf(t, path), GenerateOptions{Map: rootlessUnlessRoot()})
	must(t, err)
	path2, tree2, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, layer)
	must(t, err)
	sameTrees(t, tree, tree2)
	checkOnDisk(t, path2, tree2)
	hdrs := headers(t, layer)
	if !slices.IsSortedFunc(hdrs, func(a, b *tar.Header) int {
		return strings.Compare(strings.TrimSuffix(a.Name, "/"), strings.TrimSuffix(b.Name, "/"))
	}) {
		t.Error("entries are not sorted")
	}
	for _, hdr := range hdrs {
		if hdr.Uname != "" || hdr.Gname != "" || hdr.ModTime.Nanosecond() != 0 {
			t.Errorf("%s: names %q, %q, mtime %v", hdr.Name, hdr.Uname, hdr.Gname, hdr.ModTime)
		}
	}
	again, err := generate(t, path2, changesOf(t, path2), GenerateOptions{Map: rootlessUnlessRoot()})
	must(t, err)
	if !bytes.Equal(layer, again) {
		t.Error("the same tree in another place gives another layer")
	}
}

// sameTrees compares two trees in all but layers and digests.
func sameTrees(t *testing.T, a, b *Tree) {
	t.Helper()
	if da, db := describe(a), describe(b); da != db {
		t.Errorf("names differ:\n%s\n%s", da, db)
		return
	}
	_ = a.Walk(func(n *Node) error {
		x, y := *n.Inode(), *b.Lookup(n.Path()).Inode()
		for _, ino := range []*Inode{&x, &y} {
			ino.Layer, ino.Entry, ino.HasDigest, ino.Digest = 0, 0, false, [32]byte{}
		}
		if fx, fy := fmt.Sprintf("%+v", x), fmt.Sprintf("%+v", y); fx != fy {
			t.Errorf("%s:\n%s\n%s", n.Path(), fx, fy)
		}
		return nil
	})
}

func TestGenerateRootless(t *testing.T) {
	layer := ocitest.Layer(
		tfile("owned").Owner(1000, 0), tfile("root"), ocitest.File("zero", "secret", 0).Owner(1, 2),
		ocitest.Dir("locked", 0).Owner(5, 5), ocitest.File("locked/f", "x", 0o400), ocitest.File("locked/z", "zz", 0),
		ocitest.Char("null", 0o666, 1, 3), ocitest.Block("sda", 0o640, 8, 17).Owner(0, 6),
	)
	opt := MapOptions{Rootless: true}
	path, tree, err := unpack(t, DiskOptions{Map: opt}, layer)
	must(t, err)
	root, err := rooted.Open(path)
	must(t, err)
	defer root.Close()
	var changes []Change
	_ = tree.Walk(func(n *Node) error {
		restore, err := root.Unlock(n.Path())
		must(t, err)
		must(t, restore())
		return nil
	})
	_ = tree.Walk(func(n *Node) error {
		st, err := lstatUnlocked(root, n.Path())
		must(t, err)
		changes = append(changes, Change{Path: n.Path(), Stat: st})
		return nil
	})
	got, err := generate(t, path, changes, GenerateOptions{Map: opt})
	must(t, err)
	tree2, err := apply(t, Discard, ApplyOptions{}, got)
	must(t, err)
	sameTrees(t, tree, tree2)
	must(t, root.RemoveAll("locked"))
}

// lstatUnlocked is Lstat for a path below directories that are locked.
func lstatUnlocked(root *rooted.Dir, path string) (rooted.Stat, error) {
	dir, base := splitBase(path)
	if dir == "" {
		return root.Lstat(base)
	}
	restore, err := root.Unlock(dir)
	if err != nil {
		return rooted.Stat{}, err
	}
	defer func() { _ = restore() }()
	parent, err := root.OpenPath(dir)
	if err != nil {
		return rooted.Stat{}, err
	}
	defer parent.Close()
	return parent.Lstat(base)
}

func TestGenerateWhiteoutsAndClamp(t *testing.T) {
	path, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tdir("d"), tfile("d/new").Mtime(time.Unix(2000, 0)), tfile("d/old").Mtime(time.Unix(500, 0))))
	must(t, err)
	clamp := int64(1000)
	changes := append(changesOf(t, path), Change{Path: "gone", Deleted: true}, Change{Path: "d/gone", Deleted: true})
	layer, err := generate(t, path, changes, GenerateOptions{Map: rootlessUnlessRoot(), Clamp: &clamp})
	must(t, err)
	var got []string
	for _, hdr := range headers(t, layer) {
		got = append(got, hdr.Name)
		if hdr.ModTime.Unix() > clamp {
			t.Errorf("%s: mtime %v", hdr.Name, hdr.ModTime)
		}
		if hdr.Name == "d/old" && hdr.ModTime.Unix() != 500 {
			t.Errorf("an older mtime became %v", hdr.ModTime)
		}
	}
	if want := []string{"./", "d/", "d/.wh.gone", "d/new", "d/old", ".wh.gone"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGenerateUnderOtherNames(t *testing.T) {
	path, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tdir("d"), tfile("d/f"), ocitest.Hardlink("d/g", "d/f")))
	must(t, err)
	changes := changesOf(t, path)
	for i := range changes {
		changes[i].Name = "/opt/" + changes[i].Path
	}
	changes = append(changes, Change{Name: "/opt", Opaque: true}, Change{Name: "gone", Deleted: true})
	layer, err := generate(t, path, changes, GenerateOptions{Map: rootlessUnlessRoot()})
	must(t, err)
	var got []string
	for _, hdr := range headers(t, layer) {
		got = append(got, hdr.Name+hdr.Linkname)
	}
	if want := []string{".wh.gone", "opt/", "opt/.wh..wh..opq", "opt/d/", "opt/d/f", "opt/d/gopt/d/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGenerateRefuses(t *testing.T) {
	path, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tdir("d"), tfile("d/f"), tfile("g")))
	must(t, err)
	changes := changesOf(t, path)
	for name, tc := range map[string]struct {
		change func()
		is     error
	}{
		"K1 a whiteout's name": {func() { must(t, os.WriteFile(filepath.Join(path, ".wh.x"), nil, 0o600)) }, ErrWhiteoutName},
		"K10 vanished":         {func() { must(t, os.Remove(filepath.Join(path, "d/f"))) }, nil},
		"K11 grown":            {func() { must(t, os.WriteFile(filepath.Join(path, "g"), []byte("longer"), 0o644)) }, ErrChanged},
		"K12 replaced by link": {func() {
			must(t, os.RemoveAll(filepath.Join(path, "d")))
			must(t, os.Symlink("/", filepath.Join(path, "d")))
		}, nil},
	} {
		tc.change()
		list := changes
		if strings.HasPrefix(name, "K1 ") {
			list = changesOf(t, path)
		}
		_, err := generate(t, path, list, GenerateOptions{Map: rootlessUnlessRoot()})
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v, want %v", name, err, tc.is)
		}
		must(t, os.RemoveAll(path))
		path, _, err = unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tdir("d"), tfile("d/f"), tfile("g")))
		must(t, err)
		changes = changesOf(t, path)
	}
}

func TestGenerateSkipsSockets(t *testing.T) {
	path, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tfile("f")))
	must(t, err)
	// The path of a socket is short: bind it from inside.
	must(t, os.Chdir(path))
	defer os.Chdir("/")
	l, err := net.Listen("unix", "s")
	must(t, err)
	defer l.Close()
	var warnings []string
	layer, err := generate(t, path, changesOf(t, path), GenerateOptions{
		Map: rootlessUnlessRoot(), Warn: func(msg string) { warnings = append(warnings, msg) },
	})
	must(t, err)
	if len(headers(t, layer)) != 2 || len(warnings) != 1 || !strings.Contains(warnings[0], "socket s") {
		t.Errorf("%d entries, warnings %q", len(headers(t, layer)), warnings)
	}
}

func TestGenerateEmptyXattr(t *testing.T) {
	path, _, err := unpack(t, DiskOptions{Map: rootlessUnlessRoot()}, ocitest.Layer(tfile("f")))
	must(t, err)
	err = unix.Setxattr(filepath.Join(path, "f"), "user.empty", nil, 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("the file system of the temporary directory keeps no user xattrs")
	}
	must(t, err)
	var warnings []string
	layer, err := generate(t, path, changesOf(t, path), GenerateOptions{
		Map: rootlessUnlessRoot(), Warn: func(msg string) { warnings = append(warnings, msg) },
	})
	must(t, err)
	if len(headers(t, layer)[1].PAXRecords) != 0 || len(warnings) != 1 {
		t.Errorf("records %v, warnings %q", headers(t, layer)[1].PAXRecords, warnings)
	}
}

// TestGenerateOwnerAndXattrs gives all entries one owner, and leaves out xattrs.
func TestGenerateOwnerAndXattrs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"user.keep", "user.drop"} {
		if err := unix.Setxattr(filepath.Join(dir, "file"), name, []byte("1"), 0); err != nil {
			t.Skipf("no xattrs here: %v", err)
		}
	}
	for _, m := range []MapOptions{{}, {Rootless: true}} {
		data, err := generate(t, dir, changesOf(t, dir), GenerateOptions{
			Map:       m,
			Owner:     &Owner{UID: 7, GID: 8},
			SkipXattr: func(name string) bool { return name == "user.drop" },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, hdr := range headers(t, data) {
			if hdr.Uid != 7 || hdr.Gid != 8 {
				t.Errorf("%s is owned by %d:%d", hdr.Name, hdr.Uid, hdr.Gid)
			}
			if hdr.Name == "file" && (hdr.PAXRecords[paxXattr+"user.keep"] != "1" || hdr.PAXRecords[paxXattr+"user.drop"] != "") {
				t.Errorf("the xattrs are %v", hdr.PAXRecords)
			}
		}
	}
}
