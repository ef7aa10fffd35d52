// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OpenBlobAt opens the content of the blob that d describes from the byte offset on, for
// callers that hash it themselves: nothing but the size of the file is compared with d.
// The errors are those of [Layout.OpenBlob], and ErrSize for an offset outside of the
// blob. What is returned may have a method File() *os.File.
func (l *Layout) OpenBlobAt(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := l.openBlob(ctx, d)
	if err == nil && (offset < 0 || offset > d.Size) {
		err = fmt.Errorf("%w: %d bytes, of which none is at %d", ErrSize, d.Size, offset)
	}
	if err == nil {
		if s, ok := r.src.(io.Seeker); ok {
			_, err = s.Seek(offset, io.SeekStart)
		}
	}
	if err != nil {
		if r != nil {
			_ = r.Close()
		}
		return nil, opError("open blob", string(d.Digest), cause(err))
	}
	return &rawBlob{r}, nil
}

// rawBlob is a blob that is read without being checked.
type rawBlob struct{ r *BlobReader }

func (b *rawBlob) Read(p []byte) (int, error) {
	if err := b.r.ctx.Err(); err != nil {
		return 0, b.r.failed(err)
	}
	n, err := b.r.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.r.failed(cause(err))
	}
	return n, err
}

// File returns the file that is read, at the byte that comes next; nil if the content is
// part of the descriptor. The kernel can send it without copying it first. The file is
// closed with the blob.
func (b *rawBlob) File() *os.File {
	f, _ := b.r.src.(*os.File)
	return f
}

// Close implements [io.Closer].
func (b *rawBlob) Close() error {
	if b.r.file != nil {
		return b.r.file.Close()
	}
	return nil
}
