// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// archiveSuffix ends the name of a tier that is a tar.
const archiveSuffix = ".tar"

// archive writes a tier as a tar that holds a layout. The same tier gives the same
// bytes.
func (w *writer) archive(ctx context.Context, file string, t *TierPlan, doc []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	aw := layout.NewArchiveWriter(f)
	err = w.archiveTier(ctx, aw, "", t, doc)
	if err == nil {
		err = aw.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	return both(err, f.Close())
}

// archiveTier writes a tier's files with names below dir.
func (w *writer) archiveTier(ctx context.Context, aw *layout.ArchiveWriter, dir string, t *TierPlan, doc []byte) error {
	c := layout.ArchiveContent{Index: t.index, Report: w.report}
	if t.Name == TopTier {
		c.Files = map[string][]byte{FileName: doc}
	}
	places := map[digest.Digest]located{}
	for _, it := range t.items {
		c.Blobs = append(c.Blobs, it.desc)
		places[it.desc.Digest] = it.located
	}
	c.Open = func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
		return places[d.Digest].open(ctx)
	}
	return aw.Layout(ctx, dir, &c)
}

// open opens the blob where it is. What it yields is verified by its end.
func (b located) open(ctx context.Context) (io.ReadCloser, error) {
	if b.data != nil {
		return io.NopCloser(bytes.NewReader(b.data)), nil
	}
	r, err := b.from.OpenBlob(ctx, b.desc)
	if err != nil {
		return nil, fmt.Errorf("copy out of %s: %w", quote.Name(b.from.Path()), err)
	}
	return &sourceReader{r, b.from.Path()}, nil
}

// sourceReader says in errors where it reads.
type sourceReader struct {
	io.ReadCloser
	where string
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("copy out of %s: %w", quote.Name(r.where), err)
	}
	return n, err
}
