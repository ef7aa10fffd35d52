// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestChildren compares a directory with a map, through every size that the index
// has on the way up and down.
func TestChildren(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		dir, want := &Node{inode: &Inode{Type: Directory}}, map[string]*Node{}
		for step := range 3000 {
			name := fmt.Sprint(rng.IntN(200))
			// First mostly more, then mostly less.
			more := rng.IntN(3000) > step
			if c := dir.child(name); c != want[name] {
				t.Fatalf("seed %d, step %d: %s is %p, want %p", seed, step, name, c, want[name])
			} else if c == nil && more {
				c = &Node{name: name, inode: &Inode{Type: Fifo}}
				dir.attach(c)
				want[name] = c
			} else if c != nil && !more {
				dir.detach(c)
				delete(want, name)
			}
			if got := len(dir.Children()); got != len(want) {
				t.Fatalf("seed %d, step %d: %d children, want %d", seed, step, got, len(want))
			}
			for _, c := range dir.Children() {
				if c != want[c.name] || dir.child(c.name) != c {
					t.Fatalf("seed %d, step %d: %s is lost", seed, step, c.name)
				}
			}
		}
	}
}
