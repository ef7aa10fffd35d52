// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// A source that knows what refers to a manifest.
type referrerSource interface {
	// referrers returns what may have the manifest as its subject.
	referrers(ctx context.Context, subject digest.Digest) ([]ispec.Descriptor, error)
}

// A destination that must be told what refers to a manifest.
type referrerDestination interface {
	putReferrers(ctx context.Context, subject digest.Digest, list []ispec.Descriptor) error
}

// note is that a manifest refers to another.
type note struct {
	subject  digest.Digest
	referrer ispec.Descriptor
	within   bool // the referrer is a part of the image, too, as attestations are
}

// maxReferrers is how many manifests may refer to one image and to each other.
const maxReferrers = 10_000

// gatherReferrers adds what refers to the documents that are copied, and what refers to
// that.
func (c *copier) gatherReferrers(ctx context.Context) error {
	src, ok := c.src.(referrerSource)
	if !ok {
		return errorf(ErrUnsupported, "this source does not tell what refers to an image")
	}
	for at := 0; ; at++ {
		if at == len(c.order) { // which has grown by what was found
			return nil
		}
		subject := c.order[at]
		if c.own[subject] != nil {
			continue
		}
		list, err := src.referrers(ctx, subject)
		if err != nil {
			return &Error{Op: "look for referrers of", Ref: subject.String(), Err: err}
		}
		if err := c.addReferrers(ctx, subject, list); err != nil {
			return err
		}
	}
}

func (c *copier) addReferrers(ctx context.Context, subject digest.Digest, list []ispec.Descriptor) error {
	for _, d := range list {
		if !isDocument(d) {
			c.warn("%s refers to %s, and is neither a manifest nor an index: it is left out", d.Digest, subject)
			continue
		}
		known := c.docs[d.Digest] != nil
		if err := c.gather(ctx, []ispec.Descriptor{bare(d)}); err != nil {
			return err
		}
		// A list says what it likes, but a manifest itself names its subject.
		doc := c.docs[d.Digest]
		if doc.subject == nil || doc.subject.Digest != subject {
			return errorf(layout.ErrInvalid, "%s is said to refer to %s, and does not", d.Digest, subject)
		}
		if c.notes = append(c.notes, note{subject, doc.referrer(), known}); len(c.notes) > maxReferrers {
			return errorf(layout.ErrTooLarge, "more than %d manifests refer to the image", maxReferrers)
		}
		if !known {
			c.taken = append(c.taken, d.Digest)
		}
	}
	return nil
}

// referrer returns the descriptor of a document as lists of referrers have it.
func (doc *document) referrer() ispec.Descriptor {
	d := bare(doc.desc)
	d.ArtifactType, d.Annotations = doc.artifact, doc.notes
	return d
}

// putReferrers tells the destination what refers to what.
func (c *copier) putReferrers(ctx context.Context) error {
	lists := map[digest.Digest][]ispec.Descriptor{}
	var subjects []digest.Digest
	_, all := c.dst.(*registryDestination)
	for _, n := range c.notes {
		if n.within && !all {
			continue // where documents are looked through, it is found as it is
		}
		if lists[n.subject] == nil {
			subjects = append(subjects, n.subject)
		}
		lists[n.subject] = append(lists[n.subject], n.referrer)
	}
	if len(subjects) == 0 {
		return nil
	}
	dst, ok := c.dst.(referrerDestination)
	if !ok {
		return errorf(ErrUnsupported, "this destination has no place for what refers to an image")
	}
	for _, subject := range subjects {
		if err := dst.putReferrers(ctx, subject, lists[subject]); err != nil {
			return &Error{Op: "write the referrers of", Ref: subject.String(), Err: err}
		}
	}
	return nil
}

// referrers implements referrerSource by a look at all manifests in the layout, once.
func (s *layoutSource) referrers(ctx context.Context, subject digest.Digest) ([]ispec.Descriptor, error) {
	if s.subjects == nil {
		found, err := scanSubjects(ctx, s.l)
		if err != nil {
			return nil, err
		}
		s.subjects = found
	}
	return s.subjects[subject], nil
}

// scanSubjects finds all manifests and indexes that have a subject. What is missing or
// damaged refers to nothing.
func scanSubjects(ctx context.Context, l *layout.Layout) (map[digest.Digest][]ispec.Descriptor, error) {
	index, err := l.Index(ctx)
	if err != nil {
		return nil, err
	}
	found := map[digest.Digest][]ispec.Descriptor{}
	seen := map[digest.Digest]bool{}
	for _, root := range index.Manifests {
		err := l.Walk(ctx, root, func(p layout.Path) error {
			d := p.Target()
			if !isDocument(d) || seen[d.Digest] {
				return layout.SkipChildren
			}
			seen[d.Digest] = true
			if ok, err := l.HasBlob(ctx, d); err != nil || !ok {
				return layout.SkipChildren
			}
			data, err := l.ReadBlob(ctx, d)
			if err != nil {
				return err
			}
			doc := &document{desc: d, data: data}
			if err := doc.parse(); err != nil {
				return err
			}
			if doc.subject != nil {
				found[doc.subject.Digest] = append(found[doc.subject.Digest], d)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// putReferrers implements referrerDestination: they become entries of index.json without
// a ref, which other programs find, too.
func (t *layoutDestination) putReferrers(_ context.Context, _ digest.Digest, list []ispec.Descriptor) error { //nolint:unparam // registries can fail
	t.untagged = append(t.untagged, list...)
	return nil
}

// fallbackTag is the tag of the list of referrers in registries that have no API for it
// (distribution-spec, "Referrers Tag Schema").
func fallbackTag(d digest.Digest) string {
	tag := strings.Replace(d.String(), ":", "-", 1)
	return tag[:min(len(tag), 128)]
}

// referrers implements referrerSource by the API for it or by the fallback tag.
func (s *registrySource) referrers(ctx context.Context, subject digest.Digest) ([]ispec.Descriptor, error) {
	list, _, err := s.listReferrers(ctx, subject)
	return list, err
}

// listReferrers returns the referrers, and whether the registry has an API for them.
func (r *repository) listReferrers(ctx context.Context, subject digest.Digest) (list []ispec.Descriptor, api bool, err error) {
	var seen pages
	next := r.url("referrers", subject.String())
	for next != "" {
		page, after, err := r.referrersPage(ctx, next, &seen)
		if errors.Is(err, layout.ErrNotFound) || errors.Is(err, ErrUnsupported) {
			list, err = r.fallbackReferrers(ctx, subject)
			return list, false, err
		} else if err != nil {
			return nil, false, err
		}
		if list = append(list, page...); len(list) > maxReferrers {
			return nil, false, errorf(layout.ErrTooLarge, "there are more than %d", maxReferrers)
		}
		next = after
	}
	return list, true, nil
}

func (r *repository) referrersPage(ctx context.Context, address string, seen *pages) ([]ispec.Descriptor, string, error) {
	ctx, q, done := r.web.watch(ctx)
	defer done()
	req, err := newRequest(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", ispec.MediaTypeImageIndex)
	data, resp, err := r.document(req, q)
	if err != nil {
		return nil, "", err
	}
	if err := seen.add(data); err != nil {
		return nil, "", err
	}
	index, err := layout.ParseIndex(data, ispec.MediaTypeImageIndex)
	if err != nil {
		return nil, "", err
	}
	next, err := nextPage(resp)
	return index.Manifests, next, err
}

func (r *repository) fallbackReferrers(ctx context.Context, subject digest.Digest) ([]ispec.Descriptor, error) {
	d, data, err := r.manifest(ctx, fallbackTag(subject), "")
	if errors.Is(err, layout.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	index, err := layout.ParseIndex(data, d.MediaType)
	return index.Manifests, err
}

// putReferrers implements referrerDestination. A registry that has taken note of the
// subject by itself need not be told.
func (t *registryDestination) putReferrers(ctx context.Context, subject digest.Digest, list []ispec.Descriptor) error {
	list = slices.DeleteFunc(slices.Clone(list), func(d ispec.Descriptor) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.subjects[d.Digest] == subject
	})
	if len(list) == 0 {
		return nil
	}
	known, api, err := t.listReferrers(ctx, subject)
	if err == nil && api && !slices.ContainsFunc(list, func(d ispec.Descriptor) bool { return !lists(known, d) }) {
		return nil // it has, and only did not say so
	}
	if err == nil && api {
		known, err = t.fallbackReferrers(ctx, subject)
	}
	if err != nil {
		return err
	}
	before := len(known)
	for _, d := range list {
		if !lists(known, d) {
			known = append(known, d)
		}
	}
	if len(known) == before {
		return nil
	}
	data, err := json.Marshal(ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex, Manifests: known,
	})
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return t.putManifest(ctx, fallbackTag(subject), d, data)
}
