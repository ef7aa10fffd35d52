// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"math/bits"
	"unsafe"
)

// span is what the loop over symbols works on. It keeps bounds itself: it begins with
// inSlack bytes, real or zero, behind ip, and goes on while ip is before inTop and wp
// before outTop, behind which there are as many bytes of the input, and outSlack of
// the output.
type span struct {
	in     unsafe.Pointer
	ip     int // the next byte to load
	inTop  int
	out    unsafe.Pointer
	wp     int // the next byte to decode
	outTop int
	base   int // the oldest byte that a match may reach
	buf    uint64
	n      uint // bits in buf
	lit    *litTable
	dist   *distTable
}

// outcome is why the loop has ended.
type outcome int

const (
	goOn       outcome = iota // there is no room for another round
	blockEnded                // the symbol for the end of a block came
	isCorrupt
)

// symbols is the loop that all time is spent in. It decodes one symbol at least.
// symbolsBMI2 is the same in assembly.
func (s *span) symbols() outcome {
	var (
		in   = s.in
		out  = s.out
		lit  = s.lit
		dist = s.dist
		ip   = s.ip
		wp   = s.wp
		buf  = s.buf
		n    = s.n
		why  = goOn
	)
loop:
	for first := true; first || ip < s.inTop && wp < s.outTop; first = false {
		buf |= load64(in, ip) << (n & 63)
		ip += int((63 - n) >> 3)
		n |= 56

		e := lit[buf&(litSize-1)]
		saved := buf
		buf >>= e & 63
		n -= uint(e & 63)
		if e&literal != 0 {
			store8(out, wp, byte(e>>16))
			wp++
			e = lit[buf&(litSize-1)]
			saved = buf
			buf >>= e & 63
			n -= uint(e & 63)
			if e&literal != 0 {
				store8(out, wp, byte(e>>16))
				wp++
				e = lit[buf&(litSize-1)]
				saved = buf
				buf >>= e & 63
				n -= uint(e & 63)
				if e&literal != 0 {
					store8(out, wp, byte(e>>16))
					wp++
					continue
				}
			}
		}
		if e&special != 0 {
			if e&subtable != 0 {
				e = lit[e>>16+uint32(buf)&(1<<(e>>8&0xf)-1)]
				saved = buf
				buf >>= e & 63
				n -= uint(e & 63)
				if e&literal != 0 {
					store8(out, wp, byte(e>>16))
					wp++
					continue
				}
			}
			if e&special != 0 {
				why = isCorrupt
				if e&endOfBlock != 0 {
					why = blockEnded
				}
				break loop
			}
		}
		length := int(e>>16) + int(saved&(1<<(e&63)-1)>>(e>>8&0xf))

		// Up to 42 bits are gone; a distance may need 28.
		if n < 32 {
			buf |= load64(in, ip) << (n & 63)
			ip += int((63 - n) >> 3)
			n |= 56
		}
		e = dist[buf&(1<<distBits-1)]
		if e&special != 0 {
			if e&subtable != 0 {
				buf >>= e & 63
				n -= uint(e & 63)
				e = dist[e>>16+uint32(buf)&(1<<(e>>8&0xf)-1)]
			}
			if e&special != 0 {
				why = isCorrupt
				break loop
			}
		}
		distance := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&0xf))
		buf >>= e & 63
		n -= uint(e & 63)
		if distance > wp-s.base {
			why = isCorrupt
			break loop
		}
		copyMatch(out, wp, distance, length)
		wp += length
	}
	s.ip, s.wp, s.buf, s.n = ip, wp, buf, n
	return why
}

// copyMatch copies length bytes from distance before wp to wp. It may write up
// to 15 bytes more.
func copyMatch(out unsafe.Pointer, wp, distance, length int) {
	src, end := wp-distance, wp+length
	if distance >= 8 {
		store64(out, wp, load64(out, src))
		store64(out, wp+8, load64(out, src+8))
		for wp, src = wp+16, src+16; wp < end; wp, src = wp+8, src+8 {
			store64(out, wp, load64(out, src))
		}
		return
	}
	// The bytes repeat: a word of them goes on where it fits in whole periods.
	pattern := load64(out, src) & (1<<(8*distance) - 1)
	for shift := 8 * distance; shift < 64; shift *= 2 {
		pattern |= pattern << shift
	}
	step := 8 - 8%distance
	for ; wp < end; wp += step {
		store64(out, wp, pattern)
	}
}

func store8(p unsafe.Pointer, i int, v byte) { *(*byte)(unsafe.Add(p, i)) = v }

// load64 loads eight bytes in little-endian order.
func load64(p unsafe.Pointer, i int) uint64 {
	v := *(*uint64)(unsafe.Add(p, i))
	if bigEndian {
		v = bits.ReverseBytes64(v)
	}
	return v
}

func store64(p unsafe.Pointer, i int, v uint64) {
	if bigEndian {
		v = bits.ReverseBytes64(v)
	}
	*(*uint64)(unsafe.Add(p, i)) = v
}
