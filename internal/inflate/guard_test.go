// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// guarded returns a slice behind which there is a page that nobody may touch.
func guarded(t *testing.T, size int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	whole := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(m[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return m[whole-size : whole : whole]
}

// The loop that does not check bounds must not leave the buffers: a step beyond them
// ends this test with a fault.
func TestStaysInItsBuffers(t *testing.T) {
	for name, data := range corpora(t) {
		data = data[:min(len(data), 600_000)]
		for _, level := range []int{flate.HuffmanOnly, 1, 9} {
			packed := deflate(t, data, level)
			for _, portable := range []bool{false, true} {
				z := NewReader(iotest.HalfReader(bytes.NewReader(packed)))
				z.in, z.out = guarded(t, len(z.in)), guarded(t, BufferSize)
				z.portable = z.portable || portable
				if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, level %d: %d of %d bytes, %v", name, level, len(got), len(data), err)
				}
			}
		}
	}
}

// Damage leads to an error, or to other bytes, of which both loops make the same.
func TestDamageStaysInItsBuffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	z, portable := NewReader(nil), NewReader(nil)
	z.in, z.out = guarded(t, len(z.in)), guarded(t, BufferSize)
	portable.in, portable.out = guarded(t, len(z.in)), guarded(t, BufferSize)
	portable.portable = true
	read := func(z *Reader, packed []byte) ([]byte, error) {
		z.src, z.srcErr, z.ip, z.inEnd, z.nbits = bytes.NewReader(packed), nil, 0, 0, 0
		z.Next()
		return io.ReadAll(z)
	}
	for name, data := range corpora(t) {
		for _, level := range []int{flate.HuffmanOnly, 1, 9} {
			packed := deflate(t, data[:min(len(data), 20_000)], level)
			for range 30 {
				bad := bytes.Clone(packed[:len(packed)-rng.IntN(min(20, len(packed)))])
				for range rng.IntN(4) {
					bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
				}
				got, err := read(z, bad)
				want, werr := read(portable, bad)
				if !bytes.Equal(got, want) || !errors.Is(err, werr) {
					t.Fatalf("%s, level %d: %d bytes, %v; in Go %d bytes, %v", name, level, len(got), err, len(want), werr)
				}
			}
		}
	}
}
