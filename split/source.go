// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

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
type tarSource struct{ a *layout.Archive }

func (s tarSource) where() string { return s.a.Path() }
func (s tarSource) close()        { _ = s.a.Close() } // it was only read from

func (s tarSource) has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	return s.a.HasBlob(ctx, d)
}

func (s tarSource) open(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	return s.a.OpenBlob(ctx, d)
}

func (s tarSource) copyTo(ctx context.Context, l *layout.Layout, d ispec.Descriptor, opt *layout.CopyOptions) (layout.CopyMethod, error) {
	return s.a.CopyBlob(ctx, l, d, opt)
}

func (s tarSource) file(name string, limit int64) ([]byte, error) {
	data, err := s.a.ReadFile(name, limit)
	if errors.Is(err, layout.ErrTooLarge) {
		err = errorf(ErrInvalid, "%w", err)
	}
	return data, err
}

// readTar makes a source of a tar that is open.
func readTar(ctx context.Context, where string, r layout.SizedReaderAt) (*layout.Archive, error) {
	a, err := layout.ReadArchive(ctx, where, r, nil)
	return a, damagedTar(err)
}

// damagedTar says of a tar which is none that it is damaged: Split has written one.
func damagedTar(err error) error {
	if errors.Is(err, layout.ErrInvalid) {
		return errorf(ErrDamaged, "%w", err)
	}
	return err
}

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
	a, err := layout.OpenArchive(ctx, where, nil)
	if err != nil {
		return nil, damagedTar(err)
	}
	return tarSource{a}, nil
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
