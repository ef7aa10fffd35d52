// SPDX-License-Identifier: Apache-2.0

package sha256pair

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"math/rand/v2"
	"testing"
)

// TestWrite compares sums made of pieces of all kinds with those of the whole.
func TestWrite(t *testing.T) {
	if !fast {
		t.Log("SKIPPED: the fast way, which this processor does not have")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for range 300 {
		a, b := sha256.New(), sha256.New()
		var w Writer
		var wantA, wantB []byte
		for range 1 + rng.IntN(6) {
			at := rng.IntN(len(data))
			size := rng.IntN(min(len(data)-at, 1<<rng.IntN(17)) + 1)
			if rng.IntN(3) > 0 {
				size &^= blockSize - 1
			}
			p := data[at : at+size]
			switch rng.IntN(6) {
			case 0:
				a.Write(p)
				wantA = append(wantA, p...)
			case 1:
				b.Write(p)
				wantB = append(wantB, p...)
			default:
				w.Write(a, b, p)
				wantA, wantB = append(wantA, p...), append(wantB, p...)
			}
		}
		if got, want := a.Sum(nil), sha256.Sum256(wantA); !bytes.Equal(got, want[:]) {
			t.Fatalf("first sum of %d bytes: got %x, want %x", len(wantA), got, want)
		}
		if got, want := b.Sum(nil), sha256.Sum256(wantB); !bytes.Equal(got, want[:]) {
			t.Fatalf("second sum of %d bytes: got %x, want %x", len(wantB), got, want)
		}
	}
}

// TestFast: the fast way is taken where it is there, and only where it can be.
func TestFast(t *testing.T) {
	p := make([]byte, 4096)
	var w Writer
	unaligned := sha256.New()
	unaligned.Write(p[:1])
	for name, test := range map[string]struct {
		a, b hash.Hash
		want int
	}{
		"both":       {sha256.New(), sha256.New(), len(p)},
		"unaligned":  {sha256.New(), unaligned, 0},
		"other size": {sha256.New(), sha256.New224(), 0},
		"other kind": {sha512.New(), sha256.New(), 0},
	} {
		if !fast {
			test.want = 0
		}
		if fast || test.want > 0 {
			if got := w.write(test.a, test.b, p); got != test.want {
				t.Errorf("%s: %d bytes, want %d", name, got, test.want)
			}
		}
	}
	// What it is built upon.
	if _, ok := sha256.New().(encoding.BinaryAppender); !ok {
		t.Error("crypto/sha256 does not tell its state")
	}
	if n := testing.AllocsPerRun(10, func() { w.Write(w.hashes()) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}

func (*Writer) hashes() (a, b hash.Hash, p []byte) {
	return sha256.New(), sha256.New(), make([]byte, 4096)
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte("a"), uint16(1), uint16(64))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 300), uint16(64), uint16(4096))
	f.Fuzz(func(t *testing.T, data []byte, before, split uint16) {
		a, b := sha256.New(), sha256.New()
		first := data[:min(int(before), len(data))]
		a.Write(first)
		rest := data[len(first):]
		cut := min(int(split), len(rest))
		var w Writer
		w.Write(a, b, rest[:cut])
		w.Write(a, b, rest[cut:])
		if got, want := a.Sum(nil), sha256.Sum256(data); !bytes.Equal(got, want[:]) {
			t.Errorf("first sum: got %x, want %x", got, want)
		}
		if got, want := b.Sum(nil), sha256.Sum256(rest); !bytes.Equal(got, want[:]) {
			t.Errorf("second sum: got %x, want %x", got, want)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	data := make([]byte, 256<<10)
	for name, add := range map[string]func(w *Writer, x, y hash.Hash){
		"pair": func(w *Writer, x, y hash.Hash) { w.Write(x, y, data) },
		"one":  func(_ *Writer, x, _ hash.Hash) { x.Write(data) },
		"two": func(_ *Writer, x, y hash.Hash) {
			x.Write(data)
			y.Write(data)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var w Writer
			x, y := sha256.New(), sha256.New()
			for b.Loop() {
				add(&w, x, y)
			}
		})
	}
}
