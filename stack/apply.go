// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// Range is a part of a stack: the layers from From on and before To, counted
// from 0.
type Range struct{ From, To int }

// All returns the range of all layers.
func (s *Stack) All() Range { return Range{0, len(s.Layers)} }

// Apply applies the layers in the range to tree, in order, and tells sink what
// that does. The layers below the range must have been applied before, and none
// else: inodes know their layers by number. Each layer is read to its end, and its
// size, digest and diffID are checked. An error leaves tree and sink in the middle.
func (s *Stack) Apply(ctx context.Context, tree *layer.Tree, in Range, sink layer.Sink, opt Options) error {
	r := newReader(s, in, "applying", opt)
	defer r.close()
	for i := in.From; i < in.To; i++ {
		err := r.use(ctx, i, func(content io.Reader) error {
			return tree.Apply(ctx, content, sink, layer.ApplyOptions{
				KeepDirlinks: opt.KeepDirlinks,
				Budget:       r.budget,
				Warn:         opt.Warn,
			})
		})
		if err != nil {
			return s.inLayer(i, err)
		}
	}
	return nil
}

// Tree returns the merged tree of all layers. What sink does with what it is told
// is its own affair: layer.Discard leaves contents unread, layer.NewDigests hashes
// them.
func (s *Stack) Tree(ctx context.Context, sink layer.Sink, opt Options) (*layer.Tree, error) {
	tree := layer.NewTree()
	if err := s.Apply(ctx, tree, s.All(), sink, opt); err != nil {
		return nil, err
	}
	return tree, nil
}

// source is the stream of one layer and the blob behind it.
type source struct {
	blob   *layout.BlobReader
	used   *counter
	stream *layer.Stream
}

// stop ends reading. What it read does not matter any more.
func (s *source) stop() {
	s.stream.Close()
	s.blob.Close() //nolint:errcheck // Verify has told all there is, or nobody wants to know
}

// close ends reading, which came to err, and returns the reason for it: if the blob is not
// what its digest says, that is the one, whatever went wrong with its bytes first.
func (s *source) close(ctx context.Context, err error) error {
	s.stream.Close()
	if err != nil && ctx.Err() == nil {
		err = blame(ctx, s.blob, err)
	}
	s.stop()
	return err
}

// counter counts what is read from a reader that another goroutine reads.
type counter struct {
	io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// reader opens layers, each a little before it is needed: while one is in use,
// the next is read and decompressed already.
type reader struct {
	stack *Stack
	in    Range
	stage string
	opt   Options
	read  int64 // bytes of all blobs read so far
	total int64
	// budget is for all layers of the range.
	budget *layer.Budget
	ahead  *source
}

func newReader(s *Stack, in Range, stage string, opt Options) *reader {
	r := &reader{stack: s, in: in, stage: stage, opt: opt}
	var compressed int64
	seen := map[digest.Digest]bool{} // a layer that is there twice was sent once
	for _, l := range s.Layers[in.From:in.To] {
		r.total += l.Descriptor.Size
		if !seen[l.Descriptor.Digest] {
			seen[l.Descriptor.Digest] = true
			compressed += l.Descriptor.Size
		}
	}
	r.budget = opt.Limits.Budget(compressed)
	return r
}

func (r *reader) open(ctx context.Context, i int) (*source, error) {
	l := r.stack.Layers[i]
	blob, err := r.stack.layout.OpenBlob(ctx, l.Descriptor)
	if err != nil {
		return nil, err
	}
	used := &counter{Reader: blob}
	stream, err := layer.NewStream(ctx, used, layer.StreamOptions{
		Compression: l.Compression,
		DiffID:      l.DiffID,
		Budget:      r.budget,
		Warn:        r.opt.Warn,
	})
	if err != nil {
		err = blame(ctx, blob, err)
		blob.Close() //nolint:errcheck // blame has told all there is
		return nil, err
	}
	return &source{blob, used, stream}, nil
}

// use opens layer i and the one after it, lets fn read the content, and checks
// all of it, whether fn has read it or not.
func (r *reader) use(ctx context.Context, i int, fn func(content io.Reader) error) (err error) {
	src := r.ahead
	r.ahead = nil
	if src == nil {
		if src, err = r.open(ctx, i); err != nil {
			return err
		}
	}
	defer func() { err = src.close(ctx, err) }()
	if i+1 < r.in.To {
		if r.ahead, err = r.open(ctx, i+1); err != nil {
			return fmt.Errorf("next layer %s: %w", r.stack.Layers[i+1].Descriptor.Digest, err)
		}
	}
	if err := fn(&meter{src: src, r: r, before: r.read}); err != nil {
		return err
	}
	if err := src.stream.Finish(); err != nil {
		return err
	}
	r.read += r.stack.Layers[i].Descriptor.Size
	r.report(r.read, i == r.in.To-1)
	return src.blob.Verify(ctx)
}

func (r *reader) report(done int64, end bool) {
	r.opt.Progress.Report(progress.Event{Stage: r.stage, Done: done, Total: r.total, Unit: progress.Bytes, End: end})
}

func blame(ctx context.Context, blob *layout.BlobReader, err error) error {
	if verr := blob.Verify(ctx); verr != nil {
		return verr
	}
	return err
}

// close stops reading ahead.
func (r *reader) close() {
	if r.ahead != nil {
		r.ahead.stop()
		r.ahead = nil
	}
}

// meter reads a layer and reports how much of its blob has been used.
type meter struct {
	src    *source
	r      *reader
	before int64
	last   int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.src.stream.Read(p)
	if at := m.src.used.n.Load(); at-m.last >= 1<<20 {
		m.last = at
		m.r.report(m.before+at, false)
	}
	return n, err
}

// Tee is that of layer.Stream.
func (m *meter) Tee(h hash.Hash) { m.src.stream.Tee(h) }
