// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/tarfile"
)

// layoutHeader is what ArchiveWriter writes as oci-layout.
const layoutHeader = `{"imageLayoutVersion":"` + ispec.ImageLayoutVersion + `"}` + "\n"

// ArchiveWriter writes layouts as a tar, which [OpenArchive] reads. The same layouts
// give the same bytes: the members are in a fixed order, have no owners, and no
// times but the Unix epoch.
type ArchiveWriter struct{ tar *tarfile.Writer }

// NewArchiveWriter returns a writer to w, which stays the caller's to close.
func NewArchiveWriter(w io.Writer) *ArchiveWriter {
	return &ArchiveWriter{tarfile.NewWriter(w)}
}

// ArchiveContent is a layout to be written.
type ArchiveContent struct {
	// Index is the content of index.json.
	Index []byte
	// Files are files besides those of a layout, by their names. May be nil.
	Files map[string][]byte
	// Blobs are what is to be in blobs, in any order and as often as you like.
	Blobs []ispec.Descriptor
	// Open opens one of the blobs. What it yields is read to its end, by which it
	// must be verified, as by [Layout.OpenBlob].
	Open func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error)
	// Report receives the number of further bytes of blobs that were read. May be
	// nil.
	Report func(n int)
}

// Layout writes a layout, below the directory dir if that is not empty.
func (w *ArchiveWriter) Layout(ctx context.Context, dir string, c *ArchiveContent) error {
	if dir != "" {
		if err := w.tar.Dir(dir); err != nil {
			return err
		}
	}
	if err := w.File(path.Join(dir, ispec.ImageLayoutFile), []byte(layoutHeader)); err != nil {
		return err
	}
	if err := w.File(path.Join(dir, ispec.ImageIndexFile), c.Index); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if err := w.File(path.Join(dir, name), c.Files[name]); err != nil {
			return err
		}
	}
	return w.blobs(ctx, dir, c)
}

// blobs writes the blobs, sorted by their digests.
func (w *ArchiveWriter) blobs(ctx context.Context, dir string, c *ArchiveContent) error {
	if err := w.tar.Dir(path.Join(dir, ispec.ImageBlobsDir)); err != nil {
		return err
	}
	blobs := slices.Clone(c.Blobs)
	slices.SortFunc(blobs, func(a, b ispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	blobs = slices.CompactFunc(blobs, func(a, b ispec.Descriptor) bool { return a.Digest == b.Digest })
	last := digest.Algorithm("")
	for _, d := range blobs {
		alg, name, err := splitDigest(d.Digest)
		if err != nil {
			return opError("write blob", string(d.Digest), err)
		}
		if alg != last {
			last = alg
			if err := w.tar.Dir(path.Join(dir, ispec.ImageBlobsDir, alg.String())); err != nil {
				return err
			}
		}
		r, err := c.Open(ctx, d)
		if err != nil {
			return err
		}
		err = w.tar.Stream(ctx, path.Join(dir, blobPath(alg, name)), d.Size, r, c.Report)
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// File writes a file besides those of a layout. The name is relative to the top of
// the tar.
func (w *ArchiveWriter) File(name string, data []byte) error {
	if err := w.tar.File(name, data); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// Close ends the tar.
func (w *ArchiveWriter) Close() error { return w.tar.Close() }
