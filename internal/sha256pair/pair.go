// SPDX-License-Identifier: Apache-2.0

// Package sha256pair adds the same bytes to two SHA-256 sums at once.
//
// What is unpacked from a layer is hashed twice, as part of the layer and as the
// content of a file. SHA-256 cannot keep a processor busy: each round waits for the
// one before it. The rounds of a second sum fill the gaps, and the message schedule is
// the same for both, so that two sums take little longer than one.
//
// The sums are those of crypto/sha256. Where the processor does not have the
// instructions, or there is little to add, one is written to after the other.
package sha256pair

import (
	"encoding/binary"
	"hash"
)

// minimum is how many bytes must come at once for taking the states out of the sums
// and putting them back to be worth it.
const minimum = 1024

const blockSize = 64

// The form in which crypto/sha256 keeps its state (encoding.BinaryMarshaler): magic,
// eight words, the begun block, and the number of bytes so far, big endian.
const (
	magicSize = 4
	wordsEnd  = magicSize + 8*4
	countAt   = wordsEnd + blockSize
	stateSize = countAt + 8
)

// sum is what a hash of crypto/sha256 can do besides hashing.
type sum interface {
	AppendBinary([]byte) ([]byte, error)
	UnmarshalBinary([]byte) error
}

// Writer adds bytes to two sums. The zero value is ready for use, by one goroutine at
// a time.
type Writer struct {
	a, b         [8]uint32
	bufA, bufB   [stateSize]byte
	dataA, dataB []byte
}

// Write adds p to both a and b, which may be any two hashes.
func (w *Writer) Write(a, b hash.Hash, p []byte) {
	n := 0
	if fast && len(p) >= minimum {
		n = w.write(a, b, p)
	}
	a.Write(p[n:]) // never fails
	b.Write(p[n:])
}

// write adds whole blocks of p to both, if both are sums that end with a whole block,
// and returns how many bytes it has added.
func (w *Writer) write(a, b hash.Hash, p []byte) int {
	sa, ok := a.(sum)
	sb, ok2 := b.(sum)
	if !ok || !ok2 || a.Size() != 32 || b.Size() != 32 || a.BlockSize() != blockSize || b.BlockSize() != blockSize {
		return 0
	}
	var errA, errB error
	w.dataA, errA = sa.AppendBinary(w.bufA[:0])
	w.dataB, errB = sb.AppendBinary(w.bufB[:0])
	if errA != nil || errB != nil || !load(&w.a, w.dataA) || !load(&w.b, w.dataB) {
		return 0
	}
	n := len(p) &^ (blockSize - 1)
	blocks(&w.a, &w.b, p[:n])
	store(&w.a, w.dataA, n)
	store(&w.b, w.dataB, n)
	if sa.UnmarshalBinary(w.dataA) != nil || sb.UnmarshalBinary(w.dataB) != nil {
		panic("sha256pair: crypto/sha256 does not take the state that it gave")
	}
	return n
}

// load reads a state, if it is one without a begun block.
func load(words *[8]uint32, data []byte) bool {
	if len(data) != stateSize || string(data[:magicSize]) != "sha\x03" || data[stateSize-1]%blockSize != 0 {
		return false
	}
	for i := range words {
		words[i] = binary.BigEndian.Uint32(data[magicSize+4*i:])
	}
	return true
}

// store puts back what load has read, n bytes later.
func store(words *[8]uint32, data []byte, n int) {
	for i, word := range words {
		binary.BigEndian.PutUint32(data[magicSize+4*i:], word)
	}
	count := binary.BigEndian.Uint64(data[countAt:])
	binary.BigEndian.PutUint64(data[countAt:], count+uint64(n))
}
