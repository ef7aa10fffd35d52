// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"fmt"
	"maps"
	"slices"

	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Include returns the entry for index.json by which a ref leads to an index with the
// image in it, besides the images for other platforms that now leads to. It is made for
// layout.MoveRef: a nil now stands for a ref that is not there. The image takes the place
// of the one for the same platform, if there is one, together with what is said about that;
// what was no index becomes an entry of a new one. The annotations, which may be nil, are
// set in the index. No ref moves.
func Include(ctx context.Context, l *layout.Layout, now *ispec.Descriptor, image ispec.Descriptor,
	annotations map[string]string,
) (ispec.Descriptor, error) {
	root, err := include(ctx, l, now, image, annotations)
	if err != nil {
		return root, fmt.Errorf("put image %s into an index: %w", image.Digest, err)
	}
	return root, nil
}

func include(ctx context.Context, l *layout.Layout, now *ispec.Descriptor, image ispec.Descriptor,
	annotations map[string]string,
) (ispec.Descriptor, error) {
	platform, err := l.PlatformOf(ctx, layout.Path{image})
	if err != nil {
		return image, err
	}
	image.Platform = &platform
	image.Annotations = withoutRef(image.Annotations)
	root := ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex}
	if image.MediaType == layout.MediaTypeDockerManifest {
		root.MediaType = layout.MediaTypeDockerIndex
	}
	index := document[ispec.Index]{
		data:  []byte("{}"),
		value: ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: root.MediaType},
	}
	if now != nil {
		members, err := keep(ctx, l, *now)
		if err != nil {
			return root, err
		}
		if layout.IsIndex(now.MediaType) {
			root = *now
			root.Annotations = maps.Clone(now.Annotations)
			if index, err = read(ctx, l, *now, l.ImageIndex); err != nil {
				return root, err
			}
		} else {
			alone := *now
			alone.Annotations = withoutRef(now.Annotations)
			alone.Platform = &members[0].Platform
			index.value.Manifests = []ispec.Descriptor{alone}
			members[0].Path = layout.Path{root, alone}
		}
		if err := place(ctx, l, &index.value, members, image); err != nil {
			return root, err
		}
	} else {
		index.value.Manifests = []ispec.Descriptor{image}
	}
	for key, value := range annotations {
		annotate(&index.value.Annotations, key, value)
	}
	data, err := indexDoc.Merge(&index.value, index.data)
	if err != nil {
		return root, err
	}
	return root, putDocument(ctx, l, data, &root)
}

// keep makes gc spare all that root leads to, and returns the images among it.
func keep(ctx context.Context, l *layout.Layout, root ispec.Descriptor) ([]layout.Member, error) {
	i := Image{layout: l, path: layout.Path{root}}
	all, there, err := i.beside(ctx)
	if err == nil {
		err = l.Hold(ctx, all...)
	}
	if err == nil {
		err = i.checkThere(ctx, there)
	}
	if err != nil {
		return nil, err
	}
	return l.Members(ctx, root)
}

// place puts the image into the index, whose members are given.
func place(ctx context.Context, l *layout.Layout, index *ispec.Index, members []layout.Member, image ispec.Descriptor) error {
	n := slices.IndexFunc(members, func(m layout.Member) bool { return layout.SamePlatform(m.Platform, *image.Platform) })
	if n < 0 {
		index.Manifests = append(slices.Clone(index.Manifests), image)
		return nil
	}
	old := members[n].Path
	if old.Target().Digest == image.Digest && old.Target().MediaType == image.MediaType &&
		maps.Equal(old.Target().Annotations, image.Annotations) {
		return nil
	}
	// Where the old one is in an index of its own, that is written anew.
	to := slices.Clone(old)
	to[len(to)-1] = image
	change := Change{From: old, To: to}
	if err := rewrite(ctx, l, []*Change{&change}, 1); err != nil {
		return err
	}
	if !replace(index.Manifests, old[1], change.To[1]) {
		return fmt.Errorf("index %s does not list %s", old.Root().Digest, old[1].Digest)
	}
	index.Manifests = slices.DeleteFunc(slices.Clone(index.Manifests), func(d ispec.Descriptor) bool {
		return d.Annotations[attestationOf] == old.Target().Digest.String() && old.Target().Digest != image.Digest
	})
	return nil
}

func withoutRef(annotations map[string]string) map[string]string {
	annotations = maps.Clone(annotations)
	delete(annotations, ispec.AnnotationRefName)
	return annotations
}

func annotate(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}
