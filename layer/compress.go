// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// Errors of compressed streams.
var (
	ErrMagic         = errors.New("content does not match the media type")
	ErrTrailingBytes = errors.New("bytes after the end of the compressed stream")
)

const (
	// gzipBlock is what one goroutine compresses at a time. It is part of the
	// output's definition: another size gives other bytes.
	gzipBlock = 256 << 10
	// maxWindow is the largest zstd window taken, what `zstd --long=27` needs
	// and the zstd command takes by default (RFC 8878, section 3.1.1.1.2).
	maxWindow = 128 << 20
)

// NewWriter returns a writer that compresses to w on all CPUs. The same input
// gives the same bytes on every machine. Level 0 is the default of the
// compression; gzip has levels 1 to 9, zstd 1 to 22. Close ends the stream and
// leaves w open.
func NewWriter(w io.Writer, c Compression, level int) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopWriteCloser{w}, nil
	case Gzip:
		if level == 0 {
			level = pgzip.DefaultCompression
		}
		zw, err := pgzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, fmt.Errorf("gzip level %d: %w", level, err)
		}
		if err := zw.SetConcurrency(gzipBlock, 2*runtime.GOMAXPROCS(0)); err != nil {
			return nil, fmt.Errorf("set gzip concurrency: %w", err)
		}
		return zw, nil
	case Zstd:
		enc := zstd.SpeedDefault
		if level != 0 {
			enc = zstd.EncoderLevelFromZstd(level)
		}
		zw, err := zstd.NewWriter(w, zstd.WithEncoderLevel(enc))
		if err != nil {
			return nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
		return zw, nil
	}
	return nil, fmt.Errorf("compress: %w %q", ErrMediaType, c)
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// magics are the first bytes of the compressions that a layer may wrongly have.
var magics = map[string][]byte{
	"gzip":  {0x1f, 0x8b},
	"zstd":  {0x28, 0xb5, 0x2f, 0xfd},
	"xz":    {0xfd, '7', 'z', 'X', 'Z', 0},
	"bzip2": {'B', 'Z', 'h'},
}

// NewReader returns what r holds uncompressed. The first bytes must be those of
// c, and for None must not be those of any compression. Members and frames may
// follow each other; NUL bytes after the last gzip member are padding, anything
// else after the end is an error. warn, which may be nil, hears of padding.
func NewReader(r io.Reader, c Compression, warn func(msg string)) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64) // for the first bytes alone
	head, err := br.Peek(MagicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	found := sniff(head)
	switch c {
	case None:
		if found != "" {
			return nil, fmt.Errorf("%w: plain tar expected, %s found", ErrMagic, found)
		}
		return io.NopCloser(br), nil
	case Gzip:
		if found != "gzip" {
			return nil, fmt.Errorf("%w: gzip expected, %s found", ErrMagic, orUnknown(found))
		}
		return newGunzipper(br, warn)
	case Zstd:
		if found != "zstd" {
			return nil, fmt.Errorf("%w: zstd expected, %s found", ErrMagic, orUnknown(found))
		}
		// More than one goroutine of its own gains nothing beside those of a Stream.
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return zstdReader{zr}, nil
	}
	return nil, fmt.Errorf("decompress: %w %q", ErrMediaType, c)
}

// MagicSize is how many of the first bytes of a stream [DetectCompression] looks at.
const MagicSize = 6

// DetectCompression returns the compression of the stream that begins with head, by
// its first bytes: None if they are those of no compression. The error is ErrMediaType
// for a compression that is not supported.
func DetectCompression(head []byte) (Compression, error) {
	switch found := sniff(head); found {
	case "":
		return None, nil
	case string(Gzip), string(Zstd):
		return Compression(found), nil
	default:
		return "", fmt.Errorf("%w: compressed with %s", ErrMediaType, found)
	}
}

// sniff names the compression that a stream beginning with head has, "" if none.
func sniff(head []byte) string {
	for name, magic := range magics {
		if bytes.HasPrefix(head, magic) {
			return name
		}
	}
	// A skippable frame (RFC 8878, section 3.1.2) may come first.
	if len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xf == 0x184d2a50 {
		return "zstd"
	}
	return ""
}

func orUnknown(found string) string {
	if found == "" {
		return "something else"
	}
	return found
}

type zstdReader struct{ *zstd.Decoder }

func (z zstdReader) Close() error {
	z.Decoder.Close()
	return nil
}
