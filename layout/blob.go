// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/rooted"
)

// BlobReader streams one blob. It hands out at most as many bytes as the
// descriptor says, and reports by the end whether they were the right ones:
// Read returns io.EOF only if size and digest fit.
type BlobReader struct {
	ctx  context.Context
	src  io.Reader
	file io.Closer // nil for embedded data
	alg  digest.Algorithm
	hash hash.Hash
	desc ispec.Descriptor
	left int64
	err  error // what all further reads return
	bad  error // the result of the check, if it was made
}

// OpenBlob opens the blob that d describes. If d has embedded data, that is
// checked and used in place of the file. The error is ErrNotFound if there is no
// such blob, ErrSize if the file has another size than d says, and ErrInvalid if
// d is not a proper descriptor or what is there is no regular file. Reading fails
// once ctx is done.
func (l *Layout) OpenBlob(ctx context.Context, d ispec.Descriptor) (*BlobReader, error) {
	r, err := l.openBlob(ctx, d)
	return r, opError("open blob", string(d.Digest), err)
}

func (l *Layout) openBlob(ctx context.Context, d ispec.Descriptor) (*BlobReader, error) {
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	alg, name, err := splitDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	r := &BlobReader{ctx: ctx, alg: alg, hash: newHash(alg), desc: d, left: d.Size}
	if len(d.Data) > 0 {
		r.src = bytes.NewReader(d.Data)
		return r, nil
	}
	dir, err := l.algDir(alg)
	if err != nil {
		return nil, missing(err)
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, missing(err)
	}
	st, err := rooted.FromFd(int(f.Fd()))
	if err == nil && st.Size != d.Size {
		err = fmt.Errorf("%w: %d bytes, not %d", ErrSize, st.Size, d.Size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	r.src, r.file = f, f
	return r, nil
}

// Size returns the size of the blob in bytes.
func (r *BlobReader) Size() int64 { return r.desc.Size }

// Read implements [io.Reader]. A mismatch is reported together with the last
// bytes: whoever acts on bytes before the end acts on bytes that are not verified.
func (r *BlobReader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err == nil && r.left == 0 {
		r.check()
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.src.Read(p[:min(int64(len(p)), r.left)])
	r.hash.Write(p[:n])
	r.left -= int64(n)
	switch {
	case r.left == 0:
		r.check()
	case err == io.EOF:
		r.bad = r.failed(fmt.Errorf("%w: ended %d bytes early", ErrSize, r.left))
		r.err = r.bad
	case err != nil:
		r.err = r.failed(cause(err))
	}
	return n, r.err
}

// check compares the digest once all bytes were read.
func (r *BlobReader) check() {
	r.err = io.EOF
	if got := sum(r.alg, r.hash); got != r.desc.Digest {
		r.bad = r.failed(fmt.Errorf("%w: the content is %s", ErrDigest, got))
		r.err = r.bad
	}
}

func (r *BlobReader) failed(err error) error {
	return opError("read blob", string(r.desc.Digest), err)
}

// Verify reads what is left of the blob and returns nil if all of it was right.
func (r *BlobReader) Verify(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return r.failed(err)
		}
		if _, err := r.Read(buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Close closes the blob. If all of it was read, the result of the check is
// returned once more, for callers that stopped before they saw the end. If not,
// nothing is checked: see [BlobReader.Verify].
func (r *BlobReader) Close() error {
	if r.err == nil && r.left == 0 {
		r.check()
	}
	if r.err == nil || errors.Is(r.err, io.EOF) {
		r.err = r.failed(fs.ErrClosed)
	}
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
	return r.bad
}

// ReadBlob returns the whole blob that d describes, verified. It is meant for
// documents: the error is ErrTooLarge beyond Options.MaxDocument.
func (l *Layout) ReadBlob(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	if err := l.opt.documentLimit().check(d.Size); err != nil {
		return nil, opError("read blob", string(d.Digest), err)
	}
	r, err := l.OpenBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	data := make([]byte, d.Size)
	_, err = io.ReadFull(r, data)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// HasBlob reports whether the layout has a blob with the digest and size of d.
// Its content is not looked at, and neither is data embedded in d.
func (l *Layout) HasBlob(ctx context.Context, d ispec.Descriptor) (bool, error) {
	if err := l.usable(ctx); err != nil {
		return false, opError("look for blob", string(d.Digest), err)
	}
	st, err := l.statBlob(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, opError("look for blob", string(d.Digest), cause(err))
	}
	return st.IsRegular() && st.Size == d.Size, nil
}

// statBlob returns the facts about what has the name of the blob.
func (l *Layout) statBlob(d digest.Digest) (rooted.Stat, error) {
	alg, name, err := splitDigest(d)
	if err != nil {
		return rooted.Stat{}, err
	}
	dir, err := l.algDir(alg)
	if err != nil {
		return rooted.Stat{}, err
	}
	return dir.Lstat(name)
}

// algDir returns the directory of the blobs with the algorithm, which is opened
// once. The error is fs.ErrNotExist if there is none.
func (l *Layout) algDir(alg digest.Algorithm) (*rooted.Dir, error) {
	l.algMu.Lock()
	defer l.algMu.Unlock()
	if d := l.algs[alg]; d != nil {
		return d, nil
	}
	d, err := l.blobs.OpenDir(alg.String())
	if err != nil {
		return nil, err
	}
	l.algs[alg] = d
	return d, nil
}

// makeAlgDir is algDir that makes the directory if there is none.
func (l *Layout) makeAlgDir(alg digest.Algorithm) (*rooted.Dir, error) {
	d, err := l.algDir(alg)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := l.blobs.Mkdir(alg.String(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if d, err = l.algDir(alg); err != nil {
		return nil, err
	}
	if err := l.own.adopt(d.Fd(), l.own.dirMode); err != nil {
		return nil, err
	}
	return d, syncDir(l.blobs)
}
