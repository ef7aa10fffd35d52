// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

func FuzzClassify(f *testing.F) {
	for _, name := range []string{"a", ".wh.a", ".wh..wh..opq", ".wh.", ".wh..", "d/.wh...", ".wh.x/y", ".wh..wh.plnk/1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean := cleanPath(name)
		if clean == "" || strings.HasPrefix(clean, "/") || strings.Contains("/"+clean+"/", "/../") {
			t.Fatalf("cleanPath(%q) = %q", name, clean)
		}
		kind, err := classify(clean)
		if err != nil {
			return
		}
		for _, part := range splitPath(clean) {
			if kind == notWhiteout && strings.HasPrefix(part, whiteoutPrefix) {
				t.Errorf("%q would be created", clean)
			}
		}
		if _, base := splitBase(clean); kind == plainWhiteout {
			if target := strings.TrimPrefix(base, whiteoutPrefix); target == "" || target == "." || target == ".." {
				t.Errorf("%q would delete %q", clean, target)
			}
		}
	})
}

// FuzzApply applies arbitrary bytes as the second layer on a disk. Nothing
// outside the root may change, and what is on the disk must be what the tree
// says.
func FuzzApply(f *testing.F) {
	base := ocitest.Layer(tdir("d"), tfile("d/f"), ocitest.Symlink("out", "../.."), ocitest.Symlink("abs", "/tmp"),
		ocitest.Symlink("loop", "loop"), ocitest.Hardlink("g", "d/f"))
	for _, l := range [][]byte{
		base, ocitest.Layer(ocitest.Whiteout("d/f"), ocitest.Opaque("d")),
		ocitest.Layer(tfile("out/canary"), tfile("abs/x"), ocitest.Hardlink("h", "../canary")),
		ocitest.Layer(tfile("loop/x")), ocitest.Layer(tdir("out"), tdir("d").Mode(0), ocitest.Fifo("d/p", 0o600)),
		ocitest.Layer(ocitest.RawPAX(ocitest.PAXRecord("path", "../../canary")), tfile("x")),
		ocitest.Layer(tfile(".wh...")), bytes.Repeat([]byte{0}, 1024), []byte("junk"),
	} {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, data []byte) { applyFuzzed(t, base, data) })
}

// FuzzHeaders is FuzzApply for one member whose extended header and fields are
// arbitrary: names, sizes, attributes, and the maps of sparse files.
func FuzzHeaders(f *testing.F) {
	record := ocitest.PAXRecord
	base := ocitest.Layer(tdir("d"), tfile("d/f"), ocitest.Symlink("out", "../.."))
	sparse := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "s") + record("GNU.sparse.realsize", "4096")
	f.Add(record("path", "../../canary"), "x", "", byte('0'), int64(0), []byte("in"))
	f.Add(record("path", "a")+record("path", "../../../canary")+record("size", "3"), "x", "", byte('0'), int64(9), []byte("in\n"))
	f.Add(record("linkpath", "../../canary"), "x", "/", byte('1'), int64(0), []byte(nil))
	f.Add(record("uid", "4294967296")+record("gid", "-1")+record("mtime", "-1.5"), "x", "", byte('0'), int64(0), []byte(nil))
	f.Add(record("SCHILY.xattr.security.capability", ocitest.Capability)+record("SCHILY.xattr.", ""), "x", "", byte('0'), int64(0), []byte(nil))
	f.Add(record("SCHILY.xattr.user.shale.device", "b 8 0 0666"), "x", "", byte('0'), int64(0), []byte(nil))
	f.Add(sparse, "GNUSparseFile.0/s", "", byte('0'), int64(515), append([]byte("1\n4093\n3\n"), make([]byte, 502)...))
	f.Add(record("GNU.sparse.size", "9223372036854775807")+record("GNU.sparse.numblocks", "1")+record("GNU.sparse.map", "0,1"), "s", "", byte('0'), int64(1), []byte("a"))
	f.Add("99 path=x\n", "x", "", byte('Z'), int64(-1), []byte(nil))
	f.Add("", "out/canary", "d", byte('2'), int64(0), []byte(nil))
	f.Fuzz(func(t *testing.T, records, name, link string, typeflag byte, size int64, body []byte) {
		h := ocitest.RawHeader{Name: name, Linkname: link, Typeflag: typeflag, Size: fmt.Sprintf("%011o", size)}
		if len(name) > 100 || len(link) > 100 || len(h.Size) > 12 {
			return // does not fit the fields
		}
		es := []ocitest.Entry{ocitest.RawMember(h, body), tfile("after")}
		if records != "" {
			es = append([]ocitest.Entry{ocitest.RawPAX(records)}, es...)
		}
		applyFuzzed(t, base, ocitest.Layer(es...))
	})
}

// applyFuzzed applies two layers on a disk, of which the second is not to be
// trusted.
func applyFuzzed(t *testing.T, base, data []byte) {
	t.Helper()
	dir := t.TempDir()
	canary := filepath.Join(dir, "canary")
	must(t, os.WriteFile(canary, []byte("untouched"), 0o600))
	path := filepath.Join(dir, "rootfs")
	must(t, os.Mkdir(path, 0o755))
	before := outside(t, dir)
	root, err := rooted.Open(path)
	must(t, err)
	defer root.Close()
	disk, err := NewDisk(root, DiskOptions{Map: rootlessUnlessRoot()})
	must(t, err)
	tree := NewTree()
	// Holes are read as zeros: without a limit that would take long. What is larger
	// than its bytes are the buffers of files, and directories that names imply.
	budget := Limits{Bytes: 8 << 20, Entries: 5000}.Budget(0)
	ocitest.AssertAllocates(t, 64<<20+100*uint64(len(data)), func() {
		for _, l := range [][]byte{base, data} {
			if err == nil {
				err = tree.Apply(t.Context(), bytes.NewReader(l), disk, ApplyOptions{Budget: budget})
			}
		}
		if err != nil {
			disk.Abort()
			return
		}
		err = disk.Finish(t.Context(), tree)
	})
	switch {
	case err == nil:
		checkTree(t, tree)
		if os.Geteuid() == 0 {
			checkOnDisk(t, path, tree)
		}
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("more than one line: %q", err)
	}
	if diff := ocitest.Diff(before, outside(t, dir), "nlink"); len(diff) > 0 {
		t.Errorf("outside of the root: %s", strings.Join(diff, "; "))
	}
	parent, err := rooted.Open(dir)
	must(t, err)
	defer parent.Close()
	must(t, parent.RemoveAll("rootfs"))
}

// outside is a snapshot of all but the root filesystem.
func outside(t *testing.T, dir string) ocitest.Tree {
	t.Helper()
	tree := ocitest.Tree{}
	for name, facts := range ocitest.Snapshot(t, dir) {
		if name != "rootfs" && !strings.HasPrefix(name, "rootfs/") {
			tree[name] = facts
		}
	}
	return tree
}
