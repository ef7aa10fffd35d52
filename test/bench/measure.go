// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is one run of all measurements.
type bench struct {
	ctx          context.Context
	stdout       io.Writer
	n            int
	work         string
	shale, umoci string
	layout       string
	layers       []string // paths of the layer blobs
	compressed   int64    // bytes
	unpacked     int64    // bytes
	entries      int
	peak         int64 // bytes, of shale with this image
	failed       []string
}

// goalMemory is what shale may take for the image, in bytes.
const goalMemory = 128 << 20

// debianUmoci is the umoci that Debian has.
const debianUmoci = "/usr/bin/umoci"

// copyImage copies the image to where it is measured, and reads its layers.
func (b *bench) copyImage(image string) error {
	b.layout = filepath.Join(b.work, "image")
	if err := os.CopyFS(b.layout, os.DirFS(image)); err != nil {
		return fmt.Errorf("copy the image: %w", err)
	}
	var err error
	if b.layers, b.compressed, err = layersOf(b.layout); err != nil {
		return err
	}
	// One unpack that does not count: it warms up, and what it makes is counted.
	dir := filepath.Join(b.work, "count")
	if _, err := timed(b.shale, "unpack", "--image", b.layout+":bench", dir); err != nil {
		return err
	}
	err = filepath.WalkDir(filepath.Join(dir, "rootfs"), func(_ string, d fs.DirEntry, err error) error {
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

// layersOf returns the paths of the layer blobs of the first image in a layout,
// and their size in bytes.
func layersOf(layout string) (paths []string, size int64, err error) {
	var index, manifest struct {
		Manifests, Layers []struct {
			Digest string
			Size   int64
		}
	}
	blob := func(digest string) string {
		return filepath.Join(layout, "blobs", strings.Replace(digest, ":", "/", 1))
	}
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return nil, 0, err
	}
	if len(index.Manifests) == 0 {
		return nil, 0, errors.New("the layout holds no image")
	}
	if err := readJSON(blob(index.Manifests[0].Digest), &manifest); err != nil {
		return nil, 0, err
	}
	for _, l := range manifest.Layers {
		paths = append(paths, blob(l.Digest))
		size += l.Size
	}
	return paths, size, nil
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
	cpu  time.Duration // of all threads and children, user and system
	peak int64         // bytes of memory
}

// measurer is the program that runs the others: the kernel counts for a process what
// the one that started it had in memory, which must therefore be small.
var measurer string

// buildMeasurer builds it into dir.
func buildMeasurer(dir string) error {
	measurer = filepath.Join(dir, "measure")
	out, err := exec.Command("go", "build", "-o", measurer, "./test/hostile/measure").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build what measures: %w: %s", err, out)
	}
	return nil
}

// timed runs a program and measures it.
func timed(name string, args ...string) (u usage, err error) {
	report, w, err := os.Pipe()
	if err != nil {
		return u, err
	}
	defer report.Close() //nolint:errcheck // only read from
	cmd := exec.Command(measurer, append([]string{name}, args...)...)
	cmd.ExtraFiles = []*os.File{w}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	err = cmd.Run()
	u.wall = time.Since(start)
	if err := errors.Join(err, w.Close()); err != nil {
		return u, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	var status, signal int
	if _, err := fmt.Fscan(report, &status, &signal, &u.peak, &u.cpu); err != nil {
		return u, fmt.Errorf("read what was measured: %w", err)
	}
	u.peak <<= 10
	if status != 0 {
		return u, fmt.Errorf("%s %s: exit status %d: %s", filepath.Base(name), strings.Join(args, " "), status, strings.TrimSpace(stderr.String()))
	}
	return u, nil
}

// compared is a measurement of shale and of a peer, pair by pair.
type compared struct {
	work  string
	goal  float64 // the ratio that there must be at least; 0 for none
	igzip float64 // the same where igzip is on PATH
	other bool    // this is with another image, or none: its memory has a goal of its own
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
	if !c.other {
		b.peak = max(b.peak, ourPeak)
	}
	ratio := median(ratios)
	goal := ""
	if c.goal > 0 {
		goal = fmt.Sprintf("at least %.3g: %s", c.goal, b.judge(c.work, ratio >= c.goal))
	}
	if path, _ := exec.LookPath("igzip"); c.igzip > 0 && path != "" {
		goal += fmt.Sprintf("; where there is igzip, %.3g: %s", c.igzip, b.judge(c.work+" where there is igzip", ratio >= c.igzip))
	}
	b.printf("| %-46s | %7.2f s | %7.2f s | %6.1f | %9d | %8d | %s |\n", c.work, median(ours), median(theirs), ratio, ourPeak>>20, theirPeak>>20, goal)
	return nil
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
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
