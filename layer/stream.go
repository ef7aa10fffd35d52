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

	"github.com/shale-oci/shale/internal/sha256pair"
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
	raw := s.stage(ctx, blob)
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
	s.out = s.stage(ctx, plain)
	return s, nil
}

func (s *Stream) stage(ctx context.Context, r io.Reader) *readAhead {
	ra := newReadAhead(ctx, r)
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

// readAhead reads a reader in a goroutine, a few chunks ahead of its own reader.
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

func newReadAhead(ctx context.Context, r io.Reader) *readAhead {
	ra := &readAhead{
		full: make(chan chunk, chunkCount),
		free: make(chan []byte, chunkCount),
		quit: make(chan struct{}),
	}
	for range chunkCount {
		ra.free <- nil // made when first needed: small layers need few
	}
	ra.running.Go(func() { ra.read(ctx, r) })
	return ra
}

func (ra *readAhead) read(ctx context.Context, r io.Reader) {
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
		select {
		case ra.full <- c:
		case <-ra.quit:
			return
		}
		if c.err != nil {
			return
		}
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

// stop tells the goroutine to end as soon as what it is doing is done.
func (ra *readAhead) stop() {
	if !ra.stopped {
		ra.stopped = true
		close(ra.quit)
	}
}
