// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"path"
	"strings"

	"github.com/shale-oci/shale/internal/quote"
)

// diffFilter says which paths count.
type diffFilter struct{ include, exclude []diffGlob }

// diffGlob is the components of a glob.
type diffGlob []string

const anyDepth = "**"

func newDiffFilter(include, exclude []string) (f diffFilter, err error) {
	if f.include, err = parseGlobs(include); err != nil {
		return f, err
	}
	f.exclude, err = parseGlobs(exclude)
	return f, err
}

func parseGlobs(patterns []string) ([]diffGlob, error) {
	globs := make([]diffGlob, 0, len(patterns))
	for _, p := range patterns {
		g, err := parseGlob(p)
		if err != nil {
			return nil, fmt.Errorf("glob %s: %w", quote.Name(p), err)
		}
		globs = append(globs, g)
	}
	return globs, nil
}

func parseGlob(pattern string) (diffGlob, error) {
	inPath := strings.TrimRight(pattern, "/")
	var g diffGlob
	for name := range strings.SplitSeq(inPath, "/") {
		if name == "" || name == "." {
			continue
		}
		// A pattern is only known to be wrong when it is matched against something.
		if _, err := path.Match(name, ""); err != nil {
			return nil, err
		}
		g = append(g, name)
	}
	if len(g) == 0 && pattern == "" {
		return nil, path.ErrBadPattern
	}
	if !strings.Contains(inPath, "/") && len(g) > 0 {
		g = append(diffGlob{anyDepth}, g...)
	}
	return g, nil
}

// all reports whether all paths count.
func (f *diffFilter) all() bool { return len(f.include)+len(f.exclude) == 0 }

// match reports whether the path counts, which is as in layer.Node.Path.
func (f *diffFilter) match(p string) bool {
	if f.all() {
		return true
	}
	var names []string
	if p != "." {
		names = strings.Split(p, "/")
	}
	for _, g := range f.exclude {
		if g.match(names) {
			return false
		}
	}
	for _, g := range f.include {
		if g.match(names) {
			return true
		}
	}
	return len(f.include) == 0
}

// match reports whether the glob matches the path of the names, or a directory above.
func (g diffGlob) match(names []string) bool {
	switch {
	case len(g) == 0:
		return true
	case len(names) == 0:
		return false
	case g[0] != anyDepth:
		ok, err := path.Match(g[0], names[0])
		return ok && err == nil && g[1:].match(names[1:])
	case len(g) == 1:
		return true
	}
	for i := range names {
		if g[1:].match(names[i:]) {
			return true
		}
	}
	return false
}
