// SPDX-License-Identifier: Apache-2.0

package split

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// source is where blobs come from.
type source interface {
	where() string // for messages
	// has reports whether there is a blob of the name and size.
	has(ctx context.Context, d ispec.Descriptor) (bool, error)
	// open opens a blob; what it yields is verified by its end.
	open(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error)
	// copyTo puts the blob into l, verified.
	copyTo(ctx context.Context, l *layout.Layout, d ispec.Descriptor, opt *layout.CopyOptions) (layout.CopyMethod, error)
	// file reads a file that is not a blob.
	file(name string, limit int64) ([]byte, error)
	close()
}

// dirSource is a layout.
type dirSource struct{ l *layout.Layout }

func (s dirSource) where() string { return s.l.Path() }
func (s dirSource) close()        { _ = s.l.Close() } // it was only read from

func (s dirSource) has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	return s.l.HasBlob(ctx, d)
}

func (s dirSource) open(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	return s.l.OpenBlob(ctx, d)
}

func (s dirSource) copyTo(ctx context.Context, l *layout.Layout, d ispec.Descriptor, opt *layout.CopyOptions) (layout.CopyMethod, error) {
	return l.CopyBlob(ctx, s.l, d, opt)
}

func (s dirSource) file(name string, limit int64) ([]byte, error) {
	return readFile(filepath.Join(s.l.Path(), name), limit)
}

// tarSource is a layout in a tar.
type tarSource struct {
	path    string
	r       io.ReaderAt
	members map[string]span
	closer  io.Closer // may be nil
}

// span is where the content of a member is in a tar.
type span struct{ off, size int64 }

func (s *tarSource) where() string { return s.path }

func (s *tarSource) close() {
	if s.closer != nil {
		_ = s.closer.Close() // it was only read from
	}
}

func (s *tarSource) has(_ context.Context, d ispec.Descriptor) (bool, error) {
	m, ok := s.members[blobName(d.Digest)]
	return ok && m.size == d.Size, nil
}

func (s *tarSource) open(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	m, ok := s.members[blobName(d.Digest)]
	if !ok {
		return nil, errorf(layout.ErrNotFound, "blob %s is not in %s", d.Digest, quote.Name(s.path))
	}
	if m.size != d.Size {
		return nil, errorf(layout.ErrSize, "blob %s in %s has %d bytes, not %d", d.Digest, quote.Name(s.path), m.size, d.Size)
	}
	return &verifying{
		r: contextReader{ctx, io.NewSectionReader(s.r, m.off, m.size)}, want: d.Digest, verifier: d.Digest.Verifier(),
	}, nil
}

func (s *tarSource) copyTo(ctx context.Context, l *layout.Layout, d ispec.Descriptor, opt *layout.CopyOptions) (layout.CopyMethod, error) {
	m, ok := s.members[blobName(d.Digest)]
	if !ok {
		return "", errorf(layout.ErrNotFound, "blob %s is not in %s", d.Digest, quote.Name(s.path))
	}
	r := io.Reader(io.NewSectionReader(s.r, m.off, m.size))
	if opt.Report != nil {
		r = &reporting{r, opt.Report}
	}
	put := l.PutVerified
	if opt.Replace {
		put = l.ReplaceVerified
	}
	return layout.Copied, put(ctx, d, contextReader{ctx, r})
}

func (s *tarSource) file(name string, limit int64) ([]byte, error) {
	m, ok := s.members[name]
	if !ok {
		return nil, fmt.Errorf("%s in %s: %w", name, quote.Name(s.path), fs.ErrNotExist)
	}
	if m.size > limit {
		return nil, errorf(ErrInvalid, "%s in %s is larger than the limit of %d bytes", name, quote.Name(s.path), limit)
	}
	data := make([]byte, m.size)
	_, err := io.ReadFull(io.NewSectionReader(s.r, m.off, m.size), data)
	return data, err
}

// below returns what is in the directory dir of the tar; nil if there is nothing.
func (s *tarSource) below(dir string) *tarSource {
	sub := &tarSource{path: s.path + " (" + dir + "/)", r: s.r, members: map[string]span{}}
	for name, m := range s.members {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			sub.members[rest] = m
		}
	}
	if len(sub.members) == 0 {
		return nil
	}
	return sub
}

// verifying checks a digest at the end of what it reads.
type verifying struct {
	r        io.Reader
	want     digest.Digest
	verifier digest.Verifier
}

func (v *verifying) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.verifier.Write(p[:n]) // a hash takes everything
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		err = errorf(layout.ErrDigest, "blob %s: the content has another digest", v.want)
	}
	return n, err
}

func (v *verifying) Close() error { return nil }

// reporting reports what is read.
type reporting struct {
	r      io.Reader
	report func(int)
}

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.report(n)
	return n, err
}

// maxMembers is how many members a tar may have that Split could have written.
const maxMembers = 1 << 20

// indexTar lists the regular files in a tar. Names lead nowhere: they are only ever
// compared. Other types than files and directories are refused, like names that
// occur twice.
func indexTar(ctx context.Context, where string, r io.ReaderAt, size int64) (*tarSource, error) {
	s := &tarSource{path: where, r: r, members: map[string]span{}}
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err == nil && n == maxMembers {
			err = fmt.Errorf("more than %d members", maxMembers)
		}
		if err != nil {
			return nil, errorf(ErrDamaged, "read %s: %w", quote.Name(where), err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		off, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		_, twice := s.members[name]
		if twice || h.Typeflag != tar.TypeReg || sparse(h) || h.Size > size-off {
			return nil, errorf(ErrDamaged, "read %s: %s cannot be in a layout", quote.Name(where), quote.Name(h.Name))
		}
		s.members[name] = span{off, h.Size}
	}
}

// sparse reports whether a member is larger than what is in the tar.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// openSource opens what is given for one tier: a layout, a tar with one in it, or an
// OUT that has the tier.
func openSource(ctx context.Context, where, tier string) (source, error) {
	info, err := os.Stat(where)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return openTar(ctx, where)
	}
	if _, err := os.Lstat(filepath.Join(where, ispec.ImageLayoutFile)); errors.Is(err, fs.ErrNotExist) {
		for _, inner := range []string{filepath.Join(where, tier), filepath.Join(where, tier+archiveSuffix)} {
			if _, err := os.Lstat(inner); err == nil && inner != where {
				return openSource(ctx, inner, tier+"/"+tier)
			}
		}
	}
	l, err := layout.Open(ctx, where, nil)
	if err != nil {
		return nil, err
	}
	return dirSource{l}, nil
}

func openTar(ctx context.Context, where string) (source, error) {
	f, err := openRegular(where)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var s *tarSource
		if s, err = indexTar(ctx, where, f, info.Size()); err == nil {
			s.closer = f
			return s, nil
		}
	}
	_ = f.Close() // it was only read from
	return nil, err
}

// openRegular opens a regular file, without waiting for the other end of a FIFO.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errorf(ErrInvalid, "%s is not a regular file", quote.Name(name))
	}
	if err != nil {
		_ = f.Close() // it was only read from
		return nil, err
	}
	return f, nil
}

// readFile reads a regular file up to limit.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read from
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errorf(ErrInvalid, "%s is larger than the limit of %d bytes", quote.Name(name), limit)
	}
	return data, err
}
