// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/layout"
)

// SaveOCIArchive writes images of the layout l to w as an oci-archive. The entries are
// those that its index.json gets, in this order: manifests or indexes in l, which may
// carry the annotation org.opencontainers.image.ref.name. The same images give the same
// bytes. The error is layout.ErrNotFound if l lacks a part of an image; only its subject,
// and layers that can be had from elsewhere, may be missing.
func SaveOCIArchive(ctx context.Context, w io.Writer, l *layout.Layout, entries []ispec.Descriptor) error {
	c := layout.ArchiveContent{Open: func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
		return l.OpenBlob(ctx, d)
	}}
	g := graph{
		read: l.ReadBlob, has: l.HasBlob, whole: true,
		visit: func(d ispec.Descriptor) { c.Blobs = append(c.Blobs, d) },
	}
	for _, d := range entries {
		if err := g.walk(ctx, d, 1); err != nil {
			return fmt.Errorf("save archive: %w", err)
		}
	}
	return writeOCIArchive(ctx, w, entries, &c)
}

func writeOCIArchive(ctx context.Context, w io.Writer, entries []ispec.Descriptor, c *layout.ArchiveContent) error {
	var index bytes.Buffer
	err := json.NewEncoder(&index).Encode(ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageIndex,
		Manifests: append([]ispec.Descriptor{}, entries...),
	})
	if err != nil {
		return fmt.Errorf("encode %s: %w", ispec.ImageIndexFile, err)
	}
	c.Index = index.Bytes()
	aw := layout.NewArchiveWriter(w)
	if err := aw.Layout(ctx, "", c); err != nil {
		return err
	}
	return aw.Close()
}

// ociArchiveWriter is an oci-archive to write to. One that is there already keeps its
// other tags.
type ociArchiveWriter struct {
	loc     Location
	old     *ociArchive // nil if there is none
	spool   *spool
	entries []ispec.Descriptor // of index.json
}

// createOCIArchive opens the oci-archive at loc's path for writing: a file, which need
// not be there, a pipe, or "-" for standard output. The options are for reading one that is
// there.
func createOCIArchive(ctx context.Context, loc Location, opt *Options) (*ociArchiveWriter, error) {
	w := &ociArchiveWriter{loc: loc}
	err := w.open(ctx, opt)
	if err != nil {
		return nil, &Error{Op: "open", Ref: loc.String(), Err: both(err, w.Close())}
	}
	return w, nil
}

func (w *ociArchiveWriter) open(ctx context.Context, opt *Options) error {
	exists, err := isRegular(w.loc.Path)
	if err != nil {
		return err
	}
	if exists {
		if w.old, err = readOCIArchive(ctx, w.loc, opt); err != nil {
			return fmt.Errorf("there is something else already: %w", err)
		}
		w.entries = slices.Clone(w.old.index.Manifests)
	}
	w.spool, err = newSpool(w.loc.Path)
	return err
}

// Has implements [Destination].
func (w *ociArchiveWriter) Has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	if w.spool.section(d) != nil {
		return true, nil
	}
	if w.old == nil {
		return false, nil
	}
	return w.old.archive.HasBlob(ctx, d)
}

// PutBlob implements [Destination].
func (w *ociArchiveWriter) PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error {
	return w.spool.put(ctx, d, open)
}

// PutManifest implements [Destination].
func (w *ociArchiveWriter) PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error {
	return w.spool.put(ctx, d, bytesOpener(data))
}

// bytesOpener is an Opener of what is in memory.
func bytesOpener(data []byte) Opener {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}
}

func (w *ociArchiveWriter) add(loc Location, d ispec.Descriptor) {
	w.entries = setEntry(w.entries, loc.Ref(), d)
}

func (w *ociArchiveWriter) flush(ctx context.Context) error {
	c := layout.ArchiveContent{Open: w.openBlob}
	g := graph{read: w.read, has: w.Has, visit: func(d ispec.Descriptor) { c.Blobs = append(c.Blobs, d) }}
	for _, e := range w.entries {
		if err := g.walk(ctx, e, 1); err != nil {
			return err
		}
	}
	return writeArchiveFile(ctx, w.loc.Path, func(out io.Writer) error {
		return writeOCIArchive(ctx, out, w.entries, &c)
	})
}

// setEntry makes the ref lead to d, in the place of the entry that carried it. An empty
// ref stands for an entry that carries none.
func setEntry(entries []ispec.Descriptor, ref string, d ispec.Descriptor) []ispec.Descriptor {
	if ref == "" {
		if slices.ContainsFunc(entries, func(e ispec.Descriptor) bool { return e.Digest == d.Digest }) {
			return entries
		}
		return append(entries, d)
	}
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[ispec.AnnotationRefName] = ref
	carries := func(e ispec.Descriptor) bool { return e.Annotations[ispec.AnnotationRefName] == ref }
	at := slices.IndexFunc(entries, carries)
	if at < 0 {
		return append(entries, d)
	}
	entries[at] = d
	return append(entries[:at+1], slices.DeleteFunc(entries[at+1:], carries)...)
}

// openBlob opens a blob, which is verified by its end or was before.
func (w *ociArchiveWriter) openBlob(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	if r := w.spool.section(d); r != nil {
		return io.NopCloser(r), nil
	}
	return w.old.archive.OpenBlob(ctx, d)
}

// read reads a document.
func (w *ociArchiveWriter) read(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	r := w.spool.section(d)
	if r == nil {
		return w.old.archive.ReadBlob(ctx, d)
	}
	if err := checkDocument(d); err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// checkDocument refuses a document that is too large.
func checkDocument(d ispec.Descriptor) error {
	if err := limit.Check(limit.Document, "bytes", d.Size, layout.DefaultMaxDocument); err != nil {
		return errorf(layout.ErrTooLarge, "%s: %w", d.Digest, err)
	}
	return nil
}

// Close implements [Destination].
func (w *ociArchiveWriter) Close() error {
	var err error
	if w.old != nil {
		err = w.old.Close()
	}
	if w.spool != nil {
		w.spool.close()
	}
	return err
}

// isRegular reports whether there is a file at path that could be added to. An empty
// one counts as none: that is how temporary files begin.
func isRegular(path string) (bool, error) {
	if path == standardStream {
		return false, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, cause(err)
	}
	return info.Mode().IsRegular() && info.Size() > 0, nil
}
