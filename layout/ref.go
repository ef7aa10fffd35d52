// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// DefaultRef is the ref that is meant where none is given.
const DefaultRef = "latest"

// refPattern is the grammar that the image-spec has for
// org.opencontainers.image.ref.name.
var refPattern = regexp.MustCompile(`^` + refComponent + `(/` + refComponent + `)*$`)

const refComponent = `[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*`

// ValidRef reports whether ref follows the grammar of the image-spec for refs.
// Others may be found in a layout, but are neither resolved nor set.
func ValidRef(ref string) bool { return refPattern.MatchString(ref) }

func checkRef(ref string) error {
	if !ValidRef(ref) {
		return as(ErrInvalid, errors.New("not a valid ref"))
	}
	return nil
}

// ParseImage splits "path[:ref]", the way in which commands name an image, at its
// first colon. Without a colon the ref is [DefaultRef].
func ParseImage(s string) (path, ref string, err error) {
	path, ref, found := strings.Cut(s, ":")
	if !found {
		ref = DefaultRef
	}
	switch {
	case path == "":
		err = errors.New("path is empty")
	case ref == "":
		err = errors.New("tag is empty")
	case !ValidRef(ref):
		err = fmt.Errorf("%s is not a valid tag", quote.Name(ref))
	}
	if err != nil {
		return "", "", opError("parse image", s, as(ErrInvalid, err))
	}
	return path, ref, nil
}

// refOf returns the ref of an entry of index.json.
func refOf(d ispec.Descriptor) (string, bool) {
	ref, ok := d.Annotations[ispec.AnnotationRefName]
	return ref, ok
}

func hasRef(d ispec.Descriptor, ref string) bool {
	got, ok := refOf(d)
	return ok && got == ref
}

// Refs returns the refs in the order of index.json. A ref that several entries
// carry is returned as often. They are of foreign origin, and need not even be
// valid.
func (l *Layout) Refs(ctx context.Context) ([]string, error) {
	index, err := l.Index(ctx)
	if err != nil {
		return nil, err
	}
	refs := make([]string, 0, len(index.Manifests))
	for _, d := range index.Manifests {
		if ref, ok := refOf(d); ok {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// Lookup returns the entry of index.json that carries the ref, whatever it is a
// descriptor of. The error is ErrNotFound if there is none, and ErrAmbiguous if
// there are several.
func (l *Layout) Lookup(ctx context.Context, ref string) (ispec.Descriptor, error) {
	if err := checkRef(ref); err != nil {
		return ispec.Descriptor{}, opError("resolve", ref, err)
	}
	index, err := l.Index(ctx)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	d, err := lookup(index, ref)
	return d, opError("resolve", ref, err)
}

// carriers returns the entries of index.json that carry the ref.
func carriers(index ispec.Index, ref string) []ispec.Descriptor {
	var found []ispec.Descriptor
	for _, d := range index.Manifests {
		if hasRef(d, ref) {
			found = append(found, d)
		}
	}
	return found
}

func lookup(index ispec.Index, ref string) (ispec.Descriptor, error) {
	found := carriers(index, ref)
	switch len(found) {
	case 0:
		return ispec.Descriptor{}, as(ErrNotFound, errors.New("there is no such ref"))
	case 1:
		return found[0], nil
	}
	var digests []string
	for _, d := range found {
		digests = append(digests, quote.Name(string(d.Digest)))
	}
	return ispec.Descriptor{}, as(ErrAmbiguous, fmt.Errorf("%d entries of index.json have this ref: %s",
		len(found), strings.Join(digests, ", ")))
}

// SetRef makes ref point to root: entries that carried it are dropped, and root is
// appended to index.json with ref and its other annotations. The blob must be in
// the layout.
func (l *Layout) SetRef(ctx context.Context, ref string, root ispec.Descriptor) error {
	if err := checkRef(ref); err != nil {
		return opError("set ref", ref, err)
	}
	return l.Update(ctx, func(index *ispec.Index) error {
		setRef(index, ref, root)
		return nil
	})
}

func setRef(index *ispec.Index, ref string, root ispec.Descriptor) {
	index.Manifests = append(without(index.Manifests, ref), Path{root}.WithRef(ref).Root())
}

// Tag makes newRef point to what ref points to, in one step: nothing that happens
// to ref meanwhile leaves newRef dangling. The errors are those of
// [Layout.Lookup].
func (l *Layout) Tag(ctx context.Context, ref, newRef string) error {
	for _, r := range []string{ref, newRef} {
		if err := checkRef(r); err != nil {
			return opError("tag", r, err)
		}
	}
	return l.Update(ctx, func(index *ispec.Index) error {
		root, err := lookup(*index, ref)
		if err != nil {
			return opError("resolve", ref, err)
		}
		setRef(index, newRef, root)
		return nil
	})
}

// TagImage makes newRef point to the one image that [Layout.Resolve] finds for the
// ref and the platform, without the index that the image is in. Like [Layout.Tag] it
// is one step.
func (l *Layout) TagImage(ctx context.Context, ref, newRef string, platform *ispec.Platform) error {
	if err := checkRef(newRef); err != nil {
		return opError("tag", newRef, err)
	}
	for range maxRaces {
		path, err := l.Resolve(ctx, ref, &ResolveOptions{Platform: platform})
		if err != nil {
			return err
		}
		moved := false
		err = l.Update(ctx, func(index *ispec.Index) error {
			// What was found is sure to be there for as long as the ref leads to it.
			root, err := lookup(*index, ref)
			if moved = err != nil || root.Digest != path.Root().Digest; !moved {
				setRef(index, newRef, path.Target())
			}
			return nil
		})
		if err != nil || !moved {
			return err
		}
	}
	return opError("tag", newRef, errMoving)
}

var errMoving = errors.New("another program keeps moving the ref")

// MoveRef makes ref point to what fn makes of the entry of index.json that carries
// it now, which is nil if none does, or several do. If fn returns nil, ref is
// dropped. Nobody is kept from working meanwhile: if the ref is found to have moved
// when the result of fn is to be written, fn is called again. An error of fn is
// returned as it is.
func (l *Layout) MoveRef(ctx context.Context, ref string, fn func(now *ispec.Descriptor) (*ispec.Descriptor, error)) error {
	if err := checkRef(ref); err != nil {
		return opError("move ref", ref, err)
	}
	for range maxRaces {
		index, err := l.Index(ctx)
		if err != nil {
			return err
		}
		before := carriers(index, ref)
		var now *ispec.Descriptor
		if len(before) == 1 {
			entry := before[0]
			entry.Annotations = maps.Clone(entry.Annotations)
			now = &entry
		}
		root, err := fn(now)
		if err != nil {
			return err
		}
		moved := false
		err = l.Update(ctx, func(index *ispec.Index) error {
			if moved = !reflect.DeepEqual(carriers(*index, ref), before); moved {
				return nil
			}
			if root == nil {
				index.Manifests = without(index.Manifests, ref)
			} else {
				setRef(index, ref, *root)
			}
			return nil
		})
		if err != nil || !moved {
			return err
		}
	}
	return opError("move ref", ref, errMoving)
}

// DeleteRef drops all entries of index.json that carry the ref, and reports
// whether there were any. Their blobs stay until [Layout.GC].
func (l *Layout) DeleteRef(ctx context.Context, ref string) (removed bool, err error) {
	if err := checkRef(ref); err != nil {
		return false, opError("delete ref", ref, err)
	}
	err = l.Update(ctx, func(index *ispec.Index) error {
		rest := without(index.Manifests, ref)
		removed = len(rest) < len(index.Manifests)
		index.Manifests = rest
		return nil
	})
	return removed && err == nil, err
}
