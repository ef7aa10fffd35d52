// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/test/ocitest"
)

// diffImages compares two images.
func diffImages(t *testing.T, a, b ocitest.Image, opt inspect.DiffOptions) *inspect.Difference {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	a.Write(t, dir, "old")
	b.Write(t, dir, "new")
	d, err := inspect.Diff(t.Context(), source(t, dir, "old"), source(t, dir, "new"), opt)
	must(t, err)
	return d
}

func layersOf(layers ...[]byte) ocitest.Image { return ocitest.Image{Layers: layers} }

// TestDiffFields changes one thing at a time.
func TestDiffFields(t *testing.T) {
	file := func() ocitest.Entry { return ocitest.File("f", "content", 0o644) }
	char := ocitest.Char("f", 0o600, 1, 3)
	later := ocitest.Epoch.Add(time.Nanosecond)
	tests := []struct {
		name   string
		a, b   ocitest.Entry
		fields string // empty if there is no difference
		ignore string
	}{
		{"nothing", file(), file(), "", "type"},
		{"type", file(), ocitest.Dir("f", 0o644), "type", "type"},
		{"type, and mode", file(), ocitest.Fifo("f", 0o600), "type,mode", "type,mode"},
		{"type, and no mode", file(), ocitest.Symlink("f", "x"), "type", "type"},
		{"mode", file(), file().Mode(0o4644), "mode", "mode"},
		{"uid", file(), file().Owner(1, 0), "uid", "uid"},
		{"gid", file(), file().Owner(0, 1), "gid", "owner"},
		{"size", file(), ocitest.File("f", "contents", 0o644), "size,content", "size, content"},
		{"content", file(), ocitest.File("f", "CONTENT", 0o644), "content", "content"},
		{"target", ocitest.Symlink("f", "x"), ocitest.Symlink("f", "y"), "target", "target"},
		{"device", char, ocitest.Char("f", 0o600, 1, 5), "device", "device"},
		{"kind of device", char, ocitest.Block("f", 0o600, 1, 3), "type", "type"},
		{"xattr", file(), file().Xattr("user.a", "1"), "xattrs", "xattrs"},
		{"xattr of a link", ocitest.Symlink("f", "x"), ocitest.Symlink("f", "x").Xattr("trusted.a", "1"), "xattrs", "xattrs"},
		{"all", file(), ocitest.File("f", "", 0o600).Owner(7, 8).Mtime(later).Xattr("user.a", "1"), "mode,uid,gid,size,content,xattrs,mtime",
			"mode,owner,size,content,xattrs,mtime"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := layersOf(ocitest.Layer(tt.a)), layersOf(ocitest.Layer(tt.b))
			d := diffImages(t, a, b, inspect.DiffOptions{})
			var want []string
			if tt.fields != "" {
				want = []string{"/f\tchanged " + tt.fields}
			}
			if got := lines(d); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if d.Same() != (tt.fields == "") || d.Summary.Changed.Paths != len(want) {
				t.Errorf("same: %t, summary %+v", d.Same(), d.Summary)
			}
			ignore, err := inspect.ParseDiffFields(tt.ignore)
			must(t, err)
			if d := diffImages(t, a, b, inspect.DiffOptions{Ignore: ignore}); !d.Same() || len(lines(d)) > 0 {
				t.Errorf("not ignored: %q", lines(d))
			}
		})
	}
}

func TestParseDiffFields(t *testing.T) {
	for _, name := range inspect.DiffFieldNames() {
		if f, err := inspect.ParseDiffFields(name); err != nil || f == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := inspect.ParseDiffFields("owner,config.env", "mtime")
	if want := inspect.DiffUID | inspect.DiffGID | inspect.DiffEnv | inspect.DiffMtime; f != want || err != nil {
		t.Errorf("got %b, %v", f, err)
	}
	for _, bad := range []string{"", "uid,", "env", "config.uid", "config.", "Mode"} {
		if f, err := inspect.ParseDiffFields(bad); err == nil {
			t.Errorf("%q is %b", bad, f)
		}
	}
}

// TestDiffTimes: what differs in time alone is counted, and listed if asked for.
func TestDiffTimes(t *testing.T) {
	later := ocitest.Epoch.Add(time.Hour)
	a := layersOf(ocitest.Layer(ocitest.File("a", "a", 0o644), ocitest.File("b", "b", 0o644)))
	b := layersOf(ocitest.Layer(ocitest.File("a", "a", 0o644).Mtime(later), ocitest.File("b", "b", 0o600).Mtime(later)))
	b.Edit = func(i *ispec.Image, _ *ispec.Manifest) { i.Created = &later }
	d := diffImages(t, a, b, inspect.DiffOptions{})
	if got, want := lines(d), []string{"/b\tchanged mode,mtime"}; !slices.Equal(got, want) || d.Summary.TimeOnly != 2 || len(d.Config) != 0 {
		t.Errorf("got %q, %+v, %+v", got, d.Summary, d.Config)
	}
	only := inspect.DiffOptions{Ignore: inspect.DiffMode}
	if d := diffImages(t, a, b, only); !d.Same() || d.Summary.TimeOnly != 3 || len(lines(d)) != 0 {
		t.Errorf("got %q, %+v", lines(d), d.Summary)
	}
	only.Times = true
	d = diffImages(t, a, b, only)
	if got, want := lines(d), []string{"/a\tchanged mtime", "/b\tchanged mtime"}; d.Same() || !slices.Equal(got, want) || d.Summary.TimeOnly != 2 {
		t.Errorf("got %q, %+v", got, d.Summary)
	}
	if len(d.Config) != 1 || d.Config[0].Field != "created" || d.Config[0].New != "2017-07-14T03:40:00Z" {
		t.Errorf("got %+v", d.Config)
	}
	only.Ignore |= inspect.DiffMtime | inspect.DiffCreated
	if d := diffImages(t, a, b, only); !d.Same() || d.Summary.TimeOnly != 0 {
		t.Errorf("got %q, %+v", lines(d), d.Summary)
	}
}

// TestDiffLinks compares by the names that files have.
func TestDiffLinks(t *testing.T) {
	base := ocitest.Layer(ocitest.File("a", "same", 0o644), ocitest.Hardlink("b", "a"), ocitest.File("c", "same", 0o644), ocitest.Hardlink("d", "c"))
	for name, tt := range map[string]struct {
		upper []ocitest.Entry
		want  []string
	}{
		"one more":  {[]ocitest.Entry{ocitest.Hardlink("e", "a")}, []string{"/a\tchanged hardlinks", "/b\tchanged hardlinks", "/e\tadded"}},
		"one less":  {[]ocitest.Entry{ocitest.Whiteout("d")}, []string{"/c\tchanged hardlinks", "/d\tdeleted"}},
		"regrouped": {[]ocitest.Entry{ocitest.Whiteout("b"), ocitest.Hardlink("b", "c")}, []string{"/a\tchanged hardlinks", "/b\tchanged hardlinks", "/c\tchanged hardlinks", "/d\tchanged hardlinks"}},
		"broken":    {[]ocitest.Entry{ocitest.File("b", "SAME", 0o644)}, []string{"/a\tchanged hardlinks", "/b\tchanged content,hardlinks"}},
	} {
		d := diffImages(t, layersOf(base), layersOf(base, ocitest.Layer(tt.upper...)), inspect.DiffOptions{})
		if got := lines(d); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	d := diffImages(t, layersOf(base), layersOf(base, ocitest.Layer(ocitest.Hardlink("e", "a"))), inspect.DiffOptions{Include: []string{"/b"}})
	for e := range d.Entries() {
		if want := []string{"/a", "/b", "/e"}; e.Path != "/b" || !slices.Equal(e.New.Links, want) || !slices.Equal(e.Old.Links, want[:2]) {
			t.Errorf("got %+v, %+v, %+v", e, e.Old, e.New)
		}
	}
	d = diffImages(t, layersOf(base), layersOf(base, ocitest.Layer(ocitest.Hardlink("e", "a"))), inspect.DiffOptions{NoLinks: true})
	if got, want := lines(d), []string{"/a\tchanged hardlinks", "/b\tchanged hardlinks", "/e\tadded"}; !slices.Equal(got, want) {
		t.Errorf("without lists: got %q, want %q", got, want)
	}
	for e := range d.Entries() {
		if e.Old != nil && e.Old.Links != nil || e.New.Links != nil {
			t.Errorf("got %+v, %+v, %+v", e, e.Old, e.New)
		}
	}
}

// TestDiffManyLinks has files with very many and very long names.
// The lists are right, and each is made once.
func TestDiffManyLinks(t *testing.T) {
	const files, n = 2, 2000
	dir := strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 200)+"/", 10), "/")
	name := func(i int) string { return fmt.Sprintf("%s/%04d", dir, i) }
	var entries []ocitest.Entry
	for i := range n {
		if i < files {
			entries = append(entries, ocitest.File(name(i), "x", 0o644))
			continue
		}
		entries = append(entries, ocitest.Hardlink(name(i), name(i%files)))
	}
	a := layersOf(ocitest.Layer(entries...))
	b := layersOf(ocitest.Layer(entries...), ocitest.Layer(ocitest.Hardlink("e", name(0))))
	d := diffImages(t, a, b, inspect.DiffOptions{})
	if got, want := d.Summary.Changed.Paths, n/files; got != want || d.Summary.Added.Paths != 1 {
		t.Errorf("got %+v, want %d changed paths", d.Summary, want)
	}
	var lists [][]string
	for e := range d.Entries() {
		if len(e.New.Links) != n/files+1 || e.Old != nil && len(e.Old.Links) != n/files {
			t.Fatalf("%s: %d names", e.Path, len(e.New.Links))
		}
		lists = append(lists, e.New.Links)
	}
	for _, list := range lists {
		if &list[0] != &lists[0][0] {
			t.Fatal("the list of names was made more than once")
		}
	}
}

// TestDiffWhiteouts compares what is left, whatever the layers do to get there.
func TestDiffWhiteouts(t *testing.T) {
	base := ocitest.Layer(ocitest.Dir("d", 0o755), ocitest.File("d/a", "a", 0o644), ocitest.File("d/b", "b", 0o644), ocitest.File("f", "f", 0o644))
	again := ocitest.Layer(ocitest.Opaque("d"), ocitest.File("d/a", "a", 0o644), ocitest.File("d/c", "c", 0o644), ocitest.Whiteout("f"), ocitest.Dir("f", 0o755), ocitest.File("f/x", "", 0o644))
	d := diffImages(t, layersOf(base), layersOf(base, again), inspect.DiffOptions{})
	want := []string{"/d/b\tdeleted", "/d/c\tadded", "/f\tchanged type,mode", "/f/x\tadded"}
	if got := lines(d); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiffGlobs(t *testing.T) {
	var entries []ocitest.Entry
	for _, name := range []string{"a/b/c.txt", "a/b/c.bin", "a/x", "ab/x", "ab/a/y", "z.txt"} {
		entries = append(entries, ocitest.File(name, "", 0o644))
	}
	full := layersOf(ocitest.Layer(entries...))
	for _, tt := range []struct {
		include, exclude []string
		want             string
	}{
		{nil, nil, "/a /a/b /a/b/c.bin /a/b/c.txt /a/x /ab /ab/a /ab/a/y /ab/x /z.txt"},
		{[]string{"/a"}, nil, "/a /a/b /a/b/c.bin /a/b/c.txt /a/x"},
		{[]string{"a"}, nil, "/a /a/b /a/b/c.bin /a/b/c.txt /a/x /ab/a /ab/a/y"},
		{[]string{"a/"}, nil, "/a /a/b /a/b/c.bin /a/b/c.txt /a/x /ab/a /ab/a/y"},
		{[]string{"*.txt"}, nil, "/a/b/c.txt /z.txt"},
		{[]string{"/*.txt", "./ab/x"}, nil, "/ab/x /z.txt"},
		{[]string{"/a/**"}, []string{"*.bin"}, "/a/b /a/b/c.txt /a/x"},
		{[]string{"**/y", "a?/x"}, nil, "/ab/a/y /ab/x"},
		{[]string{"a*/**/*.[tb]*"}, nil, "/a/b/c.bin /a/b/c.txt"},
		{nil, []string{"/a", "z.*"}, "/ab /ab/a /ab/a/y /ab/x"},
		{[]string{"/"}, []string{"/**/x", "/a/b"}, "/a /ab /ab/a /ab/a/y /z.txt"},
		{[]string{"**"}, nil, "/a /a/b /a/b/c.bin /a/b/c.txt /a/x /ab /ab/a /ab/a/y /ab/x /z.txt"},
	} {
		d := diffImages(t, layersOf(), full, inspect.DiffOptions{Include: tt.include, Exclude: tt.exclude})
		var got []string
		for e := range d.Entries() {
			got = append(got, e.Path)
		}
		if strings.Join(got, " ") != tt.want || d.Summary.Added.Paths != len(got) {
			t.Errorf("include %q, exclude %q: got %q, %+v", tt.include, tt.exclude, got, d.Summary)
		}
	}
	for _, bad := range []string{"[", "a/[x", ""} {
		_, err := inspect.Diff(t.Context(), inspect.DiffSource{Dir: "."}, inspect.DiffSource{Dir: "."}, inspect.DiffOptions{Exclude: []string{bad}})
		if !errors.Is(err, path.ErrBadPattern) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// opens counts how often files are opened, by their names.
func opens(t *testing.T, fn func(), paths ...string) map[string]int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	names := map[int32]string{}
	for _, p := range paths {
		w, err := unix.InotifyAddWatch(fd, p, unix.IN_OPEN)
		must(t, err)
		names[int32(w)] = p
	}
	fn()
	count := map[string]int{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return count
		}
		must(t, err)
		for at := 0; at < n; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			count[names[event.Wd]]++
			at += unix.SizeofInotifyEvent + int(event.Len)
		}
	}
}

// TestDiffReadsOnce counts how often layers are opened.
func TestDiffReadsOnce(t *testing.T) {
	large := strings.Repeat("incompressible it is not, but long", 1000)
	var base []ocitest.Entry
	for i := range 100 {
		base = append(base, ocitest.File(fmt.Sprintf("usr/lib/%03d", i), fmt.Sprintf("%03d%s", i, large), 0o644))
	}
	base = append(base, ocitest.Symlink("lib", "usr/lib"))
	lower := ocitest.Layer(base...)
	// Content that has to be compared, also by way of the link, and content that has not.
	upper := ocitest.Layer(
		ocitest.File("lib/007", "007"+large, 0o600), ocitest.File("usr/lib/008", "xxx"+large, 0o644), ocitest.File("lib/009", "9", 0o644),
		ocitest.Hardlink("usr/lib/010", "usr/lib/011"), ocitest.File("new", "new", 0o644), ocitest.Whiteout("usr/lib/012"))
	other := ocitest.Layer(ocitest.File("usr/lib/013", "yyy"+large, 0o644), ocitest.File("new", "NEW", 0o644))
	dir := filepath.Join(t.TempDir(), "layout")
	for ref, layers := range map[string][][]byte{"base": {lower}, "one": {lower, upper}, "two": {lower, other}, "same": {lower, upper}, "other": {other}} {
		// The images share blobs by their content, and "same" has others for the same layers.
		image := layersOf(layers...)
		if ref == "same" {
			image.Compression = "zstd"
		}
		image.Write(t, dir, ref)
	}
	blobs := map[string]string{}
	for _, ref := range []string{"one", "two"} {
		s := source(t, dir, ref)
		m, err := s.Layout.Manifest(t.Context(), s.Image.Target())
		must(t, err)
		for i, l := range m.Layers {
			blobs[map[string]string{"one0": "lower", "one1": "upper", "two0": "lower", "two1": "other"}[ref+fmt.Sprint(i)]] =
				filepath.Join(dir, "blobs", "sha256", l.Digest.Encoded())
		}
	}
	for _, tt := range []struct {
		a, b                string
		lower, upper, other int // how often each is read
		want                []string
	}{
		{"one", "same", 0, 0, 0, nil},
		{"base", "one", 1, 2, 0, []string{"/new\tadded", "/usr/lib/007\tchanged mode", "/usr/lib/008\tchanged content", "/usr/lib/009\tchanged size,content",
			"/usr/lib/010\tchanged content,hardlinks", "/usr/lib/011\tchanged hardlinks", "/usr/lib/012\tdeleted"}},
		{"two", "base", 1, 0, 2, []string{"/new\tdeleted", "/usr/lib/013\tchanged content"}},
		{"one", "two", 1, 2, 2, []string{"/new\tchanged content", "/usr/lib/007\tchanged mode", "/usr/lib/008\tchanged content", "/usr/lib/009\tchanged size,content",
			"/usr/lib/010\tchanged content,hardlinks", "/usr/lib/011\tchanged hardlinks", "/usr/lib/012\tadded", "/usr/lib/013\tchanged content"}},
		// Nothing is shared: both are hashed as they are read.
		{"base", "other", 1, 0, 1, nil},
	} {
		a, b := source(t, dir, tt.a), source(t, dir, tt.b)
		var d *inspect.Difference
		got := opens(t, func() {
			var err error
			d, err = inspect.Diff(t.Context(), a, b, inspect.DiffOptions{})
			must(t, err)
		}, blobs["lower"], blobs["upper"], blobs["other"])
		want := map[string]int{}
		for name, n := range map[string]int{"lower": tt.lower, "upper": tt.upper, "other": tt.other} {
			if n > 0 {
				want[blobs[name]] = n
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s to %s: opened %v, want %v", tt.a, tt.b, got, want)
		}
		if got := lines(d); tt.want != nil && !slices.Equal(got, tt.want) {
			t.Errorf("%s to %s: got %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
	// What need not be read need not be there.
	for _, blob := range blobs {
		must(t, os.Remove(blob))
	}
	d, err := inspect.Diff(t.Context(), source(t, dir, "one"), source(t, dir, "same"), inspect.DiffOptions{})
	if err != nil || !d.Same() || d.Old.Digest == d.New.Digest {
		t.Errorf("got %v, %+v", err, d)
	}
	_, err = inspect.Diff(t.Context(), source(t, dir, "one"), source(t, dir, "two"), inspect.DiffOptions{})
	if !errors.Is(err, fs.ErrNotExist) && err == nil || !strings.Contains(err.Error(), "compare: ") {
		t.Errorf("got %v", err)
	}
}

// TestDiffBundle: what a bundle knows of its image stands in for hashing.
func TestDiffBundle(t *testing.T) {
	store, dir := filepath.Join(t.TempDir(), "layout"), t.TempDir()
	files := []ocitest.Entry{ocitest.File("f", "content", 0o644), ocitest.File("g", "content", 0o644)}
	layersOf(ocitest.Layer(files...)).Write(t, store, "latest")
	img := source(t, store, "latest")
	tree := unpackTree(t, img, filepath.Join(dir, "root"))
	root, err := rooted.Open(tree.Dir)
	must(t, err)
	defer root.Close()
	known, err := mtree.Walk(t.Context(), root, mtree.WalkOptions{})
	must(t, err)
	// A lie about f shows what is believed.
	b, err := mtree.NewBuilder(mtree.Facts{Stat: known.Root().Stat()})
	must(t, err)
	for e := range known.Root().Children() {
		sum, _ := e.Digest()
		if e.Name() == "f" {
			sum[0]++
		}
		_, err := b.Add(0, e.Name(), mtree.Facts{Stat: e.Stat(), Digest: &sum})
		must(t, err)
	}
	lying, err := b.Tree()
	must(t, err)
	tree.Baseline, tree.Of = &mtree.Baseline{Tree: lying}, img.Image.Target().Digest
	for _, tt := range []struct {
		of   string
		want []string
	}{
		{string(tree.Of), []string{"/f\tchanged content"}},
		{"sha256:" + strings.Repeat("0", 64), nil}, // of another image: nothing is known of this one
	} {
		tree.Of = img.Image.Target().Digest
		if tt.want == nil {
			tree.Of = ""
		}
		for _, sides := range [][2]inspect.DiffSource{{img, tree}, {tree, img}} {
			d, err := inspect.Diff(t.Context(), sides[0], sides[1], inspect.DiffOptions{})
			must(t, err)
			if got := lines(d); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if kinds := d.Old.Kind + d.New.Kind; kinds != "imagebundle" && kinds != "bundleimage" {
				t.Errorf("kinds %s", kinds)
			}
		}
	}
}

// TestDiffDirectories compares what is only there on disks.
func TestDiffDirectories(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		must(t, os.WriteFile(filepath.Join(dir, "same"), []byte("same"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(dir[len(dir)-1:]), 0o644))
	}
	must(t, os.Link(filepath.Join(a, "file"), filepath.Join(b, "one inode")))
	must(t, os.Link(filepath.Join(a, "file"), filepath.Join(a, "one inode")))
	must(t, unix.Mknod(filepath.Join(b, "socket"), unix.S_IFSOCK|0o600, 0))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(b, link))
	d, err := inspect.Diff(t.Context(), inspect.DiffSource{Dir: a}, inspect.DiffSource{Dir: link}, inspect.DiffOptions{Ignore: inspect.DiffMtime})
	must(t, err)
	got := lines(d)
	want := []string{"/file\tchanged content,hardlinks", "/one inode\tchanged hardlinks", "/socket\tadded"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for e := range d.Entries() {
		if e.Path == "/socket" && e.New.Type != "socket" {
			t.Errorf("got %+v", e.New)
		}
		break // ends the loop
	}
	_, err = inspect.Diff(t.Context(), inspect.DiffSource{Dir: a}, inspect.DiffSource{Name: "no\nwhere", Dir: filepath.Join(a, "nowhere")}, inspect.DiffOptions{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"no\nwhere"`) {
		t.Errorf("got %v", err)
	}
}

// TestDiffSpecialXattrs sees attributes of links on a disk, which only root can give them.
func TestDiffSpecialXattrs(t *testing.T) {
	a, b := fastDir(t), fastDir(t)
	for _, dir := range []string{a, b} {
		must(t, os.Symlink("x", filepath.Join(dir, "link")))
	}
	if err := unix.Lsetxattr(filepath.Join(b, "link"), "trusted.a", []byte("1"), 0); err != nil {
		t.Skipf("this user may not set such attributes: %v", err)
	}
	d, err := inspect.Diff(t.Context(), inspect.DiffSource{Dir: a}, inspect.DiffSource{Dir: b}, inspect.DiffOptions{})
	must(t, err)
	if got := lines(d); !slices.Equal(got, []string{"/link\tchanged xattrs"}) && !slices.Equal(got, []string{"/link\tchanged xattrs,mtime"}) {
		t.Errorf("got %q", got)
	}
}

// TestDiffRootless: what a rootless tree cannot keep is no difference, and what it can is.
func TestDiffRootless(t *testing.T) {
	l := ocitest.Layer(
		ocitest.Dir("d", 0o755).Owner(1, 2), ocitest.File("f", "f", 0o644).Owner(3, 4).Xattr("user.a", "1").Xattr("security.x", "1"),
		ocitest.Symlink("l", "f").Owner(5, 6), ocitest.Fifo("p", 0o600).Owner(7, 8), ocitest.Char("c", 0o620, 5, 1).Owner(0, 5))
	store, root := filepath.Join(t.TempDir(), "layout"), fastDir(t)
	layersOf(l).Write(t, store, "latest")
	img := source(t, store, "latest")
	dir, err := rooted.Open(root)
	must(t, err)
	defer dir.Close()
	m := layer.MapOptions{Rootless: true}
	disk, err := layer.NewDisk(dir, layer.DiskOptions{Map: m})
	must(t, err)
	tree := layer.NewTree()
	must(t, tree.Apply(t.Context(), bytes.NewReader(l), disk, layer.ApplyOptions{}))
	must(t, disk.Finish(t.Context(), tree))
	side := inspect.DiffSource{Dir: root, Map: m}
	if err := unix.Setxattr(filepath.Join(root, "f"), "user.b", []byte("1"), 0); err != nil {
		t.Skipf("no xattrs here: %v", err)
	}
	must(t, unix.Removexattr(filepath.Join(root, "d"), layer.RootlessXattr))
	d, err := inspect.Diff(t.Context(), img, side, inspect.DiffOptions{})
	must(t, err)
	if got, want := lines(d), []string{"/d\tchanged uid,gid", "/f\tchanged xattrs"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDiffLimits: the limits of layers hold here, too.
func TestDiffLimits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	layersOf(ocitest.Layer(ocitest.File("a", "", 0o644), ocitest.File("b", "", 0o644))).Write(t, dir, "old")
	layersOf().Write(t, dir, "new")
	_, err := inspect.Diff(t.Context(), source(t, dir, "old"), source(t, dir, "new"), inspect.DiffOptions{Limits: layer.Limits{Entries: 1}})
	var over *layer.LimitError
	if !errors.As(err, &over) {
		t.Errorf("got %v", err)
	}
}

// TestDiffMemory bounds what is left in memory for each entry of each tree. What they
// share is there once.
func TestDiffMemory(t *testing.T) {
	const files, budget = 50_000, 150
	var entries []ocitest.Entry
	names := 0
	for i := range files {
		name := fmt.Sprintf("usr/share/%03d/%05d", i/200, i)
		names += len(path.Base(name))
		entries = append(entries, ocitest.File(name, "", 0o644))
	}
	base := ocitest.Layer(entries...)
	dir := filepath.Join(t.TempDir(), "layout")
	layersOf(base).Write(t, dir, "old")
	layersOf(base, ocitest.Layer(ocitest.File("new", "", 0o644))).Write(t, dir, "new")
	a, b := source(t, dir, "old"), source(t, dir, "new")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	d, err := inspect.Diff(t.Context(), a, b, inspect.DiffOptions{})
	must(t, err)
	each := (int(heap()-before) - 2*names) / (2 * files)
	if got := lines(d); len(got) != 1 || each > budget {
		t.Errorf("%d bytes an entry, budget %d; %q", each, budget, got)
	}
	t.Logf("%d bytes an entry", each)
}

// TestDiffChanging: a tree that changes meanwhile is neither what it was nor what it is.
func TestDiffChanging(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
	}
	sides := [2]inspect.DiffSource{{Name: "a", Dir: a}, {Name: "b", Dir: b}}
	for name, tt := range map[string]struct {
		meanwhile func() error
		content   bool
		after     int // walks
	}{
		"rewritten": {func() error { return os.WriteFile(filepath.Join(b, "file"), []byte("longer content"), 0o644) }, false, 2},
		"replaced":  {func() error { return os.Remove(filepath.Join(b, "file")) }, false, 2},
		"cut":       {func() error { return os.WriteFile(filepath.Join(b, "file"), []byte("cut"), 0o644) }, true, 4},
	} {
		must(t, os.WriteFile(filepath.Join(b, "file"), []byte("CONTENT"), 0o644))
		walks := 0
		_, err := inspect.Diff(t.Context(), sides[0], sides[1], inspect.DiffOptions{Content: tt.content, Progress: func(e progress.Event) {
			if e.Stage == "checking" && e.End {
				if walks++; walks == tt.after {
					must(t, tt.meanwhile())
				}
			}
		}})
		if !errors.Is(err, mtree.ErrChanged) || !strings.Contains(err.Error(), "b: file: ") {
			t.Errorf("%s: after %d walks, got %v", name, walks, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := inspect.Diff(ctx, sides[0], sides[1], inspect.DiffOptions{Progress: func(progress.Event) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestDiffSwappedLinks has names change places that are hardlinks of others in the layer
// below, so that nothing told beforehand that their contents would matter.
func TestDiffSwappedLinks(t *testing.T) {
	for _, content := range []string{"same", "SAME"} {
		base := ocitest.Layer(ocitest.File("x", "same", 0o644), ocitest.Hardlink("p", "x"), ocitest.File("y", content, 0o644), ocitest.Hardlink("q", "y"))
		upper := ocitest.Layer(ocitest.Hardlink("t", "p"), ocitest.Hardlink("p", "q"), ocitest.Hardlink("q", "t"))
		want := []string{"/p\tchanged hardlinks", "/q\tchanged hardlinks", "/t\tadded", "/x\tchanged hardlinks", "/y\tchanged hardlinks"}
		if content == "SAME" {
			want[0], want[1] = "/p\tchanged content,hardlinks", "/q\tchanged content,hardlinks"
		}
		d := diffImages(t, layersOf(base), layersOf(base, upper), inspect.DiffOptions{})
		if got := lines(d); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestDiffOneInode reads no file that is in both directories.
func TestDiffOneInode(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(a, "file"), []byte("content"), 0o644))
	must(t, os.Link(filepath.Join(a, "file"), filepath.Join(b, "file")))
	opened := opens(t, func() {
		d, err := inspect.Diff(t.Context(), inspect.DiffSource{Dir: a}, inspect.DiffSource{Dir: b}, inspect.DiffOptions{Ignore: inspect.DiffMtime})
		if must(t, err); !d.Same() {
			t.Errorf("got %q", lines(d))
		}
	}, filepath.Join(a, "file"))
	if len(opened) > 0 {
		t.Errorf("opened %v", opened)
	}
}
