// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/tarfile"
)

// Archive is a layout in a tar, open for reading: what other programs call an
// oci-archive. It is read where it is: nothing is extracted, no name in it is ever
// used as a path, and content is verified as that of a [Layout] is. Its members may
// come in any order.
//
// An Archive may be used from several goroutines at once.
type Archive struct {
	path    string
	opt     Options
	r       io.ReaderAt
	members map[string]tarfile.Member
	file    io.Closer // nil if the reader is the caller's
}

// OpenArchive opens the file at path, which must be a tar that is not compressed.
// What is in it is looked at by [Archive.Index] and the others: of the tar only the
// headers are read. The error is ErrInvalid for a tar that is damaged or holds
// something twice, or anything else than files and directories. A nil opt stands
// for the zero value.
func OpenArchive(ctx context.Context, path string, opt *Options) (*Archive, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, opError("open archive", path, err)
	}
	info, err := f.Stat()
	if err == nil {
		var a *Archive
		if a, err = ReadArchive(ctx, path, io.NewSectionReader(f, 0, info.Size()), opt); err == nil {
			a.file = f
			return a, nil
		}
	}
	_ = f.Close() // it was only read from
	return nil, err
}

// openRegular opens a regular file, without waiting for the other end of a FIFO.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = as(ErrInvalid, errors.New("not a regular file"))
	}
	if err != nil {
		_ = f.Close() // it was only read from
		return nil, cause(err)
	}
	return f, nil
}

// ReadArchive is [OpenArchive] for a tar that is not a file, or is open already. The
// name is what messages call it, and r must serve as long as the archive is used.
func ReadArchive(ctx context.Context, name string, r SizedReaderAt, opt *Options) (*Archive, error) {
	members, err := tarfile.List(ctx, r, r.Size())
	if err != nil {
		if errors.Is(err, tarfile.ErrInvalid) {
			err = as(ErrInvalid, err)
		}
		return nil, opError("read archive", name, err)
	}
	for member, m := range members {
		if m.Link != "" {
			return nil, opError("read archive", name, as(ErrInvalid,
				fmt.Errorf("entry %s: a link cannot be in a layout", quote.Name(member))))
		}
	}
	return newArchive(name, r, members, opt), nil
}

// SizedReaderAt is what a tar is read from, such as an [io.SectionReader].
type SizedReaderAt interface {
	io.ReaderAt
	Size() int64 // in bytes
}

func newArchive(name string, r io.ReaderAt, members map[string]tarfile.Member, opt *Options) *Archive {
	a := &Archive{path: name, r: r, members: members}
	if opt != nil {
		a.opt = *opt
	}
	a.opt.setDefaults()
	return a
}

// Sub returns the layout in a directory of the archive, for archives of several; nil
// if there is no file in it. It is closed with a.
func (a *Archive) Sub(dir string) *Archive {
	members := map[string]tarfile.Member{}
	for name, m := range a.members {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			members[rest] = m
		}
	}
	if len(members) == 0 {
		return nil
	}
	return newArchive(a.path+" ("+dir+"/)", a.r, members, &a.opt)
}

// Path returns the path that was given to [OpenArchive], or the name.
func (a *Archive) Path() string { return a.path }

// Close closes the file.
func (a *Archive) Close() error {
	if a.file != nil {
		_ = a.file.Close() // it was only read from
	}
	return nil
}

// Index reads index.json, after it has checked that oci-layout says what this is.
// Its list of manifests is never nil.
func (a *Archive) Index(ctx context.Context) (ispec.Index, error) {
	if err := ctx.Err(); err != nil {
		return ispec.Index{}, opError("read archive", a.path, err)
	}
	data, err := a.readFile(ispec.ImageLayoutFile, sizeLimit{max: maxLayoutFile})
	if err == nil {
		err = checkLayoutFile(data)
	}
	if err != nil {
		return ispec.Index{}, opError("read archive", a.path, notLayout(ispec.ImageLayoutFile, err))
	}
	if data, err = a.readFile(ispec.ImageIndexFile, a.opt.indexLimit()); err != nil {
		return ispec.Index{}, opError("read archive", a.path, notLayout(ispec.ImageIndexFile, err))
	}
	index, err := parseIndex(data, ispec.MediaTypeImageIndex)
	if err != nil {
		err = fmt.Errorf("%s: %w", ispec.ImageIndexFile, err)
	}
	return index, opError("read archive", a.path, err)
}

// ReadFile returns the content of the file called name, a slash-separated path as
// it stands in the archive. The error is ErrNotFound if there is none, and
// ErrTooLarge if it has more than most bytes.
func (a *Archive) ReadFile(name string, most int64) ([]byte, error) {
	data, err := a.readFile(name, sizeLimit{max: most})
	return data, opError("read "+quote.Name(name)+" in", a.path, err)
}

func (a *Archive) readFile(name string, most sizeLimit) ([]byte, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, as(ErrNotFound, fs.ErrNotExist)
	}
	if err := most.check(m.Size); err != nil {
		return nil, err
	}
	data := make([]byte, m.Size)
	_, err := io.ReadFull(a.section(m), data)
	return data, cause(err)
}

func (a *Archive) section(m tarfile.Member) *io.SectionReader {
	return io.NewSectionReader(a.r, m.Offset, m.Size)
}

// HasBlob reports whether the archive has a blob with the digest and size of d. Its
// content is not looked at, and neither is data embedded in d.
func (a *Archive) HasBlob(ctx context.Context, d ispec.Descriptor) (bool, error) {
	_, name, err := splitDigest(d.Digest)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return false, opError("look for blob", string(d.Digest), err)
	}
	m, ok := a.members[blobPath(d.Digest.Algorithm(), name)]
	return ok && m.Size == d.Size, nil
}

// OpenBlob opens the blob that d describes, as [Layout.OpenBlob] does.
func (a *Archive) OpenBlob(ctx context.Context, d ispec.Descriptor) (*BlobReader, error) {
	alg, src, err := a.blob(ctx, d)
	if err != nil {
		return nil, opError("open blob", string(d.Digest), err)
	}
	return &BlobReader{ctx: ctx, src: src, alg: alg, hash: newHash(alg), desc: d, left: d.Size}, nil
}

// Section returns the content of the blob that d describes where it is, for those who
// need a part of it: the size is right, and the digest is not looked at. The errors are
// those of [Archive.OpenBlob].
func (a *Archive) Section(ctx context.Context, d ispec.Descriptor) (*io.SectionReader, error) {
	_, r, err := a.blob(ctx, d)
	return r, opError("open blob", string(d.Digest), err)
}

// blob returns the content of a blob, not verified.
func (a *Archive) blob(ctx context.Context, d ispec.Descriptor) (digest.Algorithm, *io.SectionReader, error) {
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	alg, name, err := splitDigest(d.Digest)
	if err != nil {
		return "", nil, err
	}
	if err := checkDescriptor(d); err != nil {
		return "", nil, err
	}
	if len(d.Data) > 0 {
		return alg, io.NewSectionReader(bytes.NewReader(d.Data), 0, d.Size), nil
	}
	m, ok := a.members[blobPath(alg, name)]
	switch {
	case !ok:
		return "", nil, as(ErrNotFound, fmt.Errorf("it is not in %s", quote.Name(a.path)))
	case m.Size != d.Size:
		return "", nil, fmt.Errorf("%w: %d bytes in %s, not %d", ErrSize, m.Size, quote.Name(a.path), d.Size)
	}
	return alg, a.section(m), nil
}

// ReadBlob returns the whole blob that d describes, as [Layout.ReadBlob] does.
func (a *Archive) ReadBlob(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	if err := a.opt.documentLimit().check(d.Size); err != nil {
		return nil, opError("read blob", string(d.Digest), err)
	}
	r, err := a.OpenBlob(ctx, d)
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

// CopyBlob puts the blob that d describes into l, verified, as [Layout.CopyBlob]
// does.
func (a *Archive) CopyBlob(ctx context.Context, l *Layout, d ispec.Descriptor, opt *CopyOptions) (CopyMethod, error) {
	if opt == nil {
		opt = &CopyOptions{}
	}
	how, err := a.copyBlob(ctx, l, d, opt)
	return how, opError("copy blob", string(d.Digest), err)
}

func (a *Archive) copyBlob(ctx context.Context, l *Layout, d ispec.Descriptor, opt *CopyOptions) (CopyMethod, error) {
	_, section, err := a.blob(ctx, d)
	if err != nil {
		return "", err
	}
	if err := l.hold(ctx, []ispec.Descriptor{d}); err != nil {
		return "", err
	}
	if !opt.Replace {
		if st, err := l.statBlob(d.Digest); err == nil && st.IsRegular() && st.Size == d.Size {
			return Kept, nil
		}
	}
	var r io.Reader = section
	if opt.Report != nil {
		r = &countingReader{section, opt.Report}
	}
	return Copied, l.putVerified(ctx, d, r, opt.Replace)
}

// blobPath is where a blob is in a layout.
func blobPath(alg digest.Algorithm, name string) string {
	return path.Join(ispec.ImageBlobsDir, alg.String(), name)
}
