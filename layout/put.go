// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobWriter takes the content of a new blob. Until Commit has returned without
// an error there is no blob, and nobody sees what was written.
type BlobWriter struct {
	ctx  context.Context
	l    *Layout
	temp *tempDir
	file *os.File // nil once committed or closed
	name string
	buf  *bufio.Writer
	alg  digest.Algorithm
	hash hash.Hash
	size int64
	err  error

	replace bool // a blob of the same name and size does not stay
}

var errWriterClosed = errors.New("the writer is closed")

// CreateBlob starts a new blob, whose digest will be a sha256 one. The caller
// must Close the writer in any case. Writing fails once ctx is done.
func (l *Layout) CreateBlob(ctx context.Context) (*BlobWriter, error) {
	w, err := l.createBlob(ctx, algorithms[0])
	return w, opError("create blob", "", err)
}

func (l *Layout) createBlob(ctx context.Context, alg digest.Algorithm) (*BlobWriter, error) {
	t, err := l.openTemp(ctx)
	if err != nil {
		return nil, err
	}
	f, name, err := t.create()
	if err != nil {
		return nil, err
	}
	return &BlobWriter{
		ctx: ctx, l: l, temp: t, file: f, name: name,
		buf: bufio.NewWriterSize(f, 64<<10), alg: alg, hash: newHash(alg),
	}, nil
}

// Write implements [io.Writer].
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && w.file == nil {
		w.err = errWriterClosed
	}
	if w.err != nil {
		return 0, opError("write blob", "", w.err)
	}
	n, err := w.buf.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	w.err = cause(err)
	return n, opError("write blob", "", w.err)
}

// Replace makes Commit put the blob in the place of one of the same name and size that
// is known to be damaged.
func (w *BlobWriter) Replace() { w.replace = true }

// Size returns the number of bytes written so far.
func (w *BlobWriter) Size() int64 { return w.size }

// Commit makes the blob appear under its name, durably, and returns its digest
// and its size in bytes. If the layout has a blob of that name and size already,
// that one stays.
func (w *BlobWriter) Commit(ctx context.Context) (digest.Digest, int64, error) {
	d := sum(w.alg, w.hash)
	if err := w.commit(ctx, d); err != nil {
		return "", 0, opError("commit blob", string(d), both(err, w.Close()))
	}
	return d, w.size, nil
}

func (w *BlobWriter) commit(ctx context.Context, d digest.Digest) error {
	if err := w.l.usable(ctx); err != nil {
		return err
	}
	if w.err != nil {
		return w.err
	}
	if w.file == nil {
		return errWriterClosed
	}
	if err := w.buf.Flush(); err != nil {
		return cause(err)
	}
	// From here on no gc removes the blob, whether it is there already or not.
	if err := w.l.hold(ctx, []ispec.Descriptor{{Digest: d}}); err != nil {
		return err
	}
	_, name, err := splitDigest(d)
	if err != nil {
		return err
	}
	dir, err := w.l.makeAlgDir(w.alg)
	if err != nil {
		return cause(err)
	}
	st, err := dir.Lstat(name)
	switch {
	case err == nil && st.IsRegular() && st.Size == w.size && !w.replace:
		if err := w.Close(); err != nil {
			return err
		}
	case err == nil || errors.Is(err, fs.ErrNotExist):
		f := w.file
		w.file = nil
		err := w.l.finish(f, true, w.l.own.fileMode)
		if err == nil {
			err = w.temp.dir.Rename(w.name, dir, name)
		}
		if err != nil {
			return both(cause(err), w.temp.remove(w.name))
		}
	default:
		return cause(err)
	}
	return syncDir(dir)
}

// Close drops what was written, unless it was committed: then Close does nothing.
func (w *BlobWriter) Close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return both(cause(err), w.temp.remove(w.name))
}

// PutBlob writes a blob with what r yields and returns its sha256 digest and its
// size in bytes.
func (l *Layout) PutBlob(ctx context.Context, r io.Reader) (digest.Digest, int64, error) {
	w, err := l.CreateBlob(ctx)
	if err != nil {
		return "", 0, err
	}
	if _, err := io.CopyBuffer(w, r, make([]byte, 64<<10)); err != nil {
		return "", 0, both(err, w.Close())
	}
	return w.Commit(ctx)
}

// PutJSON writes a blob with v as JSON, as a [json.Encoder] writes it: in one line
// with a newline at its end.
func (l *Layout) PutJSON(ctx context.Context, v any) (digest.Digest, int64, error) {
	data, err := encode(v)
	if err != nil {
		return "", 0, opError("put blob", "", err)
	}
	w, err := l.CreateBlob(ctx)
	if err != nil {
		return "", 0, err
	}
	if _, err := w.Write(data); err != nil {
		return "", 0, both(err, w.Close())
	}
	return w.Commit(ctx)
}

// PutVerified writes the blob that d describes with what r yields, which must
// have the size and the digest of d; the algorithm may also be sha512. Otherwise
// the error is ErrSize or ErrDigest, and there is no blob.
func (l *Layout) PutVerified(ctx context.Context, d ispec.Descriptor, r io.Reader) error {
	return opError("put blob", string(d.Digest), l.putVerified(ctx, d, r, false))
}

// ReplaceVerified is PutVerified for a blob that is there and known to be damaged:
// one of the same name and size does not stay.
func (l *Layout) ReplaceVerified(ctx context.Context, d ispec.Descriptor, r io.Reader) error {
	return opError("replace blob", string(d.Digest), l.putVerified(ctx, d, r, true))
}

func (l *Layout) putVerified(ctx context.Context, d ispec.Descriptor, r io.Reader, replace bool) error {
	alg, _, err := splitDigest(d.Digest)
	if err != nil {
		return err
	}
	if err := checkDescriptor(d); err != nil {
		return err
	}
	w, err := l.createBlob(ctx, alg)
	if err != nil {
		return err
	}
	w.replace = replace
	_, err = io.CopyBuffer(w, io.LimitReader(r, d.Size), make([]byte, 64<<10))
	if err == nil {
		err = w.compare(d, r)
	}
	if err == nil {
		err = w.commit(ctx, d.Digest)
	}
	return both(err, w.Close())
}

// compare says whether what was written, and all that r had to give, is the blob d.
func (w *BlobWriter) compare(d ispec.Descriptor, rest io.Reader) error {
	if w.size < d.Size {
		return fmt.Errorf("%w: %d bytes, not %d", ErrSize, w.size, d.Size)
	}
	switch n, err := io.ReadFull(rest, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%w: more than %d bytes", ErrSize, d.Size)
	case err != io.EOF:
		return err
	}
	if got := sum(w.alg, w.hash); got != d.Digest {
		return fmt.Errorf("%w: the content is %s", ErrDigest, got)
	}
	return nil
}
