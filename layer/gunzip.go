// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"github.com/shale-oci/shale/internal/inflate"
)

// inflaters are decoders that are used again: the tables of one are larger than many a
// layer.
var inflaters = sync.Pool{New: func() any { return inflate.NewReader(nil) }}

// gunzipper decompresses the members of a gzip stream (RFC 1952) one after the
// other. NUL bytes behind the last one are padding.
type gunzipper struct {
	z    *inflate.Reader
	warn func(msg string)
	crc  uint32 // of the member so far
	size uint32 // bytes in the member so far, modulo 2^32
	err  error
}

func newGunzipper(r io.Reader, warn func(msg string)) (io.ReadCloser, error) {
	g := &gunzipper{z: inflaters.Get().(*inflate.Reader), warn: warn}
	g.z.Reset(r)
	b, err := g.z.ReadByte()
	if err == nil {
		err = g.begin(b)
	}
	if err != nil {
		g.Close() //nolint:errcheck // it never fails
		return nil, fmt.Errorf("gzip: %w", unexpected(err))
	}
	return g, nil
}

func (g *gunzipper) Close() error {
	if g.z != nil {
		g.z.Reset(nil)
		inflaters.Put(g.z)
		g.z, g.err = nil, fs.ErrClosed
	}
	return nil
}

func (g *gunzipper) Read(p []byte) (int, error) {
	for g.err == nil {
		n, err := g.z.Read(p)
		g.note(p[:n], err)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, g.err
}

func (g *gunzipper) fill(buf []byte) ([]byte, error) {
	for g.err == nil {
		data, err := g.z.Fill(buf)
		g.note(data, err)
		if len(data) > 0 {
			return data, nil
		}
	}
	return nil, g.err
}

// note checks what has been decoded, and goes on to the next member behind the end of
// one.
func (g *gunzipper) note(data []byte, err error) {
	g.crc = crc32.Update(g.crc, crc32.IEEETable, data)
	g.size += uint32(len(data))
	switch {
	case errors.Is(err, io.EOF):
		g.err = g.end()
	case err != nil:
		g.err = fmt.Errorf("gzip: %w", err)
	}
}

// Errors of a gzip stream whose compressed data may be right.
var (
	errGzipHeader   = errors.New("not a gzip header")
	errGzipChecksum = errors.New("wrong checksum")
)

// Flags of a member's header (section 2.3.1).
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagReserved  = 0xe0
)

// header reads the bytes of a member's header and sums them up.
type header struct {
	z   *inflate.Reader
	sum uint32
	err error
}

func (h *header) byte() byte {
	if h.err != nil {
		return 0
	}
	b, err := h.z.ReadByte()
	if err != nil {
		h.err = unexpected(err)
		return 0
	}
	h.sum = crc32.Update(h.sum, crc32.IEEETable, []byte{b})
	return b
}

func (h *header) uint16() uint16 { return uint16(h.byte()) | uint16(h.byte())<<8 }

func (h *header) skip(n int) {
	for ; n > 0 && h.err == nil; n-- {
		h.byte()
	}
}

func (h *header) skipString() {
	for h.err == nil {
		if h.byte() == 0 {
			return
		}
	}
}

// begin reads the header of a member, whose first byte has been read already.
func (g *gunzipper) begin(first byte) error {
	h := header{z: g.z, sum: crc32.ChecksumIEEE([]byte{first})}
	second, method, flags := h.byte(), h.byte(), h.byte()
	h.skip(6) // time, extra flags, operating system
	if h.err == nil && (first != 0x1f || second != 0x8b || method != 8 || flags&flagReserved != 0) {
		return errGzipHeader
	}
	if flags&flagExtra != 0 {
		h.skip(int(h.uint16()))
	}
	if flags&flagName != 0 {
		h.skipString()
	}
	if flags&flagComment != 0 {
		h.skipString()
	}
	if flags&flagHeaderCRC != 0 {
		if sum := uint16(h.sum); h.uint16() != sum && h.err == nil {
			return errGzipChecksum
		}
	}
	if h.err != nil {
		return h.err
	}
	g.crc, g.size = 0, 0
	g.z.Next()
	return nil
}

// end checks what follows the compressed data of a member, and goes on to the
// next. It returns io.EOF behind the last.
func (g *gunzipper) end() error {
	var trailer [8]byte
	for i := range trailer {
		b, err := g.z.ReadByte()
		if err != nil {
			return fmt.Errorf("gzip: %w", unexpected(err))
		}
		trailer[i] = b
	}
	if binary.LittleEndian.Uint32(trailer[:]) != g.crc || binary.LittleEndian.Uint32(trailer[4:]) != g.size {
		return fmt.Errorf("gzip: %w", errGzipChecksum)
	}
	b, err := g.z.ReadByte()
	switch {
	case err != nil:
		return err
	case b == 0:
		return g.padding()
	case b != 0x1f:
		return fmt.Errorf("gzip: %w", ErrTrailingBytes)
	}
	if err := g.begin(b); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	return nil
}

// padding reads to the end, where there may be nothing but NUL bytes any more.
func (g *gunzipper) padding() error {
	for n := int64(1); ; n++ {
		b, err := g.z.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			if g.warn != nil {
				g.warn(fmt.Sprintf("ignoring %d bytes of padding after the gzip stream", n))
			}
			return io.EOF
		case err != nil:
			return err
		case b != 0:
			return fmt.Errorf("gzip: %w", ErrTrailingBytes)
		}
	}
}
