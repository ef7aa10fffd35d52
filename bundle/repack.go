// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/mutate"
)

// RepackOptions say how a bundle becomes an image. The zero value makes a layer
// compressed like the image's last one, without history, and moves no ref.
type RepackOptions struct {
	// Ref is the ref that is made to lead to the new image. None if empty. If the
	// bundle's image is one of an index, Ref leads to an index afterwards: that one
	// with the new image in it, or if Ref leads to an index already where the image
	// has a place, as mutate.Graft says, then to that one.
	Ref string
	// Platform is what the bundle's image must be for. Nil if that does not matter.
	Platform *ispec.Platform
	// Compression of the new layer. If empty, that of the image's last
	// compressed layer, or gzip.
	Compression layer.Compression
	// History is the entry for the new layer; nil for none.
	History *ispec.History
	// ImageAuthor makes the author in History that of the image.
	ImageAuthor bool
	// KeepHistory adds History even if nothing has changed, for a layer that is
	// then an empty one. Otherwise an unchanged bundle leaves the image as it is.
	KeepHistory bool
	// Masks are paths in the root filesystem whose changes are left out, with
	// those of all that is below.
	Masks []string
	// NoMaskVolumes includes changes below the volumes of the image's config,
	// which are masked otherwise.
	NoMaskVolumes bool
	// Refresh makes the bundle one of the new image, so that the next repack
	// finds only what changes from now on.
	Refresh bool
	// Checksum reads every file, whatever the stat cache says.
	Checksum bool
	// Clamp, if not nil, is the latest modification time that an entry of the
	// layer gets, as seconds since the Unix epoch.
	Clamp *int64
	// Warn receives what was left out or looks wrong. May be nil.
	Warn func(msg string)
	// Progress receives the stages "checking" (files) and "compressing" (bytes).
	// May be nil.
	Progress progress.Func
}

// RepackResult is what came out.
type RepackResult struct {
	// Path leads from the index to the new manifest, which is the old one if
	// nothing has changed.
	Path layout.Path
	// Layer is the new layer; nil if nothing has changed.
	Layer *ispec.Descriptor
	// Changes is the number of paths in the new layer.
	Changes int
}

// Repack adds what has changed in the bundle in dir to the image that the
// bundle was made of, as one more layer. The bundle's image must be in l.
//
// Only files that the stat cache does not vouch for are read. Nothing is
// committed if a file changes meanwhile: the error is then
// [layer.ErrChanged] or [mtree.ErrChanged].
func Repack(ctx context.Context, l *layout.Layout, dir string, opt RepackOptions) (RepackResult, error) {
	r := repacker{layout: l, opt: opt, path: dir}
	res, err := r.run(ctx)
	if err != nil {
		return RepackResult{}, fmt.Errorf("repack %s: %w", quote.Name(dir), err)
	}
	return res, nil
}

type repacker struct {
	layout *layout.Layout
	opt    RepackOptions
	path   string
	dir    *rooted.Dir
	rootfs *rooted.Dir
	meta   Meta
	image  *mutate.Image
	now    *mtree.Tree
	stamp  mtree.Stamp
	deltas []mtree.Delta
}

func (r *repacker) run(ctx context.Context) (res RepackResult, err error) {
	if r.dir, err = openDir(r.path); err != nil {
		return res, err
	}
	defer r.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	if r.meta, err = readMeta(r.dir); err != nil {
		return res, err
	}
	if r.rootfs, err = r.dir.OpenDir(rootfsName); err != nil {
		return res, err
	}
	defer r.rootfs.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	if r.meta.From, err = r.locate(ctx); err != nil {
		return res, err
	}
	if r.image, err = mutate.Open(ctx, r.layout, r.meta.From); err != nil {
		return res, err
	}
	if err := r.compare(ctx); err != nil {
		return res, err
	}
	if res, err = r.commit(ctx); err != nil {
		return res, err
	}
	if r.opt.Refresh {
		err = r.refresh(res.Path)
	}
	return res, err
}

// locate returns the path to the bundle's image. If that is one of an index which has
// been replaced meanwhile, because another of its images was changed, it is the path
// in the new one.
func (r *repacker) locate(ctx context.Context) (layout.Path, error) {
	from := r.meta.From
	platform, err := r.layout.PlatformOf(ctx, from)
	if err != nil {
		return nil, err
	}
	if want := r.opt.Platform; want != nil && !layout.Fits(*want, platform) {
		return nil, fmt.Errorf("the bundle is of an image for %s, not for %s",
			quote.Name(layout.PlatformString(platform)), quote.Name(layout.PlatformString(*want)))
	}
	if len(from) == 1 {
		return from, nil
	}
	for _, ref := range []string{r.opt.Ref, from.Root().Annotations[ispec.AnnotationRefName]} {
		// A ref that leads nowhere, or to something else, is not one that matters here.
		root, err := r.layout.Lookup(ctx, ref)
		if err != nil || !layout.IsIndex(root.MediaType) {
			continue
		}
		members, err := r.layout.Members(ctx, root)
		if err != nil {
			continue
		}
		for _, m := range members {
			if m.Path.Target().Digest == from.Target().Digest && layout.SamePlatform(m.Platform, platform) {
				return m.Path, nil
			}
		}
	}
	return from, ctx.Err()
}

// compare finds out what has changed and has to go into the layer.
func (r *repacker) compare(ctx context.Context) error {
	var err error
	if r.stamp, err = mtree.TakeStamp(r.dir); err != nil {
		return err
	}
	old, err := mtree.LoadBaseline(ctx, r.dir, mtreeName(r.meta.From.Target()))
	if err != nil {
		return err
	}
	opt := mtree.WalkOptions{Rootless: r.meta.Map.Rootless, Progress: r.opt.Progress}
	if !r.opt.Checksum {
		opt.Cache = old.Cache
	}
	if r.now, err = mtree.Walk(ctx, r.rootfs, opt); err != nil {
		return fmt.Errorf("list rootfs: %w", err)
	}
	r.deltas = mtree.Compare(old.Tree, r.now)
	masks := slices.Clone(r.opt.Masks)
	if !r.opt.NoMaskVolumes {
		masks = append(masks, slices.Sorted(maps.Keys(r.image.Config().Config.Volumes))...)
	}
	r.deltas = mtree.Simplify(mtree.Mask(r.deltas, masks))
	return nil
}

// commit writes the blobs of the new image and then, if asked, moves the ref.
func (r *repacker) commit(ctx context.Context) (res RepackResult, err error) {
	history := r.history()
	switch {
	case len(r.deltas) > 0:
		desc, err := r.image.AddLayer(ctx, mutate.AddLayerOptions{
			Compression: r.opt.Compression,
			History:     history,
			Write:       func(w io.Writer) error { return r.generate(ctx, w) },
		})
		if err != nil {
			return res, err
		}
		res.Layer, res.Changes = &desc, len(r.deltas)
	case r.opt.KeepHistory && history != nil:
		r.image.AddHistory(*history)
	}
	changes, err := mutate.CommitAll(ctx, r.image)
	if err != nil {
		return res, err
	}
	res.Path = changes[0].To
	if r.opt.Ref == "" {
		return res, nil
	}
	return res, r.layout.MoveRef(ctx, r.opt.Ref, func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		grafted, err := mutate.Graft(ctx, r.layout, now, changes)
		if err != nil {
			return nil, err
		}
		res.Path = grafted[0].To.WithRef(r.opt.Ref)
		root := res.Path.Root()
		return &root, nil
	})
}

func (r *repacker) history() *ispec.History {
	if r.opt.History == nil {
		return nil
	}
	h := *r.opt.History
	if r.opt.ImageAuthor {
		h.Author = r.image.Config().Author
	}
	return &h
}

func (r *repacker) generate(ctx context.Context, w io.Writer) error {
	changes := make([]layer.Change, 0, len(r.deltas))
	for _, d := range r.deltas {
		c := layer.Change{Path: d.Path, Deleted: d.Kind == mtree.Deleted}
		if !c.Deleted {
			c.Stat = d.New.Stat()
		}
		changes = append(changes, c)
	}
	return layer.Generate(ctx, w, r.rootfs, changes, layer.GenerateOptions{
		Map:      r.meta.Map,
		Clamp:    r.opt.Clamp,
		Warn:     r.opt.Warn,
		Progress: r.opt.Progress,
	})
}

// refresh makes the bundle one of the image at path. The new facts are complete
// before umoci.json says that they count; the old ones go last.
func (r *repacker) refresh(path layout.Path) error {
	old, target := r.meta.From.Target(), path.Target()
	f := facts{image: target, path: filepath.Join(r.path, rootfsName), tree: r.now, stamp: r.stamp}
	if err := f.write(r.replace); err != nil {
		return fmt.Errorf("refresh bundle: %w", err)
	}
	meta := Meta{From: path, Map: r.meta.Map}
	if err := r.replace(metaName, 0o644, meta.writeTo); err != nil {
		return fmt.Errorf("refresh bundle: %w", err)
	}
	if old.Digest == target.Digest {
		return nil
	}
	for _, name := range []string{mtreeName(old), statName(old)} {
		if err := r.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("refresh bundle: %w", err)
		}
	}
	return nil
}

// replace writes the file called name and puts it in the place of an old one.
func (r *repacker) replace(name string, perm uint32, write func(io.Writer) error) error {
	temp := "." + name + ".new"
	if err := r.dir.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := createFile(r.dir, temp, perm, write)
	if err == nil {
		err = r.dir.Rename(temp, r.dir, name)
	}
	if err != nil {
		return errors.Join(err, r.dir.RemoveAll(temp))
	}
	return nil
}
