// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// place is where a descriptor stands.
type place struct {
	in       string          // the document, or index.json
	entry    *string         // the ref of an entry of index.json; nil if it has none, or is none
	subject  bool            // what the document says something about
	depth    int             // descriptors on the way, with this one
	platform *ispec.Platform // of the nearest descriptor above that has one
}

// below is where the descriptors in the document stand that d, in the place, describes.
func (p place) below(d ispec.Descriptor) place {
	return place{in: string(d.Digest), depth: p.depth + 1, platform: platformOf(d, p.platform)}
}

func platformOf(d ispec.Descriptor, otherwise *ispec.Platform) *ispec.Platform {
	if d.Platform != nil {
		return d.Platform
	}
	return otherwise
}

// walkIndexFile reads index.json and all documents that it leads to.
func (v *verifier) walkIndexFile(ctx context.Context) error {
	about := fileObject(ispec.ImageIndexFile)
	data, err := v.store.readFile(ispec.ImageIndexFile, v.limits.MaxIndex)
	if err != nil {
		v.partial = true
		code := IndexFile
		if over := (*limit.Error)(nil); errors.As(err, &over) {
			code = TooLarge
		}
		v.found(code, about, "", "%s cannot be used: %v", ispec.ImageIndexFile, err)
		return nil
	}
	doc := &document{v: v, about: about, data: data, mediaType: ispec.MediaTypeImageIndex}
	index := doc.index()
	if index == nil {
		return nil
	}
	v.checkRefs(index.Manifests)
	known := false
	for _, d := range index.Manifests {
		at := place{in: ispec.ImageIndexFile, depth: 1}
		if ref, ok := d.Annotations[ispec.AnnotationRefName]; ok {
			at.entry = &ref
		}
		if v.opt.Ref != "" && (at.entry == nil || *at.entry != v.opt.Ref) {
			continue
		}
		known = true
		if err := v.entry(ctx, d, at); err != nil {
			return err
		}
	}
	if v.opt.Ref != "" && !known {
		return &layout.Error{Op: "resolve", Ref: v.opt.Ref, Err: fmt.Errorf("%w: there is no such ref", layout.ErrNotFound)}
	}
	if index.Subject != nil && v.opt.Ref == "" {
		return v.entry(ctx, *index.Subject, place{in: ispec.ImageIndexFile, depth: 1, subject: true})
	}
	return nil
}

// checkRefs looks at the refs in index.json.
func (v *verifier) checkRefs(entries []ispec.Descriptor) {
	targets := map[string][]string{}
	for _, d := range entries {
		ref, ok := d.Annotations[ispec.AnnotationRefName]
		if !ok || v.opt.Ref != "" && ref != v.opt.Ref {
			continue
		}
		targets[ref] = append(targets[ref], quote.Name(string(d.Digest)))
		if !layout.ValidRef(ref) {
			v.found(InvalidRef, refObject(ref), ispec.ImageIndexFile, "%s is not a valid ref", quote.Name(ref))
		}
	}
	for _, d := range entries { // for the order
		ref := d.Annotations[ispec.AnnotationRefName]
		if list := targets[ref]; len(list) > 1 {
			v.found(DuplicateRef, refObject(ref), ispec.ImageIndexFile, "%d entries have the ref %s: %s",
				len(list), quote.Name(ref), strings.Join(list[:min(len(list), 8)], ", "))
			delete(targets, ref)
		}
	}
}

// entry checks what stands in an index: an image, a further index, or anything else.
func (v *verifier) entry(ctx context.Context, d ispec.Descriptor, at place) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	isIndex, isManifest := layout.IsIndex(d.MediaType), layout.IsManifest(d.MediaType)
	switch {
	case isIndex || isManifest:
	case v.opt.Platform != nil:
		return nil // it is not an image
	case layout.IsConfig(d.MediaType), isLayer(d.MediaType):
		v.found(UnexpectedMediaType, blobObject(d.Digest), at.in, "an index lists manifests, and this is %s", quote.Name(d.MediaType))
	default:
		v.found(UnknownMediaType, blobObject(d.Digest), at.in, "the media type %s is unknown", quote.Name(d.MediaType))
	}
	if !v.descriptor(d, at) {
		return nil
	}
	if at.depth > v.limits.MaxDepth {
		v.partial = true
		v.found(TooDeep, blobObject(d.Digest), at.in, "more than %d documents refer to each other", v.limits.MaxDepth)
		return nil
	}
	switch {
	case isIndex:
		return v.index(ctx, d, at)
	case isManifest:
		return v.manifest(ctx, d, at)
	}
	v.leaf(d.Digest)
	return nil
}

// isLayer reports whether the media type is that of a layer.
func isLayer(mediaType string) bool {
	_, _, err := layer.SplitMediaType(mediaType)
	return err == nil
}

// leaf notes down a blob of which nothing but the digest is checked.
func (v *verifier) leaf(d digest.Digest) {
	if !v.leaves[d] && v.facts(d).err == nil {
		v.leaves[d] = true
		v.order = append(v.order, d)
	}
}

// descriptor checks a descriptor by itself, and whether the blob that it describes is
// there. It returns whether that is worth being read.
func (v *verifier) descriptor(d ispec.Descriptor, at place) bool {
	about := blobObject(d.Digest)
	v.checkDescriptorAnnotations(d, at)
	switch err := d.Digest.Validate(); {
	case err == nil && slices.Contains(algorithms, d.Digest.Algorithm()):
	case err == nil, errors.Is(err, digest.ErrDigestUnsupported):
		v.found(UnsupportedDigest, about, at.in, "the algorithm of the digest %s is not supported", quote.Name(string(d.Digest)))
		return false
	default:
		v.found(InvalidDigest, about, at.in, "%s is not a digest", quote.Name(string(d.Digest)))
		return false
	}
	if d.Size < 0 {
		v.found(InvalidSize, about, at.in, "the size is %d", d.Size)
		return false
	}
	embedded := len(d.Data) > 0
	if embedded {
		if err := layout.CheckDescriptor(d); err != nil {
			v.found(WrongData, about, at.in, "%v", err)
			embedded = false
		}
	}
	facts := v.facts(d.Digest)
	switch {
	case facts.err == nil && facts.size == d.Size:
		return true
	case facts.err == nil:
		v.found(WrongSize, about, at.in, "the blob has %d bytes, and the descriptor says %d", facts.size, d.Size)
	case errors.Is(facts.err, fs.ErrNotExist):
		if !embedded {
			v.missing(d, at)
		}
		return embedded
	case errors.Is(facts.err, errNoDirectory):
		return embedded // that there is no such directory has been reported
	case errors.Is(facts.err, errIrregular):
		v.found(IrregularBlob, about, at.in, "what has the name of the blob is %v", facts.err)
	default:
		v.found(UnreadableBlob, about, at.in, "the blob cannot be read: %v", facts.err)
	}
	return false
}

// missing reports a blob that is not there.
func (v *verifier) missing(d ispec.Descriptor, at place) {
	switch {
	case at.subject:
		v.found(MissingSubject, blobObject(d.Digest), at.in, "the subject is not in the layout")
	case at.entry != nil:
		v.found(DanglingRef, refObject(*at.entry), at.in, "the ref %s leads to %s, which is not in the layout",
			quote.Name(*at.entry), d.Digest)
	case len(d.URLs) > 0 && isLayer(d.MediaType):
		v.found(ForeignLayer, blobObject(d.Digest), at.in, "the layer is not in the layout, and comes from %s", quote.Name(d.URLs[0]))
	default:
		v.found(MissingBlob, blobObject(d.Digest), at.in, "the blob is not in the layout")
	}
}

func (v *verifier) checkDescriptorAnnotations(d ispec.Descriptor, at place) {
	name := at.in
	about := blobObject(digest.Digest(name))
	if name == ispec.ImageIndexFile {
		about = fileObject(name)
	}
	(&document{v: v, about: about}).checkAnnotations(d.Annotations)
	if ref, ok := d.Annotations[ispec.AnnotationRefName]; ok && name != ispec.ImageIndexFile {
		v.found(MisplacedRef, about, "", "the descriptor of %s has the ref %s", quote.Name(string(d.Digest)), quote.Name(ref))
	}
}

// index checks an index that is a blob, and all that it lists.
func (v *verifier) index(ctx context.Context, d ispec.Descriptor, at place) error {
	key := string(d.Digest)
	if p := platformOf(d, at.platform); v.opt.Platform != nil && p != nil {
		key += " " + layout.PlatformString(*p) // which says what is wanted of it
	}
	if v.walked[key] {
		return nil
	}
	v.walked[key] = true
	doc, err := v.readDocument(ctx, d)
	if doc == nil {
		return err
	}
	index := doc.index()
	if index == nil {
		return nil
	}
	for _, child := range index.Manifests {
		if err := v.entry(ctx, child, at.below(d)); err != nil {
			return err
		}
	}
	v.checkReferrers(at, d.Digest, index.Manifests)
	if index.Subject != nil {
		below := at.below(d)
		below.subject = true
		return v.entry(ctx, *index.Subject, below)
	}
	return nil
}

// referrersTag is the tag under which registries without the referrers API keep what
// says something about a digest (distribution-spec, "Referrers Tag Schema").
var referrersTag = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]{64})$`)

// checkReferrers checks that what an index lists, if its ref is that of a digest, is
// about that digest.
func (v *verifier) checkReferrers(at place, index digest.Digest, entries []ispec.Descriptor) {
	if at.entry == nil {
		return
	}
	tag := referrersTag.FindStringSubmatch(*at.entry)
	if tag == nil {
		return
	}
	subject := tag[1] + ":" + tag[2] // the longer ones are cut off
	for _, d := range entries {
		if m := v.manifests[d.Digest]; m != nil && m.read && !strings.HasPrefix(string(m.subject), subject) {
			v.found(WrongReferrer, blobObject(d.Digest), string(index), "the ref %s is for referrers of %s, and the subject of the manifest is %s",
				*at.entry, subject, quote.Name(string(m.subject)))
		}
	}
}
