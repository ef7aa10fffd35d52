// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
)

// goalPack is that packing is at least as fast as the fastest peer.
const goalPack = 1

// pack compares making an image of the whole tree with what umoci and crane do for that.
// gzip levels are the tools' own: shale's and umoci's are pgzip's default, which is 5 of the
// compress library; crane's is the fastest of the standard library, 1.
func (b *bench) pack() error {
	bundle := filepath.Join(b.work, "bundle")
	if _, err := timed(b.shale, "unpack", "--image", b.layout+":bench", bundle); err != nil {
		return err
	}
	p := packing{b: b, tree: filepath.Join(bundle, "rootfs"), sizes: map[string]int64{}}
	return errors.Join(p.run(), removeAll(bundle))
}

// packing is the measurement of one tree.
type packing struct {
	b     *bench
	tree  string
	sizes map[string]int64 // of what came out, in bytes
}

func (p *packing) run() error {
	b := p.b
	b.head()
	crane, err := filepath.Abs("bin/peers/crane")
	if err != nil {
		return err
	}
	_, craneErr := os.Stat(crane)
	for _, m := range []struct {
		work  string
		goal  float64
		skip  error
		shale []string
		peer  func() (usage, error)
	}{
		{"pack, umoci new and insert", goalPack, nil, nil, p.umoci},
		{"pack, GNU tar and crane append", goalPack, craneErr, nil, func() (usage, error) { return p.crane(crane) }},
		{"pack --compress gzip:1, GNU tar and crane append", 0, craneErr, []string{"--compress", "gzip:1"},
			func() (usage, error) { return p.crane(crane) }},
	} {
		if m.skip != nil {
			b.skip(m.work, m.skip.Error())
			continue
		}
		c := compared{work: m.work, goal: m.goal, peer: m.peer, shale: func() (usage, error) { return p.shale(m.shale...) }}
		if err := b.compare(c); err != nil {
			return err
		}
	}
	if err := p.again(); err != nil {
		return err
	}
	b.printf("\nWhat came out: %s by shale (gzip level 5 of pgzip, its default), %s with gzip:1; %s by umoci (the same)",
		megabytes(p.sizes["shale"]), megabytes(p.sizes["gzip:1"]), megabytes(p.sizes["umoci"]))
	if craneErr == nil {
		b.printf("; %s by crane (gzip level 1 of Go's library)", megabytes(p.sizes["crane"]))
	}
	b.printf(".\nNo larger than umoci's by more than one in a thousand: %s.\n",
		b.judge("size of a pack", p.sizes["shale"] <= p.sizes["umoci"]+p.sizes["umoci"]/1000))
	return nil
}

// again measures the second run with a cache, in which no file is opened.
func (p *packing) again() error {
	layout, cache := filepath.Join(p.b.work, "packed"), filepath.Join(p.b.work, "cache")
	args := []string{"pack", "--image", layout + ":x", "--cache", cache, p.tree}
	if _, err := timed(p.b.shale, args...); err != nil {
		return err
	}
	err := p.b.compare(compared{
		work:  "pack --cache of the same again, find -ls",
		shale: func() (usage, error) { return timed(p.b.shale, args...) },
		peer:  func() (usage, error) { return timed("find", p.tree, "-ls") },
	})
	return errors.Join(err, removeAll(layout), removeAll(cache))
}

func (p *packing) shale(flags ...string) (usage, error) {
	layout := filepath.Join(p.b.work, "packed")
	u, err := timed(p.b.shale, append(append([]string{"pack", "--image", layout + ":x"}, flags...), p.tree)...)
	if err != nil {
		return u, err
	}
	name := "shale"
	if len(flags) > 0 {
		name = flags[len(flags)-1]
	}
	_, p.sizes[name], err = layersOf(layout)
	return u, errors.Join(err, removeAll(layout))
}

func (p *packing) umoci() (usage, error) {
	layout := filepath.Join(p.b.work, "packed")
	var total usage
	for _, args := range [][]string{
		{"init", "--layout", layout},
		{"new", "--image", layout + ":x"},
		{"insert", "--image", layout + ":x", p.tree, "/"},
	} {
		u, err := timed(p.b.umoci, args...)
		if err != nil {
			return total, err
		}
		total.add(u)
	}
	var err error
	_, p.sizes["umoci"], err = layersOf(layout)
	return total, errors.Join(err, removeAll(layout))
}

// crane makes a tar of the tree first, which counts: crane only takes tars.
func (p *packing) crane(crane string) (usage, error) {
	tar, image := filepath.Join(p.b.work, "tree.tar"), filepath.Join(p.b.work, "image.tar")
	total, err := timed("tar", "--create", "--file", tar, "--directory", p.tree, "--numeric-owner", "--xattrs", ".")
	if err != nil {
		return total, err
	}
	u, err := timed(crane, "append", "--oci-empty-base", "--new_layer", tar, "--new_tag", "bench:x", "--output", image)
	if err != nil {
		return total, err
	}
	total.add(u)
	info, err := os.Stat(image)
	if err == nil {
		p.sizes["crane"] = info.Size()
	}
	return total, errors.Join(err, os.Remove(tar), os.Remove(image))
}

// add puts the run of another program after u.
func (u *usage) add(next usage) {
	u.wall += next.wall
	u.peak = max(u.peak, next.peak)
}
