// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// other is an image of another kind than the one that most is measured with.
type other struct {
	name string
	make func(b *bench, dir string) (ocitest.Image, error)
}

var others = []other{
	{"many-small: 200,000 files under 1 KB", (*bench).manySmall},
	{"few-big: 4 files of 500 MB, one of them sparse", (*bench).fewBig},
	{"sixty layers", (*bench).sixtyLayers},
	{"the same image as zstd", (*bench).asZstd},
}

// images unpacks images of other kinds.
func (b *bench) images() error {
	b.head()
	for i, o := range others {
		layout, err := b.other(fmt.Sprintf("other-%d", i), o.make)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		err = b.compare(compared{
			work: "unpack " + o.name + ", umoci v0.6.0", goal: 1, other: true,
			shale: b.unpacking(b.shale, layout), peer: b.unpacking(b.umoci, layout),
		})
		if err != nil {
			return err
		}
		layers, _, err := layersOf(layout)
		if err != nil {
			return err
		}
		tool := "igzip"
		if i == len(others)-1 {
			tool = "zstd"
		}
		if path, _ := exec.LookPath(tool); path == "" {
			b.skip("the same, tar through "+tool, tool+" is missing")
		} else if err := b.compare(compared{
			work: "the same, tar through " + tool, other: true,
			shale: b.unpacking(b.shale, layout), peer: b.extracting(tool, layers),
		}); err != nil {
			return err
		}
		if err := removeAll(layout); err != nil {
			return err
		}
	}
	return nil
}

// other makes an image, tagged "bench", in a layout below the working directory.
// What it was made from is removed.
func (b *bench) other(name string, build func(b *bench, dir string) (ocitest.Image, error)) (layout string, err error) {
	dir := filepath.Join(b.work, name+".layers")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	image, err := build(b, dir)
	if err != nil {
		return "", err
	}
	layout = filepath.Join(b.work, name)
	_, err = ocitest.Put(layout, "bench", image)
	return layout, err
}

// tree writes entries of a made-up tree into a tar.
type tree struct {
	*tar.Writer
	rng *rand.Rand
}

// writeLayer writes a layer file, and returns its name.
func writeLayer(dir, name string, seed uint64, write func(*tree) error) (_ string, err error) {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := bufio.NewWriterSize(f, 1<<20)
	t := &tree{tar.NewWriter(buf), rand.New(rand.NewPCG(seed, 1))}
	if err := errors.Join(write(t), t.Close(), buf.Flush()); err != nil {
		return "", err
	}
	return f.Name(), nil
}

func (t *tree) dir(name string) error {
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(1_500_000_000, 0)})
}

// file writes a file of text that compresses to about a third, as programs do.
func (t *tree) file(name string, size int64) error {
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(1_500_000_000, 0)}
	if err := t.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := io.CopyN(t, &text{rng: t.rng}, size)
	return err
}

// text is an endless stream of words from a small vocabulary.
type text struct {
	rng  *rand.Rand
	rest []byte
}

func (t *text) Read(p []byte) (int, error) {
	for len(t.rest) < len(p) {
		t.rest = fmt.Appendf(t.rest, "%x ", t.rng.Uint32()&t.rng.Uint32()&0x1fffff)
	}
	n := copy(p, t.rest)
	t.rest = append(t.rest[:0], t.rest[n:]...)
	return n, nil
}

// files writes n entries: directories of 99 files each.
func (t *tree) files(n int, size func() int64) error {
	dir := ""
	for i := range n {
		var err error
		if i%100 == 0 {
			dir = fmt.Sprintf("directory-%05d", i/100)
			err = t.dir(dir)
		} else {
			err = t.file(fmt.Sprintf("%s/file-%07d", dir, i), size())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) manySmall(dir string) (ocitest.Image, error) {
	layer, err := writeLayer(dir, "1.tar", 1, func(t *tree) error {
		return t.files(200_000, func() int64 { return t.rng.Int64N(1000) })
	})
	return ocitest.Image{LayerFiles: []string{layer}}, err
}

func (b *bench) fewBig(dir string) (ocitest.Image, error) {
	const size = 500_000_000
	layer, err := writeLayer(dir, "1.tar", 2, func(t *tree) error {
		for i := range 3 {
			if err := t.file(fmt.Sprintf("big-%d", i), size); err != nil {
				return err
			}
		}
		// Go writes no sparse entries, but shale finds long runs of zeros.
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: 0o644, Size: size}); err != nil {
			return err
		}
		zeros := make([]byte, 1<<20)
		for left := int64(size); left > 0; left -= int64(len(zeros)) {
			if _, err := t.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
				return err
			}
		}
		return nil
	})
	return ocitest.Image{LayerFiles: []string{layer}}, err
}

// sixtyLayers overwrites a tenth of its files, and deletes some, in each layer.
func (b *bench) sixtyLayers(dir string) (ocitest.Image, error) {
	var image ocitest.Image
	for l := range 60 {
		layer, err := writeLayer(dir, fmt.Sprintf("%d.tar", l), uint64(l), func(t *tree) error {
			for d := range 10 {
				name := fmt.Sprintf("directory-%d", d)
				if err := t.dir(name); err != nil {
					return err
				}
				for f := range 50 {
					// Most names are new; the others are in the layers below.
					file := fmt.Sprintf("%s/file-%d-%d", name, l-t.rng.IntN(10)/9, f)
					if err := t.file(file, t.rng.Int64N(20_000)); err != nil {
						return err
					}
				}
				if l > 0 {
					gone := fmt.Sprintf("%s/.wh.file-%d-0", name, l-1)
					if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: gone}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return image, err
		}
		image.LayerFiles = append(image.LayerFiles, layer)
	}
	return image, nil
}

func (b *bench) asZstd(dir string) (ocitest.Image, error) {
	plain, err := b.plain(dir)
	return ocitest.Image{LayerFiles: plain, Compression: "zstd"}, err
}

// plain decompresses the layers of the image into dir.
func (b *bench) plain(dir string) (files []string, err error) {
	for i, l := range b.layers {
		file := filepath.Join(dir, fmt.Sprintf("plain-%d.tar", i))
		if _, err := timed("bash", "-ec", `gzip -dc "$0" >"$1"`, l, file); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}
