// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	goalRepack  = 20
	goalForeign = 2
)

func (b *bench) repack() error {
	b.head()
	if err := b.comparePacking("repack of one file, umoci v0.6.0", b.shale, goalRepack); err != nil {
		return err
	}
	return b.comparePacking("repack of one file in umoci's bundle, umoci", b.umoci, goalForeign)
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
