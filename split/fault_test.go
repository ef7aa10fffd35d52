// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

var kills = flag.Int("kills", 30, "how many times split and join are killed")

// childEnv turns the test binary into a program that splits or joins: its value is
// the command, the arguments are paths.
const childEnv = "SHALE_SPLIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if cmd := os.Getenv(childEnv); cmd != "" {
		if err := child(context.Background(), cmd, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if cmd == "memory" {
			fmt.Println(peakMemory())
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(ctx context.Context, cmd, from, to string) error {
	if cmd == "join" {
		return childJoin(ctx, from, to)
	}
	l, err := layout.Open(ctx, from, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = Split(ctx, to, Options{
		Images: []Image{{l, "app1"}, {l, "app2"}},
		Tiers:  []Tier{{"base", Image{l, "debian"}}, {"lib", Image{l, "runtime"}}},
	})
	if err == nil && cmd == "memory" {
		return childJoin(ctx, to, to+".joined")
	}
	return err
}

func childJoin(ctx context.Context, from, to string) error {
	l, err := layout.Open(ctx, to, nil)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = layout.Create(ctx, to)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = joinFrom(ctx, l, from)
	return err
}

func command(cmd, from, to string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self, from, to)
	c.Env = append(os.Environ(), childEnv+"="+cmd)
	return c
}

// peakMemory returns the largest resident set of this process, in KiB.
func peakMemory() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Maxrss
}

// TestKilled kills split and join at random moments, and then runs them to their end.
func TestKilled(t *testing.T) {
	s := newSite(t)
	rng := rand.New(rand.NewPCG(1, 1))
	begin := time.Now()
	good := out(t)
	must(t, command("split", s.dir, good).Run())
	took := time.Since(begin)
	early := 0
	for range *kills {
		path := out(t)
		early += kill(t, command("split", s.dir, path), rng, took)
		if exists(path) {
			checkTiers(t, path, nil)
		} else {
			if o, err := command("split", s.dir, path).CombinedOutput(); err != nil {
				t.Fatalf("split again: %v: %s", err, o)
			}
		}
		if names, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(names) > 0 {
			t.Fatalf("left: %v", names)
		}

		to := path + ".joined"
		must(t, closed(layout.Create(t.Context(), to)))
		early += kill(t, command("join", path, to), rng, took)
		l := openLayout(t, to)
		refs, err := l.Refs(t.Context())
		must(t, err)
		if len(refs) != 0 && len(refs) != 2 {
			t.Fatalf("refs after the kill: %v", refs)
		}
		if o, err := command("join", path, to).CombinedOutput(); err != nil {
			t.Fatalf("join again: %v: %s", err, o)
		}
		for _, ref := range []string{"app1", "app2"} {
			if lookup(t, l, ref).Digest != lookup(t, s.l, ref).Digest {
				t.Fatalf("%s has another digest", ref)
			}
			whole(t, l, lookup(t, l, ref))
		}
		must(t, l.Close())
		must(t, os.RemoveAll(filepath.Dir(path)))
	}
	t.Logf("%d of %d were killed before their end", early, 2**kills)
	if early == 0 && *kills > 5 {
		t.Error("none was killed before its end")
	}
}

func closed(l *layout.Layout, err error) error {
	if err != nil {
		return err
	}
	return l.Close()
}

// kill runs the command and kills it within the time, and returns 1 if that was
// before its end.
func kill(t *testing.T, c *exec.Cmd, rng *rand.Rand, within time.Duration) int {
	t.Helper()
	must(t, c.Start())
	time.Sleep(time.Duration(rng.Int64N(int64(within))))
	_ = c.Process.Kill()
	if err := c.Wait(); err != nil {
		return 1
	}
	return 0
}

// TestFlippedByte damages each file of an OUT in each format in turn.
func TestFlippedByte(t *testing.T) {
	for _, format := range []Format{FormatLayout, FormatIsula} {
		s := newSite(t)
		s.opt.Format = format
		path := splitTo(t, s.opt)
		for _, name := range files(t, path) {
			file := filepath.Join(path, name)
			data, err := os.ReadFile(file)
			must(t, err)
			for _, at := range []int{0, len(data) / 2, len(data) - 1} {
				bad := []byte(string(data))
				bad[at] ^= 1
				must(t, os.Remove(file)) // it may be a link
				must(t, os.WriteFile(file, bad, 0o644))
				to := newLayout(t)
				_, err = joinFrom(t.Context(), to, path)
				oneLine(t, err, filepath.Base(name))
				if err == nil {
					t.Errorf("%s, byte %d: no error", name, at)
				}
				if refs, err := to.Refs(t.Context()); err != nil || len(refs) > 0 {
					t.Errorf("%s: refs %v, %v", name, refs, err)
				}
			}
			must(t, os.WriteFile(file, data, 0o644))
		}
		_, err := joinFrom(t.Context(), newLayout(t), path)
		must(t, err)
	}
}

func TestFlippedByteInArchives(t *testing.T) {
	s := newSite(t)
	s.opt.Format = FormatArchive
	path := splitTo(t, s.opt)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, name := range files(t, path) {
		file := filepath.Join(path, name)
		data, err := os.ReadFile(file)
		must(t, err)
		for range 20 {
			bad := []byte(string(data))
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			must(t, os.WriteFile(file, bad, 0o644))
			to := newLayout(t)
			if _, err = joinFrom(t.Context(), to, path); err != nil {
				oneLine(t, err, name)
				continue
			}
			// Between the members there are zeros that mean nothing.
			for _, ref := range []string{"app1", "app2"} {
				whole(t, to, lookup(t, to, ref))
			}
		}
		must(t, os.WriteFile(file, data, 0o644))
	}
}

func TestVolumes(t *testing.T) {
	s := newSite(t)
	s.opt.MaxSize = minVolume
	path := splitTo(t, s.opt)
	names, err := filepath.Glob(path + ".*")
	must(t, err)
	if len(names) < 4 {
		t.Fatalf("volumes: %v", names)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > minVolume {
			t.Errorf("%s: %v, %v", name, info.Size(), err)
		}
		data, err := os.ReadFile(name)
		must(t, err)
		for what, damage := range map[string]func() error{
			"missing":   func() error { return os.Remove(name) },
			"truncated": func() error { return os.Truncate(name, int64(len(data)-1)) },
			"flipped":   func() error { data := []byte(string(data)); data[7] ^= 1; return os.WriteFile(name, data, 0o644) },
			"empty":     func() error { return os.Truncate(name, 0) },
		} {
			must(t, damage())
			_, err := joinFrom(t.Context(), newLayout(t), path)
			oneLine(t, err, filepath.Base(name))
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrMissingVolume) {
				t.Errorf("%s %s: %v", filepath.Base(name), what, err)
			}
			must(t, os.WriteFile(name, data, 0o644))
		}
	}
	to := newLayout(t)
	_, err = joinFrom(t.Context(), to, path)
	must(t, err)
	whole(t, to, lookup(t, to, "app1"))
	if _, err := Inspect(t.Context(), path); err != nil {
		t.Error(err)
	}
	if _, err := Split(t.Context(), path, s.opt); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over volumes: %v", err)
	}
}

func TestMissingAndSwappedTiers(t *testing.T) {
	s := newSite(t)
	path := splitTo(t, s.opt)
	base, lib, app := path+"/base", path+"/lib", path+"/app"
	for _, tc := range []struct {
		name string
		opt  JoinOptions
		want error
		say  []string
	}{
		{"swapped", JoinOptions{Tiers: map[string]string{"base": lib, "lib": base, "app": app}}, ErrWrongTier, []string{"tier base", lib, base, "tier lib"}},
		{"not given", JoinOptions{Tiers: map[string]string{"base": base, "app": app}}, ErrMissingTier, []string{"tier lib", "runtime"}},
		{"nothing there", JoinOptions{Tiers: map[string]string{"base": path + "/gone", "lib": lib, "app": app}}, ErrMissingTier, []string{"tier base", path + "/gone"}},
		{"another", JoinOptions{Tiers: map[string]string{"base": s.dir + "2", "lib": lib, "app": app}}, ErrWrongTier, []string{"tier base", s.dir + "2", "debian"}},
		{"not an app", JoinOptions{Tiers: map[string]string{"app": base}}, ErrWrongTier, []string{base, FileName}},
		{"unknown", JoinOptions{From: path, Tiers: map[string]string{"jre": base}}, ErrWrongTier, []string{"jre"}},
		{"nothing", JoinOptions{}, ErrInvalid, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "another" {
				ocitest.Image{Layers: [][]byte{tarOf("z")}}.Write(t, s.dir+"2", "z")
			}
			to := newLayout(t)
			_, err := Join(t.Context(), to, tc.opt)
			oneLine(t, err, tc.say...)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
			if list := files(t, to.Path()); len(list) != 2 {
				t.Errorf("written: %v", list)
			}
		})
	}
	must(t, os.RemoveAll(lib))
	_, err := joinFrom(t.Context(), newLayout(t), path)
	oneLine(t, err, "tier lib", lib)
	report, err := Inspect(t.Context(), path)
	must(t, err)
	if len(report.Tiers[1].Missing) != 3 || len(report.Tiers[0].Missing) != 0 {
		t.Errorf("got %+v", report.Tiers)
	}
}

func TestExistingTag(t *testing.T) {
	s := newSite(t)
	path := splitTo(t, s.opt)
	to := newLayout(t)
	ocitest.Image{Layers: [][]byte{tarOf("mine")}}.Write(t, to.Path(), "app1")
	mine := lookup(t, to, "app1")
	before := files(t, to.Path())
	_, err := joinFrom(t.Context(), to, path)
	oneLine(t, err, "app1", string(mine.Digest), string(lookup(t, s.l, "app1").Digest))
	if !errors.Is(err, ErrExists) || lookup(t, to, "app1").Digest != mine.Digest || len(files(t, to.Path())) != len(before) {
		t.Errorf("got %v", err)
	}
	_, err = Join(t.Context(), to, JoinOptions{From: path, Force: true})
	must(t, err)
	result, err := joinFrom(t.Context(), to, path)
	must(t, err)
	if result.Blobs[layout.Copied] != 0 || result.Blobs[layout.Kept] == 0 {
		t.Errorf("again: %+v", result)
	}
	refs, err := to.Refs(t.Context())
	if err != nil || len(refs) != 2 {
		t.Errorf("refs: %v, %v", refs, err)
	}
}

// TestDamagedTarget has a blob in the target whose content is not right.
func TestDamagedTarget(t *testing.T) {
	s := newSite(t)
	for _, format := range []Format{FormatLayout, FormatArchive} {
		s.opt.Format = format
		path := splitTo(t, s.opt)
		to := newLayout(t)
		_, err := joinFrom(t.Context(), to, path)
		must(t, err)
		must(t, to.Blobs(t.Context(), func(d digest.Digest, size int64) error {
			return os.WriteFile(filepath.Join(to.Path(), "blobs", "sha256", d.Encoded()), make([]byte, size), 0o644)
		}))
		_, err = joinFrom(t.Context(), to, path)
		must(t, err)
		whole(t, to, lookup(t, to, "app1"))
	}
}

func TestTwoJoinsAtOnce(t *testing.T) {
	s := newSite(t)
	path := splitTo(t, s.opt)
	for range 5 {
		to := newLayout(t).Path()
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() { errs[i] = childJoin(t.Context(), path, to) })
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		l := openLayout(t, to)
		refs, err := l.Refs(t.Context())
		if err != nil || len(refs) != 2 {
			t.Errorf("refs: %v, %v", refs, err)
		}
		whole(t, l, lookup(t, l, "app1"))
		whole(t, l, lookup(t, l, "app2"))
	}
}

func TestTwoSplitsAtOnce(t *testing.T) {
	s := newSite(t)
	path := out(t)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = Split(t.Context(), path, s.opt) })
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of 4 splits were good: %v", good, errs)
	}
	_, err := joinFrom(t.Context(), newLayout(t), path)
	must(t, err)
}

func TestCancelled(t *testing.T) {
	s := newSite(t)
	for _, format := range []Format{FormatLayout, FormatArchive, FormatIsula} {
		ctx, cancel := context.WithCancel(t.Context())
		opt := s.opt
		opt.Format = format
		opt.Progress = func(progress.Event) { cancel() }
		path := out(t)
		_, err := Split(ctx, path, opt)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", format, err)
		}
		if names, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
		if names, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
	}
	path := splitTo(t, s.opt)
	ctx, cancel := context.WithCancel(t.Context())
	to := newLayout(t)
	_, err := Join(ctx, to, JoinOptions{From: path, Progress: func(progress.Event) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if refs, _ := to.Refs(t.Context()); len(refs) > 0 {
		t.Errorf("refs: %v", refs)
	}
}

// TestFullDisk splits and joins on file systems of ever more room.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	s := newSite(t)
	good := splitTo(t, s.opt)
	dir := t.TempDir()
	failed, worked := 0, 0
	for kib := 16; kib <= 400; kib += 48 {
		if err := unix.Mount("shale-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
			t.Skip("no tmpfs can be mounted: ", err)
		}
		func() {
			defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // nothing depends on it
			_, err := Split(t.Context(), dir+"/OUT", s.opt)
			if err != nil {
				failed++
				oneLine(t, err, "no space left")
				if entries, _ := os.ReadDir(dir); len(entries) > 0 {
					t.Errorf("%d KiB: left: %v", kib, entries)
				}
			} else {
				worked++
				must(t, os.RemoveAll(dir+"/OUT"))
			}
			l, err := layout.Create(t.Context(), dir+"/L")
			if err != nil {
				return
			}
			defer l.Close()
			if _, err := joinFrom(t.Context(), l, good); err != nil {
				failed++
				oneLine(t, err, "no space left")
				if refs, err := l.Refs(t.Context()); err != nil || len(refs) > 0 {
					t.Errorf("%d KiB: refs %v, %v", kib, refs, err)
				}
			} else {
				worked++
				whole(t, l, lookup(t, l, "app2"))
			}
		}()
	}
	if failed == 0 || worked == 0 {
		t.Errorf("%d failed, %d worked", failed, worked)
	}
}

func TestReadOnlySource(t *testing.T) {
	ocitest.Modes(t, func(t *testing.T) {
		s := newSite(t)
		path := splitTo(t, s.opt)
		for _, dir := range []string{s.dir, path} {
			before := ocitest.Snapshot(t, dir)
			must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Chmod(p, 0o555))
			}))
			readOnly := ocitest.Snapshot(t, dir)
			if dir == s.dir {
				splitTo(t, s.opt)
			} else {
				to := newLayout(t)
				_, err := joinFrom(t.Context(), to, path)
				must(t, err)
				whole(t, to, lookup(t, to, "app1"))
			}
			ocitest.AssertSame(t, readOnly, ocitest.Snapshot(t, dir))
			must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Chmod(p, 0o755))
			}))
			ocitest.AssertSame(t, before, ocitest.Snapshot(t, dir), "mode")
		}
	})
}

// TestMemory splits and joins 400 MB in a process of its own.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 600 MB")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "layer")
	f, err := os.Create(file)
	must(t, err)
	must(t, f.Truncate(300<<20))
	must(t, f.Close())
	l := filepath.Join(dir, "L")
	for _, ref := range []string{"debian", "runtime", "app1", "app2"} {
		ocitest.Image{LayerFiles: []string{file}, Compression: "none"}.Write(t, l, ref)
	}
	c := command("memory", l, filepath.Join(dir, "OUT"))
	c.Env = append(c.Env, "GOGC=100") // whatever the tests run with
	o, err := c.Output()
	must(t, err)
	var kib int64
	_, err = fmt.Sscan(strings.TrimSpace(string(o)), &kib)
	must(t, err)
	t.Logf("peak: %d KiB, %d CPUs", kib, runtime.NumCPU())
	limit := int64(64 << 10)
	if raceEnabled {
		limit = 192 << 10
	}
	if kib > limit {
		t.Errorf("%d KiB", kib)
	}
}
