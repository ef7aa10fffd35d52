// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"reflect"
	"testing"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestOf reads the layers of an image without the image.
func TestOf(t *testing.T) {
	dir := t.TempDir() + "/layout"
	layers := [][]byte{ocitest.Layer(ocitest.File("a", "1", 0o644)), ocitest.Layer(ocitest.File("b", "2", 0o600))}
	ocitest.Image{Layers: layers}.Write(t, dir, "v1")
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	path, err := l.Resolve(t.Context(), "v1", nil)
	must(t, err)
	s, err := stack.Open(t.Context(), l, path)
	must(t, err)
	for n := range 3 {
		tree, err := stack.Of(l, s.Layers[:n]...).Tree(t.Context(), layer.NewDigests(), stack.Options{})
		must(t, err)
		if want := facts(apply(t, layers[:n]...)); !reflect.DeepEqual(facts(tree), want) {
			t.Errorf("%d layers: %v", n, facts(tree))
		}
	}
}
