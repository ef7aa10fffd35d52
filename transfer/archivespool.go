// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/layout"
)

// maxSpool is the size limit of a spool, in bytes. What goes into it was announced, and is
// not uncompressed on its way.
const maxSpool = 1 << 40

// spool holds what is to go into an archive until all of it is there: a tar has its
// members one after the other and in a fixed order, and content comes in parallel. It
// is a file without a name, in which every blob has a region of its own.
type spool struct {
	file *os.File
	dir  string // that it is in

	mu    sync.Mutex
	end   int64 // of the last region
	blobs map[digest.Digest]*spooled
}

// spooled is a blob in a spool.
type spooled struct {
	offset int64 // of its region

	mu       sync.Mutex
	size     int64 // what it is to have, in bytes
	received int64
	verifier digest.Verifier
	done     bool
}

// newSpool makes a spool beside the archive at path, where there is to be room for it
// anyway.
func newSpool(path string) (*spool, error) {
	dir := os.TempDir()
	if path != standardStream {
		dir = filepath.Dir(path)
	}
	f, err := nameless(dir)
	if err != nil {
		return nil, err
	}
	return &spool{file: f, dir: dir, blobs: map[digest.Digest]*spooled{}}, nil
}

func (s *spool) close() {
	_ = s.file.Close() // what is in it was copied, or is of no use
}

// region returns the place of a blob, which is reserved if there is none.
func (s *spool) region(d ispec.Descriptor) (*spooled, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[d.Digest]
	if b == nil {
		if err := limit.Check("", "bytes in an archive", d.Size, maxSpool-s.end); err != nil {
			return nil, as(layout.ErrTooLarge, err)
		}
		b = &spooled{offset: s.end, size: d.Size, verifier: d.Digest.Verifier()}
		s.blobs[d.Digest] = b
		s.end += d.Size
	}
	if b.size != d.Size {
		return nil, errorf(layout.ErrSize, "it would have %d bytes and %d", b.size, d.Size)
	}
	return b, nil
}

// checkDigest refuses a descriptor whose content nobody could verify.
func checkDigest(d ispec.Descriptor) error {
	if err := layout.CheckDescriptor(d); err != nil {
		return err
	}
	if a := d.Digest.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return errorf(layout.ErrInvalid, "digest algorithm %s is not supported", a)
	}
	return nil
}

// put receives a blob, or the rest of it if it came in part before.
func (s *spool) put(ctx context.Context, d ispec.Descriptor, open Opener) error {
	b, err := s.region(d)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil
	}
	r, err := open(ctx, b.received)
	if err != nil {
		return err
	}
	err = s.receive(ctx, b, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err != nil:
	case !b.verifier.Verified():
		err = errorf(layout.ErrDigest, "blob %s: the content has another digest", d.Digest)
	default:
		b.done = true
		return nil
	}
	if errors.Is(err, layout.ErrDigest) || errors.Is(err, layout.ErrSize) {
		b.received, b.verifier = 0, d.Digest.Verifier()
	}
	return err
}

// receive writes what r yields to the rest of a region.
func (s *spool) receive(ctx context.Context, b *spooled, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if int64(n) > b.size-b.received {
			return errorf(layout.ErrSize, "more than %d bytes", b.size)
		}
		if n > 0 {
			if _, werr := s.file.WriteAt(buf[:n], b.offset+b.received); werr != nil {
				return cause(werr)
			}
			_, _ = b.verifier.Write(buf[:n]) // a hash takes everything
			b.received += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) && b.received < b.size:
			return errorf(layout.ErrSize, "%d bytes, not %d", b.received, b.size)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// section returns a blob that is there as a whole and was verified; nil if it is not.
func (s *spool) section(d ispec.Descriptor) *io.SectionReader {
	s.mu.Lock()
	b := s.blobs[d.Digest]
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done || b.size != d.Size {
		return nil
	}
	return io.NewSectionReader(s.file, b.offset, b.size)
}
