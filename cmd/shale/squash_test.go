// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// layersFor makes one layer for each name, which differ from platform to platform.
func layersFor(arch string, names ...string) [][]byte {
	var layers [][]byte
	for _, name := range names {
		layers = append(layers, ocitest.Layer(ocitest.File(name, arch, 0o644)))
	}
	return layers
}

// indexOf makes an index with an image of such layers for each platform, half of them in
// an index within.
func indexOf(t *testing.T, dir, ref string, names ...string) {
	t.Helper()
	image := func(platform string) ocitest.Image {
		arch := strings.TrimPrefix(platform, "linux/")
		return ocitest.Image{Layers: layersFor(arch, names...), Platform: ispec.Platform{OS: "linux", Architecture: arch}}
	}
	ocitest.Index{
		Nodes: []ocitest.Node{
			image(allPlatforms[0]), image(allPlatforms[1]),
			ocitest.Index{Nodes: []ocitest.Node{image(allPlatforms[2]), image(allPlatforms[3])}},
		},
		Annotations: map[string]string{"of": "multi"},
	}.Write(t, filepath.Join(dir, "l"), ref)
}

func TestSquashPlatforms(t *testing.T) {
	dir := t.TempDir()
	indexOf(t, dir, "app", "a", "b", "c")
	indexOf(t, dir, "base", "a")
	before := images(t, dir, "app")
	for _, tc := range []struct{ args, want string }{
		{"--platform linux/s390x", "s390x"},
		{"--all-platforms", "amd64 arm64 riscv64 s390x"},
		{"--all-platforms --keep-base l:base", "amd64 arm64 riscv64 s390x"},
	} {
		must(t, dir, append([]string{"squash", "--image", "l:app", "--tag", "new"}, strings.Fields(tc.args)...)...)
		after := images(t, dir, "new")
		if got := changed(before, after); got != tc.want {
			t.Errorf("%s: changed %q, want %q", tc.args, got, tc.want)
		}
		if changed(before, images(t, dir, "app")) != "" {
			t.Errorf("%s: the old tag has changed too", tc.args)
		}
		layers := 1
		if strings.Contains(tc.args, "base") {
			layers = 2
		}
		for _, arch := range strings.Fields(tc.want) {
			i := open(t, dir, "new", "linux/"+arch)
			if m := i.Manifest(); len(m.Layers) != layers {
				t.Errorf("%s: %s has %d layers", tc.args, arch, len(m.Layers))
			}
			if got := exported(t, dir, "l:new", "linux/"+arch); !slices.Equal(got, []string{"a=" + arch, "b=" + arch, "c=" + arch}) {
				t.Errorf("%s: %s holds %v", tc.args, arch, got)
			}
		}
		ocitest.AssertWhole(t, filepath.Join(dir, "l"))
	}
	got := runShale(t, dir, "squash", "--image", "l:app", "--all-platforms", "--from", "4")
	if got.code != 1 || !strings.Contains(got.stderr, "--from 4: the image has 3 layers") || changed(before, images(t, dir, "app")) != "" {
		t.Errorf("got %+v", got)
	}
}

func TestRebasePlatforms(t *testing.T) {
	dir := t.TempDir()
	indexOf(t, dir, "app", "a", "b")
	indexOf(t, dir, "old", "a")
	indexOf(t, dir, "new", "x", "y")
	before := images(t, dir, "app")
	for _, tc := range []struct{ args, want string }{
		{"--platform linux/riscv64", "riscv64"},
		{"--all-platforms", "amd64 arm64 riscv64 s390x"},
	} {
		must(t, dir, append([]string{"rebase", "--image", "l:app", "--tag", "rebased", "--old-base", "l:old", "--new-base", "l:new"}, strings.Fields(tc.args)...)...)
		if got := changed(before, images(t, dir, "rebased")); got != tc.want {
			t.Errorf("%s: changed %q, want %q", tc.args, got, tc.want)
		}
		for _, arch := range strings.Fields(tc.want) {
			if got := exported(t, dir, "l:rebased", "linux/"+arch); !slices.Equal(got, []string{"b=" + arch, "x=" + arch, "y=" + arch}) {
				t.Errorf("%s: %s holds %v", tc.args, arch, got)
			}
		}
		ocitest.AssertWhole(t, filepath.Join(dir, "l"))
	}
	// The digest in the annotations is that of an image in an index.
	must(t, dir, "rebase", "--image", "l:rebased", "--tag", "back", "--new-base", "l:old", "--all-platforms")
	if got := exported(t, dir, "l:back", "linux/s390x"); !slices.Equal(got, []string{"a=s390x", "b=s390x"}) {
		t.Errorf("back again: %v", got)
	}
	ocitest.Image{Layers: layersFor("amd64", "x"), Platform: ispec.Platform{OS: "linux", Architecture: "amd64"}}.Write(t, filepath.Join(dir, "l"), "single")
	got := runShale(t, dir, "rebase", "--image", "l:app", "--old-base", "l:old", "--new-base", "l:single", "--platform", "linux/s390x")
	if got.code != 1 || !strings.Contains(got.stderr, "--new-base l:single: resolve single: there is no image for linux/s390x, only for linux/amd64") {
		t.Errorf("got %+v", got)
	}
}

// exported lists what the files in an exported image hold.
func exported(t *testing.T, dir, image, platform string) []string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(bytes.NewReader([]byte(must(t, dir, "export", "--image", image, "--platform", platform)))); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, hdr.Name+"="+string(data))
	}
}
