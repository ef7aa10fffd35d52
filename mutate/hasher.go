// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"crypto/sha256"

	"github.com/opencontainers/go-digest"
)

// The buffers that go to and fro between a hasher's two sides.
const (
	hasherBuffers = 4
	hasherBuffer  = 256 << 10
)

// hasher computes the digest of what is written to it in a goroutine of its own, so
// that it does not hold up the compressor, which works in parallel too.
type hasher struct {
	full   chan []byte
	free   chan []byte
	result chan digest.Digest
	buf    []byte // being filled
	size   int64
}

// newHasher returns a hasher, of which sum must be called at the end.
func newHasher() *hasher {
	h := &hasher{
		full:   make(chan []byte, hasherBuffers),
		free:   make(chan []byte, hasherBuffers),
		result: make(chan digest.Digest, 1),
	}
	for range hasherBuffers {
		h.free <- nil // allocated when it is first needed
	}
	go func() {
		hash := sha256.New()
		for buf := range h.full {
			hash.Write(buf)
			h.free <- buf[:0]
		}
		h.result <- digest.NewDigest(digest.SHA256, hash)
	}()
	return h
}

// Write implements io.Writer. It never fails.
func (h *hasher) Write(p []byte) (int, error) {
	n := len(p)
	h.size += int64(n)
	for len(p) > 0 {
		if h.buf == nil {
			if h.buf = <-h.free; h.buf == nil {
				h.buf = make([]byte, 0, hasherBuffer)
			}
		}
		k := min(len(p), cap(h.buf)-len(h.buf))
		h.buf = append(h.buf, p[:k]...)
		p = p[k:]
		if len(h.buf) == cap(h.buf) {
			h.full <- h.buf
			h.buf = nil
		}
	}
	return n, nil
}

// sum ends the goroutine and returns the digest and the number of bytes written.
func (h *hasher) sum() (digest.Digest, int64) {
	if len(h.buf) > 0 {
		h.full <- h.buf
		h.buf = nil
	}
	close(h.full)
	return <-h.result, h.size
}
