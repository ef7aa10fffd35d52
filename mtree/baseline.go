// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// Baseline is what is known about a tree from the time when its mtree manifest
// was written.
type Baseline struct {
	// Tree is the old tree for [Compare].
	Tree *Tree
	// Cache is for [WalkOptions]; nil if there is none that can be used.
	Cache *Cache
	// NoCache says why there is no Cache, in words for a log.
	NoCache string
}

// LoadBaseline reads the mtree manifest called name in dir. If the stat cache
// next to it, as named by [CacheName], was made with this very manifest, then
// the tree is taken from there, so that the manifest need not be parsed, but
// only hashed. For the file system that dir is on, see [LoadCache].
func LoadBaseline(ctx context.Context, dir *rooted.Dir, name string) (*Baseline, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read mtree manifest: %w", err)
	}
	defer f.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	sum, err := hashManifest(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("read mtree manifest %s: %w", quote.Name(name), err)
	}
	cache, why := LoadCache(dir, CacheName(name), sum)
	if cache != nil {
		return &Baseline{Tree: cache.tree, Cache: cache}, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read mtree manifest: %w", err)
	}
	tree, err := Parse(contextReader{ctx, f})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote.Name(name), err)
	}
	return &Baseline{Tree: tree, NoCache: why}, nil
}

func hashManifest(ctx context.Context, f *os.File) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, contextReader{ctx, f}, make([]byte, 256<<10)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// contextReader fails once the context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
