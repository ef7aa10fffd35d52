// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
)

// node is a snapshot in its chain.
type node struct {
	Snapshot
	parent   *node  // nil for the lowest
	identity string // of the layer, for the cache; empty if it cannot be shared
	damaged  bool   // the blob that the cache leads to is there, but not right

	treeMu sync.Mutex
	tree   *mtree.Tree // of a Dir, once it was listed

	done chan struct{} // closed when made or err is there
	made made
	err  error
}

// chain returns the last snapshot and those that it is based on, the lowest first.
func chain(snapshots []Snapshot) ([]*node, error) {
	if len(snapshots) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrChain)
	}
	byName := map[string]*Snapshot{}
	for i := range snapshots {
		s := &snapshots[i]
		if err := s.check(); err != nil {
			return nil, &SnapshotError{s.name(), err}
		}
		if byName[s.name()] != nil {
			return nil, &SnapshotError{s.name(), fmt.Errorf("%w: there are two of this name", ErrChain)}
		}
		byName[s.name()] = s
	}
	var nodes []*node
	for s := &snapshots[len(snapshots)-1]; ; {
		if len(nodes) == len(snapshots) {
			return nil, &SnapshotError{s.name(), fmt.Errorf("%w: it is based on itself", ErrChain)}
		}
		nodes = append(nodes, &node{Snapshot: *s, done: make(chan struct{})})
		if s.Parent == "" {
			break
		}
		parent := byName[s.Parent]
		if parent == nil {
			return nil, &SnapshotError{s.name(), fmt.Errorf("%w: its parent %s is missing", ErrChain, quote.Name(s.Parent))}
		}
		s = parent
	}
	slices.Reverse(nodes)
	for i, n := range nodes[1:] {
		n.parent = nodes[i]
	}
	return nodes, nil
}

func (s *Snapshot) check() error {
	forms := 0
	for _, given := range []bool{s.Dir != "", s.Upper != "", s.Tar != nil} {
		if given {
			forms++
		}
	}
	if forms != 1 {
		return fmt.Errorf("%w: there are %d ways to its content, not one", ErrChain, forms)
	}
	return nil
}

// identify gives the nodes the identities of their layers: digests of all that a layer
// depends on.
func (opt *Options) identify(nodes []*node, base []digest.Digest) error {
	masks := slices.Sorted(slices.Values(opt.Masks))
	below := ""
	for i, n := range nodes {
		if n.Key == "" || i > 0 && below == "" {
			below = ""
			continue
		}
		data, err := json.Marshal(struct {
			Version     int
			Kind, Key   string
			Below       string          // the identity of the parent
			Base        []digest.Digest // the layers below the lowest
			Compression layer.Compression
			Level       int
			Map         layer.MapOptions
			Owner       *layer.Owner
			Masks       []string
			Clamp       *int64
		}{cacheVersion, n.kind(), n.Key, below, base, opt.Compression, opt.Level, opt.Map, opt.Owner, masks, opt.Clamp})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		n.identity = hex.EncodeToString(sum[:])
		below = n.identity
	}
	return nil
}
