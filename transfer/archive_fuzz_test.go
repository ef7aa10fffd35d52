// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// FuzzArchives reads arbitrary bytes as archives of both kinds. What comes in is whole,
// and what does not leaves no ref and nothing outside of the layout.
func FuzzArchives(f *testing.F) {
	a := ocitest.Layer(ocitest.File("a", "a", 0o644))
	config, name := configOf(f, a, a)
	manifest := `[{"Config":"` + name + `","RepoTags":["old:1"],"Layers":["1/layer.tar","2/layer.tar"]}]`
	f.Add(tarOf(f, tarMember{name: "1/layer.tar", content: string(a)}, tarMember{name: "2/layer.tar", link: "../1/layer.tar"},
		tarMember{name: name, content: config}, tarMember{name: "manifest.json", content: manifest}))
	f.Add(tarOf(f, tarMember{name: "1/layer.tar", content: string(compressed(f, a, layer.Gzip))}, tarMember{name: "2/layer.tar", link: "../../etc/passwd"},
		tarMember{name: name, content: config}, tarMember{name: "manifest.json", content: manifest}))
	dir := f.TempDir()
	image := ocitest.Image{Layers: [][]byte{a}}
	one := image.Write(f, filepath.Join(dir, "l"), "one")
	index := ocitest.Index{Nodes: []ocitest.Node{image}}.Write(f, filepath.Join(dir, "l"), "index")
	l, err := layout.Open(f.Context(), filepath.Join(dir, "l"), nil)
	must(f, err)
	var saved, docker bytes.Buffer
	must(f, SaveOCIArchive(f.Context(), &saved, l, append(setEntry(nil, "one", one), setEntry(nil, "index", index)...)))
	must(f, SaveDockerArchive(f.Context(), &docker, l, []DockerImage{{Names: []string{"one:1"}, Manifest: one}}, DockerArchiveOptions{}))
	must(f, l.Close())
	f.Add(saved.Bytes())
	f.Add(docker.Bytes())
	f.Add(compressed(f, docker.Bytes(), layer.Zstd))
	f.Add([]byte("junk"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		file, to := filepath.Join(dir, "x.tar"), filepath.Join(dir, "to")
		must(t, os.WriteFile(file, data, 0o600))
		before := ocitest.Snapshot(t, dir)
		l, err := layout.Create(t.Context(), to)
		must(t, err)
		images, err := LoadDockerArchive(t.Context(), file, l, DockerArchiveOptions{Compression: layer.Zstd})
		for _, img := range images {
			must(t, l.SetRef(t.Context(), "x", img.Manifest))
			wantWhole(t, l, img.Manifest)
		}
		checkFuzzed(t, err)
		must(t, l.Close())
		_, err = Copy(t.Context(), Location{Scheme: SchemeOCIArchive, Path: file}, Location{Scheme: SchemeLayout, Path: to, Tag: "y"}, Options{})
		checkFuzzed(t, err)
		if err == nil {
			l, err := layout.Open(t.Context(), to, nil)
			must(t, err)
			root, err := l.Lookup(t.Context(), "y")
			must(t, err)
			wantWhole(t, l, root)
			must(t, l.Close())
		}
		must(t, os.RemoveAll(to))
		ocitest.AssertSame(t, before, ocitest.Snapshot(t, dir), "mtime", "nlink")
	})
}

func checkFuzzed(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("not one line: %q", err)
	}
}

// wantWhole reads all that a manifest leads to.
func wantWhole(t *testing.T, l *layout.Layout, d ispec.Descriptor) {
	t.Helper()
	must(t, l.Walk(t.Context(), d, func(p layout.Path) error {
		r, err := l.OpenBlob(t.Context(), p.Target())
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	}))
}
