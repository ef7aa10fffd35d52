// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"io"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// dockerArchiveWriter is a docker-archive to write to. One that is there already keeps
// its other images.
type dockerArchiveWriter struct {
	loc    Location
	old    *dockerArchive // nil if there is none
	spool  *spool
	opt    *Options
	images []DockerImage
}

// createDockerArchive opens the docker-archive at loc's path for writing: a file, which
// need not be there, a pipe, or "-" for standard output. Of the options Limits, Layout and
// Warn count.
func createDockerArchive(ctx context.Context, loc Location, opt *Options) (*dockerArchiveWriter, error) {
	w := &dockerArchiveWriter{loc: loc, opt: opt}
	err := w.openOld(ctx)
	if err == nil {
		w.spool, err = newSpool(loc.Path)
	}
	if err != nil {
		return nil, &Error{Op: "open", Ref: loc.String(), Err: both(err, w.Close())}
	}
	return w, nil
}

func (w *dockerArchiveWriter) openOld(ctx context.Context) error {
	exists, err := isRegular(w.loc.Path)
	if err != nil || !exists {
		return err
	}
	if w.old, err = readDockerArchive(ctx, w.loc, w.opt); err != nil {
		return fmt.Errorf("there is something else already: %w", err)
	}
	w.images = w.old.images
	return nil
}

// Has implements [Destination]. What is in an archive that is there already counts only
// where it is kept as it is.
func (w *dockerArchiveWriter) Has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	return w.spool.section(d) != nil || w.old != nil && w.old.has(ctx, d), nil
}

// PutBlob implements [Destination].
func (w *dockerArchiveWriter) PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error {
	return w.spool.put(ctx, d, open)
}

// PutManifest implements [Destination].
func (w *dockerArchiveWriter) PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error {
	return w.spool.put(ctx, d, bytesOpener(data))
}

func (w *dockerArchiveWriter) add(loc Location, d ispec.Descriptor) {
	w.images = setDockerImage(w.images, loc.dockerName(), d)
}

func (w *dockerArchiveWriter) flush(ctx context.Context) error {
	s := dockerSaver{read: w.read, open: w.openBlob, limits: w.opt.Limits, warn: w.opt.Warn, tempDir: w.spool.dir}
	return writeArchiveFile(ctx, w.loc.Path, func(out io.Writer) error { return s.save(ctx, out, w.images) })
}

// setDockerImage makes name the name of the image d, and of no other. An image that has
// lost its last name goes. Without a name, d is added unless it is there.
func setDockerImage(old []DockerImage, name string, d ispec.Descriptor) []DockerImage {
	img := DockerImage{Manifest: d}
	if name != "" {
		img.Names = []string{name}
	}
	var images []DockerImage
	placed := false
	for _, o := range old {
		if name == "" && o.Manifest.Digest == d.Digest {
			return old
		}
		if name == "" || !o.has(name) {
			images = append(images, o)
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(o.Names), func(n string) bool { return CanonicalName(n) == CanonicalName(name) })
		if len(kept) > 0 {
			images = append(images, DockerImage{Names: kept, Manifest: o.Manifest})
		}
		images, placed = append(images, img), true
	}
	if !placed {
		images = append(images, img)
	}
	return images
}

// openBlob opens a blob, which was verified or is checked by its diffID.
func (w *dockerArchiveWriter) openBlob(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	if r := w.spool.section(d); r != nil {
		return io.NopCloser(r), nil
	}
	if w.old == nil {
		return nil, errorf(layout.ErrNotFound, "blob %s was not copied", d.Digest)
	}
	return w.old.Open(ctx, d, 0)
}

// read reads a document.
func (w *dockerArchiveWriter) read(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
	if r := w.spool.section(d); r != nil {
		if err := checkDocument(d); err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	if w.old == nil {
		return nil, errorf(layout.ErrNotFound, "blob %s was not copied", d.Digest)
	}
	return w.old.document(ctx, d)
}

// Close implements [Destination].
func (w *dockerArchiveWriter) Close() error {
	var err error
	if w.old != nil {
		err = w.old.Close()
	}
	if w.spool != nil {
		w.spool.close()
	}
	return err
}
