// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func TestBaseline(t *testing.T) {
	dir := t.TempDir()
	ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("a", "a", 0o644))}}.Write(t, filepath.Join(dir, "l"), "latest")
	l, err := layout.Open(t.Context(), filepath.Join(dir, "l"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path, err := l.Resolve(t.Context(), "latest", nil)
	if err != nil {
		t.Fatal(err)
	}
	b := filepath.Join(dir, "bundle")
	opt := bundle.UnpackOptions{Map: layer.MapOptions{Rootless: os.Geteuid() != 0}}
	if err := bundle.Unpack(t.Context(), l, path, b, opt); err != nil {
		t.Fatal(err)
	}
	if !bundle.IsBundle(b) || bundle.IsBundle(bundle.Rootfs(b)) || bundle.IsBundle(filepath.Join(dir, "none")) {
		t.Error("wrong directories are bundles")
	}
	meta, err := bundle.ReadMeta(b)
	if err != nil {
		t.Fatal(err)
	}
	known, err := bundle.Baseline(t.Context(), b, meta)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := known.Tree.Lookup("a"); !ok || e.Stat().Size != 1 {
		t.Error("the file is not known")
	}
	if _, err := bundle.Baseline(t.Context(), bundle.Rootfs(b), meta); err == nil {
		t.Error("no error for a directory without facts")
	}
}
