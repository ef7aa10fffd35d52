// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestPlanKeepsFewTrees: however images share layers, no more than a logarithm of the
// number of steps are kept.
func TestPlanKeepsFewTrees(t *testing.T) {
	comb := func(n int) (images [][]int) { // the longest image comes first, and one leaves it at each layer
		for n := n; n > 0; n-- {
			var layers []int
			for l := range n {
				layers = append(layers, l)
			}
			images = append(images, append(layers, -n))
		}
		return images
	}
	cases := [][][]int{nil, comb(1), comb(60)}
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var images [][]int
		for range 1 + rng.IntN(100) {
			layers := make([]int, 1+rng.IntN(12))
			for at := range layers {
				layers[at] = rng.IntN(1 + int(seed%4))
			}
			images = append(images, layers)
		}
		cases = append(cases, images)
	}
	for n, images := range cases {
		v := &verifier{}
		for _, layers := range images {
			image := &imageStack{}
			for _, l := range layers {
				image.layers = append(image.layers, stackLayer{digest: digest.FromString(fmt.Sprint(l))})
			}
			v.images = append(v.images, image)
		}
		steps := v.plan()
		most, kept := 0, map[*step]bool{}
		for _, s := range steps {
			if s.parent.tree == nil {
				t.Fatalf("case %d: a step comes before the one below it, or its tree is gone", n)
			}
			s.takeTree()
			kept[s.parent], kept[s] = true, true
			maps.DeleteFunc(kept, func(k *step, _ bool) bool { return k.tree == nil })
			most = max(most, len(kept))
			if s.waiting == 0 {
				s.tree = nil // as readLayers does
			}
		}
		if want := bits.Len(uint(len(steps) + 1)); most > want {
			t.Errorf("case %d: %d trees are kept for %d steps, and %d should do", n, most, len(steps), want)
		}
	}
}
