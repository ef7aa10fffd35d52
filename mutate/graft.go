// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"fmt"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Graft returns the changes in such a way that a ref which leads to now can be made to
// lead to their new root without losing what others have changed in the same index. It
// is made for layout.MoveRef; a nil now stands for a ref that is not there. The changes
// come from one [CommitAll].
//
// Without an index in the changes, or if the ref leads to no index, they are returned as
// they are. If now is an index, though, the new images take the places of their
// predecessors in it, provided that all of them have one: the old image itself; or the
// image for the same platform, if now carries the ref that the change came from, or if
// that image was made of the same old one. Then From is the path to the predecessor.
func Graft(ctx context.Context, l *layout.Layout, now *ispec.Descriptor, changes []Change) ([]Change, error) {
	grafted, err := graft(ctx, l, now, changes)
	if err != nil {
		return nil, fmt.Errorf("put images into index %s: %w", now.Digest, err)
	}
	return grafted, nil
}

func graft(ctx context.Context, l *layout.Layout, now *ispec.Descriptor, changes []Change) ([]Change, error) {
	from := changes[0].From
	if now == nil || now.Digest == from.Root().Digest || len(from) == 1 || !layout.IsIndex(now.MediaType) {
		return changes, nil
	}
	members, err := l.Members(ctx, *now)
	if err != nil {
		return nil, err
	}
	grafted := make([]Change, len(changes))
	together := make([]*Change, len(changes))
	for n, c := range changes {
		m, err := predecessor(ctx, l, members, c)
		if err != nil {
			return nil, err
		}
		if m == nil {
			return changes, nil
		}
		to := slices.Clone(m.Path)
		update(&to[len(to)-1], c.From.Target(), c.To.Target())
		grafted[n] = Change{From: m.Path, To: to}
		together[n] = &grafted[n]
	}
	return grafted, rewrite(ctx, l, together, 0)
}

// predecessor returns the one of the members whose place the changed image takes; nil
// if there is none.
func predecessor(ctx context.Context, l *layout.Layout, members []layout.Member, c Change) (*layout.Member, error) {
	platform, err := l.PlatformOf(ctx, c.From)
	if err != nil {
		return nil, err
	}
	var found *layout.Member
	for n, m := range members {
		if !layout.SamePlatform(m.Platform, platform) {
			continue
		}
		if m.Path.Target().Digest == c.From.Target().Digest {
			return &members[n], nil
		}
		if found == nil {
			found = &members[n]
		}
	}
	if found == nil || sameRef(found.Path.Root(), c.From.Root()) {
		return found, nil
	}
	grown, err := grownFrom(ctx, l, found.Path.Target(), c.From.Target())
	if err != nil || !grown {
		return nil, err
	}
	return found, nil
}

func sameRef(a, b ispec.Descriptor) bool {
	return a.Annotations[ispec.AnnotationRefName] == b.Annotations[ispec.AnnotationRefName]
}

// grownFrom reports whether an image begins with the layers of another.
func grownFrom(ctx context.Context, l *layout.Layout, image, base ispec.Descriptor) (bool, error) {
	of, err := l.Manifest(ctx, base)
	if err != nil {
		return false, err
	}
	in, err := l.Manifest(ctx, image)
	if err != nil || len(in.Layers) < len(of.Layers) {
		return false, err
	}
	for n, d := range of.Layers {
		if in.Layers[n].Digest != d.Digest {
			return false, nil
		}
	}
	return true, nil
}

// attestationOf is the annotation by which BuildKit says in an index which manifest an
// entry is a statement about.
const attestationOf = "vnd.docker.reference.digest"

// Remove returns the entry for index.json by which a ref leads to all that the root of
// path does, but for the image at its end and statements about that. It is nil if
// nothing is left. No ref moves.
func Remove(ctx context.Context, l *layout.Layout, path layout.Path) (*ispec.Descriptor, error) {
	root, err := remove(ctx, l, path, 0)
	if err != nil {
		return nil, fmt.Errorf("remove image %s from index %s: %w", path.Target().Digest, path.Root().Digest, err)
	}
	return root, nil
}

// remove returns what path[n] becomes.
func remove(ctx context.Context, l *layout.Layout, path layout.Path, n int) (*ispec.Descriptor, error) {
	if n == len(path)-1 {
		return nil, nil
	}
	index, err := read(ctx, l, path[n], l.ImageIndex)
	if err != nil {
		return nil, err
	}
	below, err := remove(ctx, l, path, n+1)
	if err != nil {
		return nil, err
	}
	entries := index.value.Manifests
	if below != nil {
		replace(entries, path[n+1], *below)
	} else {
		entries = slices.DeleteFunc(slices.Clone(entries), func(d ispec.Descriptor) bool { return sameEntry(d, path[n+1]) })
		if !lists(entries, path[n+1]) {
			entries = slices.DeleteFunc(entries, func(d ispec.Descriptor) bool {
				return d.Annotations[attestationOf] == path[n+1].Digest.String()
			})
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	index.value.Manifests = entries
	data, err := indexDoc.Merge(&index.value, index.data)
	if err != nil {
		return nil, err
	}
	fresh := path[n]
	return &fresh, putDocument(ctx, l, data, &fresh)
}

// lists reports whether one of the entries is of the same blob as d.
func lists(entries []ispec.Descriptor, d ispec.Descriptor) bool {
	return slices.ContainsFunc(entries, func(e ispec.Descriptor) bool { return e.Digest == d.Digest })
}
