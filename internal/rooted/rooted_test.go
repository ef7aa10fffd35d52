// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openTemp(t *testing.T) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func TestNamesAreSingleComponents(t *testing.T) {
	d, _ := openTemp(t)
	for _, name := range []string{"", ".", "..", "a/b", "/etc", "../x", "a\x00b"} {
		for op, err := range map[string]error{
			"Mkdir":   d.Mkdir(name, 0o755),
			"Symlink": d.Symlink("x", name),
			"Remove":  d.Remove(name),
			"All":     d.RemoveAll(name),
			"Link":    d.Link(d, "x", name),
			"Rename":  d.Rename("x", d, name),
		} {
			if !errors.Is(err, ErrName) {
				t.Errorf("%s(%q) = %v, want ErrName", op, name, err)
			}
		}
		if _, err := d.Create(name, 0o600); !errors.Is(err, ErrName) {
			t.Errorf("Create(%q) = %v, want ErrName", name, err)
		}
		if _, err := d.Open(name); !errors.Is(err, ErrName) {
			t.Errorf("Open(%q) = %v, want ErrName", name, err)
		}
	}
}

func TestLinksAreNeverFollowed(t *testing.T) {
	d, path := openTemp(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "file": filepath.Join(outside, "f")} {
		if err := d.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(path, "sub", "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenDir("dir"); err == nil {
		t.Error("OpenDir followed a symlink")
	}
	if _, err := d.OpenPath("sub/out"); err == nil {
		t.Error("OpenPath followed a symlink")
	}
	if _, err := d.openSteps("sub/out"); err == nil {
		t.Error("openSteps followed a symlink")
	}
	if _, err := d.OpenPath("sub/../../.."); err == nil {
		t.Error("OpenPath left the root")
	}
	if _, err := d.openSteps("sub/../../.."); err == nil {
		t.Error("openSteps left the root")
	}
	if _, err := d.Open("file"); err == nil {
		t.Error("Open followed a symlink")
	}
	if err := d.Chmod("file", 0o777); err == nil {
		t.Error("Chmod followed a symlink")
	}
	if err := d.chmodByProc("file", 0o777); err == nil {
		t.Error("chmodByProc followed a symlink")
	}
	if err := d.RemoveAll("dir"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Errorf("RemoveAll went through a symlink: %v", err)
	}
}

func TestOpenRefusesSpecialFiles(t *testing.T) {
	d, _ := openTemp(t)
	if err := d.Mknod("fifo", unix.S_IFIFO|0o600, 0); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open("fifo")
	if err == nil || !strings.Contains(err.Error(), "a FIFO, not a regular file") {
		t.Errorf("Open of a FIFO = %v", err)
	}
}

func TestNamesOfLargeDirectory(t *testing.T) {
	d, _ := openTemp(t)
	var want []string
	for i := range 5000 {
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("x", i%200))
		fd, err := d.CreateFd(name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		want = append(want, name)
	}
	for range 2 {
		entries, err := d.Names()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("got %d names, want %d", len(got), len(want))
		}
	}
}

func TestRemoveAllDeepAndLocked(t *testing.T) {
	d, _ := openTemp(t)
	if err := d.Mkdir("deep", 0o755); err != nil {
		t.Fatal(err)
	}
	cur, err := d.OpenDir("deep")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := cur.Mkdir("d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := cur.OpenDir("d")
		if err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			if err := cur.Chmod(".", 0); err != nil {
				t.Fatal(err)
			}
		}
		cur.Close()
		cur = next
	}
	cur.Close()
	if err := d.RemoveAll("deep"); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Names(); err != nil || len(names) != 0 {
		t.Errorf("left over: %v, %v", names, err)
	}
}

func TestTimesAndXattrs(t *testing.T) {
	d, _ := openTemp(t)
	fd, err := d.CreateFd("f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, want := range []Timespec{{-1, 0}, {-5, 999_999_999}, {1_700_000_000, 123_456_789}} {
		if err := Futimes(fd, want); err != nil {
			t.Fatal(err)
		}
		if st, err := d.Lstat("f"); err != nil || st.Mtime != want {
			t.Errorf("mtime = %v, %v, want %v", st.Mtime, err, want)
		}
		if err := d.Utimes(".", want); err != nil {
			t.Fatal(err)
		}
	}
	long := []byte(strings.Repeat("v", 3000))
	if err := d.Setxattr("f", "user.long", long); errors.Is(err, unix.ENOTSUP) {
		t.Skip("the file system of the temporary directory keeps no user xattrs")
	} else if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Getxattr("f", "user.long"); err != nil || string(got) != string(long) {
		t.Errorf("Getxattr: %d bytes, %v", len(got), err)
	}
	if names, err := d.Listxattr("f"); err != nil || !slices.Contains(names, "user.long") {
		t.Errorf("Listxattr = %v, %v", names, err)
	}
}
