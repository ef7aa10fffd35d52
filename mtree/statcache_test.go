// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// bundle is a directory with a root filesystem, its manifest and stat cache.
type bundle struct {
	t    testing.TB
	path string
	dir  *rooted.Dir
}

func newBundle(t testing.TB) *bundle {
	path := t.TempDir()
	must(t, os.Mkdir(filepath.Join(path, "rootfs"), 0o755))
	return &bundle{t: t, path: path, dir: openDir(t, path)}
}

func (b *bundle) root(rel string) string { return filepath.Join(b.path, "rootfs", rel) }

func (b *bundle) write(rel, content string) {
	b.t.Helper()
	must(b.t, os.MkdirAll(filepath.Dir(b.root(rel)), 0o755), os.WriteFile(b.root(rel), []byte(content), 0o644))
}

// save does what unpack does at its end.
func (b *bundle) save() *Tree {
	b.t.Helper()
	stamp, err := TakeStamp(b.dir)
	must(b.t, err)
	return b.saveAt(stamp)
}

func (b *bundle) saveAt(stamp Stamp) *Tree {
	b.t.Helper()
	tree := walk(b.t, b.root(""), WalkOptions{})
	var text, cache bytes.Buffer
	sum, err := tree.WriteManifest(&text, Header{})
	must(b.t, err)
	if sum != sha256.Sum256(text.Bytes()) {
		b.t.Error("WriteManifest returns another digest than that of the manifest")
	}
	must(b.t, tree.WriteCache(&cache, sum, stamp))
	must(b.t, os.WriteFile(filepath.Join(b.path, "m.mtree"), text.Bytes(), 0o644),
		os.WriteFile(filepath.Join(b.path, CacheName("m.mtree")), cache.Bytes(), 0o600))
	return tree
}

// settle waits until what was written before is trusted by a cache.
func settle() { time.Sleep(40 * time.Millisecond) }

// changes does what repack does, and makes sure that the cache makes no
// difference.
func (b *bundle) changes() []string {
	b.t.Helper()
	base := b.load()
	got := summary(Compare(base.Tree, walk(b.t, b.root(""), WalkOptions{Cache: base.Cache})))
	truth := summary(Compare(base.Tree, walk(b.t, b.root(""), WalkOptions{})))
	if !slices.Equal(got, truth) {
		b.t.Errorf("with the cache %q\nwithout %q", got, truth)
	}
	return got
}

func (b *bundle) load() *Baseline {
	b.t.Helper()
	base, err := LoadBaseline(b.t.Context(), b.dir, "m.mtree")
	must(b.t, err)
	if (base.Cache == nil) != (base.NoCache != "") {
		b.t.Errorf("cache %v, but reason %q", base.Cache, base.NoCache)
	}
	return base
}

// trusted returns the regular files that are not read, thanks to the cache: it
// gives every file in the cache a wrong digest and looks for those.
func (b *bundle) trusted() []string {
	b.t.Helper()
	base := b.load()
	if base.Cache == nil {
		return nil
	}
	lie := [sha256.Size]byte{1, 2, 3}
	for i := range base.Cache.tree.nodes {
		base.Cache.tree.nodes[i].digest = lie
	}
	var paths []string
	for e := range walk(b.t, b.root(""), WalkOptions{Cache: base.Cache}).All() {
		if digest, _ := e.Digest(); digest == lie {
			paths = append(paths, e.Path())
		}
	}
	return paths
}

func (b *bundle) check(what string, got []string, want ...string) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// restoreTime sets the modification time of path to that of st.
func restoreTime(t testing.TB, path string, st unix.Stat_t) {
	t.Helper()
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

func lstat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	must(t, unix.Lstat(path, &st))
	return st
}

func TestCacheTrustsWhatIsUnchanged(t *testing.T) {
	b := newBundle(t)
	b.write("a", "1")
	b.write("d/b", "2")
	b.write("d/c", "")
	must(t, os.Symlink("nowhere", b.root("d/link")))
	settle()
	b.save()
	b.check("trusted", b.trusted(), "a", "d/b", "d/c")
	b.check("changes", b.changes())

	b.write("d/b", "3")
	b.check("trusted after a change", b.trusted(), "a", "d/c")
	if base := b.load(); base.Cache == nil || base.Tree != base.Cache.Tree() {
		t.Error("the manifest was parsed although the cache stands in for it")
	}
}

// TestSneakyChanges is about changes that size and modification time hide.
func TestSneakyChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(t *testing.T, b *bundle)
		want []string
	}{
		{"same size and time", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("d/f"))
			b.write("d/f", "other")
			restoreTime(t, b.root("d/f"), st)
		}, []string{"modified d/f sha256digest"}},
		{"renamed over, same size and time", func(t *testing.T, b *bundle) {
			st, dir := lstat(t, b.root("d/f")), lstat(t, b.root("d"))
			b.write("d/new", "other")
			restoreTime(t, b.root("d/new"), st)
			must(t, os.Rename(b.root("d/new"), b.root("d/f")))
			restoreTime(t, b.root("d"), dir)
		}, []string{"modified d/f sha256digest"}},
		{"another file moved here with all times kept", func(t *testing.T, b *bundle) {
			dir := lstat(t, b.root("d"))
			must(t, os.Rename(b.root("d/g"), b.root("d/f")))
			restoreTime(t, b.root("d"), dir)
		}, []string{"modified d/f sha256digest", "deleted d/g"}},
		{"xattr only", func(t *testing.T, b *bundle) {
			if err := unix.Setxattr(b.root("d/f"), "user.x", []byte("1"), 0); err == unix.ENOTSUP {
				t.Skip("no user xattrs here")
			}
		}, []string{"modified d/f xattr.user.x"}},
		{"xattr of a directory only", func(t *testing.T, b *bundle) {
			if err := unix.Setxattr(b.root("d"), "user.x", []byte("1"), 0); err == unix.ENOTSUP {
				t.Skip("no user xattrs here")
			}
		}, []string{"modified d xattr.user.x"}},
		{"mode there and back, with another content", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("d/f"))
			must(t, os.Chmod(b.root("d/f"), 0o600))
			b.write("d/f", "other")
			must(t, os.Chmod(b.root("d/f"), 0o644))
			restoreTime(t, b.root("d/f"), st)
		}, []string{"modified d/f sha256digest"}},
		{"through a hard link", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("hard1"))
			b.write("hard2", "HARD")
			restoreTime(t, b.root("hard1"), st)
		}, []string{"modified hard1 sha256digest", "modified hard2 sha256digest"}},
		{"through a hard link outside of the tree", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("d/f"))
			out := filepath.Join(b.path, "out")
			must(t, os.Link(b.root("d/f"), out), os.WriteFile(out, []byte("other"), 0o644), os.Remove(out))
			restoreTime(t, b.root("d/f"), st)
		}, []string{"modified d/f sha256digest"}},
		{"symlink with a target of the same length", func(t *testing.T, b *bundle) {
			st, dir := lstat(t, b.root("link")), lstat(t, b.root(""))
			must(t, os.Remove(b.root("link")), os.Symlink("tegrat", b.root("link")))
			restoreTime(t, b.root("link"), st)
			restoreTime(t, b.root(""), dir)
		}, []string{"modified link link"}},
		{"through a memory map", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("d/f"))
			f, err := os.OpenFile(b.root("d/f"), os.O_RDWR, 0)
			must(t, err)
			m, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			copy(m, "other")
			must(t, unix.Msync(m, unix.MS_SYNC), unix.Munmap(m), f.Close())
			restoreTime(t, b.root("d/f"), st)
		}, []string{"modified d/f sha256digest"}},
		{"nothing but times in the same second", func(t *testing.T, b *bundle) {
			st := lstat(t, b.root("d/f"))
			st.Mtim.Nsec = (st.Mtim.Nsec + 1) % 1e9
			restoreTime(t, b.root("d/f"), st)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBundle(t)
			b.write("d/f", "01234")
			b.write("d/g", "56789")
			b.write("hard1", "hard")
			must(t, os.Link(b.root("hard1"), b.root("hard2")), os.Symlink("target", b.root("link")))
			settle()
			b.save()
			if len(b.trusted()) != 4 {
				t.Fatalf("trusted: %q", b.trusted())
			}
			c.edit(t, b)
			b.check("changes", b.changes(), c.want...)
			// Without the cache it is the same.
			must(t, os.Remove(filepath.Join(b.path, CacheName("m.mtree"))))
			b.check("changes without a cache", b.changes(), c.want...)
		})
	}
}

// TestSameTick is about a file that is changed within the clock tick in which it
// was written and looked at.
func TestSameTick(t *testing.T) {
	for range 20 {
		b := newBundle(t)
		b.write("f", "old")
		b.save() // without waiting
		st := lstat(t, b.root("f"))
		b.write("f", "new")
		restoreTime(t, b.root("f"), st)
		b.check("changes", b.changes(), "modified f sha256digest")
	}
}

func TestSettled(t *testing.T) {
	for _, c := range []struct {
		ctime, stamp rooted.Timespec
		want         bool
	}{
		{rooted.Timespec{Sec: 10, Nsec: 1}, rooted.Timespec{Sec: 10, Nsec: 20_000_002}, true},
		{rooted.Timespec{Sec: 10, Nsec: 1}, rooted.Timespec{Sec: 10, Nsec: 20_000_001}, false},
		{rooted.Timespec{Sec: 10, Nsec: 999_999_999}, rooted.Timespec{Sec: 11, Nsec: 19_999_999}, false},
		{rooted.Timespec{Sec: 10, Nsec: 999_999_999}, rooted.Timespec{Sec: 11, Nsec: 20_000_000}, true},
		{rooted.Timespec{Sec: 11, Nsec: 1}, rooted.Timespec{Sec: 10, Nsec: 1}, false},
		// Whole seconds, in general or for this inode.
		{rooted.Timespec{Sec: 10}, rooted.Timespec{Sec: 12}, false},
		{rooted.Timespec{Sec: 10}, rooted.Timespec{Sec: 13}, true},
		{rooted.Timespec{Sec: 10}, rooted.Timespec{Sec: 12, Nsec: 500}, false},
		{rooted.Timespec{Sec: 10, Nsec: 5}, rooted.Timespec{Sec: 12}, false},
	} {
		if got := (Stamp{Time: c.stamp}).settled(c.ctime); got != c.want {
			t.Errorf("changed at %v, stamp %v: %v, want %v", c.ctime, c.stamp, got, c.want)
		}
	}
}

// TestUnusableCaches is about caches that must be ignored, whatever is in them.
func TestUnusableCaches(t *testing.T) {
	flip := func(i int) func(t *testing.T, b *bundle, data []byte) []byte {
		return func(t *testing.T, b *bundle, data []byte) []byte {
			if i < 0 {
				i += len(data)
			}
			data[i] ^= 1
			return data
		}
	}
	for _, c := range []struct {
		name string
		edit func(t *testing.T, b *bundle, data []byte) []byte
		why  string
	}{
		{"deleted", func(*testing.T, *bundle, []byte) []byte { return nil }, "no such file"},
		{"empty", func(*testing.T, *bundle, []byte) []byte { return []byte{} }, "damaged"},
		{"header only", func(_ *testing.T, _ *bundle, data []byte) []byte { return data[:cacheHeaderSize] }, "damaged"},
		{"truncated", func(_ *testing.T, _ *bundle, data []byte) []byte { return data[:len(data)-1] }, "damaged"},
		{"half", func(_ *testing.T, _ *bundle, data []byte) []byte { return data[:len(data)/2] }, "damaged"},
		{"longer", func(_ *testing.T, _ *bundle, data []byte) []byte { return append(data, 0) }, "damaged"},
		{"flipped bit in a record", flip(-40), "damaged"},
		{"flipped bit in the checksum", flip(-1), "damaged"},
		{"other version", flip(7), "another version"},
		{"other file", flip(0), "not a stat cache"},
		{"other manifest", flip(9), "another manifest"},
		{"manifest was edited", func(t *testing.T, b *bundle, data []byte) []byte {
			name := filepath.Join(b.path, "m.mtree")
			text, err := os.ReadFile(name)
			must(t, err)
			must(t, os.WriteFile(name, bytes.Replace(text, []byte("mode=0644"), []byte("mode=0600"), 1), 0o644))
			return data
		}, "another manifest"},
		{"of another tree", func(t *testing.T, _ *bundle, _ []byte) []byte {
			other := newBundle(t)
			other.write("f", "other")
			settle()
			other.save()
			data, err := os.ReadFile(filepath.Join(other.path, CacheName("m.mtree")))
			must(t, err)
			return data
		}, "another manifest"},
		{"from another device", func(t *testing.T, _ *bundle, data []byte) []byte {
			binary.LittleEndian.PutUint64(data[40:], binary.LittleEndian.Uint64(data[40:])+1)
			return seal(data)
		}, "another file system"},
		{"clock was set back", func(t *testing.T, _ *bundle, data []byte) []byte {
			binary.LittleEndian.PutUint64(data[48:], uint64(time.Now().Unix()+3600))
			return seal(data)
		}, "clock was set back"},
		{"a directory", func(t *testing.T, b *bundle, _ []byte) []byte {
			name := filepath.Join(b.path, CacheName("m.mtree"))
			must(t, os.Remove(name), os.Mkdir(name, 0o755))
			return nil
		}, "not a regular file"},
		{"a FIFO", func(t *testing.T, b *bundle, _ []byte) []byte {
			name := filepath.Join(b.path, CacheName("m.mtree"))
			must(t, os.Remove(name), unix.Mkfifo(name, 0o600))
			return nil
		}, "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBundle(t)
			b.write("f", "old")
			b.write("g", "same")
			settle()
			b.save()
			st := lstat(t, b.root("f"))
			b.write("f", "new")
			restoreTime(t, b.root("f"), st)

			name := filepath.Join(b.path, CacheName("m.mtree"))
			data, err := os.ReadFile(name)
			must(t, err)
			if data = c.edit(t, b, data); data != nil {
				must(t, os.WriteFile(name, data, 0o600))
			} else if c.name == "deleted" {
				must(t, os.Remove(name))
			}
			base := b.load()
			if base.Cache != nil || !strings.Contains(base.NoCache, c.why) {
				t.Fatalf("cache %v, %q; want none because of %q", base.Cache, base.NoCache, c.why)
			}
			if got := b.changes(); len(got) != 1 || !strings.HasSuffix(got[0], "sha256digest") {
				t.Errorf("changes: %q", got)
			}
		})
	}
}

// seal makes the checksum of a cache right again.
func seal(data []byte) []byte {
	body := data[:len(data)-4]
	return binary.LittleEndian.AppendUint32(slices.Clip(body), crc32.Checksum(body, castagnoli))
}

func TestOtherDevicesAreNotTrusted(t *testing.T) {
	b := newBundle(t)
	b.write("f", "x")
	settle()
	stamp, err := TakeStamp(b.dir)
	must(t, err)
	tree := walk(t, b.root(""), WalkOptions{})
	stamp.Dev++
	c := &Cache{tree: tree, stamp: stamp}
	f, _ := tree.Lookup("f")
	st := f.Stat()
	if c.vouches(int32(f.Index()), &st) {
		t.Error("trusts a file from a device without a stamp")
	}
	c.stamp.Dev--
	if !c.vouches(int32(f.Index()), &st) {
		t.Error("trusts nothing")
	}
	for i, change := range []func(*rooted.Stat){
		func(st *rooted.Stat) { st.Dev++ },
		func(st *rooted.Stat) { st.Ino++ },
		func(st *rooted.Stat) { st.Size++ },
		func(st *rooted.Stat) { st.Mode ^= 1 },
		func(st *rooted.Stat) { st.UID++ },
		func(st *rooted.Stat) { st.GID++ },
		func(st *rooted.Stat) { st.Mtime.Sec++ },
		func(st *rooted.Stat) { st.Mtime.Nsec ^= 1 },
		func(st *rooted.Stat) { st.Ctime.Sec-- },
		func(st *rooted.Stat) { st.Ctime.Nsec ^= 1 },
	} {
		other := st
		change(&other)
		if c.vouches(int32(f.Index()), &other) {
			t.Errorf("difference %d is not noticed", i)
		}
	}
}

func TestCacheIsTheTree(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, 2000+seed)
		w.fill(w.root, 12, 4)
		tree := walk(t, w.root, WalkOptions{})
		var b bytes.Buffer
		must(t, tree.WriteCache(&b, [32]byte{1}, Stamp{}))
		back, err := decodeCache(b.Bytes())
		must(t, err)
		checkTree(t, back)
		if back.Len() != tree.Len() {
			t.Errorf("%d entries, want %d", back.Len(), tree.Len())
		}
		for e := range tree.All() {
			o, ok := back.Lookup(e.Path())
			if !ok || o.Stat() != e.Stat() || o.Link() != e.Link() || o.node().digest != e.node().digest ||
				o.node().known != e.node().known || !slices.EqualFunc(o.Xattrs(), e.Xattrs(), func(a, b Xattr) bool {
				return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
			}) {
				t.Errorf("seed %d: %q differs", seed, e.Path())
			}
		}
		// The same tree gives the same bytes, however the walk went.
		var again bytes.Buffer
		must(t, walk(t, w.root, WalkOptions{Cache: &Cache{tree: back}}).WriteCache(&again, [32]byte{1}, Stamp{}))
		if !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("seed %d: written again, the cache differs", seed)
		}
	}
}

// TestCacheNeverMatters is the property behind all this: random edits give the
// same deltas with the cache and without.
func TestCacheNeverMatters(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, 3000+seed)
			b := &bundle{t: t, path: w.root, dir: openDir(t, w.root)}
			w.root = b.root("")
			must(t, os.Mkdir(w.root, 0o755))
			w.fill(w.root, 10, 3)
			if seed%2 == 0 {
				settle()
			}
			b.save()
			for range w.rand.IntN(6) {
				w.edit()
			}
			b.changes()
		})
	}
}

func TestRefreshFromCachedWalk(t *testing.T) {
	w := newWorld(t, 7)
	b := &bundle{t: t, path: w.root, dir: openDir(t, w.root)}
	w.root = b.root("")
	must(t, os.Mkdir(w.root, 0o755))
	w.fill(w.root, 20, 3)
	settle()
	b.save()
	w.edit()
	w.edit()
	cached := walk(t, w.root, WalkOptions{Cache: b.load().Cache})
	got, want := manifest(t, cached), manifest(t, walk(t, w.root, WalkOptions{}))
	if !slices.Equal(withoutComments(got), withoutComments(want)) {
		t.Errorf("from a cached walk:\n%s\nwant:\n%s", got, want)
	}
	b.save()
	b.check("changes after a refresh", b.changes())
}

func TestStampGoesForward(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	first, err := TakeStamp(dir)
	must(t, err)
	time.Sleep(15 * time.Millisecond)
	second, err := TakeStamp(dir)
	must(t, err)
	if !first.Time.Before(second.Time) || first.Dev != second.Dev {
		t.Errorf("first %v, then %v", first, second)
	}
	fd, err := createRemoved(dir)
	must(t, err)
	third, err := rooted.FromFd(fd)
	if must(t, err, unix.Close(fd)); third.Ctime.Before(second.Time) || third.Dev != first.Dev {
		t.Errorf("second %v, then %v with a name", second, third)
	}
	if names, err := dir.Names(); err != nil || len(names) > 0 {
		t.Errorf("left over: %v, %v", names, err)
	}
}

func FuzzStatCache(f *testing.F) {
	w := newWorld(f, 5)
	w.fill(w.root, 10, 3)
	var b bytes.Buffer
	must(f, walk(f, w.root, WalkOptions{}).WriteCache(&b, [32]byte{1}, Stamp{}))
	f.Add(b.Bytes(), false)
	f.Add(b.Bytes()[:b.Len()/2], true)
	f.Fuzz(func(t *testing.T, data []byte, right bool) {
		if right && len(data) >= cacheHeaderSize+4 {
			data = seal(slices.Clone(data))
		}
		var tree *Tree
		var err error
		ocitest.AssertPureAllocates(t, 4<<20+300*uint64(len(data)), func() { tree, err = decodeCache(data) })
		if err != nil {
			return
		}
		checkTree(t, tree)
		for e := range tree.All() {
			if e.Index() != 0 && !validName(e.Name()) {
				t.Errorf("name %q", e.Name())
			}
			e.Stat()
			e.Xattrs()
		}
		bent := slices.Clone(data)
		bent[len(bent)*2/3] ^= 0x10
		if _, err := decodeCache(bent); err == nil {
			t.Error("a changed cache was taken for whole")
		}
		Compare(tree, tree)
		must(t, tree.WriteCache(&bytes.Buffer{}, [32]byte{}, Stamp{}))
	})
}
