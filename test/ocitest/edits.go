// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Edits is what RandomEdits did.
type Edits struct {
	// Log has a line for every edit, in their order.
	Log []string

	// Reduced says which kinds of edits were left out and why; empty if none.
	Reduced string
}

// String returns the log, for the message of a test that failed.
func (e Edits) String() string { return strings.Join(e.Log, "\n") }

// RandomEdits changes the tree at root n times: it creates, deletes and
// rewrites, replaces files by directories and by symlinks and back, changes
// modes, owners, times and xattrs, and makes and breaks hardlinks. What the
// process may not do it leaves out. Times that it sets are whole seconds, but
// those of the directories it works in are not: see Tree.Seconds. The same rng
// state gives the same edits on the same tree.
func RandomEdits(t testing.TB, rng *rand.Rand, root string, n int) Edits {
	t.Helper()
	e := &editor{rng: rng, root: root}
	if err := e.probe(); err != nil {
		t.Fatalf("probe what edits are possible: %v", err)
	}
	for range n {
		if err := e.edit(); err != nil {
			t.Fatalf("edit %d: %v\nso far:\n%v", len(e.done.Log)+1, err, e.done)
		}
	}
	return e.done
}

// Seconds returns a copy of the tree with all times cut to whole seconds, as
// repack cuts them.
func (tree Tree) Seconds() Tree {
	cut := Tree{}
	for name, f := range tree {
		f.Mtime = time.Unix(0, f.Mtime).Unix() * int64(time.Second)
		cut[name] = f
	}
	return cut
}

type editor struct {
	rng  *rand.Rand
	root string
	done Edits

	anyOwner, devices, userXattrs, anyMode bool
}

// probe finds out what this process may do on the filesystem of the root.
func (e *editor) probe() (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(e.root), "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	var missing []string
	try := func(what string, err error) bool {
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (%v)", what, err))
		}
		return err == nil
	}
	e.anyOwner = try("other owners", os.Chown(dir, 1000, 1000))
	e.devices = try("devices", unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	e.userXattrs = try("xattrs", unix.Setxattr(dir, "user.probe", []byte("1"), 0))
	file := filepath.Join(dir, "closed")
	if err := os.WriteFile(file, nil, 0); err != nil {
		return err
	}
	_, err = os.ReadFile(file)
	e.anyMode = try("modes that shut out the owner", err)
	e.done.Reduced = strings.Join(missing, ", ")
	return nil
}

// place is a name in the tree.
type place struct {
	path string
	mode fs.FileMode
}

// find returns a random name that keep accepts; the root itself is one only
// if it is a directory that is asked for.
func (e *editor) find(keep func(place) bool) (place, bool, error) {
	var all []place
	err := filepath.WalkDir(e.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if p := (place{path, info.Mode()}); keep(p) {
			all = append(all, p)
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		return place{}, false, err
	}
	return all[e.rng.IntN(len(all))], true, nil
}

func (p place) isDir() bool     { return p.mode.IsDir() }
func (p place) isFile() bool    { return p.mode.IsRegular() }
func (p place) isSymlink() bool { return p.mode&fs.ModeSymlink != 0 }

// edit does one thing, of which there is something to do it to.
func (e *editor) edit() error {
	notRoot := func(p place) bool { return p.path != e.root }
	edits := []struct {
		name string
		fit  func(place) bool
		do   func(place) error
	}{
		{"create", place.isDir, e.create},
		{"create", place.isDir, e.create},
		{"create", place.isDir, e.create},
		{"delete", notRoot, e.remove},
		{"replace", notRoot, e.replace},
		{"replace", notRoot, e.replace},
		{"rewrite", place.isFile, e.rewrite},
		{"rewrite", place.isFile, e.rewrite},
		{"rewrite in place, time kept", place.isFile, e.rewriteQuietly},
		{"chmod", func(p place) bool { return !p.isSymlink() }, e.chmod},
		{"chown", func(place) bool { return e.anyOwner }, e.chown},
		{"mtime", func(place) bool { return true }, e.touch},
		{"xattr", func(p place) bool { return e.userXattrs && (p.isDir() || p.isFile()) }, e.xattr},
		{"hardlink", func(p place) bool { return !p.isDir() }, e.hardlink},
		{"break hardlink", func(p place) bool { return p.isFile() && links(p.path) > 1 }, e.breakLink},
	}
	for {
		choice := edits[e.rng.IntN(len(edits))]
		p, found, err := e.find(choice.fit)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		rel, err := filepath.Rel(e.root, p.path)
		if err != nil {
			return err
		}
		e.done.Log = append(e.done.Log, fmt.Sprintf("%s %q (%v)", choice.name, rel, p.mode))
		return choice.do(p)
	}
}

func links(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return uint64(st.Nlink)
}

// fresh returns a name in dir that is not there yet.
func (e *editor) fresh(dir string) string {
	for {
		name := filepath.Join(dir, fmt.Sprintf("%s%d", components[e.rng.IntN(len(components))], e.rng.IntN(1000)))
		if _, err := os.Lstat(name); err != nil {
			return name
		}
	}
}

func (e *editor) create(dir place) error {
	return e.make(e.fresh(dir.path))
}

// make makes something of a random type under a name that is free.
func (e *editor) make(path string) error {
	kinds := []func(string) error{e.makeFile, e.makeFile, e.makeDir, e.makeLink, e.makeFifo}
	if e.devices {
		kinds = append(kinds, e.makeDevice)
	}
	return kinds[e.rng.IntN(len(kinds))](path)
}

func (e *editor) content() []byte {
	return []byte(strings.Repeat(fmt.Sprintln(e.rng.Uint64()), e.rng.IntN(300)))
}

func (e *editor) makeFile(path string) error {
	return os.WriteFile(path, e.content(), 0o644)
}

// makeDir makes a directory with some content.
func (e *editor) makeDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	for range e.rng.IntN(3) {
		if err := e.makeFile(e.fresh(path)); err != nil {
			return err
		}
	}
	return nil
}

func (e *editor) makeLink(path string) error {
	targets := []string{".", "..", "/", "/etc", "nowhere", "/no/where", filepath.Base(path)}
	return os.Symlink(targets[e.rng.IntN(len(targets))], path)
}

func (e *editor) makeFifo(path string) error {
	return unix.Mkfifo(path, 0o640)
}

func (e *editor) makeDevice(path string) error {
	return unix.Mknod(path, unix.S_IFCHR|0o620, int(unix.Mkdev(1, uint32(1+e.rng.IntN(8)))))
}

func (e *editor) remove(p place) error {
	return os.RemoveAll(p.path)
}

// replace puts something else, perhaps of another type, under the same name.
func (e *editor) replace(p place) error {
	if err := os.RemoveAll(p.path); err != nil {
		return err
	}
	return e.make(p.path)
}

func (e *editor) rewrite(p place) error {
	return e.keepingMode(p, func() error { return os.WriteFile(p.path, e.content(), 0o644) })
}

// rewriteQuietly changes the content but neither size nor time of the file.
func (e *editor) rewriteQuietly(p place) error {
	return e.keepingMode(p, func() error {
		info, err := os.Lstat(p.path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p.path)
		if err != nil {
			return err
		}
		for i := range b {
			b[i] ^= 1
		}
		if err := os.WriteFile(p.path, b, 0o644); err != nil {
			return err
		}
		return os.Chtimes(p.path, time.Time{}, info.ModTime())
	})
}

// keepingMode makes sure that a file can be written meanwhile.
func (e *editor) keepingMode(p place, do func() error) error {
	if e.anyMode {
		return do()
	}
	if err := os.Chmod(p.path, 0o600); err != nil {
		return err
	}
	return errors.Join(do(), os.Chmod(p.path, p.mode))
}

func (e *editor) chmod(p place) error {
	modes := []uint32{0o755, 0o700, 0o640, 0o4755, 0o2750, 0o1777}
	if e.anyMode {
		modes = append(modes, 0, 0o111)
	}
	mode := modes[e.rng.IntN(len(modes))]
	if p.isDir() && !e.anyMode {
		mode |= 0o700
	}
	return unix.Chmod(p.path, mode)
}

func (e *editor) chown(p place) error {
	return os.Lchown(p.path, e.rng.IntN(3)*1000, e.rng.IntN(3)*1000)
}

func (e *editor) touch(p place) error {
	mtime := unix.Timespec{Sec: e.rng.Int64N(2_000_000_000)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p.path, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattr sets, changes or removes one of a few xattrs.
func (e *editor) xattr(p place) error {
	name := fmt.Sprintf("user.%c", 'a'+e.rng.IntN(3))
	return e.keepingAccess(p, func() error {
		if e.rng.IntN(3) == 0 {
			if err := unix.Lremovexattr(p.path, name); !errors.Is(err, unix.ENODATA) {
				return err
			}
			return nil
		}
		return unix.Lsetxattr(p.path, name, fmt.Appendf(nil, "v%d\x00\xff", e.rng.IntN(100)), 0)
	})
}

func (e *editor) keepingAccess(p place, do func() error) error {
	if p.isDir() {
		return do() // always open to its owner
	}
	return e.keepingMode(p, do)
}

func (e *editor) hardlink(p place) error {
	dir, _, err := e.find(place.isDir)
	if err != nil {
		return err
	}
	err = os.Link(p.path, e.fresh(dir.path))
	if errors.Is(err, fs.ErrPermission) {
		return nil // fs.protected_hardlinks, for what is not one's own
	}
	return err
}

// breakLink replaces one name of several by a copy of the file.
func (e *editor) breakLink(p place) error {
	var b []byte
	err := e.keepingMode(p, func() (err error) {
		b, err = os.ReadFile(p.path)
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Remove(p.path); err != nil {
		return err
	}
	return os.WriteFile(p.path, b, p.mode.Perm())
}
