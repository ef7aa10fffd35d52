// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// world is the machine as one case sees it:
//
//	<dir>/work/layout      the layout, which the case makes
//	<dir>/work/bundle      where it is unpacked
//	<dir>/work, <dir>      bait for names that go up
//	<dir>/cwd              the working directory, with bait for relative names
//	<dir>/tmp, <dir>/home  TMPDIR and HOME
//	<dir>/host             bait for absolute names: @HOST in a fixture
//
// All but the layout and the bundle must be the same after every command.
type world struct {
	testing.TB
	mode *ocitest.Mode

	dir, layout, bundle  string
	cwd, tmp, home, host string
	program              string        // shale, or what a test puts in its place
	timeout              time.Duration // when a run of it counts as hanging

	blame  []string // what a refusal has to name besides: the digest of a layer, mostly
	peak   int64    // the most memory that a command took, in KiB
	stderr string   // of all commands together
}

func newWorld(t testing.TB, m *ocitest.Mode) *world {
	t.Helper()
	// A file system with times in nanoseconds and extended attributes.
	dir, err := os.MkdirTemp("/dev/shm", "shale-hostile-")
	if err != nil {
		if dir, err = os.MkdirTemp("", "shale-hostile-"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { removeAll(t, dir) })
	w := &world{
		TB: t, mode: m, dir: dir,
		layout: dir + "/work/layout", bundle: dir + "/work/bundle",
		cwd: dir + "/cwd", tmp: dir + "/tmp", home: dir + "/home", host: dir + "/host",
		program: shale, timeout: 10 * time.Second,
	}
	w.ok(os.Chmod(dir, 0o755))
	w.bait()
	return w
}

// bait puts things where names out of a layer must not lead.
func (w *world) bait() {
	for _, dir := range []string{"work", "work/etc", "cwd", "cwd/etc", "tmp", "home", "host", "host/dir", "host/blobs", "etc", "sibling"} {
		w.ok(os.Mkdir(filepath.Join(w.dir, dir), 0o755))
	}
	for _, file := range []string{
		"x", "work/x", "work/f", "work/etc/shadow", "etc/shadow", "cwd/bait", "cwd/f", "cwd/x", "cwd/etc/passwd", "cwd/etc/shadow",
		"tmp/f", "home/f", "host/f", "host/dir/f", "sibling/f",
	} {
		w.ok(os.WriteFile(filepath.Join(w.dir, file), []byte("of the host: "+file+"\n"), 0o640))
	}
	w.ok(os.WriteFile(w.host+"/su", []byte("#!/bin/sh\n"), 0o755))
	w.ok(os.WriteFile(w.host+"/passwd", []byte("app:x:0:0:of the host:/:/bin/sh\n"), 0o644))
	w.ok(os.Symlink("f", w.host+"/link"))
	w.ok(unix.Mkfifo(w.host+"/fifo", 0o600))
	w.ok(unix.Setxattr(w.host+"/f", "user.of", []byte("the host"), 0))
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// expand puts real paths in the place of @HOST, @LAYOUT and @BUNDLE.
func (w *world) expand(s string) string {
	return strings.NewReplacer("@HOST", w.host, "@LAYOUT", w.layout, "@BUNDLE", w.bundle).Replace(s)
}

// rootfs returns the path of a name in the unpacked tree.
func (w *world) rootfs(name string) string {
	return filepath.Join(w.bundle, "rootfs", filepath.Clean("/"+w.expand(name)))
}

// give makes the user of the mode the owner of everything.
func (w *world) give() {
	w.Helper()
	w.ok(w.mode.Give(w.dir))
}

// outside takes a snapshot of all but the layout and the bundle. The times of the
// directory that these are in are left out, because making a bundle changes them.
func (w *world) outside() ocitest.Tree {
	w.Helper()
	tree := ocitest.Tree{}
	for _, dir := range []string{w.dir, w.dir + "/work"} {
		entries, err := os.ReadDir(dir)
		w.ok(err)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if path == w.dir+"/work" || path == w.layout || strings.HasPrefix(path, w.bundle) {
				continue
			}
			for name, f := range ocitest.Snapshot(w, path) {
				tree[filepath.Join(path, name)] = f
			}
		}
		info, err := os.Stat(dir)
		w.ok(err)
		f := ocitest.Facts{Type: "dir", Mode: uint32(info.Mode().Perm())}
		if dir == w.dir {
			f.Mtime = info.ModTime().UnixNano()
		}
		tree[dir] = f
	}
	return tree
}

// snapshot takes a snapshot of path, which is nil if there is nothing.
func (w *world) snapshot(path string) ocitest.Tree {
	w.Helper()
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return ocitest.Snapshot(w, path)
}

// same fails the test with what differs between two trees.
func (w *world) same(what string, before, after ocitest.Tree, ignore ...string) {
	w.Helper()
	if (before == nil) != (after == nil) {
		w.Errorf("%s: there before: %v, there after: %v", what, before != nil, after != nil)
		return
	}
	if lines := ocitest.Diff(before, after, ignore...); len(lines) > 0 {
		w.Errorf("%s has changed in %d names:\n%s", what, len(lines), strings.Join(lines[:min(len(lines), 10)], "\n"))
	}
}

// verify checks that every blob of the layout is what its name says, and that no
// temporary directory was left.
func (w *world) verify(layout ocitest.Tree) {
	w.Helper()
	for name, f := range layout {
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && f.Type == "file" && digest.Digest("sha256:"+hex).Validate() == nil && f.SHA256 != hex {
			w.Errorf("the blob %s has the digest %s", hex, f.SHA256)
		}
		if strings.HasPrefix(name, ".shale-") && f.Type == "dir" {
			w.Errorf("the temporary directory %s was left", name)
		}
	}
}

// onlyBundle checks that there is nothing in the bundle but what belongs there.
func (w *world) onlyBundle() {
	w.Helper()
	entries, err := os.ReadDir(w.bundle)
	w.ok(err)
	var names []string
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); strings.HasPrefix(name, "sha256_") && (ext == ".mtree" || ext == ".statcache") {
			name = ext
		}
		names = append(names, name)
	}
	if want := []string{"config.json", "rootfs", ".mtree", ".statcache", "umoci.json"}; !slices.Equal(names, want) {
		w.Errorf("the bundle holds %q, not %q", names, want)
	}
}

// removeAll removes a tree in which there may be directories without any
// permission, and names that are longer than a path may be.
func removeAll(t testing.TB, path string) {
	t.Helper()
	parent, err := rooted.Open(filepath.Dir(path))
	if err != nil {
		t.Error(err)
		return
	}
	defer parent.Close()
	if err := parent.RemoveAll(filepath.Base(path)); err != nil {
		t.Error(err)
	}
}
