// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// FuzzDockerArchive loads arbitrary bytes as what docker save has written. Whatever
// becomes of them, what is in the layout is whole, and nothing else has changed.
func FuzzDockerArchive(f *testing.F) {
	layer := ocitest.Layer(ocitest.File("f", "f\n", 0o644))
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digest.FromBytes(layer).String() + `"]}}`
	file := func(name, content string) ocitest.Entry { return ocitest.File(name, content, 0o644) }
	manifest := func(config, layer string) ocitest.Entry {
		return file("manifest.json", `[{"Config":"`+config+`","RepoTags":["a:b"],"Layers":["`+layer+`"]}]`)
	}
	for _, es := range [][]ocitest.Entry{
		{file("c.json", config), file("l/layer.tar", string(layer)), manifest("c.json", "l/layer.tar")},
		{manifest("c.json", "l/layer.tar"), file("l/layer.tar", string(layer)), file("c.json", config)},
		{file("c.json", config), ocitest.Symlink("l", "../canary"), manifest("c.json", "l")},
		{file("c.json", config), file("x/layer.tar", string(layer)), ocitest.Symlink("l/layer.tar", "../x/layer.tar"), manifest("c.json", "l/layer.tar")},
		{file("../canary", config), file("/etc/passwd", string(layer)), manifest("../canary", "/etc/passwd")},
		{ocitest.Symlink("a", "b"), ocitest.Symlink("b", "a"), manifest("a", "b")},
		{manifest("manifest.json", "manifest.json"), file("repositories", "{}")},
		{file("manifest.json", "[]")}, {file("manifest.json", "[null]")}, {file("manifest.json", `[{"Config":"","Layers":[""]}]`)},
	} {
		f.Add([]byte(ocitest.Layer(es...)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzArchive(t, data, func(l *layout.Layout, path, temp string) error {
			_, err := LoadDockerArchive(t.Context(), path, l, DockerArchiveOptions{TempDir: temp})
			return err
		})
	})
}

// FuzzOCIArchive is FuzzDockerArchive for a layout in a tar.
func FuzzOCIArchive(f *testing.F) {
	dir := f.TempDir()
	ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "f\n", 0o644))}}.Write(f, dir, "v")
	var es []ocitest.Entry
	for name, facts := range ocitest.Snapshot(f, dir) {
		if facts.Type == "file" {
			data, err := os.ReadFile(filepath.Join(dir, name))
			must(f, err)
			es = append(es, ocitest.File(name, string(data), 0o644))
		}
	}
	f.Add([]byte(ocitest.Layer(es...)))
	f.Add([]byte(ocitest.Layer(append(es, ocitest.Symlink("blobs/sha256/x", "../../../canary"), ocitest.Hardlink("index.json", "canary"))...)))
	f.Add([]byte(ocitest.Layer(es[1:]...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzArchive(t, data, func(l *layout.Layout, path, _ string) error {
			src, err := ParseLocation("oci-archive:" + path + ":v")
			must(t, err)
			dst, err := ParseLocation("oci:" + l.Path() + ":v")
			must(t, err)
			_, err = Copy(t.Context(), src, dst, Options{})
			return err
		})
	})
}

// fuzzArchive has read load what is in an archive into a layout.
func fuzzArchive(t *testing.T, data []byte, read func(l *layout.Layout, path, temp string) error) {
	t.Helper()
	dir := t.TempDir()
	path, temp, canary := filepath.Join(dir, "archive"), filepath.Join(dir, "temp"), filepath.Join(dir, "canary")
	must(t, os.WriteFile(path, data, 0o600))
	must(t, os.WriteFile(canary, []byte("untouched\n"), 0o600))
	must(t, os.Mkdir(temp, 0o700))
	l, err := layout.Create(t.Context(), filepath.Join(dir, "layout"))
	must(t, err)
	defer l.Close()
	outside := func() ocitest.Tree {
		tree := ocitest.Snapshot(t, dir)
		for name := range tree {
			if name != "archive" && name != "canary" && name != "temp" {
				delete(tree, name)
			}
		}
		return tree
	}
	before := outside()
	ocitest.AssertAllocates(t, 64<<20+200*uint64(len(data)), func() { err = read(l, path, temp) })
	if err != nil {
		wantOneLine(t, err)
	}
	ocitest.AssertSame(t, before, outside(), "mtime") // that of temp
	if entries, err := os.ReadDir(temp); err != nil || len(entries) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", entries, err)
	}
	ocitest.AssertWhole(t, l.Path())
}
