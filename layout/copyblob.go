// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// CopyMethod says how a blob got from one layout into another.
type CopyMethod string

// The ways of [Layout.CopyBlob], in the order in which they are tried.
const (
	Kept   CopyMethod = "kept"   // it was there already
	Cloned CopyMethod = "cloned" // the files share their data until one is changed
	Linked CopyMethod = "linked" // the files are one
	Copied CopyMethod = "copied" // there are two files now
)

// CopyOptions change how a blob is copied. The zero value is what most want.
type CopyOptions struct {
	// Link allows a hard link where the file system cannot clone files. Then the
	// blob is one file with two names, for as long as neither is written to.
	Link bool
	// Replace writes the blob also if there is one of its name and size, of which
	// the caller knows that it is not good.
	Replace bool
	// Report receives the number of further bytes that were read. May be nil.
	Report func(n int)
}

// CopyBlob puts the blob that d describes into l, with the content that it has in
// from. The content is read and hashed once, also if it is cloned or linked: the
// error is ErrDigest or ErrSize if it is not what d says, ErrNotFound if from has
// no such blob, and then l is unchanged. Unless opt says otherwise a blob of the
// same name and size that is there already stays, and is not looked at. Like all
// blobs that are put, it is held until l is closed. A nil opt stands for the zero
// value.
func (l *Layout) CopyBlob(ctx context.Context, from *Layout, d ispec.Descriptor, opt *CopyOptions) (CopyMethod, error) {
	if opt == nil {
		opt = &CopyOptions{}
	}
	how, err := l.copyBlob(ctx, from, d, opt)
	return how, opError("copy blob", string(d.Digest), err)
}

func (l *Layout) copyBlob(ctx context.Context, from *Layout, d ispec.Descriptor, opt *CopyOptions) (CopyMethod, error) {
	r, err := from.openBlob(ctx, d)
	if err != nil {
		return "", err
	}
	defer r.Close() //nolint:errcheck // what is copied is checked where it is written
	if err := l.hold(ctx, []ispec.Descriptor{d}); err != nil {
		return "", err
	}
	if !opt.Replace {
		if st, err := l.statBlob(d.Digest); err == nil && st.IsRegular() && st.Size == d.Size {
			return Kept, nil
		}
	}
	src, ok := r.file.(*os.File)
	if !ok {
		return Copied, l.putVerified(ctx, d, r, opt.Replace)
	}
	c := blobCopy{l: l, from: from, src: src, desc: d, opt: opt}
	return c.run(ctx)
}

// blobCopy is the copying of one file.
type blobCopy struct {
	l, from *Layout
	src     *os.File
	desc    ispec.Descriptor
	opt     *CopyOptions

	temp *tempDir
	name string // in temp
}

func (c *blobCopy) run(ctx context.Context) (CopyMethod, error) {
	alg, name, err := splitDigest(c.desc.Digest)
	if err != nil {
		return "", err
	}
	if c.temp, err = c.l.openTemp(ctx); err != nil {
		return "", err
	}
	how, err := c.fill(ctx, alg, name)
	if err == nil {
		err = c.commit(alg, name)
	}
	// A link to the very file that is replaced is not renamed but stays.
	return how, both(cause(err), c.temp.remove(c.name))
}

// fill makes the temporary file, with the right content.
func (c *blobCopy) fill(ctx context.Context, alg digest.Algorithm, blob string) (CopyMethod, error) {
	f, name, err := c.temp.create()
	if err != nil {
		return "", err
	}
	c.name = name
	if err := unix.IoctlFileClone(int(f.Fd()), int(c.src.Fd())); err == nil {
		return Cloned, both(c.verify(ctx), c.l.finish(f, true, c.l.own.fileMode))
	}
	if c.opt.Link && c.link(alg, blob) {
		return Linked, both(c.verifyLink(ctx), f.Close())
	}
	err = c.pump(ctx, f, alg)
	return Copied, both(err, c.l.finish(f, err == nil, c.l.own.fileMode))
}

// link makes the temporary file a link to the source, if that is possible.
func (c *blobCopy) link(alg digest.Algorithm, blob string) bool {
	dir, err := c.from.algDir(alg)
	if err != nil {
		return false
	}
	const linked = "-link"
	if err := c.temp.dir.Link(dir, blob, c.name+linked); err != nil {
		return false
	}
	return c.temp.dir.Rename(c.name+linked, c.temp.dir, c.name) == nil
}

// verifyLink is verify for a file that is not ours to change.
func (c *blobCopy) verifyLink(ctx context.Context) error {
	f, err := c.temp.dir.Open(c.name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read from
	st, err := rooted.FromFd(int(f.Fd()))
	if err == nil && st.Size != c.desc.Size {
		err = fmt.Errorf("%w: %d bytes, not %d", ErrSize, st.Size, c.desc.Size)
	}
	if err == nil {
		err = c.hash(ctx, f)
	}
	if err == nil {
		err = f.Sync()
	}
	return err
}

// verify reads the clone: the source may change from now on.
func (c *blobCopy) verify(ctx context.Context) error {
	f, err := c.temp.dir.Open(c.name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read from
	return c.hash(ctx, f)
}

func (c *blobCopy) hash(ctx context.Context, f io.Reader) error {
	alg := c.desc.Digest.Algorithm()
	r := &BlobReader{ctx: ctx, src: c.counted(f), alg: alg, hash: newHash(alg), desc: c.desc, left: c.desc.Size}
	return r.Verify(ctx)
}

// counted reports what is read from r.
func (c *blobCopy) counted(r io.Reader) io.Reader {
	if c.opt.Report == nil {
		return r
	}
	return &countingReader{r, c.opt.Report}
}

type countingReader struct {
	r      io.Reader
	report func(int)
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.report(n)
	return n, err
}

// What pump has on its way between reading and hashing, in bytes each.
const (
	pumpChunk  = 256 << 10
	pumpChunks = 4
)

// pump copies the source to f and hashes it meanwhile, on another CPU.
func (c *blobCopy) pump(ctx context.Context, f *os.File, alg digest.Algorithm) error {
	free := make(chan []byte, pumpChunks)
	full := make(chan []byte, pumpChunks)
	for range pumpChunks {
		free <- make([]byte, pumpChunk)
	}
	h := newHash(alg)
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for chunk := range full {
			h.Write(chunk)
			free <- chunk[:cap(chunk)]
		}
	}()
	copied, err := c.transfer(ctx, f, free, full)
	close(full)
	<-hashed
	switch {
	case err != nil:
		return err
	case copied != c.desc.Size:
		return fmt.Errorf("%w: %d bytes, not %d", ErrSize, copied, c.desc.Size)
	}
	if got := sum(alg, h); got != c.desc.Digest {
		return fmt.Errorf("%w: the content is %s", ErrDigest, got)
	}
	return nil
}

// transfer copies chunk by chunk and passes each on to be hashed. It reads at most
// one byte more than there should be.
func (c *blobCopy) transfer(ctx context.Context, f *os.File, free <-chan []byte, full chan<- []byte) (int64, error) {
	src := c.counted(io.LimitReader(c.src, c.desc.Size+1))
	var copied int64
	for {
		if err := ctx.Err(); err != nil {
			return copied, err
		}
		chunk := <-free
		n, err := src.Read(chunk)
		if n > 0 {
			if _, werr := f.Write(chunk[:n]); werr != nil {
				return copied, werr
			}
			copied += int64(n)
			full <- chunk[:n]
		}
		switch {
		case errors.Is(err, io.EOF):
			return copied, nil
		case err != nil:
			return copied, err
		case n == 0:
			return copied, io.ErrNoProgress
		}
	}
}

// commit gives the temporary file its name.
func (c *blobCopy) commit(alg digest.Algorithm, name string) error {
	dir, err := c.l.makeAlgDir(alg)
	if err == nil {
		err = c.temp.dir.Rename(c.name, dir, name)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// Blobs calls fn for every blob in the layout with its size in bytes, in no
// particular order, whether or not anything refers to it. Nothing is read of the
// content. Blobs ends at the first error of fn, which it returns as it is.
func (l *Layout) Blobs(ctx context.Context, fn func(d digest.Digest, size int64) error) error {
	if err := l.usable(ctx); err != nil {
		return opError("list blobs", "", err)
	}
	blobs, err := l.listBlobs(ctx)
	if err != nil {
		return opError("list blobs", "", cause(err))
	}
	for alg, names := range blobs {
		for _, name := range names {
			d := digest.NewDigestFromEncoded(alg, name)
			st, err := l.statBlob(d)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsRegular() {
				continue
			} else if err != nil {
				return opError("list blobs", string(d), cause(err))
			}
			if err := fn(d, st.Size); err != nil {
				return err
			}
		}
	}
	return nil
}
