// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// Store is a [Backend] whose images are in a layout. It may be used from several
// goroutines at once, and any number of processes may use the same layout.
type Store struct {
	path string
	opt  Options
}

// Open returns the store in the layout at path, which is made if there is none.
func Open(ctx context.Context, path string, opt Options) (*Store, error) {
	s := &Store{path: path, opt: opt}
	l, err := s.open(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = layout.Create(ctx, path)
		if errors.Is(err, fs.ErrExist) { // somebody else has just made it
			l, err = s.open(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, l.Close()
}

// open opens the layout for one operation: what it writes is held only that long.
func (s *Store) open(ctx context.Context) (*layout.Layout, error) {
	return layout.Open(ctx, s.path, &s.opt.Layout)
}

func (s *Store) transfer() transfer.Options {
	return transfer.Options{Layout: s.opt.Layout, Registry: s.opt.Registry, Warn: s.opt.Warn, Progress: s.opt.Progress}
}

// use calls fn with the layout.
func (s *Store) use(ctx context.Context, fn func(*layout.Layout) error) error {
	l, err := s.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(l), l.Close())
}

// image calls fn with the layout and the entry of index.json for a name.
func (s *Store) image(ctx context.Context, name string, fn func(*layout.Layout, ispec.Descriptor) error) error {
	return s.use(ctx, func(l *layout.Layout) error {
		d, err := find(ctx, l, name)
		if err != nil {
			return err
		}
		return fn(l, d)
	})
}

// find returns the entry for a name. One of just that ref goes before one that only
// means the same.
func find(ctx context.Context, l *layout.Layout, name string) (ispec.Descriptor, error) {
	index, err := l.Index(ctx)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	found, ok := findIn(&index, name)
	if !ok {
		return found, fmt.Errorf("it is %w in %s", layout.ErrNotFound, quote.Name(l.Path()))
	}
	return found, nil
}

func findIn(index *ispec.Index, name string) (found ispec.Descriptor, ok bool) {
	want := transfer.CanonicalName(name)
	for _, d := range index.Manifests {
		ref := d.Annotations[ispec.AnnotationRefName]
		if ref == name {
			return d, true
		}
		if !ok && ref != "" && transfer.CanonicalName(ref) == want {
			found, ok = d, true
		}
	}
	return found, ok
}

// refOf returns the ref that a name has, or is to have: that of an image of the same
// name if there is one.
func (s *Store) refOf(ctx context.Context, name string) (string, error) {
	ref := ""
	err := s.image(ctx, name, func(_ *layout.Layout, d ispec.Descriptor) error {
		ref = d.Annotations[ispec.AnnotationRefName]
		return nil
	})
	if errors.Is(err, layout.ErrNotFound) {
		return newRef(name)
	}
	return ref, err
}

// newRef returns the ref for a name that is not there yet.
func newRef(name string) (string, error) {
	loc, err := transfer.ParseLocation("docker://" + name)
	if err != nil {
		return "", err
	}
	ref := name
	if loc.Tag == "" && loc.Digest == "" {
		ref += ":" + layout.DefaultRef
	}
	if !layout.ValidRef(ref) {
		return "", fmt.Errorf("%s cannot be a ref: %w", quote.Name(ref), layout.ErrInvalid)
	}
	return ref, nil
}

// registry returns the place of an image in its registry.
func registry(name string) (transfer.Location, error) {
	return transfer.ParseLocation("docker://" + name)
}

// here returns the place of a ref in the store.
func (s *Store) here(ref string) transfer.Location {
	return transfer.Location{Scheme: transfer.SchemeLayout, Path: s.path, Tag: ref}
}

// Build implements [Backend]: it asks the Builder of the options, if there is one.
func (s *Store) Build(ctx context.Context, opt BuildOptions) error {
	if s.opt.Builder == nil {
		return failed("build", opt.Name, ErrBuild)
	}
	ref, err := s.refOf(ctx, opt.Name)
	if err == nil {
		opt.Name = ref
		err = s.opt.Builder(ctx, s.path, opt)
	}
	return failed("build", opt.Name, err)
}

// Export implements [Backend].
func (s *Store) Export(ctx context.Context, opt ExportOptions) error {
	if err := s.use(ctx, func(l *layout.Layout) error { return s.export(ctx, l, opt) }); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func (s *Store) export(ctx context.Context, l *layout.Layout, opt ExportOptions) error {
	var images []transfer.DockerImage
	var entries []ispec.Descriptor
	for _, name := range opt.Names {
		d, err := find(ctx, l, name)
		if err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(name), err)
		}
		entries = append(entries, d)
		if opt.Format == transfer.SchemeOCIArchive {
			continue
		}
		path, err := s.resolve(ctx, l, d)
		if err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(name), err)
		}
		ref, err := newRef(name)
		if err != nil {
			return err
		}
		images = append(images, transfer.DockerImage{Names: []string{ref}, Manifest: path.Target()})
	}
	return transfer.WriteFile(ctx, opt.File, func(w io.Writer) error {
		switch opt.Format {
		case transfer.SchemeOCIArchive:
			return transfer.SaveOCIArchive(ctx, w, l, entries)
		case transfer.SchemeDockerArchive, "":
			return transfer.SaveDockerArchive(ctx, w, l, merge(images), transfer.DockerArchiveOptions{Warn: s.opt.Warn})
		}
		return fmt.Errorf("%s is no format of an archive: %w", quote.Name(string(opt.Format)), transfer.ErrUnsupported)
	})
}

// merge gives images that are there under several names these names.
func merge(images []transfer.DockerImage) []transfer.DockerImage {
	var merged []transfer.DockerImage
	at := map[digest.Digest]int{}
	for _, img := range images {
		i, ok := at[img.Manifest.Digest]
		if !ok {
			at[img.Manifest.Digest] = len(merged)
			merged = append(merged, img)
			continue
		}
		merged[i].Names = append(merged[i].Names, img.Names...)
	}
	return merged
}

// resolve leads from an entry to one image.
func (s *Store) resolve(ctx context.Context, l *layout.Layout, d ispec.Descriptor) (layout.Path, error) {
	return l.ResolveFrom(ctx, d, &layout.ResolveOptions{Platform: s.opt.Platform})
}

// Load implements [Backend]. The archive is one that "docker save" writes, or an
// oci-archive; it may be compressed. An image that is called nothing gets no name, and
// goes with the next gc. An oci-archive in which no image has a name is an error, which is
// layout.ErrNotFound. The names of a "docker save" get their images in one step, those of
// an oci-archive one after the other.
func (s *Store) Load(ctx context.Context, file string) ([]string, error) {
	names, err := s.loadDocker(ctx, file)
	if errors.Is(err, transfer.ErrNoDockerArchive) {
		names, err = s.loadOCI(ctx, file)
	}
	return names, failed("load", file, err)
}

func (s *Store) loadDocker(ctx context.Context, file string) (names []string, err error) {
	err = s.use(ctx, func(l *layout.Layout) error {
		images, err := transfer.LoadDockerArchive(ctx, file, l, transfer.DockerArchiveOptions{Warn: s.opt.Warn})
		if err != nil {
			return err
		}
		return l.Update(ctx, func(index *ispec.Index) (err error) {
			names, err = setNames(index, images)
			return err
		})
	})
	return names, err
}

// setNames gives images their names in index.json, and returns the refs.
func setNames(index *ispec.Index, images []transfer.DockerImage) (refs []string, err error) {
	for _, img := range images {
		for _, name := range img.Names {
			ref := ""
			if d, ok := findIn(index, name); ok {
				ref = d.Annotations[ispec.AnnotationRefName]
			} else if ref, err = newRef(name); err != nil {
				return nil, fmt.Errorf("image %s: %w", quote.Name(name), err)
			}
			d := img.Manifest
			d.Annotations = maps.Clone(d.Annotations)
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			d.Annotations[ispec.AnnotationRefName] = ref
			index.Manifests = append(slices.DeleteFunc(index.Manifests, func(old ispec.Descriptor) bool {
				return old.Annotations[ispec.AnnotationRefName] == ref
			}), d)
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

func (s *Store) loadOCI(ctx context.Context, file string) ([]string, error) {
	from := transfer.Location{Scheme: transfer.SchemeOCIArchive, Path: file}
	tags, err := transfer.Tags(ctx, from, s.transfer())
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("a name of an image is %w in the archive", layout.ErrNotFound)
	}
	names := []string{}
	for _, tag := range tags {
		ref, err := s.refOf(ctx, tag)
		if errors.Is(err, layout.ErrInvalid) {
			ref, err = tag, nil // it means something to whoever has written the archive
		}
		if err == nil {
			from.Tag = tag
			_, err = transfer.Copy(ctx, from, s.here(ref), s.transfer())
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", quote.Name(tag), err)
		}
		names = append(names, ref)
	}
	return names, nil
}

// Remove implements [Backend]. What nothing else needs goes with the image.
func (s *Store) Remove(ctx context.Context, name string) error {
	err := s.image(ctx, name, func(l *layout.Layout, d ispec.Descriptor) error {
		if _, err := l.DeleteRef(ctx, d.Annotations[ispec.AnnotationRefName]); err != nil {
			return err
		}
		_, err := l.GC(ctx, nil)
		return err
	})
	return failed("remove", name, err)
}

// DefinitionToTar implements [Backend]. An image that is in the store already is taken
// as it is.
func (s *Store) DefinitionToTar(ctx context.Context, opt BuildOptions, file string) error {
	there, err := s.Exists(ctx, opt.Name)
	if err != nil {
		return err
	}
	if !there {
		if err := s.Build(ctx, opt); err != nil {
			return err
		}
	}
	err = s.Export(ctx, ExportOptions{Names: []string{opt.Name}, File: file})
	if there {
		return err
	}
	return errors.Join(err, s.Remove(context.WithoutCancel(ctx), opt.Name))
}

// Extract implements [Backend].
func (s *Store) Extract(ctx context.Context, opt ExtractOptions) error {
	err := s.image(ctx, opt.Name, func(l *layout.Layout, d ispec.Descriptor) error {
		path, err := s.resolve(ctx, l, d)
		if err != nil {
			return err
		}
		return bundle.UnpackRootfs(ctx, l, path, opt.Dir, bundle.UnpackOptions{
			Map: opt.Map, Limits: opt.Limits, Warn: s.opt.Warn, Progress: s.opt.Progress,
		})
	})
	return failed("extract", opt.Name, err)
}

// Copy implements [Backend].
func (s *Store) Copy(ctx context.Context, name, newName string) error {
	ref, err := s.refOf(ctx, newName)
	if err == nil {
		err = s.image(ctx, name, func(l *layout.Layout, d ispec.Descriptor) error {
			return l.Tag(ctx, d.Annotations[ispec.AnnotationRefName], ref)
		})
	}
	return failed("copy", name, err)
}

// Download implements [Backend].
func (s *Store) Download(ctx context.Context, name string) error {
	from, err := registry(name)
	if err != nil {
		return failed("download", name, err)
	}
	ref, err := s.refOf(ctx, name)
	if err == nil {
		_, err = transfer.Copy(ctx, from, s.here(ref), s.transfer())
	}
	return failed("download", name, err)
}

// Push implements [Backend]. An index is pushed with all of its images.
func (s *Store) Push(ctx context.Context, name string) error {
	to, err := registry(name)
	if err != nil {
		return failed("push", name, err)
	}
	err = s.image(ctx, name, func(_ *layout.Layout, d ispec.Descriptor) error {
		_, err := transfer.Copy(ctx, s.here(d.Annotations[ispec.AnnotationRefName]), to, s.transfer())
		return err
	})
	return failed("push", name, err)
}

// Available implements [Backend].
func (s *Store) Available(ctx context.Context, name string) (bool, error) {
	at, err := registry(name)
	if err != nil {
		return false, failed("look for", name, err)
	}
	ok, err := transfer.Exists(ctx, at, s.transfer())
	return ok, failed("look for", name, err)
}

// Exists implements [Backend].
func (s *Store) Exists(ctx context.Context, name string) (bool, error) {
	err := s.image(ctx, name, func(*layout.Layout, ispec.Descriptor) error { return nil })
	if errors.Is(err, layout.ErrNotFound) {
		return false, nil
	}
	return err == nil, failed("look for", name, err)
}
