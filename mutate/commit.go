// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Change is an image and what has become of it: two paths of the same length. They
// are the same if nothing has changed.
type Change struct{ From, To layout.Path }

// Commit writes the changed config, the manifest, and every index on the path, in
// this order, and returns the path to the new image. In each index the descriptors
// of the old blob for the same platform become those of the new one; what else they
// say stays, unless it was changed too. An image without changes is not written: its
// path is the old one. After a commit the image can be changed further.
func (i *Image) Commit(ctx context.Context) (layout.Path, error) {
	changes, err := CommitAll(ctx, i)
	if err != nil {
		return nil, err
	}
	return changes[0].To, nil
}

// CommitAll is [Image.Commit] for several images that one index leads to: each index
// is written once, with all of the changes, so that all of the returned paths have
// the same root. The changes come in the order of the images.
func CommitAll(ctx context.Context, images ...*Image) ([]Change, error) {
	changes, err := commitAll(ctx, images)
	if err != nil {
		return nil, fmt.Errorf("commit image: %w", err)
	}
	return changes, nil
}

func commitAll(ctx context.Context, images []*Image) ([]Change, error) {
	changes := make([]Change, len(images))
	manifests := make([][]byte, len(images))
	together := make([]*Change, len(images))
	same := true
	for n, i := range images {
		if i.path.Root().Digest != images[0].path.Root().Digest {
			return nil, fmt.Errorf("%s and %s are not in one index", images[0].path.Root().Digest, i.path.Root().Digest)
		}
		target, manifest, err := i.write(ctx)
		if err != nil {
			return nil, err
		}
		to := slices.Clone(i.path)
		to[len(to)-1] = target
		changes[n], manifests[n] = Change{From: slices.Clone(i.path), To: to}, manifest
		together[n] = &changes[n]
		same = same && reflect.DeepEqual(target, i.path.Target())
	}
	if same {
		return changes, nil
	}
	if err := rewrite(ctx, images[0].layout, together, 0); err != nil {
		return nil, err
	}
	for n, i := range images {
		i.path = slices.Clone(changes[n].To)
		i.manifest.data, i.target, i.platform = manifests[n], i.path.Target(), clonePlatform(i.config.value.Platform)
	}
	return changes, nil
}

// write writes the config and the manifest, if they have changed, and returns the
// descriptor and the content of the manifest.
func (i *Image) write(ctx context.Context) (ispec.Descriptor, []byte, error) {
	target := i.target
	i.describePlatform(&target)
	config, err := configDoc.Merge(&i.config.value, i.config.data)
	if err != nil {
		return target, nil, err
	}
	if i.foreign || !bytes.Equal(config, i.config.data) {
		if err := i.hold(ctx); err != nil {
			return target, nil, err
		}
		if err := putDocument(ctx, i.layout, config, &i.manifest.value.Config); err != nil {
			return target, nil, err
		}
		i.config.data, i.foreign = config, false
	}
	manifest, err := manifestDoc.Merge(&i.manifest.value, i.manifest.data)
	if err != nil {
		return target, nil, err
	}
	if !bytes.Equal(manifest, i.manifest.data) {
		if err := i.hold(ctx); err != nil {
			return target, nil, err
		}
		err = putDocument(ctx, i.layout, manifest, &target)
	} else if !reflect.DeepEqual(target, i.path.Target()) {
		err = i.hold(ctx)
	}
	return target, manifest, err
}

// describePlatform makes the descriptor of the image say what has changed about its
// platform, if it says anything about that. All else in it stays: it may tell more
// than the config.
func (i *Image) describePlatform(d *ispec.Descriptor) {
	was, is := i.platform, i.config.value.Platform
	if d.Platform == nil || reflect.DeepEqual(was, is) {
		return
	}
	p := clonePlatform(*d.Platform)
	for _, field := range []struct{ to, was, is *string }{
		{&p.OS, &was.OS, &is.OS},
		{&p.Architecture, &was.Architecture, &is.Architecture},
		{&p.Variant, &was.Variant, &is.Variant},
		{&p.OSVersion, &was.OSVersion, &is.OSVersion},
	} {
		if *field.was != *field.is {
			*field.to = *field.is
		}
	}
	if !slices.Equal(was.OSFeatures, is.OSFeatures) {
		p.OSFeatures = slices.Clone(is.OSFeatures)
	}
	d.Platform = &p
}

// putDocument writes a document and makes d, which described the one before, describe it.
func putDocument(ctx context.Context, l *layout.Layout, data []byte, d *ispec.Descriptor) error {
	var err error
	if d.Digest, d.Size, err = l.PutBlob(ctx, bytes.NewReader(data)); err != nil {
		return err
	}
	d.Data, d.URLs = nil, nil // they were those of the old one
	return nil
}

// rewrite writes the index From[n] of the changes, which all have that one, with what
// the changes are to below it, and fills in To[n]. The last descriptor of each To is
// there already.
func rewrite(ctx context.Context, l *layout.Layout, changes []*Change, n int) error {
	at := changes[0].From
	if n == len(at)-1 {
		return nil
	}
	index, err := read(ctx, l, at[n], l.ImageIndex)
	if err != nil {
		return err
	}
	for rest := changes; len(rest) > 0; {
		entry := rest[0].From[n+1]
		var group, others []*Change
		for _, c := range rest {
			if sameEntry(c.From[n+1], entry) {
				group = append(group, c)
			} else {
				others = append(others, c)
			}
		}
		rest = others
		if err := rewrite(ctx, l, group, n+1); err != nil {
			return err
		}
		if !replace(index.value.Manifests, entry, group[0].To[n+1]) {
			return fmt.Errorf("index %s does not list %s", at[n].Digest, entry.Digest)
		}
	}
	data, err := indexDoc.Merge(&index.value, index.data)
	if err != nil {
		return err
	}
	fresh := at[n]
	if err := putDocument(ctx, l, data, &fresh); err != nil {
		return err
	}
	for _, c := range changes {
		c.To[n] = fresh
	}
	return nil
}

// sameEntry reports whether two descriptors are of the same blob for the same
// platform.
func sameEntry(a, b ispec.Descriptor) bool {
	return a.Digest == b.Digest && a.MediaType == b.MediaType && reflect.DeepEqual(a.Platform, b.Platform)
}

// replace changes the descriptors of what old describes, and reports whether there
// were any.
func replace(entries []ispec.Descriptor, old, fresh ispec.Descriptor) bool {
	found := false
	for k := range entries {
		if sameEntry(entries[k], old) {
			update(&entries[k], old, fresh)
			found = true
		}
	}
	return found
}

// update makes d, which describes what old does, describe what fresh does. What did
// not change between the two stays as d has it.
func update(d *ispec.Descriptor, old, fresh ispec.Descriptor) {
	d.MediaType, d.Digest, d.Size = fresh.MediaType, fresh.Digest, fresh.Size
	d.Data, d.URLs = fresh.Data, fresh.URLs
	if !maps.Equal(old.Annotations, fresh.Annotations) {
		d.Annotations = fresh.Annotations
	}
	if !reflect.DeepEqual(old.Platform, fresh.Platform) {
		d.Platform = fresh.Platform
	}
}

// hold keeps gc from what the new image shares with the old one, which others may
// stop referring to at any time.
func (i *Image) hold(ctx context.Context) error {
	if i.held {
		return nil
	}
	m := i.manifest.value
	needed := slices.Clone(i.path)
	all := append(slices.Concat(needed, m.Layers), m.Config)
	if len(i.path) > 1 {
		beside, there, err := i.beside(ctx)
		if err != nil {
			return err
		}
		all, needed = append(all, beside...), append(needed, there...)
	}
	if err := i.layout.Hold(ctx, all...); err != nil {
		return err
	}
	if err := i.checkThere(ctx, needed); err != nil {
		return err
	}
	i.held = true
	return nil
}

// checkThere looks for documents again that were there before gc was kept from them: a gc
// that came first has removed them together with the layers.
func (i *Image) checkThere(ctx context.Context, documents []ispec.Descriptor) error {
	for _, d := range documents {
		if ok, err := i.layout.HasBlob(ctx, d); err != nil {
			return err
		} else if !ok && len(d.Data) == 0 {
			return fmt.Errorf("blob %s has been removed meanwhile: %w", d.Digest, layout.ErrNotFound)
		}
	}
	return nil
}

// beside lists what the indexes above the image lead to, and which of their documents
// are there: an index may well list images that nobody has copied.
func (i *Image) beside(ctx context.Context) (all, there []ispec.Descriptor, err error) {
	err = i.layout.Walk(ctx, i.path.Root(), func(p layout.Path) error {
		d := p.Target()
		all = append(all, d)
		if !layout.IsManifest(d.MediaType) && !layout.IsIndex(d.MediaType) {
			return nil
		}
		ok, err := i.layout.HasBlob(ctx, d)
		if err == nil && !ok && len(d.Data) == 0 {
			return layout.SkipChildren
		}
		there = append(there, d)
		return err
	})
	return all, there, err
}
