// SPDX-License-Identifier: Apache-2.0

// Package inflate decompresses DEFLATE streams (RFC 1951) fast.
//
// Decompressing gzip layers is what unpacking an image waits for, and the
// decoders of the standard library and its relatives spend most of their time
// on calls for single symbols. This one has the shape of the decoders that are
// fast in other languages: bits are loaded eight bytes at a time, one table
// look-up gives a symbol with its length and base, several literals are decoded
// between two loads, and matches are copied in words inside one window.
//
// Input is foreign: every match is checked against what has been decoded, every
// code against being complete, and the loop that works without bounds checks
// only runs while there is more room, on both sides, than one round can use.
package inflate

import (
	"encoding/binary"
	"errors"
	"io"
	"unsafe"
)

// ErrCorrupt is returned for a stream that is not DEFLATE.
var ErrCorrupt = errors.New("corrupt deflate stream")

const (
	windowSize = 32 << 10 // the largest distance
	maxMatch   = 258
	// outSize is what is decoded before it must be read.
	outSize = 256 << 10
	// outSlack is more than one round of the loop can write: three literals and
	// a match, copied in pieces of 32 bytes.
	outSlack = 3 + maxMatch + 32
	inSize   = 64 << 10
	// inSlack is more than one round can read: it loads eight bytes up to two
	// times and goes on by seven each time.
	inSlack = 32

	// BufferSize is the length of a buffer for [Reader.Fill].
	BufferSize = windowSize + outSize + outSlack
)

// Reader decompresses one stream after another from the same source. It reads
// ahead; what follows a stream is had by ReadByte.
type Reader struct {
	src    io.Reader
	srcErr error // io.EOF or what the source failed with

	in     []byte // inSlack bytes of zeros follow the real ones
	ip     int    // the next byte to load
	inEnd  int    // behind the last real byte
	bitBuf uint64
	nbits  uint // in bitBuf

	out  []byte
	base int // the oldest byte of the stream that is still there
	rp   int // the next byte to give out
	wp   int // the next byte to decode

	state state
	final bool // this block is the last
	left  int  // bytes of a stored block still to copy
	err   error

	lit   litTable
	dist  distTable
	fixed bool // lit and dist are those of fixed blocks
	build builder

	portable bool // symbols are decoded in Go
}

type state int

const (
	atBlock state = iota
	inStored
	inHuffman
	atEnd
)

// NewReader returns a reader of the stream that begins where r is.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, in: make([]byte, inSize+inSlack), portable: !fast}
}

// Reset makes z a reader of the stream that begins where r is, whatever it has read.
func (z *Reader) Reset(r io.Reader) {
	z.src, z.srcErr, z.out = r, nil, nil
	z.ip, z.inEnd, z.bitBuf, z.nbits = 0, 0, 0, 0
	z.Next()
}

// Next begins the next stream in the same source.
func (z *Reader) Next() {
	z.align()
	z.state, z.final, z.err = atBlock, false, nil
	z.base, z.rp, z.wp = 0, 0, 0
}

// ReadByte returns the next byte of the source behind the stream, which must
// have been read to its end.
func (z *Reader) ReadByte() (byte, error) {
	z.align()
	if z.ip >= z.inEnd {
		z.fill()
		if z.ip >= z.inEnd {
			return 0, z.srcErr
		}
	}
	z.ip++
	return z.in[z.ip-1], nil
}

// align gives up the bits left in a byte and gives back whole bytes.
func (z *Reader) align() {
	z.ip -= int(z.nbits >> 3)
	z.bitBuf, z.nbits = 0, 0
}

// Read implements [io.Reader]. The error at the end of the stream is io.EOF, at
// the end of the source before that io.ErrUnexpectedEOF.
func (z *Reader) Read(p []byte) (int, error) {
	for z.rp == z.wp {
		if z.err != nil {
			return 0, z.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if z.out == nil {
			z.out = make([]byte, BufferSize)
		}
		if z.wp >= windowSize+outSize {
			z.moveTo(z.out)
		}
		z.decode()
	}
	n := copy(p, z.out[z.rp:z.wp])
	z.rp += n
	return n, nil
}

// Fill is Read without copying: what comes next is decoded into buf, of BufferSize bytes,
// and a part of buf is returned. It must not be changed before the next call, which may be
// with another buffer or the same one.
func (z *Reader) Fill(buf []byte) ([]byte, error) {
	for z.rp == z.wp {
		if z.err != nil {
			return nil, z.err
		}
		z.moveTo(buf[:BufferSize])
		z.decode()
	}
	data := z.out[z.rp:z.wp]
	z.rp = z.wp
	return data, nil
}

// moveTo makes out the buffer to decode into, with what matches may refer to at its
// beginning. All that was decoded before has been read.
func (z *Reader) moveTo(out []byte) {
	by := windowSize - z.wp
	base := max(0, z.base+by)
	copy(out[base:windowSize], z.out[base-by:z.wp])
	z.out, z.base, z.rp, z.wp = out, base, windowSize, windowSize
}

// decode decodes until there is a buffer full, or the stream ends, or err is
// set.
func (z *Reader) decode() {
	for z.err == nil && z.wp < windowSize+outSize {
		switch z.state {
		case atBlock:
			z.err = z.block()
		case inStored:
			z.err = z.stored()
		case inHuffman:
			z.err = z.huffman()
		case atEnd:
			z.err = io.EOF
		}
	}
}

// fill makes sure that inSlack bytes can be loaded from ip on: real ones while
// there are, then zeros.
func (z *Reader) fill() {
	if z.inEnd-z.ip >= inSlack || z.srcErr != nil {
		return
	}
	// The bytes that are in bitBuf as a whole may have to be given back.
	back := int(z.nbits >> 3)
	n := copy(z.in, z.in[z.ip-back:z.inEnd])
	z.ip, z.inEnd = back, n
	for z.inEnd-z.ip < inSlack && z.srcErr == nil {
		var n int
		n, z.srcErr = z.src.Read(z.in[z.inEnd:inSize])
		z.inEnd += n
	}
	clear(z.in[z.inEnd : z.inEnd+inSlack])
}

// overrun reports whether more bits have been used than there are.
func (z *Reader) overrun() bool { return z.ip-int(z.nbits>>3) > z.inEnd }

// short is the error for a source that ends in the middle of a stream.
func (z *Reader) short() error {
	if errors.Is(z.srcErr, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return z.srcErr
}

// load makes sure that there are 56 bits, real ones or zeros. There must be no
// overrun.
func (z *Reader) load() {
	z.fill()
	z.bitBuf |= binary.LittleEndian.Uint64(z.in[z.ip:]) << z.nbits
	z.ip += int((63 - z.nbits) >> 3)
	z.nbits |= 56
}

// need makes sure that there are n real bits, at most 32.
func (z *Reader) need(n uint) error {
	if z.nbits < n {
		z.load()
	}
	if int(z.nbits)-8*max(0, z.ip-z.inEnd) < int(n) {
		return z.short()
	}
	return nil
}

// take returns the next n bits, which are there.
func (z *Reader) take(n uint) uint32 {
	v := uint32(z.bitBuf & (1<<n - 1))
	z.bitBuf >>= n
	z.nbits -= n
	return v
}

// block reads the head of a block (RFC 1951, section 3.2.3).
func (z *Reader) block() error {
	if z.final {
		z.state = atEnd
		return nil
	}
	if err := z.need(3); err != nil {
		return err
	}
	z.final = z.take(1) == 1
	switch z.take(2) {
	case 0:
		return z.storedHead()
	case 1:
		if !z.fixed {
			z.fixed = true
			z.build.fixed(&z.lit, &z.dist)
		}
		z.state = inHuffman
		return nil
	case 2:
		z.fixed = false
		z.state = inHuffman
		return z.dynamicHead()
	}
	return ErrCorrupt
}

// storedHead reads the length of a stored block (section 3.2.4).
func (z *Reader) storedHead() error {
	z.take(z.nbits & 7)
	if err := z.need(32); err != nil {
		return err
	}
	n, inverse := z.take(16), z.take(16)
	if n != ^inverse&0xffff {
		return ErrCorrupt
	}
	z.align()
	z.left = int(n)
	z.state = inStored
	return nil
}

func (z *Reader) stored() error {
	for z.left > 0 {
		room := windowSize + outSize - z.wp
		if room == 0 {
			return nil
		}
		if z.ip >= z.inEnd {
			z.fill()
			if z.ip >= z.inEnd {
				return z.short()
			}
		}
		n := copy(z.out[z.wp:z.wp+min(room, z.left)], z.in[z.ip:z.inEnd])
		z.ip += n
		z.wp += n
		z.left -= n
	}
	z.state = atBlock
	return nil
}

// codeOrder is the order of code length codes (section 3.2.7).
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicHead reads the codes of a block (section 3.2.7).
func (z *Reader) dynamicHead() error {
	if err := z.need(14); err != nil {
		return err
	}
	nlit, ndist, ncode := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if nlit > 286 || ndist > 30 {
		return ErrCorrupt
	}
	var lens [320]uint8
	for _, sym := range codeOrder[:ncode] {
		if err := z.need(3); err != nil {
			return err
		}
		lens[sym] = uint8(z.take(3))
	}
	var codes codeTable
	if !z.build.code(&codes, lens[:19]) {
		return ErrCorrupt
	}
	clear(lens[:19])
	for i := 0; i < nlit+ndist; {
		if z.nbits < codeBits+7 {
			z.load()
		}
		e := codes[z.bitBuf&(1<<codeBits-1)]
		if e == 0 {
			return ErrCorrupt
		}
		z.take(uint(e & 0xf))
		sym, repeat := uint8(e>>4), 1
		var value uint8
		switch {
		case sym < 16:
			value = sym
		case sym == 16:
			if i == 0 {
				return ErrCorrupt
			}
			value, repeat = lens[i-1], 3+int(z.take(2))
		case sym == 17:
			repeat = 3 + int(z.take(3))
		default:
			repeat = 11 + int(z.take(7))
		}
		if i+repeat > nlit+ndist {
			return ErrCorrupt
		}
		if z.overrun() {
			return z.short()
		}
		for range repeat {
			lens[i] = value
			i++
		}
	}
	if !z.build.lit(&z.lit, lens[:nlit]) || !z.build.dist(&z.dist, lens[nlit:nlit+ndist]) {
		return ErrCorrupt
	}
	return nil
}

// huffman decodes symbols until the block ends or the buffer is full.
func (z *Reader) huffman() error {
	for z.wp < windowSize+outSize {
		z.fill()
		why := z.symbols()
		if z.overrun() {
			return z.short()
		}
		switch why {
		case isCorrupt:
			return ErrCorrupt
		case blockEnded:
			z.state = atBlock
			return nil
		}
	}
	return nil
}

// symbols decodes one symbol at least. It begins with no overrun, and goes on while
// there are inSlack real bytes, or the last ones are in.
func (z *Reader) symbols() outcome {
	s := span{
		in: unsafe.Pointer(unsafe.SliceData(z.in)), ip: z.ip, inTop: z.inEnd - inSlack,
		out: unsafe.Pointer(unsafe.SliceData(z.out)), wp: z.wp, outTop: windowSize + outSize, base: z.base,
		buf: z.bitBuf, n: z.nbits,
		lit: &z.lit, dist: &z.dist,
	}
	if z.srcErr != nil {
		s.inTop = z.inEnd
	}
	var why outcome
	if z.portable {
		why = s.symbols()
	} else {
		why = symbolsBMI2(&s)
	}
	z.ip, z.wp, z.bitBuf, z.nbits = s.ip, s.wp, s.buf, s.n
	return why
}
