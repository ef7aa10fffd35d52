// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of all measurements.
type bench struct {
	n            int
	work         string
	shale, umoci string
	layout       string
	layers       []string // paths of the layer blobs
	compressed   int64    // bytes
	unpacked     int64    // bytes
	entries      int
	peak         int64 // bytes, of shale in all measurements
	failed       []string
}

const (
	goalUnpack  = 2.5
	goalRepack  = 15
	goalForeign = 2
	goalMemory  = 256 << 20
)

// copyImage copies the image to where it is measured, and reads its layers.
func (b *bench) copyImage(image string) error {
	b.layout = filepath.Join(b.work, "image")
	if err := os.CopyFS(b.layout, os.DirFS(image)); err != nil {
		return fmt.Errorf("copy the image: %w", err)
	}
	var index, manifest struct {
		Manifests, Layers []struct {
			Digest string
			Size   int64
		}
	}
	if err := readJSON(filepath.Join(b.layout, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) == 0 {
		return errors.New("the layout holds no image")
	}
	if err := readJSON(b.blob(index.Manifests[0].Digest), &manifest); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		b.layers = append(b.layers, b.blob(l.Digest))
		b.compressed += l.Size
	}
	// One unpack that does not count: it warms up, and what it makes is counted.
	dir := filepath.Join(b.work, "count")
	if _, err := timed(b.shale, "unpack", "--image", b.layout+":bench", dir); err != nil {
		return err
	}
	err := filepath.WalkDir(filepath.Join(dir, "rootfs"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b.entries++
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			b.unpacked += info.Size()
		}
		return nil
	})
	return errors.Join(err, removeAll(dir))
}

func (b *bench) blob(digest string) string {
	return filepath.Join(b.layout, "blobs", strings.Replace(digest, ":", "/", 1))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// usage is what one run of a program took.
type usage struct {
	wall time.Duration
	peak int64 // bytes of memory
}

// timed runs a program and measures it.
func timed(name string, args ...string) (usage, error) {
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return usage{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	u := usage{wall: wall}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = ru.Maxrss << 10
	}
	return u, nil
}

// compared is a measurement of shale and of a peer, pair by pair.
type compared struct {
	work  string
	goal  float64 // the ratio that there must be at least; 0 for none
	shale func() (usage, error)
	peer  func() (usage, error)
}

// compare runs the pairs and prints the line.
func (b *bench) compare(c compared) error {
	var ours, theirs, ratios []float64
	var ourPeak, theirPeak int64
	for range b.n {
		s, err := c.shale()
		if err != nil {
			return err
		}
		p, err := c.peer()
		if err != nil {
			return err
		}
		ours, theirs = append(ours, s.wall.Seconds()), append(theirs, p.wall.Seconds())
		ratios = append(ratios, p.wall.Seconds()/s.wall.Seconds())
		ourPeak, theirPeak = max(ourPeak, s.peak), max(theirPeak, p.peak)
	}
	b.peak = max(b.peak, ourPeak)
	ratio := median(ratios)
	goal := ""
	if c.goal > 0 {
		goal = fmt.Sprintf("at least %g times as fast: %s", c.goal, b.judge(c.work, ratio >= c.goal))
	}
	fmt.Printf("%-34s %7.2f s %7.2f s %6.1fx %9d %9d  %s\n", c.work, median(ours), median(theirs), ratio, ourPeak>>20, theirPeak>>20, goal)
	return nil
}

func (b *bench) judge(work string, ok bool) string {
	if ok {
		return "PASS"
	}
	b.failed = append(b.failed, work)
	return "FAIL"
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// unpacking returns a run of tool's unpack, whose bundle is removed afterwards.
func (b *bench) unpacking(tool string) func() (usage, error) {
	return func() (usage, error) {
		dir := filepath.Join(b.work, "bundle")
		u, err := timed(tool, "unpack", "--image", b.layout+":bench", dir)
		return u, errors.Join(err, removeAll(dir))
	}
}

func (b *bench) unpack() error {
	return b.compare(compared{
		work: "unpack, against umoci", goal: goalUnpack,
		shale: b.unpacking(b.shale), peer: b.unpacking(b.umoci),
	})
}

// floor compares with GNU tar reading the same layers, which checks nothing.
func (b *bench) floor() error {
	const tool = "igzip"
	if path, _ := exec.LookPath(tool); path == "" {
		fmt.Printf("%-34s SKIPPED: igzip (Debian package isal) is missing\n", "unpack, against tar with igzip")
		return nil
	}
	return b.compare(compared{
		work:  "unpack, against tar with " + tool,
		shale: b.unpacking(b.shale),
		peer: func() (usage, error) {
			dir := filepath.Join(b.work, "tree")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return usage{}, err
			}
			script := fmt.Sprintf(`set -o pipefail; cd %q; for layer; do %s -dc "$layer" | tar --extract --numeric-owner; done`, dir, tool)
			u, err := timed("bash", append([]string{"-ec", script, "bash"}, b.layers...)...)
			return u, errors.Join(err, removeAll(dir))
		},
	})
}

// repacking returns a run of tool's repack of a bundle in which one file has
// been changed since maker unpacked it.
func (b *bench) repacking(tool, maker string) (run func() (usage, error), done func() error, err error) {
	dir := filepath.Join(b.work, filepath.Base(tool)+"-"+filepath.Base(maker))
	if _, err := timed(maker, "unpack", "--image", b.layout+":bench", dir); err != nil {
		return nil, nil, err
	}
	runs := 0
	run = func() (usage, error) {
		runs++
		data := fmt.Sprintf("edit %d\n", runs)
		if err := os.WriteFile(filepath.Join(dir, "rootfs", "etc", "hostname"), []byte(data), 0o644); err != nil {
			return usage{}, err
		}
		return timed(tool, "repack", "--image", b.layout+":new", dir)
	}
	return run, func() error { return removeAll(dir) }, nil
}

func (b *bench) repack() error {
	return b.comparePacking("repack of one file, against umoci", b.shale, goalRepack)
}

func (b *bench) repackForeign() error {
	return b.comparePacking("the same of umoci's bundle", b.umoci, goalForeign)
}

// comparePacking compares repacks; shale's is of a bundle that maker has made.
func (b *bench) comparePacking(work, maker string, goal float64) error {
	ours, ourEnd, err := b.repacking(b.shale, maker)
	if err != nil {
		return err
	}
	theirs, theirEnd, err := b.repacking(b.umoci, b.umoci)
	if err != nil {
		return errors.Join(err, ourEnd())
	}
	err = b.compare(compared{work: work, goal: goal, shale: ours, peer: theirs})
	return errors.Join(err, ourEnd(), theirEnd())
}

func (b *bench) verdict() error {
	fmt.Printf("\npeak memory of shale: %d MB; goal: at most %d MB: %s\n", b.peak>>20, goalMemory>>20, b.judge("memory", b.peak <= goalMemory))
	if len(b.failed) > 0 {
		return fmt.Errorf("goals missed: %s", strings.Join(b.failed, ", "))
	}
	return nil
}

// removeAll removes a tree in which there may be directories that their owner
// may not enter.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
