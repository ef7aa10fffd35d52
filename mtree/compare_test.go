// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCompareTypesAndKinds(t *testing.T) {
	b := newBundle(t)
	b.write("gone/sub/f", "1")
	b.write("becomes-file/sub/f", "1")
	b.write("becomes-dir", "1")
	b.write("becomes-link/f", "1")
	b.write("same", "1")
	b.write("same-", "1")
	b.write("touched", "1")
	old := b.save()
	must(t, os.RemoveAll(b.root("gone")), os.RemoveAll(b.root("becomes-file")), os.RemoveAll(b.root("becomes-link")),
		os.Remove(b.root("becomes-dir")), os.Symlink("same", b.root("becomes-link")))
	b.write("becomes-file", "1")
	b.write("becomes-dir/f", "1")
	b.write("new/f", "1")
	must(t, os.Chmod(b.root("touched"), 0o600))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, b.root("touched"), []unix.Timespec{{}, {Sec: 5}}, 0))
	now := walk(t, b.root(""), WalkOptions{})
	deltas := Compare(old, now)
	var got []string
	for _, d := range deltas {
		s := d.Kind.String() + " " + d.Path
		if d.TypeChanged() {
			s += " type"
		}
		if d.Old.Exists() != (d.Kind != Added) || d.New.Exists() != (d.Kind != Deleted) {
			t.Errorf("%s: old %v, new %v", s, d.Old.Exists(), d.New.Exists())
		}
		if d.Kind == Modified != (len(d.Keys) > 0) {
			t.Errorf("%s: keys %q", s, d.Keys)
		}
		got = append(got, s)
	}
	// The root's time may or may not be in the same second.
	got = slices.DeleteFunc(got, func(s string) bool { return s == "modified ." })
	want := []string{
		"modified becomes-dir type", "added becomes-dir/f",
		"modified becomes-file type", "deleted becomes-file/sub", "deleted becomes-file/sub/f",
		"modified becomes-link type", "deleted becomes-link/f",
		"deleted gone", "deleted gone/sub", "deleted gone/sub/f",
		"added new", "added new/f", "modified touched",
	}
	b.check("deltas", got, want...)

	b.check("simplified", summary(slices.DeleteFunc(Simplify(deltas), func(d Delta) bool { return d.Kind != Deleted })), "deleted gone")

	i := slices.IndexFunc(deltas, func(d Delta) bool { return d.Path == "touched" })
	b.check("keys", deltas[i].Keys, "mode", "tar_time")
}

func TestCompareWithNothing(t *testing.T) {
	b := newBundle(t)
	b.write("d/f", "1")
	tree, none := b.save(), newTree()
	b.check("all new", summary(Compare(none, tree)), "added .", "added d", "added d/f")
	b.check("all gone", summary(Compare(tree, none)), "deleted .", "deleted d", "deleted d/f")
	if d := Compare(none, none); d != nil {
		t.Errorf("deltas %v", d)
	}
	for range none.All() {
		t.Error("an empty tree has an entry")
	}
	for range none.ManifestOrder() {
		t.Error("an empty tree has an entry")
	}
	if _, ok := none.Lookup("."); ok {
		t.Error("an empty tree has a root")
	}
}

func TestCompareIgnoresSizeAndLinksOfDirectories(t *testing.T) {
	old := parse(t, []byte("#mtree\n. type=dir size=4096 nlink=3\nd type=dir size=1 nlink=1 mode=0755\n..\n..\n"))
	now := parse(t, []byte("#mtree\n. type=dir size=60 nlink=9\nd type=dir size=2 nlink=2 mode=0700\n..\n..\n"))
	if got := summary(Compare(old, now)); !slices.Equal(got, []string{"modified d mode"}) {
		t.Errorf("%q", got)
	}
}

func TestCompareOnlyWhatTheManifestSays(t *testing.T) {
	b := newBundle(t)
	b.write("f", "1")
	must(t, os.Symlink("x", b.root("l")))
	now := walk(t, b.root(""), WalkOptions{})
	for _, c := range []struct{ manifest, want string }{
		{". type=dir\nf\nl\n", ""},
		{". type=dir\nf type=file\nl type=link\n", ""},
		{". type=dir\nf size=1\nl link=x\n", ""},
		{". type=dir\nf size=2\nl link=y\n", "modified f size; modified l link"},
		{". type=dir\nf link=x\nl type=file\n", "modified f link; modified l type"},
		{". type=dir\nf sha256=" + strings.Repeat("0", 64) + "\nl sha256digest=" + strings.Repeat("0", 64) + "\n",
			"modified f sha256digest; modified l sha256digest"},
		{". type=dir\nf type=dir size=9 nlink=9\n..\nl mode=0777 type=link\n", "modified f type"},
		{"./f type=file\n./l type=link\n", "added ."},
		{"./f/x type=file\n./l type=link\n", "added .; added f; deleted f/x"},
	} {
		if got := strings.Join(summary(Compare(parse(t, []byte(c.manifest)), now)), "; "); got != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.manifest, got, c.want)
		}
	}
}

func TestCompareXattrs(t *testing.T) {
	head := "#       keywords: size,xattr\n"
	old := ". type=dir\nf type=file xattr.user.a=MQ== xattr.user.b=MQ== xattr.user.c=\n"
	for _, c := range []struct{ head, old, now, want string }{
		{head, old, ". type=dir\nf type=file xattr.user.c= xattr.user.a=MQ== xattr.user.b=MQ==\n", ""},
		{head, old, ". type=dir\nf type=file xattr.user.a=MQ== xattr.user.b=Mg== xattr.user.d=\n",
			"modified f xattr.user.b,xattr.user.c,xattr.user.d"},
		{head, ". type=dir\nf type=file\n", ". type=dir\nf type=file xattr.user.a=\n", "modified f xattr.user.a"},
		{"", ". type=dir\nf type=file\n", ". type=dir\nf type=file xattr.user.a=\n", "modified f xattr.user.a"},
		{"#     keywords: size\n", ". type=dir\nf type=file\n", ". type=dir\nf type=file xattr.user.a=\n", ""},
	} {
		if got := strings.Join(summary(Compare(parse(t, []byte(c.head+c.old)), parse(t, []byte(c.now)))), "; "); got != c.want {
			t.Errorf("%q to %q: %q, want %q", c.old, c.now, got, c.want)
		}
	}
}

// TestHardLinksRegrouped is about hard links that only inode numbers tell apart.
func TestHardLinksRegrouped(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(b *bundle)
		want []string
		// wantWithout is what is seen without a cache.
		wantWithout []string
	}{
		{"same content, other groups", func(b *bundle) {
			// {a,b} and {c,d} become {a,c} and {b,d}.
			must(t, os.Remove(b.root("c")), os.Link(b.root("a"), b.root("c")),
				os.Rename(b.root("b"), b.root("tmp")), os.Link(b.root("d"), b.root("b")), os.Remove(b.root("tmp")))
		}, []string{"modified a hardlinks", "modified b hardlinks", "modified c hardlinks", "modified d hardlinks"}, nil},
		{"swapped as a whole", func(b *bundle) {
			for _, name := range []string{"a", "b", "c", "d"} {
				must(t, os.Rename(b.root(name), b.root(name+"_")))
			}
			must(t, os.Rename(b.root("a_"), b.root("c")), os.Rename(b.root("b_"), b.root("d")),
				os.Rename(b.root("c_"), b.root("a")), os.Rename(b.root("d_"), b.root("b")))
		}, nil, nil},
		{"copied as a whole", func(b *bundle) {
			for _, p := range [][2]string{{"a", "b"}, {"c", "d"}} {
				st := lstat(t, b.root(p[0]))
				b.write("new", "same")
				restoreTime(t, b.root("new"), st)
				must(t, os.Rename(b.root("new"), b.root(p[0])), os.Remove(b.root(p[1])), os.Link(b.root(p[0]), b.root(p[1])))
			}
		}, nil, nil},
		{"one more name", func(b *bundle) {
			must(t, os.Link(b.root("a"), b.root("e")))
		}, []string{"modified a nlink", "modified b nlink", "added e"}, []string{"modified a nlink", "modified b nlink", "added e"}},
		{"other content, other groups", func(b *bundle) {
			// {x,y} and {z,w} of different content become {x,w} and {y,z}: w and z
			// show it, x and y do not.
			must(t, os.Remove(b.root("w")), os.Link(b.root("x"), b.root("w")),
				os.Remove(b.root("z")), os.Link(b.root("y"), b.root("tmp")), os.Remove(b.root("tmp")))
			st := lstat(t, b.root("y"))
			must(t, os.Remove(b.root("y")))
			b.write("y", "same")
			restoreTime(t, b.root("y"), st)
			must(t, os.Link(b.root("y"), b.root("z")))
		}, []string{"modified w sha256digest", "modified x hardlinks", "modified y hardlinks", "modified z sha256digest"},
			[]string{"modified w sha256digest", "modified x hardlinks", "modified y hardlinks", "modified z sha256digest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBundle(t)
			for _, name := range []string{"a", "c", "x"} {
				b.write(name, "same")
			}
			b.write("z", "else")
			must(t, os.Link(b.root("a"), b.root("b")), os.Link(b.root("c"), b.root("d")),
				os.Link(b.root("x"), b.root("y")), os.Link(b.root("z"), b.root("w")))
			for _, name := range []string{"a", "c", "x", "z"} {
				restoreTime(t, b.root(name), unix.Stat_t{Mtim: unix.Timespec{Sec: 1000}})
			}
			st := lstat(t, b.root(""))
			settle()
			b.save()
			c.edit(b)
			restoreTime(t, b.root(""), st)
			b.check("with a cache", b.changes(), c.want...)
			must(t, os.Remove(filepath.Join(b.path, CacheName("m.mtree"))))
			b.check("without a cache", b.changes(), c.wantWithout...)
		})
	}
}

func TestCompareDevices(t *testing.T) {
	b := newBundle(t)
	if err := unix.Mknod(b.root("dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("only root can make devices")
	}
	restoreTime(t, b.root("dev"), unix.Stat_t{Mtim: unix.Timespec{Sec: 1000}})
	st := lstat(t, b.root(""))
	b.save()
	must(t, os.Remove(b.root("dev")), unix.Mknod(b.root("dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
	restoreTime(t, b.root("dev"), unix.Stat_t{Mtim: unix.Timespec{Sec: 1000}})
	restoreTime(t, b.root(""), st)
	b.check("changes", b.changes(), "modified dev device")
}

func deltasOf(paths ...string) []Delta {
	var deltas []Delta
	for _, p := range paths {
		kind := Modified
		switch p[0] {
		case '+':
			kind, p = Added, p[1:]
		case '-':
			kind, p = Deleted, p[1:]
		}
		deltas = append(deltas, Delta{Path: p, Kind: kind})
	}
	return deltas
}

func TestMask(t *testing.T) {
	deltas := deltasOf(".", "a", "a.b", "a/b", "a/b/c", "a/bc", "b", "b/c/d")
	for _, c := range []struct {
		masks []string
		want  string
	}{
		{nil, ". a a.b a/b a/b/c a/bc b b/c/d"},
		{[]string{"/a"}, ". a.b b b/c/d"},
		{[]string{"a"}, ". a.b b b/c/d"},
		{[]string{"/a/b/", "b/c"}, ". a a.b a/bc b"},
		{[]string{"../../a/./b/../b"}, ". a a.b a/bc b b/c/d"},
		{[]string{"/a/b/c/d", "x"}, ". a a.b a/b a/b/c a/bc b b/c/d"},
		{[]string{"/", "", ".", ".."}, ". a a.b a/b a/b/c a/bc b b/c/d"},
	} {
		var got []string
		for _, d := range Mask(deltas, c.masks) {
			got = append(got, d.Path)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %s, want %s", c.masks, s, c.want)
		}
	}
}

func TestSimplifyKeepsWhatIsNeeded(t *testing.T) {
	deltas := deltasOf("-a", "-a.b", "-a/b", "-a/b/c", "-ab", "-b/c", "-b/c/d")
	var got []string
	for _, d := range Simplify(deltas) {
		got = append(got, d.Path)
	}
	if s := strings.Join(got, " "); s != "a a.b ab b/c" {
		t.Errorf("%s", s)
	}
	if len(Simplify(nil)) != 0 {
		t.Error("something comes of nothing")
	}
}
