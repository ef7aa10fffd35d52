// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The goals of unpacking: umoci's time as a multiple of shale's, which is
// more where igzip could be used (it is slower than what shale has), and the time of
// GNU tar reading the same layers through igzip, without any check.
const (
	goalUnpack = 4
	goalIgzip  = 5
	goalFloor  = 1 / 1.2
)

func (b *bench) unpack() error {
	b.head()
	if err := b.compare(compared{
		work: "unpack, umoci v0.6.0", goal: goalUnpack, igzip: goalIgzip,
		shale: b.unpacking(b.shale, b.layout), peer: b.unpacking(b.umoci, b.layout),
	}); err != nil {
		return err
	}
	if path, _ := exec.LookPath(debianUmoci); path == "" {
		b.skip("unpack, Debian's umoci", "Debian package umoci is missing")
	} else if err := b.compare(compared{
		work: "unpack, Debian's umoci", shale: b.unpacking(b.shale, b.layout), peer: b.unpacking(path, b.layout),
	}); err != nil {
		return err
	}
	if path, _ := exec.LookPath("buildah"); path == "" {
		b.skip("unpack, buildah pull", "Debian package buildah is missing")
	} else if err := b.compare(compared{
		work: "unpack, buildah pull", shale: b.unpacking(b.shale, b.layout), peer: b.pulling,
	}); err != nil {
		return err
	}
	return errors.Join(b.floor("igzip", goalFloor), b.floor("gzip", 0))
}

// unpacking returns a run of tool's unpack, whose bundle is removed afterwards.
func (b *bench) unpacking(tool, layout string) func() (usage, error) {
	return func() (usage, error) {
		dir := filepath.Join(b.work, "bundle")
		u, err := timed(tool, "unpack", "--image", layout+":bench", dir)
		return u, errors.Join(err, removeAll(dir))
	}
}

// pulling unpacks the image into a storage of buildah's.
func (b *bench) pulling() (usage, error) {
	dir := filepath.Join(b.work, "storage")
	u, err := timed("buildah", "--root", dir+"/root", "--runroot", dir+"/run", "--storage-driver", "vfs", "pull", "--quiet", "oci:"+b.layout+":bench")
	return u, errors.Join(err, removeAll(dir))
}

// floor compares with GNU tar reading the same layers, which checks nothing.
func (b *bench) floor(tool string, goal float64) error {
	work := "unpack, tar through " + tool
	if path, _ := exec.LookPath(tool); path == "" {
		b.skip(work, tool+" is missing (igzip is in Debian package isal)")
		return nil
	}
	return b.compare(compared{work: work, goal: goal, shale: b.unpacking(b.shale, b.layout), peer: b.extracting(tool, b.layers)})
}

func (b *bench) extracting(tool string, layers []string) func() (usage, error) {
	return func() (usage, error) {
		dir := filepath.Join(b.work, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return usage{}, err
		}
		script := fmt.Sprintf(`set -o pipefail; cd %q; for layer; do %s -dc "$layer" | tar --extract --numeric-owner; done`, dir, tool)
		u, err := timed("bash", append([]string{"-ec", script, "bash"}, layers...)...)
		return u, errors.Join(err, removeAll(dir))
	}
}
