// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// goalDiff is against unpacking both images and comparing the trees.
const goalDiff = 10

// unpackAndCompare unpacks the images with umoci into directories that are called after
// their tags, and compares the trees by name, type and content.
const unpackAndCompare = `
cd "$1"
for tag in left right; do "$2" unpack --image "$3:$tag" "$tag"; done
diff --recursive --brief --no-dereference left/rootfs right/rootfs || [ $? -eq 1 ]`

// diff compares two images that have the image as their base in common, and a bundle with
// its image.
func (b *bench) diff() error {
	b.head()
	for _, tag := range []string{"left", "right"} {
		if err := b.derive(tag); err != nil {
			return err
		}
	}
	trees := filepath.Join(b.work, "trees")
	peer := func() (usage, error) {
		if err := os.Mkdir(trees, 0o755); err != nil {
			return usage{}, err
		}
		u, err := timed("bash", "-ec", unpackAndCompare, "bash", trees, b.umoci, b.layout)
		return u, errors.Join(err, removeAll(trees))
	}
	err := b.compare(compared{
		work: "diff of two images on one base, umoci + diff -r", goal: goalDiff, peer: peer,
		shale: func() (usage, error) { return timed(b.shale, "diff", b.layout+":left", b.layout+":right") },
	})
	if err != nil {
		return err
	}
	bundle := filepath.Join(b.work, "bundle")
	if _, err := timed(b.shale, "unpack", "--image", b.layout+":left", bundle); err != nil {
		return err
	}
	err = b.compare(compared{
		work: "diff of an image and its bundle, the same", peer: peer,
		shale: func() (usage, error) { return timed(b.shale, "diff", b.layout+":left", bundle) },
	})
	return errors.Join(err, removeAll(bundle))
}

// derive puts one more layer on the image: a hundred new files and a changed one.
func (b *bench) derive(tag string) error {
	bundle := filepath.Join(b.work, "derive")
	if _, err := timed(b.shale, "unpack", "--image", b.layout+":bench", bundle); err != nil {
		return err
	}
	rootfs := filepath.Join(bundle, "rootfs")
	dir := filepath.Join(rootfs, "srv", tag)
	err := os.MkdirAll(dir, 0o755)
	for i := range 100 {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d", i)), fmt.Appendf(nil, "%s %d\n", tag, i), 0o644))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(rootfs, "etc", "hostname"), []byte(tag+"\n"), 0o644))
	if err == nil {
		_, err = timed(b.shale, "repack", "--image", b.layout+":"+tag, bundle)
	}
	return errors.Join(err, removeAll(bundle))
}
