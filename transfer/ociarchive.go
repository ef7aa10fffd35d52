// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// ociArchive is an oci-archive to read from.
type ociArchive struct {
	loc     Location
	file    *archiveFile
	kept    bool // open after Close, for another name in it
	archive *layout.Archive
	index   ispec.Index

	subjects map[digest.Digest][]ispec.Descriptor // what refers to what; nil until somebody asks
}

var _ archiveSource = (*ociArchive)(nil)

// openOCIArchive opens the oci-archive that loc names: a file, which may be compressed,
// a pipe, or "-" for standard input. Of the options Limits and Layout count.
func openOCIArchive(ctx context.Context, loc Location, opt *Options) (*ociArchive, error) {
	a, err := readOCIArchive(ctx, loc, opt)
	if err != nil {
		return nil, &Error{Op: "open", Ref: loc.String(), Err: err}
	}
	return a, nil
}

func readOCIArchive(ctx context.Context, loc Location, opt *Options) (*ociArchive, error) {
	f, err := openArchiveFile(ctx, loc.Path, opt.Limits)
	if err != nil {
		return nil, err
	}
	a := &ociArchive{loc: loc, file: f}
	if a.archive, err = layout.ReadArchive(ctx, loc.Path, f, &opt.Layout); err == nil {
		a.index, err = a.archive.Index(ctx)
		if errors.Is(err, layout.ErrNotFound) {
			if _, derr := a.archive.ReadFile(dockerManifestName, maxDockerManifest); derr == nil {
				err = fmt.Errorf("%w (it looks like a docker-archive)", err)
			}
		}
	}
	if err != nil {
		return nil, both(err, f.Close())
	}
	return a, nil
}

// Resolve implements [Source].
func (a *ociArchive) Resolve(ctx context.Context) (ispec.Descriptor, error) {
	d, err := a.resolve(ctx)
	if err != nil {
		return d, &Error{Op: "resolve", Ref: a.loc.String(), Err: err}
	}
	return d, nil
}

func (a *ociArchive) resolve(ctx context.Context) (ispec.Descriptor, error) {
	switch {
	case a.loc.Digest != "":
		return a.find(ctx, a.loc.Digest)
	case a.loc.Tag != "":
		return a.lookup(a.loc.Tag)
	}
	entries := a.index.Manifests
	if len(entries) == 1 {
		return entries[0], nil
	}
	d, err := a.lookup(layout.DefaultRef)
	if errors.Is(err, layout.ErrNotFound) && len(entries) > 0 {
		err = errorf(layout.ErrAmbiguous, "there are several images in it, and none has the tag %s: %s", layout.DefaultRef, a.tags())
	}
	return d, err
}

// lookup returns the entry that carries the ref.
func (a *ociArchive) lookup(ref string) (ispec.Descriptor, error) {
	var found []ispec.Descriptor
	for _, d := range a.index.Manifests {
		if d.Annotations[ispec.AnnotationRefName] == ref {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return ispec.Descriptor{}, errorf(layout.ErrNotFound, "there is no tag %s in it, but %s", quote.Name(ref), a.tags())
	case slices.ContainsFunc(found, func(d ispec.Descriptor) bool { return d.Digest != found[0].Digest }):
		return ispec.Descriptor{}, errorf(layout.ErrAmbiguous, "several images in it have the tag %s", quote.Name(ref))
	}
	return found[0], nil
}

// maxListed is how many names a message lists.
const maxListed = 20

// tags lists what there is, for messages.
func (a *ociArchive) tags() string {
	var tags []string
	for _, d := range a.index.Manifests {
		if tag := d.Annotations[ispec.AnnotationRefName]; tag != "" {
			tags = append(tags, quote.Name(tag))
		} else {
			tags = append(tags, "@"+d.Digest.String())
		}
	}
	return list(tags)
}

func list(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "nothing"
	case n > maxListed:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), n-maxListed)
	}
	return strings.Join(names, ", ")
}

// find returns the manifest or index with the digest.
func (a *ociArchive) find(ctx context.Context, want digest.Digest) (ispec.Descriptor, error) {
	var found *ispec.Descriptor
	g := graph{read: a.archive.ReadBlob, has: a.archive.HasBlob, visit: func(d ispec.Descriptor) {
		if found == nil && d.Digest == want && (layout.IsIndex(d.MediaType) || layout.IsManifest(d.MediaType)) {
			found = &d
		}
	}}
	for _, d := range a.index.Manifests {
		if err := g.walk(ctx, d, 1); err != nil {
			return ispec.Descriptor{}, err
		}
	}
	if found == nil {
		return ispec.Descriptor{}, errorf(layout.ErrNotFound, "there is no %s in it", want)
	}
	return *found, nil
}

// Open implements [Source].
func (a *ociArchive) Open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := a.archive.Section(ctx, d)
	if err != nil {
		return nil, err
	}
	return sectionAt(ctx, r, offset)
}

// sectionAt returns what r holds from offset on.
func sectionAt(ctx context.Context, r *io.SectionReader, offset int64) (io.ReadCloser, error) {
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.NopCloser(contextReader{ctx, r}), nil
}

// Close implements [Source].
func (a *ociArchive) Close() error {
	if a.kept {
		return nil
	}
	return a.file.Close()
}

func (a *ociArchive) at(loc Location) { a.loc, a.kept = loc, true }

func (a *ociArchive) shut() { _ = a.file.Close() } // it was only read from
