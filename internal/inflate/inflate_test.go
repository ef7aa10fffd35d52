// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// corpora are kinds of data that give all kinds of blocks.
func corpora(tb testing.TB) map[string][]byte {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 700_000)
	skewed := make([]byte, 900_000)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	for i := range skewed {
		skewed[i] = byte(rng.ExpFloat64() * 12)
	}
	var source []byte
	files, err := filepath.Glob("../../*/*.go")
	if err != nil || len(files) < 20 {
		tb.Fatalf("%d Go sources to compress, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		source = append(source, data...)
	}
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	binary, err := os.ReadFile(exe)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "short": []byte("hello, hello, hello"),
		"zeros": make([]byte, 1_000_000), "random": random, "skewed": skewed,
		"periods": []byte(strings.Repeat("ab", 40_000) + strings.Repeat("abc", 40_000) + strings.Repeat("abcdefg", 9000)),
		"source":  source[:min(len(source), 700_000)], "binary": binary[:min(len(binary), 700_000)],
	}
}

func deflate(tb testing.TB, data []byte, level int) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, level)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for name, data := range corpora(t) {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 4, 6, 9} {
			packed := deflate(t, data, level)
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(packed), "halves": iotest.HalfReader(bytes.NewReader(packed)),
				"with error": iotest.DataErrReader(bytes.NewReader(packed)), "portable": bytes.NewReader(packed),
				"filled": bytes.NewReader(packed),
			} {
				z := NewReader(r)
				z.portable = z.portable || how == "portable"
				var got []byte
				var err error
				if how == "filled" {
					got, err = fillAll(z)
				} else {
					got, err = io.ReadAll(z)
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, level %d, %s: %d of %d bytes, %v", name, level, how, len(got), len(data), err)
				}
			}
		}
	}
	data := corpora(t)["short"]
	got, err := io.ReadAll(NewReader(iotest.OneByteReader(bytes.NewReader(deflate(t, data, 9)))))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("byte by byte: %q, %v", got, err)
	}
}

// fillAll reads z by means of two buffers and the first of them again, of which what is
// not in use is overwritten.
func fillAll(z *Reader) (all []byte, err error) {
	bufs := [2][]byte{make([]byte, BufferSize), make([]byte, BufferSize)}
	for i := 0; ; i++ {
		data, err := z.Fill(bufs[i%3%2])
		all = append(all, data...)
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		if i%3 == 0 {
			copy(bufs[1], bytes.Repeat([]byte{0xaa}, BufferSize))
		}
	}
}

func TestResetForgets(t *testing.T) {
	source := corpora(t)["source"]
	packed := deflate(t, source, 6)
	z := NewReader(bytes.NewReader(packed[:len(packed)/2]))
	if _, err := fillAll(z); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a stream: %v", err)
	}
	for range 2 {
		z.Reset(bytes.NewReader(packed))
		if got, err := fillAll(z); err != nil || !bytes.Equal(got, source) {
			t.Errorf("%d of %d bytes, %v", len(got), len(source), err)
		}
	}
	z.Reset(bytes.NewReader(deflate(t, []byte("short"), 0)))
	if got, err := io.ReadAll(z); err != nil || string(got) != "short" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStreamsInARow(t *testing.T) {
	first, second := []byte(strings.Repeat("first", 100)), []byte("second")
	packed := append(append(deflate(t, first, 6), "between"...), deflate(t, second, 6)...)
	z := NewReader(iotest.OneByteReader(bytes.NewReader(packed)))
	got, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(got, first) {
		t.Fatalf("%q, %v", got, err)
	}
	for _, want := range []byte("between") {
		if b, err := z.ReadByte(); err != nil || b != want {
			t.Fatalf("%q, %v, want %q", b, err, want)
		}
	}
	z.Next()
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, second) {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := z.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// A match must not reach into the stream before.
func TestNextForgetsTheWindow(t *testing.T) {
	var buf bytes.Buffer
	w, err := flate.NewWriterDict(&buf, 9, []byte("dictionary"))
	if err == nil {
		_, err = w.Write([]byte("dictionary"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	z := NewReader(bytes.NewReader(append(deflate(t, []byte("dictionary"), 0), buf.Bytes()...)))
	if _, err := io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	z.Next()
	if got, err := io.ReadAll(z); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTruncated(t *testing.T) {
	for _, level := range []int{0, 1, 9, flate.HuffmanOnly} {
		packed := deflate(t, corpora(t)["source"][:20_000], level)
		for i := range packed {
			if i > 400 && i%97 != 0 {
				continue
			}
			if _, err := io.ReadAll(NewReader(bytes.NewReader(packed[:i]))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("level %d, %d of %d bytes: %v", level, i, len(packed), err)
			}
		}
	}
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader(deflate(t, corpora(t)["source"], 6)[:5000]), iotest.ErrReader(broken))
	if _, err := io.ReadAll(NewReader(r)); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
}

// FuzzInflate compares with the standard library: the same bytes come out, and
// the same streams are errors.
func FuzzInflate(f *testing.F) {
	for name, data := range corpora(f) {
		if name != "binary" {
			f.Add(deflate(f, data[:min(len(data), 3000)], 9), uint16(100))
			f.Add(append(deflate(f, data[:min(len(data), 300)], 1), "trailer"...), uint16(20))
		}
	}
	f.Add([]byte{0x03, 0x00, 'x'}, uint16(1))
	f.Add([]byte{0x05, 0xc0, 0x81, 0, 0, 0, 0, 0, 0x90, 0xff, 0x6b, 0x04}, uint16(3))
	f.Fuzz(func(t *testing.T, packed []byte, cut uint16) {
		const limit = 1 << 20
		rest := bytes.NewReader(packed) // a ByteReader, of which no more is read than needed
		want, werr := io.ReadAll(io.LimitReader(flate.NewReader(rest), limit))
		at := min(int(cut), len(packed))
		for i, r := range []io.Reader{
			bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed)),
			io.MultiReader(bytes.NewReader(packed[:at]), bytes.NewReader(packed[at:])),
			bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed)),
		} {
			z := NewReader(r)
			z.portable = z.portable || i > 2
			got, err := io.ReadAll(io.LimitReader(z, limit))
			if (err == nil) != (werr == nil) {
				t.Fatalf("error %v, the standard library's %v", err, werr)
			}
			if err != nil {
				continue
			}
			if !bytes.Equal(got, want) {
				t.Fatal("other bytes than the standard library's")
			}
			if b, err := z.ReadByte(); len(want) < limit && ((err == nil) != (rest.Len() > 0) || err == nil && b != packed[len(packed)-rest.Len()]) {
				t.Fatalf("%d, %v behind the stream, of which %d bytes are left", b, err, rest.Len())
			}
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	for name, data := range corpora(b) {
		if len(data) < 100_000 {
			continue
		}
		packed := deflate(b, data, 6)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			z := NewReader(bytes.NewReader(packed))
			for range b.N {
				z.src, z.srcErr = bytes.NewReader(packed), nil
				z.ip, z.inEnd = 0, 0
				z.Next()
				if n, err := io.Copy(io.Discard, z); err != nil || n != int64(len(data)) {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// TestSourceInPieces lets the source end a read at every byte of several streams
// that follow each other: what was loaded ahead of time is given back even if the
// buffer was filled again meanwhile.
func TestSourceInPieces(t *testing.T) {
	var streams []byte
	want := bytes.Repeat([]byte("to and fro, "), 30)
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		streams = append(streams, deflate(t, want, level)...)
		streams = append(streams, "end"...)
	}
	for first := range streams {
		for _, second := range []int{1, 8, len(streams)} {
			second = min(second, len(streams)-first)
			z := NewReader(io.MultiReader(bytes.NewReader(streams[:first]), bytes.NewReader(streams[first:first+second]),
				bytes.NewReader(streams[first+second:])))
			for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
				got, err := io.ReadAll(z)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("level %d, pieces of %d and %d: %q, %v", level, first, second, got, err)
				}
				var end [3]byte
				for i := range end {
					if end[i], err = z.ReadByte(); err != nil {
						t.Fatalf("level %d, pieces of %d and %d: behind the stream: %v", level, first, second, err)
					}
				}
				if string(end[:]) != "end" {
					t.Fatalf("level %d, pieces of %d and %d: %q behind the stream", level, first, second, end)
				}
				z.Next()
			}
		}
	}
}
