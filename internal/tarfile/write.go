// SPDX-License-Identifier: Apache-2.0

package tarfile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/shale-oci/shale/internal/quote"
)

// Writer writes a tar.
type Writer struct {
	buf *bufio.Writer
	tar *tar.Writer
}

// NewWriter returns a writer to w, which stays the caller's to close.
func NewWriter(w io.Writer) *Writer {
	buf := bufio.NewWriterSize(w, 1<<20)
	return &Writer{buf, tar.NewWriter(buf)}
}

// Dir writes a directory.
func (w *Writer) Dir(name string) error {
	h := header(name+"/", 0)
	h.Typeflag, h.Mode = tar.TypeDir, 0o755
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(name), err)
	}
	return nil
}

// File writes a regular file.
func (w *Writer) File(name string, data []byte) error {
	err := w.tar.WriteHeader(header(name, int64(len(data))))
	if err == nil {
		_, err = io.Copy(w.tar, bytes.NewReader(data))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(name), err)
	}
	return nil
}

// Stream writes a regular file with what r yields, which must be size bytes. It
// reads r to its end. report, which may be nil, receives the number of further
// bytes that were read.
func (w *Writer) Stream(ctx context.Context, name string, size int64, r io.Reader, report func(n int)) error {
	if err := w.tar.WriteHeader(header(name, size)); err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(name), err)
	}
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if report != nil {
				report(n)
			}
			if _, werr := w.tar.Write(buf[:n]); werr != nil {
				return fmt.Errorf("write %s: %w", quote.Name(name), werr)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Close ends the tar. The error also says that a file got fewer bytes than it was
// to have.
func (w *Writer) Close() error {
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("end the tar: %w", err)
	}
	return w.buf.Flush()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}
