// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestCrowd is S13, S14 and S16: processes that repack, tag, remove tags and collect
// garbage in one layout for a minute, with readers. No command may fail, no tag be
// lost, no blob be missing, and no reader see anything that is not whole.
func TestCrowd(t *testing.T) {
	for _, m := range inTurn(0) {
		t.Run(m.Name, func(t *testing.T) { place(t, m).crowd(t) })
	}
}

func (s stage) crowd(t *testing.T) {
	const writers = 8
	for i := range writers {
		out, err := exec.Command("cp", "-a", s.path("bundle"), s.path(fmt.Sprintf("bundle%d", i))).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(pick(4, 60))*time.Second)
	defer cancel()
	var crowd sync.WaitGroup
	var done, reads atomic.Int64
	join := func(step func(round int) error) {
		crowd.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				if err := step(round); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	run := func(line string) error {
		if out, err := s.command(line).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
		return nil
	}
	last := make([]string, writers) // what each repacker has put into its image last
	for i := range writers {
		join(func(round int) error {
			text := fmt.Sprintf("%d %d\n", i, round)
			if err := os.WriteFile(s.path(fmt.Sprintf("bundle%d/rootfs/round", i)), []byte(text), 0o644); err != nil {
				return err
			}
			last[i] = text
			return run(fmt.Sprintf("repack --image layout:repack%d bundle%d", i, i))
		})
		join(func(round int) error {
			if round%3 == 2 {
				return run(fmt.Sprintf("rm --image layout:tag%d", i))
			}
			return run(fmt.Sprintf("tag --image layout:base tag%d", i))
		})
	}
	for range 2 {
		join(func(int) error { return run("gc --layout layout") })
	}
	join(func(int) error { reads.Add(1); return run("stat --json --image layout:base") })
	crowd.Go(func() { reads.Add(readAll(ctx, t, s.path("layout"))) })
	crowd.Wait()
	// A hundred thousand reads may take longer than the crowd is there: then with
	// writers that have nothing else to do.
	if missing := 100_000 - reads.Load(); all && missing > 0 {
		reads.Add(readOn(t, s, missing))
	}
	t.Logf("%d commands and %d reads", done.Load(), reads.Load())
	ocitest.AssertWhole(t, s.path("layout"))
	for i := range writers {
		must(t, run(fmt.Sprintf("unpack --image layout:repack%d made%d", i, i)))
		got, err := os.ReadFile(s.path(fmt.Sprintf("made%d/rootfs/round", i)))
		must(t, err)
		if string(got) != last[i] {
			t.Errorf("the image of repacker %d has %q, not %q", i, got, last[i])
		}
	}
	must(t, run("gc --layout layout"))
	victim{name: "crowd", target: "layout"}.tidy(t, s, "a crowd")
	ocitest.AssertWhole(t, s.path("layout"))
}

// readOn resolves a tag that often while others are written.
func readOn(t *testing.T, s stage, times int64) int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			if out, err := s.command("tag --image layout:base tag0").CombinedOutput(); err != nil {
				t.Errorf("tag: %v: %s", err, out)
				return
			}
		}
	})
	defer writer.Wait()
	defer cancel()
	l, err := layout.Open(ctx, s.path("layout"), nil)
	must(t, err)
	defer l.Close()
	for n := range times {
		if _, err := l.Resolve(ctx, "base", nil); err != nil {
			t.Error(err)
			return n
		}
	}
	return times
}

// readAll resolves a tag again and again, and returns how often.
func readAll(ctx context.Context, t *testing.T, path string) (reads int64) {
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer l.Close()
	for ; ctx.Err() == nil; reads++ {
		if _, err := l.Resolve(ctx, "base", nil); err != nil && ctx.Err() == nil {
			t.Error(err)
			return reads
		}
	}
	return reads
}
