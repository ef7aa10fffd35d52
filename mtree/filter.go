// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"path"
	"strings"
)

// Mask returns the deltas without those whose path is one of the given ones or
// lexically below it. The order stays. Paths are taken as relative to the root
// of the tree and cleaned, so that ".." does not lead out of it. As in umoci, a
// path that is the root itself masks nothing, rather than everything.
func Mask(deltas []Delta, paths []string) []Delta {
	masks := make(map[string]bool, len(paths))
	for _, p := range paths {
		masks[strings.TrimPrefix(path.Join("/", p), "/")] = true
	}
	delete(masks, "")
	return filter(deltas, func(d *Delta) bool {
		return !masks[d.Path] && !below(masks, d.Path)
	})
}

// Simplify returns the deltas without the deletions that go without saying:
// those of paths below a directory that was deleted itself, or that something
// other than a directory has replaced (which umoci keeps). The order stays.
func Simplify(deltas []Delta) []Delta {
	gone := make(map[string]bool)
	for i := range deltas {
		// What is below something that is no directory was below a directory.
		if d := &deltas[i]; d.Kind == Deleted || !d.New.IsDir() {
			gone[d.Path] = true
		}
	}
	if len(gone) == 0 {
		return deltas
	}
	return filter(deltas, func(d *Delta) bool {
		return d.Kind != Deleted || !below(gone, d.Path)
	})
}

func filter(deltas []Delta, keep func(*Delta) bool) []Delta {
	kept := make([]Delta, 0, len(deltas))
	for i := range deltas {
		if keep(&deltas[i]) {
			kept = append(kept, deltas[i])
		}
	}
	return kept
}

// below reports whether a directory that p is in, at any level, is in the set.
func below(set map[string]bool, p string) bool {
	if len(set) == 0 {
		return false
	}
	for i := range len(p) {
		if p[i] == '/' && set[p[:i]] {
			return true
		}
	}
	return false
}
