// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "layout") + "/"
	l, err := Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// What umoci v0.6.0 writes, byte by byte.
	for name, want := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}` + "\n",
		"index.json": `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}` + "\n",
	} {
		if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if st, err := os.Stat(filepath.Join(path, "blobs", "sha256")); err != nil || !st.IsDir() {
		t.Errorf("blobs/sha256: %v", err)
	}
	if left := tempDirs(t, filepath.Join(dir, "a", "b")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCreateExists(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	for name, plant := range map[string]func(string) error{
		"empty directory":  func(p string) error { return os.Mkdir(p, 0o755) },
		"file":             func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"dangling symlink": func(p string) error { return os.Symlink(target, p) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, filepath.Dir(path))
			_, err := Create(t.Context(), path)
			if !errors.Is(err, os.ErrExist) {
				t.Errorf("got %v", err)
			}
			if after := snapshot(t, filepath.Dir(path)); after != before {
				t.Errorf("changed:\n%s\n%s", before, after)
			}
		})
	}
	if _, err := Create(t.Context(), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("empty path: %v", err)
	}
}

// TestCreateAfterCrash leaves what a killed Create leaves: the next one of the same
// path must succeed and clear it away.
func TestCreateAfterCrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "layout")
	l, err := Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	temp := filepath.Join(dir, initName("layout"))
	if err := os.Rename(path, temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(temp, "index.json")); err != nil {
		t.Fatal(err)
	}
	if l, err = Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	checkWhole(t, path)
	if left := tempDirs(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenThroughSymlink(t *testing.T) {
	l := newLayout(t)
	point(t, l, "v1", putImage(t, l, "one"))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(l.path, link); err != nil {
		t.Fatal(err)
	}
	linked := openLayout(t, link, nil)
	point(t, linked, "v2", putImage(t, linked, "two"))
	if refs, err := l.Refs(t.Context()); err != nil || strings.Join(refs, " ") != "v1 v2" {
		t.Errorf("got %v, %v", refs, err)
	}
}

// TestOpenRefuses goes through the layouts that hostile.md lists under I.
func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, l *Layout, outside string)
		want error
	}{
		{"I2 no index", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Remove(l.file("index.json")))
		}, ErrInvalid},
		{"I9 index is a FIFO", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Remove(l.file("index.json")))
			must(t, unix.Mkfifo(l.file("index.json"), 0o644))
		}, ErrInvalid},
		{"I10 index is a symlink to the outside", func(t *testing.T, l *Layout, outside string) {
			must(t, os.Rename(l.file("index.json"), filepath.Join(outside, "index.json")))
			must(t, os.Symlink(filepath.Join(outside, "index.json"), l.file("index.json")))
		}, ErrInvalid},
		{"index is a directory", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Remove(l.file("index.json")))
			must(t, os.Mkdir(l.file("index.json"), 0o755))
		}, ErrInvalid},
		{"I14 blobs is a symlink", func(t *testing.T, l *Layout, outside string) {
			must(t, os.Rename(l.file("blobs"), filepath.Join(outside, "blobs")))
			must(t, os.Symlink(filepath.Join(outside, "blobs"), l.file("blobs")))
		}, ErrInvalid},
		{"I14 blobs/sha256 is a symlink", func(t *testing.T, l *Layout, outside string) {
			must(t, os.Rename(l.file("blobs", "sha256"), filepath.Join(outside, "sha256")))
			must(t, os.Symlink(filepath.Join(outside, "sha256"), l.file("blobs", "sha256")))
		}, ErrInvalid},
		{"blobs/sha512 is a file", func(t *testing.T, l *Layout, _ string) {
			must(t, os.WriteFile(l.file("blobs", "sha512"), nil, 0o644))
		}, ErrInvalid},
		{"no blobs", func(t *testing.T, l *Layout, _ string) {
			must(t, os.RemoveAll(l.file("blobs")))
		}, ErrInvalid},
		{"I15 layout version 2", func(t *testing.T, l *Layout, _ string) {
			must(t, os.WriteFile(l.file("oci-layout"), []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o644))
		}, ErrInvalid},
		{"layout version with ESC", func(t *testing.T, l *Layout, _ string) {
			must(t, os.WriteFile(l.file("oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0\u001b[2J\n"}`), 0o644))
		}, ErrInvalid},
		{"layout version in another case", func(t *testing.T, l *Layout, _ string) {
			must(t, os.WriteFile(l.file("oci-layout"), []byte(`{"imagelayoutversion":"1.0.0"}`), 0o644))
		}, ErrInvalid},
		{"no oci-layout", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Remove(l.file("oci-layout")))
		}, ErrInvalid},
		{"oci-layout is a FIFO", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Remove(l.file("oci-layout")))
			must(t, unix.Mkfifo(l.file("oci-layout"), 0o644))
		}, ErrInvalid},
		{"oci-layout is huge", func(t *testing.T, l *Layout, _ string) {
			must(t, os.Truncate(l.file("oci-layout"), 1<<40))
		}, ErrInvalid},
		{"not there", func(t *testing.T, l *Layout, _ string) {
			must(t, os.RemoveAll(l.path))
		}, fs.ErrNotExist},
		{"a file", func(t *testing.T, l *Layout, _ string) {
			must(t, os.RemoveAll(l.path))
			must(t, os.WriteFile(l.path, nil, 0o644))
		}, unix.ENOTDIR},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			must(t, l.Close())
			outside := t.TempDir()
			tc.make(t, l, outside)
			before := snapshot(t, outside)
			_, err := Open(t.Context(), l.path, nil)
			wantOneLine(t, err)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if after := snapshot(t, outside); after != before {
				t.Errorf("changed outside:\n%s\n%s", before, after)
			}
		})
	}
	if _, err := Open(t.Context(), "", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("empty path: %v", err)
	}
}

// TestSwappedForSymlink replaces parts of a layout that is open by links to the
// outside: nothing may be written there.
func TestSwappedForSymlink(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "one")
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "index.json"), []byte(readIndexFile(t, l)), 0o644))
	must(t, os.Remove(l.file("index.json")))
	must(t, os.Symlink(filepath.Join(outside, "index.json"), l.file("index.json")))
	before := snapshot(t, outside)
	err := l.SetRef(t.Context(), "v1", d)
	wantOneLine(t, err)
	if after := snapshot(t, outside); after != before {
		t.Errorf("changed outside:\n%s\n%s", before, after)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadOnly checks that everything that only reads works without writing, and
// that writing fails without leaving anything.
func TestReadOnly(t *testing.T) {
	l := newLayout(t)
	root := putImage(t, l, "one")
	point(t, l, "v1", root)
	must(t, l.Close())
	mountReadOnly(t, l.path)
	before := snapshot(t, l.path)

	ro := openLayout(t, l.path, nil)
	path, err := ro.Resolve(t.Context(), "v1", nil)
	must(t, err)
	if _, err := ro.Manifest(t.Context(), path.Target()); err != nil {
		t.Error(err)
	}
	checkWhole(t, l.path)
	if _, err := ro.GC(t.Context(), &GCOptions{DryRun: true}); err != nil {
		t.Error(err)
	}
	if removed, err := ro.DeleteRef(t.Context(), "none"); removed || err != nil {
		t.Errorf("dropping a ref that is not there: %v, %v", removed, err)
	}
	if err := ro.Tag(t.Context(), "v1", "v2"); !errors.Is(err, unix.EROFS) && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("tag: %v", err)
	}
	if _, _, err := ro.PutBlob(t.Context(), strings.NewReader("x")); err == nil {
		t.Error("put: no error")
	}
	if after := snapshot(t, l.path); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
}

// mountReadOnly makes path read-only for the rest of the test: by a mount for
// root, whom modes do not stop, and by modes for others.
func mountReadOnly(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		must(t, os.Chmod(path, 0o555))
		must(t, os.Chmod(filepath.Join(path, "blobs", "sha256"), 0o555))
		t.Cleanup(func() {
			_ = os.Chmod(path, 0o755)
			_ = os.Chmod(filepath.Join(path, "blobs", "sha256"), 0o755)
		})
		return
	}
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	must(t, unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}
