// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	gomtree "github.com/vbatts/go-mtree"

	"github.com/shale-oci/shale/internal/quote"
)

// ValidateOptions say what [Validate] looks at. The zero value is all that the
// manifest tells.
type ValidateOptions struct {
	// Keywords are compared in place of those that the manifest has, unless the
	// slice is nil. The keyword type always is.
	Keywords []string
	// More are compared as well.
	More []string
	// Rootless makes what its owner may not read readable for the moment in which
	// it is read.
	Rootless bool
}

// Keywords returns the keywords that the mtree manifests of bundles have.
func Keywords() []string { return slices.Clone(keywordNames[:manifestKeywords]) }

// Validate compares the directory at path with an mtree manifest and returns a line
// for each path that differs, sorted. Unlike [Compare] it leaves everything to
// go-mtree: it knows all keywords and synonyms that go-mtree does, and counts as a
// difference what that counts as one. It is slow, and goes by paths: it is meant for
// trees that nobody is changing.
func Validate(ctx context.Context, path string, manifest io.Reader, opt ValidateOptions) ([]string, error) {
	spec, err := gomtree.ParseSpec(manifest)
	if err != nil {
		return nil, fmt.Errorf("parse mtree manifest: %w", err)
	}
	// Links to the directory are the caller's own.
	root, err := filepath.EvalSymlinks(path)
	if err == nil {
		root, err = filepath.Abs(root)
	}
	if err != nil {
		return nil, err
	}
	keywords := spec.UsedKeywords()
	if opt.Keywords != nil {
		keywords = withKeywords(nil, opt.Keywords)
	}
	keywords = withKeywords(keywords, opt.More)
	if !slices.Contains(keywords, "type") {
		// Without it no comparison makes sense.
		keywords = slices.Insert(keywords, 0, gomtree.Keyword("type"))
	}
	deltas, err := gomtree.Check(root, spec, keywords, &evaluator{ctx: ctx, root: root, lend: opt.Rootless})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("validate %s: %w", quote.Name(path), err)
	}
	slices.SortFunc(deltas, func(a, b gomtree.InodeDelta) int { return cmp.Compare(a.Path(), b.Path()) })
	lines := make([]string, 0, len(deltas))
	for i := range deltas {
		lines = append(lines, deltaLine(&deltas[i], keywords))
	}
	return lines, nil
}

// withKeywords adds the names to the list, each once, by the name that go-mtree has
// for it.
func withKeywords(list []gomtree.Keyword, names []string) []gomtree.Keyword {
	for _, name := range names {
		if k := gomtree.KeywordSynonym(name); !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return list
}

// deltaLine is what go-mtree prints of a delta, but with the first difference in the
// order of the keywords in place of one by chance.
func deltaLine(d *gomtree.InodeDelta, keywords []gomtree.Keyword) string {
	keys := d.Diff()
	if d.Type() != gomtree.Modified || len(keys) == 0 {
		return d.String()
	}
	first := slices.MinFunc(keys, func(a, b gomtree.KeyDelta) int {
		return cmp.Or(
			cmp.Compare(slices.Index(keywords, a.Name().Prefix()), slices.Index(keywords, b.Name().Prefix())),
			cmp.Compare(a.Name(), b.Name()),
		)
	})
	var old, now string
	if first.Old() != nil {
		old = *first.Old()
	}
	if first.New() != nil {
		now = *first.New()
	}
	return fmt.Sprintf("%q: keyword %q: expected %s; got %s", d.Path(), first.Name(), old, now)
}

// evaluator is how go-mtree gets at files: as it always does, but until ctx is done,
// and with permissions that the owner has only to give to himself.
type evaluator struct {
	ctx  context.Context // go-mtree's methods take none
	root string
	lend bool
}

func (e *evaluator) Open(path string) (f *os.File, err error) {
	err = e.try(path, true, func() error {
		f, err = os.Open(path)
		return err
	})
	return f, err
}

func (e *evaluator) Lstat(path string) (info os.FileInfo, err error) {
	err = e.try(path, false, func() error {
		info, err = os.Lstat(path)
		return err
	})
	return info, err
}

func (e *evaluator) Readdir(path string) (infos []os.FileInfo, err error) {
	err = e.try(path, true, func() error {
		infos, err = gomtree.DefaultFsEval{}.Readdir(path)
		return err
	})
	return infos, err
}

func (e *evaluator) KeywordFunc(fn gomtree.KeywordFunc) gomtree.KeywordFunc {
	return func(path string, info os.FileInfo, r io.Reader) (kvs []gomtree.KeyVal, err error) {
		err = e.try(path, true, func() error {
			kvs, err = fn(path, info, r)
			return err
		})
		return kvs, err
	}
}
