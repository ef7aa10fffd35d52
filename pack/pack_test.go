// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

// chains is how many random chains of snapshots are packed.
const chains = 40

// TestChainsAgainstUmoci packs random chains of directories, and unpacks every prefix with
// umoci's library.
func TestChainsAgainstUmoci(t *testing.T) {
	for seed := range uint64(chains) {
		rng := rand.New(rand.NewPCG(seed, 1))
		root := tempRoot(t)
		dirs := snapshotDirs(t, rng, root, 2+rng.IntN(3), 15)
		l := newLayout(t)
		res := image(t, l, chainOf(dirs), pack.Options{Map: mapping(), Refs: []string{"v1"}})
		layers := plainLayers(t, l, res.Descriptor)
		used := 0
		for i, dir := range dirs {
			if res.Layers[i].Descriptor != nil {
				used++
			}
			assertSame(t, fmt.Sprintf("seed %d, snapshot %d", seed, i), ocitest.Snapshot(t, dir), unpacked(t, layers[:used]))
		}
		must(t, os.RemoveAll(root))
	}
}

// TestBaseAgainstUmoci packs the difference of a directory to an image of others.
func TestBaseAgainstUmoci(t *testing.T) {
	for seed := range uint64(chains) {
		rng := rand.New(rand.NewPCG(seed, 2))
		root := tempRoot(t)
		dirs := snapshotDirs(t, rng, root, 3, 15)
		l := newLayout(t)
		opt := pack.Options{Map: mapping()}
		opt.Compression = []layer.Compression{layer.Gzip, layer.Zstd, layer.None}[seed%3]
		base := image(t, l, chainOf(dirs[:2]), opt)
		opt.Base = layout.Path{base.Descriptor}
		res := image(t, l, []pack.Snapshot{{Dir: dirs[2]}}, opt)
		layers := plainLayers(t, l, res.Descriptor)
		assertSame(t, fmt.Sprintf("seed %d", seed), ocitest.Snapshot(t, dirs[2]), unpacked(t, layers))
		if d := res.Layers[0].Descriptor; d == nil {
			t.Errorf("seed %d: no layer", seed)
		}
		// The same directory again differs in nothing.
		opt.Base = layout.Path{res.Descriptor}
		again := image(t, l, []pack.Snapshot{{Dir: dirs[2]}}, opt)
		if again.Layers[0].Descriptor != nil {
			t.Errorf("seed %d: a layer without a difference has %d bytes", seed, again.Layers[0].Descriptor.Size)
		}
		must(t, os.RemoveAll(root))
	}
}
