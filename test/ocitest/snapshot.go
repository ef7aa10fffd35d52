// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Facts are all that is compared about one name in a tree.
type Facts struct {
	Type     string // "dir", "file", "link", "fifo", "char", "block" or "socket"
	Mode     uint32 // permissions with setuid, setgid and sticky
	UID, GID uint32
	Size     int64  // of regular files, in bytes
	SHA256   string // of regular files, in hex; "unreadable" if access is denied
	Link     string // what a symlink holds
	Rdev     string // "major:minor" of devices
	Mtime    int64  // in nanoseconds since 1970
	Xattrs   map[string]string
	Nlink    uint64

	// Group is, for what has several names, the one of them in the tree that
	// sorts first, and otherwise empty.
	Group string
}

// Tree is a snapshot: slash-separated names relative to the root, which itself
// is ".", and what is known of each.
type Tree map[string]Facts

// Snapshot walks the tree at root without following a symlink, and without
// opening anything but directories and regular files.
func Snapshot(t testing.TB, root string) Tree {
	t.Helper()
	tree, err := ReadTree(root)
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return tree
}

// ReadTree is Snapshot for those who want the error. A directory that may not
// be listed is in the tree, but nothing below it.
func ReadTree(root string) (Tree, error) {
	tree := Tree{}
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{} // WalkDir is in lexical order
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		facts, err := readFacts(path, &st)
		if err != nil {
			return err
		}
		if facts.Type != "dir" && facts.Nlink > 1 {
			id := inode{uint64(st.Dev), st.Ino}
			if first[id] == "" {
				first[id] = name
			}
			facts.Group = first[id]
		}
		tree[name] = facts
		return nil
	})
	return tree, err
}

func readFacts(path string, st *unix.Stat_t) (Facts, error) {
	f := Facts{
		Mode:  st.Mode & 0o7777,
		UID:   st.Uid,
		GID:   st.Gid,
		Mtime: st.Mtim.Nano(),
		Nlink: uint64(st.Nlink),
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		f.Type = "dir"
	case unix.S_IFREG:
		f.Type, f.Size = "file", st.Size
		f.SHA256, err = hashFile(path)
	case unix.S_IFLNK:
		f.Type = "link"
		f.Link, err = os.Readlink(path)
	case unix.S_IFIFO:
		f.Type = "fifo"
	case unix.S_IFSOCK:
		f.Type = "socket"
	case unix.S_IFCHR:
		f.Type, f.Rdev = "char", device(st)
	case unix.S_IFBLK:
		f.Type, f.Rdev = "block", device(st)
	}
	if err != nil {
		return f, err
	}
	f.Xattrs, err = readXattrs(path)
	return f, err
}

func device(st *unix.Stat_t) string {
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
}

func hashFile(path string) (_ string, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrPermission) {
		return "unreadable", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func readXattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	xattrs := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" {
			continue // the host's policy, not the tree's
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.EACCES) {
			xattrs[name] = "unreadable"
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		xattrs[name] = string(value[:n])
	}
	return xattrs, nil
}

// Diff says in one line for each difference how b departs from a, sorted by
// name; no lines mean that the trees are the same. Facts named in ignore
// ("nlink", "mtime", "owner", "mode", "xattrs", "group", ...) are not compared.
func Diff(a, b Tree, ignore ...string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		other, ok := b[name]
		if !ok {
			lines = append(lines, fmt.Sprintf("- %q (%s)", name, a[name].Type))
			continue
		}
		var parts []string
		was, is := a[name].fields(), other.fields()
		for i := range was {
			if was[i].value != is[i].value && !slices.Contains(ignore, was[i].name) {
				parts = append(parts, fmt.Sprintf("%s %s -> %s", was[i].name, was[i].value, is[i].value))
			}
		}
		if len(parts) > 0 {
			lines = append(lines, fmt.Sprintf("~ %q: %s", name, strings.Join(parts, ", ")))
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			lines = append(lines, fmt.Sprintf("+ %q (%s)", name, b[name].Type))
		}
	}
	slices.SortStableFunc(lines, func(x, y string) int { return cmp.Compare(x[2:], y[2:]) })
	return lines
}

// Lines returns all that is known of the tree, one line per name, sorted; the
// lines of two trees can be compared by diff.
func (tree Tree) Lines() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		line := fmt.Sprintf("%q", name)
		for _, f := range tree[name].fields() {
			line += " " + f.name + "=" + f.value
		}
		lines = append(lines, line)
	}
	return lines
}

type field struct{ name, value string }

func (f Facts) fields() []field {
	var xattrs []string
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		xattrs = append(xattrs, fmt.Sprintf("%s=%q", name, f.Xattrs[name]))
	}
	return []field{
		{"type", f.Type},
		{"mode", fmt.Sprintf("%04o", f.Mode)},
		{"owner", fmt.Sprintf("%d:%d", f.UID, f.GID)},
		{"size", fmt.Sprint(f.Size)},
		{"sha256", fmt.Sprintf("%.12s", f.SHA256)},
		{"link", fmt.Sprintf("%q", f.Link)},
		{"rdev", f.Rdev},
		{"mtime", fmt.Sprint(f.Mtime)},
		{"xattrs", "[" + strings.Join(xattrs, " ") + "]"},
		{"nlink", fmt.Sprint(f.Nlink)},
		{"group", fmt.Sprintf("%q", f.Group)},
	}
}

// AssertSame fails the test with the differences, if there are any.
func AssertSame(t testing.TB, want, got Tree, ignore ...string) {
	t.Helper()
	if lines := Diff(want, got, ignore...); len(lines) > 0 {
		t.Errorf("trees differ in %d names:\n%s", len(lines), strings.Join(lines[:min(len(lines), 40)], "\n"))
	}
}
