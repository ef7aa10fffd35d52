// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// Goals of how cost grows with the number n of things: time as n to the power of
// slope, from where the fixed cost does not matter any more, and memory in bytes for
// each beyond what the design's image takes.
const (
	goalSlope = 1.15
	goalBytes = 300
)

// point is what one size took.
type point struct {
	n int
	usage
}

// scale measures how time and memory grow with the number of entries, blobs and
// tags.
func (b *bench) scale() error {
	b.printf("\nTime of one run in seconds, and memory in MiB, for n entries, blobs or tags. The\n")
	b.printf("slope is that of the logarithms, over the last two decades: 1 is a straight line.\n\n")
	b.printf("| work | n: time, memory | slope | memory for each entry |\n| --- | --- | --- | --- |\n")
	if err := b.scaleEntries(); err != nil {
		return err
	}
	if err := b.scaleBlobs(); err != nil {
		return err
	}
	return b.scaleTags()
}

// scaleEntries unpacks, repacks and compares images of more and more entries.
func (b *bench) scaleEntries() error {
	works := []string{"unpack", "repack", "diff"}
	points := map[string][]point{}
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		layout, err := b.other("scale", func(_ *bench, dir string) (ocitest.Image, error) {
			layer, err := writeLayer(dir, "1.tar", uint64(n), func(t *tree) error {
				return t.files(n, func() int64 { return 10 })
			})
			return ocitest.Image{LayerFiles: []string{layer}}, err
		})
		if err != nil {
			return err
		}
		bundle := filepath.Join(b.work, "scale-bundle")
		for _, work := range works {
			args := []string{"unpack", "--image", layout + ":bench", bundle}
			switch work {
			case "repack":
				if err := os.WriteFile(filepath.Join(bundle, "rootfs/directory-00000/file-0000001"), []byte("new"), 0o644); err != nil {
					return err
				}
				args = []string{"repack", "--image", layout + ":new", bundle}
			case "diff":
				args = []string{"diff", layout + ":bench", layout + ":new"}
			}
			u, err := timed(b.shale, args...)
			if err != nil {
				return err
			}
			points[work] = append(points[work], point{n, u})
		}
		if err := errors.Join(removeAll(bundle), removeAll(layout)); err != nil {
			return err
		}
	}
	for _, work := range works {
		b.line(work, points[work], true)
	}
	return nil
}

// scaleBlobs has gc remove more and more blobs.
func (b *bench) scaleBlobs() error {
	var points []point
	for _, n := range []int{1_000, 10_000, 100_000} {
		layout := filepath.Join(b.work, "scale")
		if _, err := ocitest.Put(layout, "bench", ocitest.Image{}); err != nil {
			return err
		}
		for i := range n {
			data := fmt.Append(nil, i)
			name := fmt.Sprintf("%x", sha256.Sum256(data))
			if err := os.WriteFile(filepath.Join(layout, "blobs/sha256", name), data, 0o644); err != nil {
				return err
			}
		}
		u, err := timed(b.shale, "gc", "--layout", layout)
		if err := errors.Join(err, removeAll(layout)); err != nil {
			return err
		}
		points = append(points, point{n, u})
	}
	b.line("gc, blobs", points, false)
	return nil
}

// scaleTags lists more and more tags.
func (b *bench) scaleTags() error {
	var points []point
	for _, n := range []int{100, 1_000, 10_000} {
		layout := filepath.Join(b.work, "scale")
		d, err := ocitest.Put(layout, "bench", ocitest.Image{})
		if err != nil {
			return err
		}
		index := ispec.Index{MediaType: ispec.MediaTypeImageIndex}
		index.SchemaVersion = 2
		for i := range n {
			d.Annotations = map[string]string{ispec.AnnotationRefName: fmt.Sprintf("tag-%d", i)}
			index.Manifests = append(index.Manifests, d)
		}
		data, err := json.Marshal(index)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(layout, "index.json"), data, 0o644); err != nil {
			return err
		}
		u, err := timed(b.shale, "ls", "--layout", layout)
		if err := errors.Join(err, removeAll(layout)); err != nil {
			return err
		}
		points = append(points, point{n, u})
	}
	b.line("ls, tags", points, false)
	return nil
}

// line prints the points of one work, and judges them.
func (b *bench) line(work string, points []point, memory bool) {
	var cells string
	for i, p := range points {
		if i > 0 {
			cells += "; "
		}
		cells += fmt.Sprintf("%d: %.2f s, %d", p.n, p.wall.Seconds(), p.peak>>20)
	}
	first, last := points[len(points)-3], points[len(points)-1]
	// What starts a program is no part of how its cost grows.
	start := time.Duration(0)
	if first.wall < 20*time.Millisecond {
		start = points[0].wall
	}
	slope := math.Log(float64(last.wall-start)/float64(max(first.wall-start, time.Millisecond))) / math.Log(float64(last.n)/float64(first.n))
	per := ""
	if memory {
		bytes := (last.peak - goalMemory) / int64(last.n)
		per = fmt.Sprintf("%d bytes beyond %d MiB; at most %d: %s", max(bytes, 0), goalMemory>>20, goalBytes, b.judge("memory of "+work, bytes <= goalBytes))
	}
	b.printf("| %s | %s | %.2f; at most %g: %s | %s |\n", work, cells, slope, goalSlope, b.judge("growth of "+work, slope <= goalSlope), per)
}
