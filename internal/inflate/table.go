// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"encoding/binary"
	"math/bits"
)

// bigEndian is a constant for the compiler in all but name: it is set once.
var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

const (
	litBits  = 11 // of a code that the first look-up of a literal or length takes
	distBits = 8
	codeBits = 7
	maxBits  = 15
	litSize  = 1 << litBits
)

// An entry of a table says what the next bits stand for:
//
//	literal:   bit 31 set; the byte in bits 16-23; the bits to use up in 0-5
//	length or
//	distance:  the base in bits 16-30; the length of the code in 8-11; the bits to
//	           use up, extra bits included, in 0-5
//	special:   bit 15 set, and either
//	subtable:  bit 14 set; where it begins in 16-30, its bits in 8-11
//	end:       bit 13 set
//	or nothing more: no code begins with these bits
const (
	literal    = 1 << 31
	special    = 1 << 15
	subtable   = 1 << 14
	endOfBlock = 1 << 13
)

// Sizes of the tables with all subtables that codes of 15 bits can need, as
// zlib's "enough" computes them: 2342 and 402.
type (
	litTable  [2400]uint32
	distTable [512]uint32
	codeTable [1 << codeBits]uint16
)

// builder makes tables of code lengths.
type builder struct {
	count  [maxBits + 1]int
	offset [maxBits + 2]int
	sorted [288]uint16 // symbols by length, then by value
}

// sort sorts the symbols that have a code, and reports whether the lengths are
// those of a prefix code: complete, or a single code of one bit, or none.
func (b *builder) sort(lens []uint8) (longest int, ok bool) {
	clear(b.count[:])
	for _, n := range lens {
		b.count[n]++
	}
	b.count[0] = 0
	left, used := 1, 0
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - b.count[n]
		if left < 0 {
			return 0, false
		}
		b.offset[n+1] = b.offset[n] + b.count[n]
		if b.count[n] > 0 {
			longest = n
		}
		used += b.count[n]
	}
	next := b.offset
	for sym, n := range lens {
		if n != 0 {
			b.sorted[next[n]] = uint16(sym)
			next[n]++
		}
	}
	return longest, left == 0 || used == 0 || used == 1 && longest == 1
}

// fill fills a table whose first look-up takes root bits. entry gives what a
// symbol's entry is without the length of its code.
func (b *builder) fill(table []uint32, root int, lens []uint8, entry func(sym uint16) uint32) bool {
	longest, ok := b.sort(lens)
	if !ok {
		return false
	}
	for i := range table[:1<<root] {
		table[i] = special
	}
	code, i, next := 0, 0, 1<<root
	prefix, sub, subBits := -1, 0, 0
	for n := 1; n <= longest; n++ {
		for k := b.count[n]; k > 0; k-- {
			e := entry(b.sorted[i])
			i++
			reversed := int(bits.Reverse16(uint16(code)) >> (16 - n))
			code++
			if n <= root {
				e = withCode(e, n)
				for j := reversed; j < 1<<root; j += 1 << n {
					table[j] = e
				}
				continue
			}
			if p := reversed & (1<<root - 1); p != prefix {
				prefix, sub = p, next
				subBits = b.subtableBits(n-root, root, k, longest)
				next += 1 << subBits
				table[p] = special | subtable | uint32(sub)<<16 | uint32(subBits)<<8 | uint32(root)
				for j := sub; j < next; j++ {
					table[j] = special
				}
			}
			e = withCode(e, n-root)
			for j := reversed >> root; j < 1<<subBits; j += 1 << (n - root) {
				table[sub+j] = e
			}
		}
		code <<= 1
	}
	return true
}

// subtableBits returns how many bits a subtable takes whose first code is one of
// the k that are left of length root+n: until the codes fill it.
func (b *builder) subtableBits(n, root, k, longest int) int {
	left := 1<<n - k
	for left > 0 && root+n < longest {
		n++
		left = left<<1 - b.count[root+n]
	}
	return n
}

// withCode adds the length of a code to an entry that has its extra bits in 0-5.
func withCode(e uint32, n int) uint32 {
	if e&(literal|special) == 0 {
		e |= uint32(n) << 8
	}
	return e + uint32(n)
}

// code makes the table of code length codes: the symbol from bit 4 on, the
// length of the code below.
func (b *builder) code(table *codeTable, lens []uint8) bool {
	longest, ok := b.sort(lens)
	if !ok {
		return false
	}
	code, i := 0, 0
	for n := 1; n <= longest; n++ {
		for range b.count[n] {
			reversed := int(bits.Reverse16(uint16(code)) >> (16 - n))
			for j := reversed; j < len(table); j += 1 << n {
				table[j] = b.sorted[i]<<4 | uint16(n)
			}
			code++
			i++
		}
		code <<= 1
	}
	return true
}

// Bases and extra bits of lengths and distances (section 3.2.5).
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
		4097, 6145, 8193, 12289, 16385, 24577,
	}
	distExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

func (b *builder) lit(table *litTable, lens []uint8) bool {
	return b.fill(table[:], litBits, lens, func(sym uint16) uint32 {
		switch {
		case sym < 256:
			return literal | uint32(sym)<<16
		case sym == 256:
			return special | endOfBlock
		case sym < 286:
			return uint32(lengthBase[sym-257])<<16 | uint32(lengthExtra[sym-257])
		}
		return special
	})
}

func (b *builder) dist(table *distTable, lens []uint8) bool {
	return b.fill(table[:], distBits, lens, func(sym uint16) uint32 {
		if sym < 30 {
			return uint32(distBase[sym])<<16 | uint32(distExtra[sym])
		}
		return special
	})
}

// fixed makes the tables of fixed codes (section 3.2.6).
func (b *builder) fixed(lit *litTable, dist *distTable) {
	var lens [288]uint8
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	b.lit(lit, lens[:])
	for i := range 32 {
		lens[i] = 5
	}
	b.dist(dist, lens[:32])
}
