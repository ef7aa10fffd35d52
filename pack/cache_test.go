// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

// watch counts how often regular files below the directories are opened until the returned
// function is called, by what the kernel says.
func watch(t testing.TB, dirs ...string) (opened func() int) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	for _, root := range dirs {
		must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_, err = unix.InotifyAddWatch(fd, path, unix.IN_OPEN|unix.IN_ACCESS)
			}
			return err
		}))
	}
	return func() int {
		defer unix.Close(fd)
		n := 0
		buf := make([]byte, 1<<20)
		for {
			size, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EAGAIN) || size <= 0 {
				return n
			}
			for b := buf[:size]; len(b) > 0; {
				mask, length := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
				if mask&unix.IN_ISDIR == 0 {
					n++
				}
				b = b[unix.SizeofInotifyEvent+length:]
			}
		}
	}
}

// keyed gives snapshots of directories the keys that their trees have now.
func keyed(t testing.TB, snapshots []pack.Snapshot) []pack.Snapshot {
	t.Helper()
	snapshots = slices.Clone(snapshots)
	for i := range snapshots {
		var err error
		snapshots[i].Key, err = pack.Fingerprint(t.Context(), snapshots[i].Dir)
		must(t, err)
		if snapshots[i].Key == "" {
			t.Fatalf("%s has no fingerprint", snapshots[i].Dir)
		}
	}
	return snapshots
}

func openCache(t testing.TB, dir string) *pack.Cache {
	t.Helper()
	c, err := pack.OpenCache(dir)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// settle waits until what was just changed has a time that no later change can have.
func settle() { time.Sleep(50 * time.Millisecond) }

// TestSecondRun exports twice: the second run opens no file, and changes nothing.
func TestSecondRun(t *testing.T) {
	root := tempRoot(t)
	dirs := snapshotDirs(t, rand.New(rand.NewPCG(1, 6)), root, 4, 15)
	l := newLayout(t)
	cacheDir := filepath.Join(root, "cache")
	times := []time.Time{time.Unix(1000, 0), time.Unix(2000, 0)}
	run := func(at int) (pack.Result, int) {
		// Opened anew, as by another process.
		opt := pack.Options{
			Map: mapping(), Refs: []string{"v1", "v2"}, Cache: openCache(t, cacheDir), Created: &times[at],
			Compression: layer.Zstd,
		}
		opened := watch(t, dirs...)
		res := image(t, l, keyed(t, chainOf(dirs)), opt)
		return res, opened()
	}
	first, opened := run(0)
	if opened == 0 {
		t.Fatal("the first run opens no file: nothing is counted")
	}
	before := ocitest.Snapshot(t, l.Path())
	second, opened := run(1)
	if opened != 0 {
		t.Errorf("the second run opens %d files", opened)
	}
	if diff := ocitest.Diff(before, ocitest.Snapshot(t, l.Path()), "mtime"); len(diff) > 0 {
		t.Errorf("the second run changes the layout:\n%s", strings.Join(diff, "\n"))
	}
	if first.Descriptor.Digest != second.Descriptor.Digest {
		t.Errorf("got %s after %s", second.Descriptor.Digest, first.Descriptor.Digest)
	}
	for _, sl := range second.Layers {
		if !sl.Reused {
			t.Errorf("the layer of %s was made anew", sl.Snapshot)
		}
	}

	// One changed file makes its layer new, and what is based on it.
	must(t, os.WriteFile(filepath.Join(dirs[2], "added"), []byte("x"), 0o644))
	settle()
	third, _ := run(1)
	for i, sl := range third.Layers {
		if sl.Reused != (i < 2) {
			t.Errorf("snapshot %d: reused is %t", i, sl.Reused)
		}
	}
}

// TestSecondRunWithKeys does the same with keys of the caller's: then not even a directory is
// listed.
func TestSecondRunWithKeys(t *testing.T) {
	all := forest(t, rand.New(rand.NewPCG(2, 6)), tempRoot(t), 4)
	l := newLayout(t)
	var cache pack.Cache
	first := image(t, l, all, pack.Options{Map: mapping(), Cache: &cache})
	for _, s := range all {
		must(t, os.Rename(s.Dir, s.Dir+"-gone"))
	}
	second := image(t, l, all, pack.Options{Map: mapping(), Cache: &cache})
	if first.Descriptor.Digest != second.Descriptor.Digest {
		t.Errorf("got %s after %s", second.Descriptor.Digest, first.Descriptor.Digest)
	}
	for _, opt := range []pack.Options{
		{Compression: layer.Zstd}, {Compression: layer.Gzip, Level: 1}, {Owner: &layer.Owner{UID: 1}}, {Masks: []string{"x"}},
		{Clamp: new(int64)}, {Base: layout.Path{first.Descriptor}},
	} {
		opt.Map, opt.Cache = mapping(), &cache
		if _, err := pack.Image(t.Context(), l, all, opt); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: the layers are taken from the cache: %v", opt, err)
		}
	}
}

// TestCachedBlobs spoils what the cache leads to.
func TestCachedBlobs(t *testing.T) {
	dir := filepath.Join(tempRoot(t), "tree")
	must(t, os.Mkdir(dir, 0o755))
	ocitest.RandomEdits(t, rand.New(rand.NewPCG(3, 6)), dir, 30)
	settle()
	for name, tt := range map[string]struct {
		spoil  func(t *testing.T, blob, cache string)
		reused bool
		warns  bool
	}{
		"nothing": {func(*testing.T, string, string) {}, true, false},
		"blob touched": {func(t *testing.T, blob, _ string) {
			must(t, os.Chtimes(blob, time.Unix(1, 0), time.Unix(1, 0)))
		}, true, false},
		"blob copied": {func(t *testing.T, blob, _ string) {
			data, err := os.ReadFile(blob)
			must(t, err)
			must(t, os.Remove(blob))
			must(t, os.WriteFile(blob, data, 0o644))
		}, true, false},
		"blob damaged": {func(t *testing.T, blob, _ string) {
			data, err := os.ReadFile(blob)
			must(t, err)
			data[len(data)/2] ^= 1
			must(t, os.Remove(blob))
			must(t, os.WriteFile(blob, data, 0o644))
		}, false, true},
		"blob cut":  {func(t *testing.T, blob, _ string) { must(t, os.Truncate(blob, 10)) }, false, false},
		"blob gone": {func(t *testing.T, blob, _ string) { must(t, os.Remove(blob)) }, false, false},
		"record damaged": {func(t *testing.T, _, cache string) {
			must(t, os.WriteFile(cache, []byte("{"), 0o600))
		}, false, true},
		"record of another": {func(t *testing.T, _, cache string) {
			must(t, os.WriteFile(cache, []byte(`{"key":"x","descriptor":{"mediaType":"text/plain","digest":"../../x","size":1}}`), 0o600))
		}, false, true},
		"record too long": {func(t *testing.T, _, cache string) {
			must(t, os.WriteFile(cache, make([]byte, 1<<20), 0o600))
		}, false, true},
		"record that is a FIFO": {func(t *testing.T, _, cache string) {
			must(t, os.Remove(cache))
			must(t, unix.Mkfifo(cache, 0o600))
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			cacheDir := t.TempDir()
			s := keyed(t, []pack.Snapshot{{Dir: dir}})
			warned := 0
			opt := pack.Options{Map: mapping(), Refs: []string{"v1"}, Warn: func(string) { warned++ }}
			opt.Cache = openCache(t, cacheDir)
			first := image(t, l, s, opt)
			blob := filepath.Join(l.Path(), "blobs", "sha256", first.Layers[0].Descriptor.Digest.Encoded())
			records, err := filepath.Glob(filepath.Join(cacheDir, "*.json"))
			must(t, err)
			if len(records) != 1 {
				t.Fatalf("the records are %v", records)
			}
			tt.spoil(t, blob, records[0])
			warned = 0
			opt.Cache = openCache(t, cacheDir)
			second, err := pack.Image(t.Context(), l, s, opt)
			must(t, err)
			ocitest.AssertWhole(t, l.Path())
			if second.Layers[0].Reused != tt.reused || warned > 0 != tt.warns {
				t.Errorf("reused: %t, warnings: %d", second.Layers[0].Reused, warned)
			}
			if first.Descriptor.Digest != second.Descriptor.Digest {
				t.Errorf("got %s after %s", second.Descriptor.Digest, first.Descriptor.Digest)
			}
			// From now on it is known again.
			warned = 0
			opt.Cache = openCache(t, cacheDir)
			if third := image(t, l, s, opt); name != "record that is a FIFO" && (!third.Layers[0].Reused || warned > 0) {
				t.Errorf("reused at last: %t, warnings: %d", third.Layers[0].Reused, warned)
			}
		})
	}
}

// TestCacheOfDamagedBlob makes a layer whose damaged blob is in the layout already: the
// cache must not take that for the one that was made.
func TestCacheOfDamagedBlob(t *testing.T) {
	dir := small(t, "content")
	settle()
	l := newLayout(t)
	s := keyed(t, []pack.Snapshot{{Dir: dir}})
	opt := pack.Options{Map: mapping(), Refs: []string{"v1"}}
	first := image(t, l, s, opt)
	blob := filepath.Join(l.Path(), "blobs", "sha256", first.Layers[0].Descriptor.Digest.Encoded())
	data, err := os.ReadFile(blob)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.Remove(blob))
	must(t, os.WriteFile(blob, data, 0o644))
	settle()
	opt.Cache = openCache(t, t.TempDir())
	for range 2 { // the first finds it by its name, the second in the cache
		_, err := pack.Image(t.Context(), l, s, opt)
		must(t, err)
	}
	ocitest.AssertWhole(t, l.Path())
}

// TestFingerprint changes one thing at a time.
func TestFingerprint(t *testing.T) {
	dir := tempRoot(t)
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	file := filepath.Join(dir, "sub", "file")
	must(t, os.WriteFile(file, []byte("one"), 0o644))
	old := time.Unix(1, 1)
	fingerprint := func(path string) string {
		t.Helper()
		key, err := pack.Fingerprint(t.Context(), path)
		must(t, err)
		if key == "" {
			t.Fatal("no fingerprint")
		}
		return key
	}
	was, wasFile := fingerprint(dir), fingerprint(file)
	if fingerprint(dir) != was {
		t.Error("it changes by itself")
	}
	for name, change := range map[string]func() error{
		"content, time kept": func() error {
			return errors.Join(os.WriteFile(file, []byte("two"), 0o644), os.Chtimes(file, old, old))
		},
		"mode":    func() error { return os.Chmod(file, 0o600) },
		"new":     func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o644) },
		"rename":  func() error { return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "newer")) },
		"removed": func() error { return os.Remove(filepath.Join(dir, "newer")) },
	} {
		before := fingerprint(dir)
		err := change()
		if errors.Is(err, fs.ErrNotExist) {
			continue // they come in any order
		}
		must(t, err)
		if fingerprint(dir) == before {
			t.Errorf("%s: the fingerprint is the same", name)
		}
	}
	if fingerprint(dir) == was || fingerprint(file) == wasFile {
		t.Error("the fingerprint is the same as at first")
	}
	if _, err := pack.Fingerprint(t.Context(), dir+"/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestFingerprintOfPipe must not open the pipe: that would wait for somebody who writes.
func TestFingerprintOfPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if key, err := pack.Fingerprint(t.Context(), pipe); key != "" || err != nil {
			t.Errorf("got %q, %v", key, err)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it waits for a writer")
	}
}
