// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// holds checks that a file of the unpacked tree has just that content.
func holds(name, content string) check {
	return func(w *world) {
		w.Helper()
		if got := reading(w.rootfs(name)); got != content {
			w.Errorf("%q holds %q, not %q", name, got, content)
		}
	}
}

// absent checks that names are not in the unpacked tree.
func absent(names ...string) check {
	return func(w *world) {
		w.Helper()
		for _, name := range names {
			if _, err := os.Lstat(w.rootfs(name)); !errors.Is(err, os.ErrNotExist) {
				w.Errorf("%q is there, or %v", name, err)
			}
		}
	}
}

// is checks facts about a name in the unpacked tree. Facts at their zero value
// are not compared, but for the type.
func is(name string, facts ocitest.Facts) check {
	return func(w *world) {
		w.Helper()
		want := facts
		got, ok := ocitest.Snapshot(w, w.rootfs(name))["."]
		if !ok {
			w.Errorf("%q is not there", name)
			return
		}
		want.Link = w.expand(want.Link)
		mask := func(differs bool, what string, got, want any) {
			w.Helper()
			if differs {
				w.Errorf("%q: %s is %v, not %v", name, what, got, want)
			}
		}
		mask(got.Type != want.Type, "type", got.Type, want.Type)
		mask(want.Mode != 0 && got.Mode != want.Mode, "mode", got.Mode, want.Mode)
		mask(want.Link != "" && got.Link != want.Link, "link", got.Link, want.Link)
		mask(want.Rdev != "" && got.Rdev != want.Rdev, "device", got.Rdev, want.Rdev)
		mask(want.UID != 0 && got.UID != want.UID, "uid", got.UID, want.UID)
		mask(want.Size != 0 && got.Size != want.Size, "size", got.Size, want.Size)
		mask(want.Nlink != 0 && got.Nlink != want.Nlink, "nlink", got.Nlink, want.Nlink)
		mask(want.Mtime != 0 && got.Mtime != want.Mtime, "mtime", got.Mtime, want.Mtime)
		for x, value := range want.Xattrs {
			hidden := os.Geteuid() != 0 && got.Xattrs[x] == "unreadable"
			mask(got.Xattrs[x] != value && !hidden, "xattr "+x, strconv.Quote(got.Xattrs[x]), strconv.Quote(value))
		}
	}
}

func regular(mode uint32) ocitest.Facts        { return ocitest.Facts{Type: "file", Mode: mode} }
func dir(mode uint32) ocitest.Facts            { return ocitest.Facts{Type: "dir", Mode: mode} }
func link(to string) ocitest.Facts             { return ocitest.Facts{Type: "link", Link: to} }
func at(typ string, nanos int64) ocitest.Facts { return ocitest.Facts{Type: typ, Mtime: nanos} }
func withXattr(name, value string) ocitest.Facts {
	return ocitest.Facts{Type: "file", Xattrs: map[string]string{name: value}}
}

// long checks the content of a file whose path may be longer than PATH_MAX.
func long(name, content string) check {
	return func(w *world) {
		w.Helper()
		root, err := rooted.Open(w.rootfs("."))
		w.ok(err)
		defer root.Close()
		dir, base := ".", name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			dir, base = name[:i], name[i+1:]
		}
		parent, err := root.OpenPath(dir)
		w.ok(err)
		defer parent.Close()
		f, err := parent.Open(base)
		w.ok(err)
		defer f.Close()
		got, err := io.ReadAll(f)
		w.ok(err)
		if string(got) != content {
			w.Errorf("%q, not %q", got, content)
		}
	}
}

// sparse checks that a file of that size takes at most a MiB on the disk.
func sparse(name string, size int64) check {
	return func(w *world) {
		w.Helper()
		root, err := rooted.Open(w.rootfs("."))
		w.ok(err)
		defer root.Close()
		var info os.FileInfo
		info, err = os.Lstat(w.rootfs(name))
		w.ok(err)
		if info.Size() != size {
			w.Errorf("%q has %d bytes, not %d", name, info.Size(), size)
		}
		if got := blocks(info); got > 1<<20 {
			w.Errorf("%q takes %d bytes on the disk", name, got)
		}
	}
}

// process checks the config.json.
func process(ok func(*rspec.Process) bool, what string) check {
	return func(w *world) {
		w.Helper()
		if p := w.spec(w.bundle).Process; !ok(p) {
			w.Errorf("not %s: %+v", what, p)
		}
	}
}

func (w *world) spec(bundle string) *rspec.Spec {
	w.Helper()
	data, err := os.ReadFile(bundle + "/config.json")
	w.ok(err)
	var spec rspec.Spec
	w.ok(json.Unmarshal(data, &spec))
	return &spec
}

// again checks that the image called new unpacks to the same tree as the bundle,
// with times in whole seconds.
func again(w *world) {
	w.Helper()
	w.must("unpack --image @LAYOUT:new @BUNDLE2")
	want := ocitest.Snapshot(w, w.rootfs(".")).Seconds()
	got := ocitest.Snapshot(w, w.bundle+"2/rootfs").Seconds()
	if lines := ocitest.Diff(want, got); len(lines) > 0 {
		w.Errorf("the image made of the bundle differs:\n%s", strings.Join(lines, "\n"))
	}
}

// unchanged checks that the image called new is the one called v.
func unchanged(w *world) {
	w.Helper()
	if v, again := w.manifest("v"), w.manifest("new"); v != again {
		w.Errorf("a bundle in which nothing was changed became %s, not %s", again, v)
	}
}

// manifest returns the digest that a tag stands for.
func (w *world) manifest(tag string) digest.Digest {
	w.Helper()
	for _, m := range w.index()["manifests"].([]any) {
		d := m.(document)
		if a, ok := d["annotations"].(document); ok && a["org.opencontainers.image.ref.name"] == tag {
			return digest.Digest(d["digest"].(string))
		}
	}
	w.Fatalf("there is no tag %s", tag)
	return ""
}

// member checks that the newest layer has an entry of that type, name and device.
func member(typeflag byte, name string, major, minor int64) check {
	return func(w *world) {
		w.Helper()
		for _, h := range w.members("new") {
			if h.Typeflag == typeflag && h.Name == name && h.Devmajor == major && h.Devminor == minor {
				return
			}
		}
		w.Errorf("the new layer has no %q of type %c %d:%d", name, typeflag, major, minor)
	}
}

// noMember checks that the newest layer has no such entry.
func noMember(name string) check {
	return func(w *world) {
		w.Helper()
		if slices.ContainsFunc(w.members("new"), func(h *tar.Header) bool { return h.Name == name }) {
			w.Errorf("the new layer has %q", name)
		}
	}
}

// members returns the entries of the newest layer of the image called tag.
func (w *world) members(tag string) []*tar.Header {
	w.Helper()
	layers := w.read(w.blob(w.manifest(tag)))["layers"].([]any)
	data, err := os.ReadFile(w.blob(digest.Digest(layers[len(layers)-1].(document)["digest"].(string))))
	w.ok(err)
	z, err := gzip.NewReader(bytes.NewReader(data))
	w.ok(err)
	var all []*tar.Header
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		w.ok(err)
		all = append(all, h)
	}
}

// blocks returns the bytes that a file takes on the disk.
func blocks(info os.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks * 512 }

// likeTar checks that GNU tar, where there is one, sees the same in the layer.
func likeTar(w *world) {
	w.Helper()
	path, err := exec.LookPath("tar")
	if err != nil || w.mode.Name != "root" {
		return
	}
	dir := w.TempDir()
	out, err := exec.Command(path, "-xf", w.blob(digest.Digest(w.blame[0])), "-C", dir).CombinedOutput()
	if err != nil {
		w.Errorf("GNU tar does not take it: %v: %s", err, out)
	}
	for name, want := range ocitest.Snapshot(w, dir) {
		if want.Type == "file" {
			if got := ocitest.Snapshot(w, w.rootfs(name))["."]; got.SHA256 != want.SHA256 {
				w.Errorf("GNU tar finds another file under %q", name)
			}
		}
	}
}
