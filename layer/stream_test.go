// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/test/ocitest"
)

// compressed returns data in the given compression.
func compressed(t testing.TB, c Compression, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, c, 0)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	return buf.Bytes()
}

// text returns n bytes that compress like text.
func text(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghij klmnop\n"[rng.IntN(18)]
	}
	return b
}

func readStream(blob []byte, c Compression, diffID digest.Digest, warn func(string)) ([]byte, error) {
	s, err := NewStream(context.Background(), bytes.NewReader(blob), StreamOptions{Compression: c, DiffID: diffID, Warn: warn})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	got, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	return got, s.Finish()
}

func TestStreamRoundTrip(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		for _, size := range []int{0, 1, chunkSize - 1, chunkSize, 3*chunkSize + 17, 9 * chunkSize} {
			data := text(size)
			packed := compressed(t, c, data)
			got, err := readStream(packed, c, digest.FromBytes(data), nil)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %d bytes: %d bytes, %v", c, size, len(got), err)
			}
			_, err = readStream(packed, c, digest.FromString("other"), nil)
			if !errors.Is(err, ErrDiffID) {
				t.Errorf("%s, %d bytes: wrong diffID: %v", c, size, err)
			}
		}
	}
}

func TestDetectCompression(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		if got, err := DetectCompression(compressed(t, c, text(100))[:MagicSize]); got != c || err != nil {
			t.Errorf("%s: %s, %v", c, got, err)
		}
	}
	if got, err := DetectCompression(nil); got != None || err != nil {
		t.Errorf("nothing: %s, %v", got, err)
	}
	if got, err := DetectCompression([]byte("\xfd7zXZ\x00")); !errors.Is(err, ErrMediaType) || got != "" {
		t.Errorf("xz: %s, %v", got, err)
	}
}

func TestCompressionIsReproducible(t *testing.T) {
	data := text(3 << 19) // six blocks
	for _, c := range []Compression{Gzip, Zstd} {
		first := compressed(t, c, data)
		for range 2 {
			if !bytes.Equal(first, compressed(t, c, data)) {
				t.Errorf("%s: other bytes for the same input", c)
			}
		}
	}
}

func TestStreamRefuses(t *testing.T) {
	data := text(100_000)
	zipped, zstandard := compressed(t, Gzip, data), compressed(t, Zstd, data)
	flipped := bytes.Clone(zipped)
	flipped[len(flipped)-6] ^= 1 // in the CRC
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70 | 21<<3&0xff, 1, 0, 0}
	window[5] = byte(31-10) << 3 // window of 2^31 bytes
	for _, tc := range []struct {
		name string
		blob []byte
		c    Compression
		is   error
	}{
		{"G1 gzip and junk", append(bytes.Clone(zipped), "junk"...), Gzip, ErrTrailingBytes},
		{"zstd and junk", append(bytes.Clone(zstandard), "junk"...), Zstd, nil},
		{"G5 truncated gzip", zipped[:len(zipped)/2], Gzip, io.ErrUnexpectedEOF},
		{"G5 truncated zstd", zstandard[:len(zstandard)/2], Zstd, io.ErrUnexpectedEOF},
		{"G6 wrong CRC", flipped, Gzip, nil},
		{"G7 gzip as tar", zipped, None, ErrMagic},
		{"zstd as tar", zstandard, None, ErrMagic},
		{"xz as tar", []byte("\xfd7zXZ\x00rest"), None, ErrMagic},
		{"G8 tar as gzip", data, Gzip, ErrMagic},
		{"zstd as gzip", zstandard, Gzip, ErrMagic},
		{"gzip as zstd", zipped, Zstd, ErrMagic},
		{"empty as gzip", nil, Gzip, ErrMagic},
		{"G9 zstd window of 2^31", window, Zstd, nil},
	} {
		_, err := readStream(tc.blob, tc.c, digest.FromBytes(data), nil)
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.is)
		}
	}
}

func TestGzipPaddingAndMembers(t *testing.T) {
	data := text(70_000)
	var warnings []string
	warn := func(msg string) { warnings = append(warnings, msg) }
	padded := append(compressed(t, Gzip, data), make([]byte, 10_000)...)
	got, err := readStream(padded, Gzip, digest.FromBytes(data), warn)
	if err != nil || !bytes.Equal(got, data) || len(warnings) != 1 || !strings.Contains(warnings[0], "10000 bytes") {
		t.Errorf("G2: %d bytes, %v, warnings %q", len(got), err, warnings)
	}
	members := append(compressed(t, Gzip, data[:30_000]), compressed(t, Gzip, data[30_000:])...)
	if got, err := readStream(members, Gzip, digest.FromBytes(data), nil); err != nil || !bytes.Equal(got, data) {
		t.Errorf("G3: %d bytes, %v", len(got), err)
	}
	var empty bytes.Buffer
	must(t, gzip.NewWriter(&empty).Close())
	many := append(bytes.Repeat(empty.Bytes(), 200_000), compressed(t, Gzip, data)...)
	if got, err := readStream(many, Gzip, digest.FromBytes(data), nil); err != nil || !bytes.Equal(got, data) {
		t.Errorf("G4: %d bytes, %v", len(got), err)
	}
}

func TestStreamCloseInTheMiddle(t *testing.T) {
	data := text(4 << 20)
	blob := compressed(t, Gzip, data)
	for _, n := range []int{0, 1, chunkSize, 3 << 20} {
		s, err := NewStream(context.Background(), bytes.NewReader(blob), StreamOptions{Compression: Gzip, DiffID: digest.FromBytes(data)})
		must(t, err)
		_, err = io.CopyN(io.Discard, s, int64(n))
		must(t, err)
		done := make(chan struct{})
		go func() { s.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("Close hangs after %d bytes", n)
		}
	}
}

func TestStreamPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken disk")
	blob := io.MultiReader(bytes.NewReader(compressed(t, Gzip, text(1<<20))[:300_000]), iotest.ErrReader(broken))
	s, err := NewStream(context.Background(), blob, StreamOptions{Compression: Gzip, DiffID: digest.FromString("")})
	must(t, err)
	defer s.Close()
	if _, err := io.Copy(io.Discard, s); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestStreamCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := NewStream(ctx, io.MultiReader(strings.NewReader("plain tar"), endless{}), StreamOptions{Compression: None, DiffID: digest.FromString("")})
	must(t, err)
	defer s.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := io.Copy(io.Discard, s); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// After Close there is nothing to read but the end, if that has been seen.
func TestStreamAfterClose(t *testing.T) {
	data := text(1 << 20)
	for _, c := range []Compression{None, Gzip, Zstd} {
		for _, rest := range []int64{0, 1, int64(len(data)) - 10} {
			s, err := NewStream(t.Context(), bytes.NewReader(compressed(t, c, data)), StreamOptions{Compression: c, DiffID: digest.FromBytes(data)})
			must(t, err)
			read := io.Reader(s)
			if rest > 0 {
				read = io.LimitReader(s, int64(len(data))-rest)
			}
			_, err = io.Copy(io.Discard, read)
			must(t, err)
			s.Close()
			s.Close()
			err = s.Finish()
			if ended := rest == 0; ended && err != nil || !ended && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%s, %d bytes not read: %v", c, rest, err)
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestMediaTypes(t *testing.T) {
	for mt, want := range map[string]Compression{
		"application/vnd.oci.image.layer.v1.tar":                       None,
		"application/vnd.oci.image.layer.v1.tar+gzip":                  Gzip,
		"application/vnd.oci.image.layer.v1.tar+zstd":                  Zstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Gzip,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            Gzip,
		"application/vnd.docker.image.rootfs.diff.tar":                 None,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            Zstd,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    Gzip,
	} {
		base, c, err := SplitMediaType(mt)
		if err != nil || c != want || JoinMediaType(base, c) != mt {
			t.Errorf("%s: %s, %s, %v", mt, base, c, err)
		}
	}
	for _, mt := range []string{
		"", "application/vnd.oci.image.layer.v1.tar+xz", "application/vnd.oci.image.layer.v1.tar+none",
		"application/vnd.oci.image.layer.v1.tar+gzip+zstd", "application/vnd.oci.image.layer.v1.tar.gzip",
		"application/vnd.oci.image.manifest.v1+json",
	} {
		if _, _, err := SplitMediaType(mt); !errors.Is(err, ErrMediaType) {
			t.Errorf("%q: %v", mt, err)
		}
	}
}

// FuzzDecompress checks that no bytes make a decompressor panic or give more
// than they should, and that a stream that ends well agrees with its checksum.
func FuzzDecompress(f *testing.F) {
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write([]byte("some content")); err != nil {
		f.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(zipped.Bytes())
	f.Add(append(zipped.Bytes(), 0, 0, 0))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0, 1, 0, 0})
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		// A window of zstd may take 128 MiB, and each byte of the result is read once.
		ocitest.AssertAllocates(t, 300<<20, func() { decompressAll(t, blob) })
	})
}

// decompressAll takes the bytes for each of the compressions.
func decompressAll(t *testing.T, blob []byte) {
	t.Helper()
	for _, c := range []Compression{None, Gzip, Zstd} {
		r, err := NewReader(bytes.NewReader(blob), c, nil)
		if err != nil {
			continue
		}
		got, err := io.ReadAll(io.LimitReader(r, 1<<20))
		r.Close()
		if c == Gzip && err == nil && len(got) < 1<<20 && len(got) > 0 {
			want, werr := gunzip(blob)
			if werr == nil && crc32.ChecksumIEEE(got) != crc32.ChecksumIEEE(want) {
				t.Error("other content than compress/gzip")
			}
		}
	}
}

func gunzip(blob []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 1<<20))
}
