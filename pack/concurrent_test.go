// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

// forest is snapshots with keys that branch: the parent of number n is number (n-1)/2.
func forest(t testing.TB, rng *rand.Rand, root string, n int) []pack.Snapshot {
	t.Helper()
	var all []pack.Snapshot
	for i := range n {
		s := pack.Snapshot{Name: fmt.Sprint("s", i), Key: fmt.Sprint("key", i), Dir: filepath.Join(root, fmt.Sprint(i))}
		if i == 0 {
			must(t, os.Mkdir(s.Dir, 0o755))
			ocitest.RandomEdits(t, rng, s.Dir, 40)
		} else {
			parent := all[(i-1)/2]
			s.Parent = parent.Name
			copyTree(t, parent.Dir, s.Dir)
			ocitest.RandomEdits(t, rng, s.Dir, 10)
		}
		all = append(all, s)
	}
	return all
}

// upTo returns the snapshots with number n as the last.
func upTo(all []pack.Snapshot, n int) []pack.Snapshot {
	list := slices.Concat(all[:n], all[n+1:])
	return append(list, all[n])
}

// counted counts the layers that are made, by the ends of the work on each snapshot.
type counted struct {
	mu   sync.Mutex
	made map[string]int
}

func (c *counted) report(e progress.Event) {
	if e.Stage == "compressing" && e.End {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.made == nil {
			c.made = map[string]int{}
		}
		c.made[e.Name]++
	}
}

// TestConcurrent exports overlapping chains, all at once and one after the other: the digests
// are the same, and at once each layer is made once.
func TestConcurrent(t *testing.T) {
	all := forest(t, rand.New(rand.NewPCG(1, 5)), tempRoot(t), 15)
	leaves := []int{7, 8, 9, 10, 11, 12, 13, 14}
	one := newLayout(t)
	want := map[int]pack.Result{}
	for _, n := range leaves {
		want[n] = image(t, one, upTo(all, n), pack.Options{Map: mapping()})
	}
	for round := range 5 {
		l := newLayout(t)
		second, err := layout.Open(t.Context(), l.Path(), nil) // the same layout, opened twice
		must(t, err)
		var count counted
		got := make([]pack.Result, len(leaves))
		var wg sync.WaitGroup
		errs := make([]error, len(leaves))
		var gate sync.WaitGroup
		gate.Add(1)
		for i, n := range leaves {
			wg.Go(func() {
				gate.Wait()
				into := []*layout.Layout{l, second}[i%2]
				got[i], errs[i] = pack.Image(t.Context(), into, upTo(all, n), pack.Options{
					Map: mapping(), Refs: []string{fmt.Sprint("leaf", n)}, Progress: count.report, Parallel: 1 + i%3,
					Cache: new(pack.Cache), // of its own: only those that are at work count
				})
			})
		}
		gate.Done()
		wg.Wait()
		must(t, errors.Join(errs...))
		must(t, second.Close())
		ocitest.AssertWhole(t, l.Path())
		for i, n := range leaves {
			if got[i].Descriptor.Digest != want[n].Descriptor.Digest {
				t.Errorf("round %d, leaf %d: got %s, want %s", round, n, got[i].Descriptor.Digest, want[n].Descriptor.Digest)
			}
		}
		for _, s := range all {
			if count.made[s.Name] != 1 {
				t.Errorf("round %d: the layer of %s was made %d times", round, s.Name, count.made[s.Name])
			}
		}
	}
}

// TestCancelOneOfTwo cancels the call that makes a layer which another one waits for.
func TestCancelOneOfTwo(t *testing.T) {
	l := newLayout(t)
	layerTar := ocitest.Layer(ocitest.File("f", "content", 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var opened atomic.Int32
	begun := make(chan struct{})
	s := []pack.Snapshot{{Key: "k", Tar: func(ctx context.Context) (io.ReadCloser, error) {
		if opened.Add(1) == 1 {
			close(begun)
			<-ctx.Done() // the first never gets anywhere
			return nil, ctx.Err()
		}
		return io.NopCloser(strings.NewReader(string(layerTar))), nil
	}}}
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := pack.Image(ctx, l, s, pack.Options{Refs: []string{"first"}})
		first <- err
	}()
	<-begun
	go func() {
		_, err := pack.Image(t.Context(), l, s, pack.Options{Refs: []string{"second"}})
		second <- err
	}()
	time.Sleep(20 * time.Millisecond) // so that the second waits, most likely
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	must(t, <-second)
	refs, err := l.Refs(t.Context())
	must(t, err)
	if !slices.Equal(refs, []string{"second"}) || opened.Load() != 2 {
		t.Errorf("the refs are %v, and the tar was opened %d times", refs, opened.Load())
	}
	ocitest.AssertWhole(t, l.Path())
}

// TestFailureOfOneOfTwo has one of two calls fail for a reason that the other does not have.
func TestFailureOfOneOfTwo(t *testing.T) {
	l := newLayout(t)
	layerTar := ocitest.Layer(ocitest.File("f", "content", 0o644))
	begun, fail, mine := make(chan struct{}), make(chan struct{}), errors.New("mine")
	first := make(chan error)
	go func() {
		_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Key: "k", Tar: func(context.Context) (io.ReadCloser, error) {
			close(begun)
			<-fail
			return nil, mine
		}}}, pack.Options{})
		first <- err
	}()
	<-begun
	second := make(chan error)
	go func() {
		_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Key: "k", Tar: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(string(layerTar))), nil
		}}}, pack.Options{Refs: []string{"second"}})
		second <- err
	}()
	time.Sleep(20 * time.Millisecond) // so that the second waits, most likely
	close(fail)
	if err := <-first; !errors.Is(err, mine) {
		t.Errorf("the first: %v", err)
	}
	must(t, <-second)
	ocitest.AssertWhole(t, l.Path())
}

// TestCancel cancels exports at random moments.
func TestCancel(t *testing.T) {
	all := forest(t, rand.New(rand.NewPCG(2, 5)), tempRoot(t), 7)
	rng := rand.New(rand.NewPCG(3, 5))
	l := newLayout(t)
	start := time.Now()
	image(t, l, upTo(all, 6), pack.Options{Map: mapping()})
	took := time.Since(start)
	cancelled := 0
	for range 40 {
		l := newLayout(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.Int64N(int64(took))))
		_, err := pack.Image(ctx, l, upTo(all, 6), pack.Options{Map: mapping(), Refs: []string{"v1", "v2"}})
		cancel()
		if err == nil {
			continue
		}
		cancelled++
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		assertUntouched(t, l)
		ocitest.AssertWhole(t, l.Path())
	}
	if cancelled == 0 {
		t.Error("none was cancelled")
	}
}

// TestProgress checks the steps that a builder shows, their order and their times.
func TestProgress(t *testing.T) {
	all := forest(t, rand.New(rand.NewPCG(4, 5)), tempRoot(t), 3)
	var ended []string
	last := map[string]progress.Event{}
	res := image(t, newLayout(t), upTo(all, 2), pack.Options{
		Map: mapping(), Refs: []string{"v1", "v2"},
		Progress: func(e progress.Event) {
			name := strings.TrimSpace(e.Stage + " " + e.Name)
			before, seen := last[name]
			if seen && (before.End || e.Done < before.Done || !before.Started.Equal(e.Started) || before.Unit != e.Unit) {
				t.Errorf("%+v comes after %+v", e, before)
			}
			last[name] = e
			if e.Started.IsZero() {
				return // of a single snapshot
			}
			if e.End != !e.Ended.IsZero() || e.End && e.Ended.Before(e.Started) {
				t.Errorf("the times of %+v", e)
			}
			if e.End {
				ended = append(ended, name)
			}
		},
	})
	config := last["exporting manifest "+res.Descriptor.Digest.String()]
	want := []string{"exporting layers", "exporting config", "exporting manifest " + res.Descriptor.Digest.String(), "naming to v1", "naming to v2"}
	if len(ended) > 1 {
		ended[1] = ended[1][:min(len(ended[1]), len("exporting config"))]
	}
	if !reflect.DeepEqual(ended, want) || config.Total != res.Descriptor.Size {
		t.Errorf("got %q, want %q", ended, want)
	}
	for name, e := range last {
		if !e.End {
			t.Errorf("%s never ends", name)
		}
	}
}

// TestErrorsNameTheSnapshot breaks one of several snapshots.
func TestErrorsNameTheSnapshot(t *testing.T) {
	all := forest(t, rand.New(rand.NewPCG(5, 5)), tempRoot(t), 4)
	stop := errors.New("stop")
	for name, tt := range map[string]struct {
		spoil func([]pack.Snapshot) []pack.Snapshot
		at    string
		want  error
	}{
		"missing directory": {func(s []pack.Snapshot) []pack.Snapshot { s[1].Dir += "x"; return s }, "s1", os.ErrNotExist},
		"callback": {func(s []pack.Snapshot) []pack.Snapshot {
			s[3].Dir, s[3].Tar = "", func(context.Context) (io.ReadCloser, error) { return nil, stop }
			return s
		}, "s3", stop},
		"no content":     {func(s []pack.Snapshot) []pack.Snapshot { s[2].Dir = ""; return s }, "s2", pack.ErrChain},
		"two contents":   {func(s []pack.Snapshot) []pack.Snapshot { s[2].Upper = "x"; return s }, "s2", pack.ErrChain},
		"missing parent": {func(s []pack.Snapshot) []pack.Snapshot { return s[1:] }, "s1", pack.ErrChain},
		"loop":           {func(s []pack.Snapshot) []pack.Snapshot { s[0].Parent = "s3"; return s }, "s1", pack.ErrChain},
		"two of a name":  {func(s []pack.Snapshot) []pack.Snapshot { s[2].Name = "s1"; return s }, "s1", pack.ErrChain},
		"none":           {func([]pack.Snapshot) []pack.Snapshot { return nil }, "", pack.ErrChain},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			_, err := pack.Image(t.Context(), l, tt.spoil(slices.Clone(all)), pack.Options{Map: mapping(), Refs: []string{"v1"}})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			var at *pack.SnapshotError
			if errors.As(err, &at) && at.Snapshot != tt.at || at == nil && tt.at != "" || !strings.Contains(err.Error(), tt.at) {
				t.Errorf("got %v, which is not about %s", err, tt.at)
			}
			assertUntouched(t, l)
		})
	}
}

// TestChangeMeanwhile changes a file while the tree is packed.
func TestChangeMeanwhile(t *testing.T) {
	root := tempRoot(t)
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	for _, dir := range []string{a, b} {
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content "+dir[len(dir)-1:]), 0o644))
		must(t, os.Chtimes(filepath.Join(dir, "file"), time.Unix(1, 0), time.Unix(1, 0)))
	}
	changed := 0
	change := func(e progress.Event) {
		if e.Stage == "checking" && e.End && e.Name == "two" {
			changed++
			must(t, os.WriteFile(filepath.Join(b, "file"), []byte("another"), 0o644))
		}
	}
	l := newLayout(t)
	_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Name: "one", Dir: a}, {Name: "two", Dir: b, Parent: "one"}},
		pack.Options{Map: mapping(), Refs: []string{"v1"}, Progress: change})
	var entry *pack.SnapshotError
	if !errors.As(err, &entry) || entry.Snapshot != "two" || !strings.Contains(err.Error(), "file") || changed != 1 {
		t.Errorf("got %v after %d changes", err, changed)
	}
	if !errors.Is(err, mtree.ErrChanged) && !strings.Contains(fmt.Sprint(err), "changed while") {
		t.Errorf("got %v", err)
	}
	assertUntouched(t, l)
}
