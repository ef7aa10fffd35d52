// SPDX-License-Identifier: Apache-2.0

package transfer

import "testing"

// TestMountFrom: blobs are mounted from another repository of the same registry, also
// where that has another name in URLs than in locations.
func TestMountFrom(t *testing.T) {
	for _, c := range []struct{ src, dst, from string }{
		{"docker://debian:stable", "docker://team/app:1", "library/debian"},
		{"docker://registry.example/a", "docker://registry.example/b", "a"},
		{"docker://registry.example/a", "docker://registry.example/a:other", ""},
		{"docker://registry.example/a", "docker://other.example/b", ""},
	} {
		src, dst := location(t, c.src), location(t, c.dst)
		opt := quick()
		p, err := newPlaces(&opt, src, dst)
		if err != nil {
			t.Fatal(err)
		}
		from, err := p.source(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		to, err := p.registryDestination(dst, from)
		if err != nil {
			t.Fatal(err)
		}
		if got := to.(*registryDestination).from; got != c.from {
			t.Errorf("from %s to %s: %q is mounted", c.src, c.dst, got)
		}
	}
}
