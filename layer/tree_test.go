// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// apply applies layers, each a tar stream, to a new tree.
func apply(t *testing.T, sink Sink, opt ApplyOptions, layers ...[]byte) (*Tree, error) {
	t.Helper()
	tree := NewTree()
	for _, l := range layers {
		if err := tree.Apply(context.Background(), bytes.NewReader(l), sink, opt); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

// describe lists a tree without its root, a path per word: directories end in a
// slash, links show their target, further names of an inode its first one.
func describe(tree *Tree) string {
	var words []string
	first := map[*Inode]string{}
	_ = tree.Walk(func(n *Node) error {
		if n.Parent() == nil {
			return nil
		}
		word := n.Path()
		switch ino := n.Inode(); ino.Type {
		case Directory:
			word += "/"
		case Symlink:
			word += "->" + ino.Target
		case CharDevice, BlockDevice:
			word += fmt.Sprintf("=%d:%d", ino.Major, ino.Minor)
		case Fifo:
			word += "|"
		case Regular:
			if f, ok := first[ino]; ok {
				word += "==" + f
			} else {
				first[ino] = word
				word += fmt.Sprintf("(%d)", ino.Size)
			}
		}
		words = append(words, word)
		return nil
	})
	return strings.Join(words, " ")
}

var (
	tdir  = func(name string) ocitest.Entry { return ocitest.Dir(name, 0o755) }
	tfile = func(name string) ocitest.Entry { return ocitest.File(name, "x", 0o644) }
	tbig  = func(name string) ocitest.Entry { return ocitest.File(name, "xyz", 0o644) }
)

type layers = [][]byte

func TestMerge(t *testing.T) {
	L := ocitest.Layer
	for _, tc := range []struct {
		name   string
		layers layers
		want   string
	}{
		{"plain", layers{L(tdir("a"), tfile("a/b"))}, "a/ a/b(1)"},
		{"implied parents", layers{L(tfile("a/b/c"))}, "a/ a/b/ a/b/c(1)"},
		{"leading slash and dots", layers{L(tfile("/a/./b"), tfile("./c"))}, "a/ a/b(1) c(1)"},
		{"dots stop at the root", layers{L(tfile("../x"), tfile("a/../../y"))}, "x(1) y(1)"},
		{"file replaced", layers{L(tfile("a")), L(tbig("a"))}, "a(3)"},
		{"duplicate in one layer", layers{L(tfile("a"), tbig("a"))}, "a(3)"},
		{"directory kept by directory", layers{L(tdir("a"), tfile("a/b")), L(tdir("a"), tfile("a/c"))}, "a/ a/b(1) a/c(1)"},
		{"directory replaced by file", layers{L(tdir("a"), tfile("a/b")), L(tfile("a"))}, "a(1)"},
		{"file replaced by directory", layers{L(tfile("a")), L(tdir("a"), tfile("a/b"))}, "a/ a/b(1)"},
		{"directory replaced by link", layers{L(tdir("a"), tfile("a/b"), tdir("e")), L(ocitest.Symlink("a", "e"))}, "a->e e/"},
		{"link replaced by directory", layers{L(tdir("e"), ocitest.Symlink("a", "e")), L(tdir("a"), tfile("a/b"))}, "a/ a/b(1) e/"},
		{"file in the way of a parent", layers{L(tfile("a")), L(tfile("a/b"))}, "a/ a/b(1)"},

		{"whiteout", layers{L(tdir("a"), tfile("a/b"), tfile("a/c")), L(ocitest.Whiteout("a/b"))}, "a/ a/c(1)"},
		{"whiteout of a directory", layers{L(tdir("a"), tfile("a/b")), L(ocitest.Whiteout("a"))}, ""},
		{"whiteout of nothing", layers{L(tdir("a")), L(ocitest.Whiteout("a/b"), ocitest.Whiteout("c/d"))}, "a/"},
		{"whiteout after an add", layers{L(tfile("a")), L(tbig("a"), ocitest.Whiteout("a"))}, "a(3)"},
		{"whiteout before an add", layers{L(tfile("a")), L(ocitest.Whiteout("a"), tbig("a"))}, "a(3)"},
		{
			"whiteout spares what the layer has below",
			layers{L(tdir("a"), tfile("a/old")), L(tfile("a/new"), ocitest.Whiteout("a"))}, "a/ a/new(1)",
		},
		{"opaque first", layers{L(tdir("a"), tfile("a/b")), L(tdir("a"), ocitest.Opaque("a"), tfile("a/c"))}, "a/ a/c(1)"},
		{"opaque last", layers{L(tdir("a"), tfile("a/b")), L(tdir("a"), tfile("a/c"), ocitest.Opaque("a"))}, "a/ a/c(1)"},
		{
			"opaque spares files deep in the layer",
			layers{
				L(tdir("a"), tdir("a/d"), tfile("a/d/old"), tfile("a/x")),
				L(tfile("a/d/new"), ocitest.Opaque("a")),
			}, "a/ a/d/ a/d/new(1)",
		},
		{"opaque root", layers{L(tfile("a")), L(tfile("b"), ocitest.Opaque("."))}, "b(1)"},
		{"opaque of nothing", layers{L(tfile("a")), L(ocitest.Opaque("b"))}, "a(1)"},
		{"reserved names delete nothing", layers{L(tfile("x")), L(tfile(".wh..wh.x"), tfile(".wh..wh.plnk/1.2"))}, "x(1)"},
		{"a whiteout's type does not count", layers{L(tfile("x"), tfile("y")), L(ocitest.Symlink(".wh.x", "y"), ocitest.Fifo(".wh.y", 0o644))}, ""},
		{
			"whiteout through a link stays in the root",
			layers{L(tdir("host"), tfile("host/f"), ocitest.Symlink("s", "/host")), L(ocitest.Whiteout("s/f"))}, "host/ s->/host",
		},

		{"write through a link", layers{L(tdir("e"), ocitest.Symlink("a", "/e")), L(tfile("a/b"))}, "a->/e e/ e/b(1)"},
		{"write through a dangling link", layers{L(ocitest.Symlink("a", "/no/where"), tfile("a/b"))}, "a->/no/where no/ no/where/ no/where/b(1)"},
		{
			"links cannot leave the root",
			layers{L(tdir("d"), ocitest.Symlink("d/l", "../../../.."), tfile("d/l/etc/passwd"))},
			"d/ d/l->../../../.. etc/ etc/passwd(1)",
		},
		{"missing and back", layers{L(ocitest.Symlink("a", "no/../e"), tdir("e"), tfile("a/b"))}, "a->no/../e e/ e/b(1)"},

		{"hardlink", layers{L(tfile("a"), ocitest.Hardlink("b", "a"))}, "a(1) b==a"},
		{"hardlink into a lower layer", layers{L(tfile("a")), L(ocitest.Hardlink("b", "/a"))}, "a(1) b==a"},
		{"hardlink target stays in the root", layers{L(tdir("etc"), tfile("etc/shadow"), ocitest.Hardlink("b", "../../etc/shadow"))}, "b(1) etc/ etc/shadow==b"},
		{"hardlink to a symlink", layers{L(ocitest.Symlink("a", "/etc/passwd"), ocitest.Hardlink("b", "a"))}, "a->/etc/passwd b->/etc/passwd"},
		{"hardlink replaced", layers{L(tfile("a"), ocitest.Hardlink("b", "a")), L(tbig("b"))}, "a(1) b(3)"},
		{"hardlink outlives its first name", layers{L(tfile("a"), ocitest.Hardlink("b", "a")), L(ocitest.Whiteout("a"))}, "b(1)"},
		{"devices", layers{L(ocitest.Char("c", 0o666, 1, 3), ocitest.Block("b", 0o600, 8, 0), ocitest.Fifo("f", 0o600))}, "b=8:0 c=1:3 f|"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := apply(t, Discard, ApplyOptions{}, tc.layers...)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(tree); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			checkTree(t, tree)
		})
	}
}

// checkTree compares the counters of a tree with what is in it.
func checkTree(t *testing.T, tree *Tree) {
	t.Helper()
	names, links := 0, map[*Inode]int32{}
	_ = tree.Walk(func(n *Node) error {
		names++
		links[n.Inode()]++
		if n.Parent() != nil && n.Parent().child(n.Name()) != n {
			t.Errorf("%s is not its parent's child", n.Path())
		}
		if tree.Lookup(n.Path()) != n {
			t.Errorf("Lookup(%q) finds another node", n.Path())
		}
		return nil
	})
	if names != tree.Len() {
		t.Errorf("Len() = %d, but there are %d names", tree.Len(), names)
	}
	for ino, n := range links {
		if ino.Nlink != n {
			t.Errorf("an inode of type %s has Nlink %d and %d names", ino.Type, ino.Nlink, n)
		}
	}
}

func TestKeepDirlinks(t *testing.T) {
	lower := ocitest.Layer(tdir("usr"), tdir("usr/lib"), ocitest.Symlink("lib", "usr/lib"), ocitest.Symlink("dead", "nowhere"))
	upper := ocitest.Layer(tdir("lib").Owner(3, 4), tfile("lib/x"), tdir("dead"), tfile("dead/y"))
	tree, err := apply(t, Discard, ApplyOptions{KeepDirlinks: true}, lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(tree), "dead/ dead/y(1) lib->usr/lib usr/ usr/lib/ usr/lib/x(1)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if ino := tree.Lookup("lib").Inode(); ino.UID != 3 || ino.GID != 4 {
		t.Errorf("the kept link is owned by %d:%d, want 3:4", ino.UID, ino.GID)
	}
	checkTree(t, tree)
}

func TestDirectoryMetadataIsReplaced(t *testing.T) {
	when := time.Unix(1_000_000_000, 123_456_789)
	tree, err := apply(t, Discard, ApplyOptions{},
		ocitest.Layer(tdir("a").Owner(1, 2).Xattr("user.x", "1").Mtime(when), tfile("a/b")),
		ocitest.Layer(ocitest.Dir("a", 0o2711).Owner(5, 6)))
	if err != nil {
		t.Fatal(err)
	}
	ino := tree.Lookup("a").Inode()
	if ino.Mode != 0o2711 || ino.UID != 5 || ino.GID != 6 || len(ino.Xattrs) != 0 {
		t.Errorf("got %+v", ino)
	}
}

func TestExactTimes(t *testing.T) {
	for _, when := range []time.Time{time.Unix(-1, 0), time.Unix(-5, 999), time.Unix(1_700_000_000, 123_456_789)} {
		tree, err := apply(t, Discard, ApplyOptions{}, ocitest.Layer(tfile("a").Mtime(when)))
		if err != nil {
			t.Fatal(err)
		}
		got := tree.Lookup("a").Inode().Mtime
		if got.Sec != when.Unix() || int(got.Nsec) != when.Nanosecond() {
			t.Errorf("mtime %v became %v", when, got)
		}
	}
}

func TestRefusedEntries(t *testing.T) {
	L := ocitest.Layer
	long := strings.Repeat("n", 256)
	for _, tc := range []struct {
		name  string
		layer []byte
		is    error
		says  string
	}{
		{"A1", L(tfile(".wh.")), ErrWhiteoutName, ".wh."},
		{"A2", L(tfile(".wh..")), ErrWhiteoutName, ".wh.."},
		{"A3", L(tfile("d/.wh...")), ErrWhiteoutName, "d/.wh..."},
		{"whiteout as a directory", L(tfile(".wh.x/y")), ErrWhiteoutName, ".wh.x/y"},
		{"B5", L(ocitest.RawMember(ocitest.RawHeader{Typeflag: '0'}, nil)), ErrEntryName, ""},
		{"B6 dot", L(ocitest.Symlink(".", "/etc")), ErrRootType, ""},
		{"B6 slash", L(ocitest.Symlink("/", "/etc")), ErrRootType, ""},
		{"root as a hardlink", L(tfile("a"), ocitest.Hardlink("..", "a")), ErrRootType, ""},
		{"B8", L(tfile("a/" + long)), ErrNameTooLong, ""},
		{"B8 in the middle", L(tfile(long + "/a")), ErrNameTooLong, ""},
		{"C9", L(tfile("a"), ocitest.Hardlink("a", "a")), ErrSelfLink, ""},
		{"C10", L(ocitest.Hardlink("a", "b")), ErrNoTarget, "b"},
		{"hardlink to what it replaces", L(tdir("a"), tfile("a/b"), ocitest.Hardlink("a", "a/b")), ErrNoTarget, "a/b"},
		{"hardlink to a directory", L(tdir("a"), ocitest.Hardlink("b", "a")), ErrLinkDir, "a"},
		{"C13", L(ocitest.Symlink("a", "b"), ocitest.Symlink("b", "a"), tfile("a/x")), ErrSymlinkLoop, "a/x"},
		{"D1", L(ocitest.RawMember(ocitest.RawHeader{Name: "z", Typeflag: 'Z'}, nil)), ErrEntryType, "'Z'"},
		{"D2", L(ocitest.RawMember(ocitest.RawHeader{Name: "z", Typeflag: '7'}, nil)), ErrEntryType, "'7'"},
		{"D6", L(ocitest.RawMember(ocitest.RawHeader{Name: "z", Typeflag: '0', Mode: "0140755"}, nil)), ErrEntryType, "socket"},
		{"D7", L(tfile("su").Mode(0o4755).Owner(1<<32, 0)), ErrOwner, "4294967296"},
		{"D8", L(tfile("su").Owner(1<<32-1, 0)), ErrOwner, "4294967295"},
		{"D9", L(ocitest.RawPAX(ocitest.PAXRecord("uid", "-1")), tfile("su")), ErrOwner, "-1"},
		{"gid", L(tfile("su").Owner(0, 1<<32)), ErrOwner, "gid 4294967296"},
		{"D13", L(ocitest.RawPAX(ocitest.PAXRecord("mtime", "-1099511627776")), tfile("t")), ErrTime, "-1099511627776"},
		{"E7", L(tfile("x").Xattr("user.big", strings.Repeat("v", 500_000))), ErrXattr, "user.big"},
		{"escapes", L(ocitest.Hardlink("a\x1b[2J\nb", "no\x1bthing")), ErrNoTarget, `"a\x1b[2J\nb"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := apply(t, Discard, ApplyOptions{}, tc.layer)
			if !errors.Is(err, tc.is) {
				t.Fatalf("got %v, want %v", err, tc.is)
			}
			var entry *EntryError
			if !errors.As(err, &entry) {
				t.Errorf("%v does not name the entry", err)
			}
			if msg := err.Error(); !strings.Contains(msg, tc.says) || strings.ContainsAny(msg, "\x1b\n") {
				t.Errorf("message %q", msg)
			}
		})
	}
}

func TestHostXattrsAreIgnoredOnce(t *testing.T) {
	var warnings []string
	tree, err := apply(t, Discard, ApplyOptions{Warn: func(msg string) { warnings = append(warnings, msg) }},
		ocitest.Layer(
			tfile("a").Xattr("security.selinux", "l").Xattr("user.b", "2").Xattr("user.a", "1"),
			tfile("b").Xattr("security.selinux", "l").Xattr(DeviceXattr, "c 1 3 0666"),
		))
	if err != nil {
		t.Fatal(err)
	}
	want := []Xattr{{"user.a", "1"}, {"user.b", "2"}}
	if got := tree.Lookup("a").Inode().Xattrs; !slices.Equal(got, want) {
		t.Errorf("xattrs %v, want %v", got, want)
	}
	if got := tree.Lookup("b").Inode().Xattrs; len(got) > 0 {
		t.Errorf("xattrs %v, want none", got)
	}
	slices.Sort(warnings)
	if len(warnings) != 2 || !strings.Contains(warnings[0], "security.selinux of 2 entries") || !strings.Contains(warnings[1], DeviceXattr+" of 1 entries") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestCancelledApply(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := NewTree().Apply(ctx, bytes.NewReader(ocitest.Layer(tfile("a"))), Discard, ApplyOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestMemoryPerEntry holds the budget of the merge engine: 300 bytes for an
// entry without its name.
func TestMemoryPerEntry(t *testing.T) {
	const dirs, files = 1000, 100
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	names := 0
	for d := range dirs {
		dir := fmt.Sprintf("directory-%05d/", d)
		must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(1, 0)}))
		names += len(dir)
		for f := range files {
			name := fmt.Sprintf("%sfile-%05d", dir, f)
			must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1, 0)}))
			names += len("file-00000")
		}
	}
	must(t, tw.Close())
	data := buf.Bytes()
	before := heap()
	tree, err := apply(t, Discard, ApplyOptions{}, data)
	must(t, err)
	per := (int(heap()) - int(before) - names) / tree.Len()
	runtime.KeepAlive(data)
	t.Logf("%d bytes per entry", per)
	if per > 300 {
		t.Errorf("%d bytes per entry, more than 300", per)
	}
}
