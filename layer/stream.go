// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	digest "github.com/opencontainers/go-digest"
)

// ErrDiffID is returned when a layer's content is not what the image's config
// says it is.
var ErrDiffID = errors.New("diffID mismatch")

const (
	// chunkSize and chunkCount bound what a stage of a [Stream] reads ahead: 1 MiB.
	chunkSize  = 256 << 10
	chunkCount = 4
)

// StreamOptions describe the blob behind a [Stream].
type StreamOptions struct {
	Compression Compression
	// DiffID is the digest that the uncompressed content must have, checked by
	// [Stream.Finish].
	DiffID digest.Digest
	// Budget is what all layers of the image together may cost. Nil means that of the
	// zero value of [Limits], for this layer alone.
	Budget *Budget
	// Warn receives what looks wrong but is no error. May be nil.
	Warn func(msg string)
}

// Stream is a layer blob read as plain tar. Reading the blob, decompressing it
// and hashing the content each run ahead in a goroutine of their own, so that
// whoever reads the stream only waits for the slowest of them.
type Stream struct {
	out    *readAhead // the content, hashed
	diffID digest.Digest
	hash   hash.Hash
	stages []*readAhead
	closer io.Closer
}

// NewStream begins to read blob, which stays the caller's to close, after
// Close. An error about the blob's content may also come from reading.
func NewStream(ctx context.Context, blob io.Reader, opt StreamOptions) (*Stream, error) {
	s := &Stream{diffID: opt.DiffID}
	switch opt.DiffID.Algorithm() {
	case digest.SHA256:
		s.hash = sha256.New()
	case digest.SHA512:
		s.hash = sha512.New()
	default:
		return nil, fmt.Errorf("diffID %q: %w", opt.DiffID, digest.ErrDigestUnsupported)
	}
	raw := s.stage(ctx, blob, nil)
	plain, err := NewReader(raw, opt.Compression, opt.Warn)
	if err != nil {
		s.Close()
		return nil, err
	}
	if opt.Budget == nil {
		opt.Budget = Limits{}.Budget(0)
	}
	plain = &metered{plain, opt.Budget}
	s.closer = plain
	s.out = s.stage(ctx, plain, s.hash)
	return s, nil
}

func (s *Stream) stage(ctx context.Context, r io.Reader, h hash.Hash) *readAhead {
	ra := newReadAhead(ctx, r, h)
	s.stages = append(s.stages, ra)
	return ra
}

// Read reads the plain tar stream.
func (s *Stream) Read(p []byte) (int, error) { return s.out.Read(p) }

// Finish reads what is left after the archive's end and checks the digest of
// the whole.
func (s *Stream) Finish() error {
	if _, err := io.Copy(io.Discard, s.out); err != nil {
		return err
	}
	if got := s.Sum(); got != s.diffID {
		return fmt.Errorf("%w: the config says %s, the content is %s", ErrDiffID, s.diffID, got)
	}
	return nil
}

// Sum returns the digest of the content, of the DiffID's algorithm. Only after
// [Stream.Finish] has come to the end, whether or not with [ErrDiffID], is that the
// digest of all of it.
func (s *Stream) Sum() digest.Digest { return digest.NewDigest(s.diffID.Algorithm(), s.hash) }

// Close stops reading. The blob is not used any more when it returns. Closing
// again does nothing.
func (s *Stream) Close() {
	// A stage waits for the one before it, so that the first must end first.
	for _, ra := range s.stages {
		ra.stop()
	}
	for _, ra := range s.stages {
		ra.running.Wait()
	}
	if s.closer != nil {
		s.closer.Close() //nolint:errcheck // what it could say has been said by reading
		s.closer = nil
	}
}

// readAhead reads a reader in a goroutine, a few chunks ahead of its own
// reader. If it has a hash, another goroutine feeds it with the chunks as they
// pass.
type readAhead struct {
	full    chan chunk
	free    chan []byte
	quit    chan struct{}
	stopped bool
	running sync.WaitGroup
	cur     chunk
	off     int
}

type chunk struct {
	buf []byte
	n   int
	err error
}

func newReadAhead(ctx context.Context, r io.Reader, h hash.Hash) *readAhead {
	ra := &readAhead{
		full: make(chan chunk, chunkCount),
		free: make(chan []byte, chunkCount),
		quit: make(chan struct{}),
	}
	for range chunkCount {
		ra.free <- nil // made when first needed: small layers need few
	}
	out := ra.full
	if h != nil {
		out = make(chan chunk, chunkCount)
		ra.running.Go(func() { ra.hash(out, h) })
	}
	ra.running.Go(func() { ra.read(ctx, r, out) })
	return ra
}

func (ra *readAhead) read(ctx context.Context, r io.Reader, out chan<- chunk) {
	for {
		var c chunk
		select {
		case c.buf = <-ra.free:
		case <-ra.quit:
			return
		}
		if c.buf == nil {
			c.buf = make([]byte, chunkSize)
		}
		c.n, c.err = fill(ctx, r, c.buf)
		if !ra.pass(c, out) {
			return
		}
	}
}

func (ra *readAhead) hash(in <-chan chunk, h hash.Hash) {
	for {
		select {
		case c := <-in:
			h.Write(c.buf[:c.n]) // never fails
			if !ra.pass(c, ra.full) {
				return
			}
		case <-ra.quit:
			return
		}
	}
}

// pass sends c on, and reports whether there may be more after it.
func (ra *readAhead) pass(c chunk, out chan<- chunk) bool {
	select {
	case out <- c:
		return c.err == nil
	case <-ra.quit:
		return false
	}
}

// fill reads until buf is full or there is an error.
func fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if err = ctx.Err(); err != nil {
			return n, err
		}
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

func (ra *readAhead) Read(p []byte) (int, error) {
	for ra.off == ra.cur.n {
		if ra.cur.err != nil {
			return 0, ra.cur.err
		}
		if ra.cur.buf != nil {
			ra.free <- ra.cur.buf
		}
		select {
		case ra.cur = <-ra.full:
		case <-ra.quit:
			ra.cur = chunk{err: io.ErrClosedPipe}
		}
		ra.off = 0
	}
	n := copy(p, ra.cur.buf[ra.off:ra.cur.n])
	ra.off += n
	return n, nil
}

// stop tells the goroutines to end as soon as what they are doing is done.
func (ra *readAhead) stop() {
	if !ra.stopped {
		ra.stopped = true
		close(ra.quit)
	}
}
