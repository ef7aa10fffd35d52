// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"path/filepath"
)

// goalSplit is that splitting and joining takes no longer than hashing.
const goalSplit = 1

// split compares taking the image apart and putting it together again with one
// reading of all its layers.
func (b *bench) split() error {
	b.head()
	out, joined := filepath.Join(b.work, "out"), filepath.Join(b.work, "joined")
	hash := func() (usage, error) { return timed("sha256sum", b.layers...) }
	splitting := func(args ...string) func() (usage, error) {
		return func() (usage, error) {
			u, err := timed(b.shale, append([]string{"split", "--image", b.layout + ":bench", out}, args...)...)
			return u, errors.Join(err, removeAll(out))
		}
	}
	if err := b.compare(compared{work: "split, sha256sum of the blobs", goal: goalSplit, shale: splitting(), peer: hash}); err != nil {
		return err
	}
	if err := b.compare(compared{work: "split --link, sha256sum of the blobs", goal: goalSplit, shale: splitting("--link"), peer: hash}); err != nil {
		return err
	}
	if _, err := timed(b.shale, "split", "--image", b.layout+":bench", out); err != nil {
		return err
	}
	err := b.compare(compared{
		work: "join, sha256sum of the blobs", goal: goalSplit, peer: hash,
		shale: func() (usage, error) {
			u, err := timed(b.shale, "join", out, "--image", joined)
			return u, errors.Join(err, removeAll(joined))
		},
	})
	return errors.Join(err, removeAll(out))
}
