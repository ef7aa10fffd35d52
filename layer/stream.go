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

	"github.com/shale-oci/shale/internal/inflate"
	"github.com/shale-oci/shale/internal/sha256pair"
)

// ErrDiffID is returned when a layer's content is not what the image's config
// says it is.
var ErrDiffID = errors.New("diffID mismatch")

const (
	// chunkSize and chunkCount bound what a stage of a [Stream] reads ahead: 1 MiB.
	chunkSize  = inflate.BufferSize // 256 KiB, and what a decoder needs besides
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

// Stream is a layer blob read as plain tar. Reading the blob and decompressing it
// each run ahead in a goroutine of their own, so that whoever reads the stream only
// waits for the slower of them. What is read is hashed on the way out, where it can
// be hashed for somebody else at once.
type Stream struct {
	out    *readAhead // the content
	diffID digest.Digest
	hash   hash.Hash
	second hash.Hash // of what Tee was called with, or nil
	both   sha256pair.Writer
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
	raw := s.stage(ctx, readInto(ctx, blob))
	plain, err := NewReader(raw, opt.Compression, opt.Warn)
	if err != nil {
		s.Close()
		return nil, err
	}
	if opt.Budget == nil {
		opt.Budget = Limits{}.Budget(0)
	}
	s.closer = plain
	fill := readInto(ctx, plain)
	s.out = s.stage(ctx, func(buf []byte) ([]byte, error) {
		data, err := fill(buf)
		if over := opt.Budget.uncompressed(len(data)); over != nil {
			return nil, over
		}
		return data, err
	})
	return s, nil
}

func (s *Stream) stage(ctx context.Context, fill fillFunc) *readAhead {
	ra := newReadAhead(ctx, fill)
	s.stages = append(s.stages, ra)
	return ra
}

// Read reads the plain tar stream.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if s.second != nil {
		s.both.Write(s.hash, s.second, p[:n])
	} else {
		s.hash.Write(p[:n]) // never fails
	}
	return n, err
}

// Tee adds what is read from now on to h as well, until Tee is called with nil. Two
// sums of SHA-256 cost little more than one that way.
func (s *Stream) Tee(h hash.Hash) { s.second = h }

// Finish reads what is left after the archive's end and checks the digest of
// the whole.
func (s *Stream) Finish() error {
	s.Tee(nil)
	if _, err := io.Copy(io.Discard, s); err != nil {
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
// again does nothing. What has been read to its end can still be finished.
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
	for _, ra := range s.stages {
		ra.giveBack()
	}
	s.stages = nil
}

// chunks are buffers of chunkSize that are used again: layers may be many and small.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// fillFunc reads what comes next into buf, of chunkSize, and returns the part of buf that
// holds it, which nobody may change before the next call. An error comes after all data,
// or with the last.
type fillFunc func(buf []byte) (data []byte, err error)

// readInto returns the fillFunc that reads r.
func readInto(ctx context.Context, r io.Reader) fillFunc {
	if g, ok := r.(*gunzipper); ok {
		return g.fill // which need not copy
	}
	return func(buf []byte) (data []byte, err error) {
		n := 0
		for n < len(buf) && err == nil {
			if err = ctx.Err(); err != nil {
				break
			}
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		return buf[:n], err
	}
}

// readAhead reads in a goroutine, a few chunks ahead of its own reader.
type readAhead struct {
	full    chan chunk
	free    chan *[chunkSize]byte
	quit    chan struct{}
	stopped bool
	running sync.WaitGroup
	cur     chunk
}

type chunk struct {
	buf  *[chunkSize]byte
	data []byte // what has not been read, in buf
	err  error
}

func newReadAhead(ctx context.Context, fill fillFunc) *readAhead {
	ra := &readAhead{
		full: make(chan chunk, chunkCount),
		free: make(chan *[chunkSize]byte, chunkCount),
		quit: make(chan struct{}),
	}
	for range chunkCount {
		ra.free <- nil // got when first needed: small layers need few
	}
	ra.running.Go(func() { ra.read(ctx, fill) })
	return ra
}

func (ra *readAhead) read(ctx context.Context, fill fillFunc) {
	for {
		var c chunk
		select {
		case c.buf = <-ra.free:
		case <-ra.quit:
			return
		}
		if c.buf == nil {
			c.buf = chunks.Get().(*[chunkSize]byte)
		}
		if c.err = ctx.Err(); c.err == nil {
			c.data, c.err = fill(c.buf[:])
		}
		ra.full <- c // there is room for all that there are
		if c.err != nil {
			return
		}
	}
}

func (ra *readAhead) Read(p []byte) (int, error) {
	for len(ra.cur.data) == 0 {
		if ra.cur.err != nil {
			return 0, ra.cur.err
		}
		if ra.cur.buf != nil {
			ra.free <- ra.cur.buf
			ra.cur.buf = nil
		}
		select {
		case ra.cur = <-ra.full:
		case <-ra.quit:
			ra.cur.err = io.ErrClosedPipe
		}
	}
	n := copy(p, ra.cur.data)
	ra.cur.data = ra.cur.data[n:]
	return n, nil
}

// stop tells the goroutine to end as soon as what it is doing is done.
func (ra *readAhead) stop() {
	if !ra.stopped {
		ra.stopped = true
		close(ra.quit)
	}
}

// giveBack gives the buffers to others. The goroutine has ended, and nothing is read any
// more.
func (ra *readAhead) giveBack() {
	put := func(buf *[chunkSize]byte) {
		if buf != nil {
			chunks.Put(buf)
		}
	}
	put(ra.cur.buf)
	if len(ra.cur.data) > 0 || ra.cur.err == nil {
		ra.cur.err = io.ErrClosedPipe
	}
	ra.cur = chunk{err: ra.cur.err} // the end stays what it was
	for {
		select {
		case c := <-ra.full:
			put(c.buf)
		case buf := <-ra.free:
			put(buf)
		default:
			return
		}
	}
}
