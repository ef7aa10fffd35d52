// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
)

// RebaseOptions say what an image was built on, and what it is to be built on.
type RebaseOptions struct {
	// Old is the image that this one was built on: see [Image.Seam].
	Old *Image
	// New is what takes its place. It may be in another layout. The annotation
	// org.opencontainers.image.base.digest will be its digest.
	New *Image
	// Name is the reference of the new base, for the annotation
	// org.opencontainers.image.base.name. Empty leaves that as it is.
	Name string
	// Stack says how the layers are read.
	Stack stack.Options
}

// Rebase puts the image on another base: its own layers, which stay as they are, on
// top of those of the new base. Settings that it took over from the old base, which is
// to say that they are the same in both, become those of the new base: all that
// concerns running it, but neither the author nor the time of creation. Variables,
// labels, ports and volumes are looked at one by one. What image and new base have both
// changed stays that of the image; Warn hears of variables. The history is that of the new
// base and then the image's own. The image is to be committed afterwards.
//
// The error is [ErrNotBase] if the image does not begin with the layers of the old
// base. All layers are read once, to make sure that the image's own can be applied to
// the new base: a hardlink, for example, may lead to a file that is not there any more.
func (i *Image) Rebase(ctx context.Context, opt RebaseOptions) error {
	next := *i // nothing of i is changed, only replaced
	if err := next.rebase(ctx, opt); err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	*i = next
	return nil
}

func (i *Image) rebase(ctx context.Context, opt RebaseOptions) error {
	seam, err := i.Seam(opt.Old)
	if err != nil {
		return fmt.Errorf("old base %s: %w", opt.Old.target.Digest, err)
	}
	if err := opt.New.checkLayers(); err != nil {
		return fmt.Errorf("new base %s: %w", opt.New.target.Digest, err)
	}
	if err := i.checkFits(opt.New); err != nil {
		return err
	}
	if err := i.hold(ctx); err != nil {
		return err
	}
	if err := i.takeLayers(ctx, opt.New); err != nil {
		return err
	}
	m, c := &i.manifest.value, &i.config.value
	below, above := &opt.New.manifest.value, m.Layers[seam:]
	m.Layers = slices.Concat(below.Layers, above)
	for n := range below.Layers {
		m.Layers[n].MediaType = layerType(m.Layers[n].MediaType, i.isDocker())
	}
	c.History = rebaseHistory(c.History, opt.Old.config.value.History, opt.New, seam)
	c.RootFS.DiffIDs = slices.Concat(opt.New.config.value.RootFS.DiffIDs, c.RootFS.DiffIDs[seam:])
	if err := i.checkApplies(ctx, opt.Stack); err != nil {
		return err
	}
	if err := i.inherit(opt); err != nil {
		return err
	}
	m.Annotations = maps.Clone(m.Annotations)
	delete(m.Annotations, ispec.AnnotationBaseImageDigest)
	if d := opt.New.target.Digest; d != "" { // it has been committed
		annotate(&m.Annotations, ispec.AnnotationBaseImageDigest, d.String())
	}
	if opt.Name != "" {
		annotate(&m.Annotations, ispec.AnnotationBaseImageName, opt.Name)
	}
	return nil
}

// checkFits refuses a base for another platform than that of the image.
func (i *Image) checkFits(base *Image) error {
	is, has := i.config.value.Platform, base.config.value.Platform
	// Versions of the system change from base to base.
	is.OSVersion, is.OSFeatures = "", nil
	if is.OS == "" && is.Architecture == "" || layout.Fits(is, has) {
		return nil
	}
	return fmt.Errorf("the image is for %s, and the new base for %s",
		quote.Name(layout.PlatformString(is)), quote.Name(layout.PlatformString(has)))
}

// takeLayers makes the layers of base be in the layout of the image, but for those that
// only the URLs in their descriptors deliver.
func (i *Image) takeLayers(ctx context.Context, base *Image) error {
	for _, d := range base.manifest.value.Layers {
		_, err := i.layout.CopyBlob(ctx, base.layout, d, nil)
		if err != nil && (len(d.URLs) == 0 || !errors.Is(err, layout.ErrNotFound)) {
			return err
		}
	}
	return nil
}

// checkApplies makes sure that the layers are a tree.
func (i *Image) checkApplies(ctx context.Context, opt stack.Options) error {
	for _, d := range i.manifest.value.Layers {
		if len(d.URLs) == 0 {
			continue
		}
		if ok, err := i.layout.HasBlob(ctx, d); err != nil {
			return err
		} else if !ok {
			if opt.Warn != nil {
				opt.Warn(fmt.Sprintf("cannot tell whether the layers fit on the new base: layer %s is not in the layout", d.Digest))
			}
			return nil
		}
	}
	s, err := i.stack()
	if err == nil {
		_, err = s.Tree(ctx, layer.Discard, opt)
	}
	if err != nil {
		return fmt.Errorf("apply the layers to the new base: %w", err)
	}
	return nil
}

// rebaseHistory returns the history of the new base and then what the image's own has
// beyond that of the old one, which has the given number of layers.
func rebaseHistory(history, old []ispec.History, base *Image, layers int) []ispec.History {
	if len(history) == 0 {
		return nil
	}
	own := history[ownFrom(history, old, layers):]
	var below []ispec.History
	left := len(base.manifest.value.Layers)
	for _, h := range base.config.value.History {
		if h.EmptyLayer {
			below = append(below, h)
		} else if left > 0 {
			below = append(below, h)
			left--
		}
	}
	// Without as many entries as there are layers, those above would be taken for
	// entries of layers that are not theirs.
	for range left {
		below = append(below, ispec.History{Comment: "layer of the base, whose history does not tell of it"})
	}
	return slices.Concat(below, own)
}

// ownFrom returns where the entries begin that are not of the old base, whose history is
// old and whose layers are as many.
func ownFrom(history, old []ispec.History, layers int) int {
	if len(history) >= len(old) && slices.EqualFunc(history[:len(old)], old, sameHistory) {
		// Unless that of the base says too little.
		if n := countLayers(old); n == layers {
			return len(old)
		}
	}
	n := 0
	for layers > 0 && n < len(history) {
		if !history[n].EmptyLayer {
			layers--
		}
		n++
	}
	// What the base had after its last layer.
	for n < len(history) && n < len(old) && history[n].EmptyLayer && sameHistory(history[n], old[n]) {
		n++
	}
	return n
}

// countLayers returns how many entries have a layer.
func countLayers(history []ispec.History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

func sameHistory(a, b ispec.History) bool {
	if (a.Created == nil) != (b.Created == nil) || a.Created != nil && !a.Created.Equal(*b.Created) {
		return false
	}
	return a.CreatedBy == b.CreatedBy && a.Author == b.Author && a.Comment == b.Comment && a.EmptyLayer == b.EmptyLayer
}

// ErrNoBase is returned for an image that does not say what it was built on.
var ErrNoBase = errors.New("the image does not say what its base is")

// FindBase looks in l for the image that this one was built on, by the annotations
// org.opencontainers.image.base.digest and, if there is nothing by that digest,
// org.opencontainers.image.base.name, as a ref. The error is [ErrNoBase] if there are no
// such annotations, and layout.ErrNotFound if l has no such image.
func (i *Image) FindBase(ctx context.Context, l *layout.Layout) (layout.Path, error) {
	annotations := i.manifest.value.Annotations
	wanted, name := annotations[ispec.AnnotationBaseImageDigest], annotations[ispec.AnnotationBaseImageName]
	if wanted == "" && name == "" {
		return nil, ErrNoBase
	}
	var found *ispec.Descriptor
	if wanted != "" {
		var err error
		if found, err = findDigest(ctx, l, wanted); err != nil {
			return nil, fmt.Errorf("find base %s: %w", quote.Name(wanted), err)
		}
	}
	if found == nil && layout.ValidRef(name) {
		d, err := l.Lookup(ctx, name)
		if err != nil && !errors.Is(err, layout.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			found = &d
		}
	}
	if found == nil {
		return nil, fmt.Errorf("the base that the image names, %s %s, is not in layout %s: %w",
			quote.Name(name), quote.Name(wanted), quote.Name(l.Path()), layout.ErrNotFound)
	}
	members, err := l.Members(ctx, *found)
	if err != nil {
		return nil, err
	}
	is := i.config.value.Platform
	is.OSVersion, is.OSFeatures = "", nil
	for _, m := range members {
		if len(members) == 1 || layout.Fits(is, m.Platform) {
			return m.Path, nil
		}
	}
	return nil, fmt.Errorf("the base that the image names, %s, has no image for %s: %w",
		found.Digest, quote.Name(layout.PlatformString(is)), layout.ErrNotFound)
}

// findDigest returns a descriptor of the manifest or index with the digest, of those that
// index.json leads to; nil if there is none.
func findDigest(ctx context.Context, l *layout.Layout, wanted string) (*ispec.Descriptor, error) {
	index, err := l.Index(ctx)
	if err != nil {
		return nil, err
	}
	var found *ispec.Descriptor
	for _, root := range index.Manifests {
		err := l.Walk(ctx, root, func(p layout.Path) error {
			d := p.Target()
			switch {
			case d.Digest.String() == wanted && (layout.IsManifest(d.MediaType) || layout.IsIndex(d.MediaType)):
				found = &d
				return errFound
			case !layout.IsIndex(d.MediaType):
				return layout.SkipChildren
			}
			// An index may well list images that nobody has copied.
			ok, err := l.HasBlob(ctx, d)
			if err == nil && !ok && len(d.Data) == 0 {
				return layout.SkipChildren
			}
			return err
		})
		if errors.Is(err, errFound) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

var errFound = errors.New("found")
