// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

var layoutFile = jsondoc.New[ispec.ImageLayout](jsondoc.Rules{})

// What package layout refuses as a whole is read once more by these, which only care
// about the form, so that each descriptor in it can be judged by itself.
var (
	requiredMembers = map[reflect.Type][]string{
		reflect.TypeFor[ispec.Descriptor](): {"mediaType", "digest", "size"},
		reflect.TypeFor[ispec.Manifest]():   {"config"},
	}
	indexForm    = jsondoc.New[ispec.Index](jsondoc.Rules{Required: requiredMembers, MaxValues: 1 << 20})
	manifestForm = jsondoc.New[ispec.Manifest](jsondoc.Rules{Required: requiredMembers})
)

// document is an index, manifest or config that is being checked.
type document struct {
	v         *verifier
	about     Object
	data      []byte
	mediaType string // that it should have
	top       map[string]json.RawMessage
}

func (d *document) found(code Code, format string, args ...any) {
	d.v.found(code, d.about, "", format, args...)
}

// readDocument reads the blob of a document, or takes what the descriptor has
// embedded of it. It is nil if that is not to be had.
func (v *verifier) readDocument(ctx context.Context, d ispec.Descriptor) (*document, error) {
	doc := &document{v: v, about: blobObject(d.Digest), mediaType: d.MediaType}
	facts := v.facts(d.Digest)
	if facts.err != nil { // or there would not be such a descriptor here
		doc.data = d.Data
		return doc, nil
	}
	if facts.bad {
		return nil, nil
	}
	if err := limit.Check(limit.Document, "bytes", facts.size, v.limits.MaxDocument); err != nil {
		doc.found(TooLarge, "the document has %v", err)
		v.partial = true
		return nil, nil
	}
	r, err := v.store.open(ctx, d.Digest, facts.size)
	if err == nil {
		defer r.close()
		doc.data = make([]byte, facts.size)
		n := 0
		for n < len(doc.data) && err == nil {
			var m int
			m, err = r.Read(doc.data[n:])
			n += m
		}
		err = r.finish()
	}
	if err != nil {
		v.partial = true
		return nil, v.spoiled(ctx, d.Digest, err)
	}
	v.count(facts)
	return doc, nil
}

// refused reports why a document cannot be used at all, if err is a reason for that,
// and returns whether it is.
func (d *document) refused(err error) bool {
	var over *limit.Error
	switch {
	case err == nil:
		return false
	case errors.As(err, &over):
		d.found(TooLarge, "the document has too much in it: %v", err)
	case !json.Valid(d.data):
		d.found(InvalidJSON, "the document is not one JSON value: %v", err)
	default:
		return false
	}
	d.v.partial = true
	return true
}

// malformed reports a document whose form keeps it from being read.
func (d *document) malformed(err error) {
	d.found(InvalidDocument, "the document is not of the right form: %v", err)
	d.v.partial = true
}

// index reads an index, and returns nil if nothing can be made of it.
func (d *document) index() *ispec.Index {
	index, err := layout.ParseIndex(d.data, d.mediaType)
	if d.refused(err) {
		return nil
	}
	mixed := d.checkForeign("config", "layers")
	if err != nil {
		index = ispec.Index{}
		if ferr := indexForm.Unmarshal(d.data, &index); ferr != nil {
			d.malformed(ferr)
			return nil
		}
	}
	mixed = d.checkHeader(index.SchemaVersion, index.MediaType) || mixed
	if err != nil && !mixed && !anyBad(children(index.Manifests, index.Subject)) {
		d.malformed(err)
	}
	if !d.has("manifests") {
		d.found(InvalidDocument, "the document is not of the right form: member manifests is missing or null")
	}
	d.checkAnnotations(index.Annotations)
	return &index
}

// manifest reads a manifest, and returns nil if nothing can be made of it.
func (d *document) manifest() *ispec.Manifest {
	manifest, err := layout.ParseManifest(d.data, d.mediaType)
	if d.refused(err) {
		return nil
	}
	mixed := d.checkForeign("manifests")
	if err != nil {
		manifest = ispec.Manifest{}
		if ferr := manifestForm.Unmarshal(d.data, &manifest); ferr != nil {
			d.malformed(ferr)
			return nil
		}
	}
	mixed = d.checkHeader(manifest.SchemaVersion, manifest.MediaType) || mixed
	if err != nil && !mixed && !anyBad(children(append([]ispec.Descriptor{manifest.Config}, manifest.Layers...), manifest.Subject)) {
		d.malformed(err)
	}
	if !d.has("layers") {
		d.found(InvalidDocument, "the document is not of the right form: member layers is missing or null")
	}
	if manifest.Config.MediaType == ispec.MediaTypeEmptyJSON && manifest.ArtifactType == "" {
		d.found(MissingArtifactType, "the config is empty, and artifactType does not say what the manifest is of")
	}
	d.checkAnnotations(manifest.Annotations)
	return &manifest
}

// children returns the descriptors in a document.
func children(ds []ispec.Descriptor, subject *ispec.Descriptor) []ispec.Descriptor {
	if subject == nil {
		return ds
	}
	return append(slices.Clip(ds), *subject)
}

// anyBad reports whether one of the descriptors contradicts itself, which will be
// found when it is its turn.
func anyBad(ds []ispec.Descriptor) bool {
	return slices.ContainsFunc(ds, func(d ispec.Descriptor) bool { return layout.CheckDescriptor(d) != nil })
}

// members returns the values at the top level.
func (d *document) members() map[string]json.RawMessage {
	if d.top == nil {
		_ = json.Unmarshal(d.data, &d.top) // it was found valid
	}
	return d.top
}

// has reports whether there is a member of that name that is not null.
func (d *document) has(name string) bool {
	value, ok := d.members()[name]
	return ok && string(value) != "null"
}

// checkForeign looks for members that make the document one of another kind as well.
func (d *document) checkForeign(names ...string) (found bool) {
	for _, member := range slices.Sorted(maps.Keys(d.members())) {
		for _, name := range names {
			if strings.EqualFold(member, name) {
				d.found(AmbiguousDocument, "the document has a member %s, which does not belong into %s",
					quote.Name(member), kindName(d.mediaType))
				found = true
			}
		}
	}
	return found
}

func kindName(mediaType string) string {
	if layout.IsIndex(mediaType) {
		return "an index"
	}
	return "a manifest"
}

// checkHeader compares what a document says it is with what it is said to be.
func (d *document) checkHeader(schemaVersion int, mediaType string) (found bool) {
	if schemaVersion != 2 {
		d.found(SchemaVersion, "the schemaVersion is %d, not 2", schemaVersion)
		found = true
	}
	if mediaType != "" && mediaType != d.mediaType {
		d.found(MediaTypeMismatch, "the document calls itself %s, and its descriptor calls it %s",
			quote.Name(mediaType), quote.Name(d.mediaType))
		found = true
	}
	return found
}

// checkAnnotations looks at the values of annotations of which the image-spec says
// what form they have. Builders leave some of them empty.
func (d *document) checkAnnotations(annotations map[string]string) {
	check := func(key string, err func(string) error) {
		if value := annotations[key]; value != "" && err(value) != nil {
			d.found(InvalidAnnotation, "the annotation %s is %s", key, quote.Name(value))
		}
	}
	check(ispec.AnnotationCreated, func(s string) error {
		_, err := time.Parse(time.RFC3339, s)
		return err
	})
	check(ispec.AnnotationBaseImageDigest, func(s string) error { return digest.Digest(s).Validate() })
}

// configFacts is what is kept of a config.
type configFacts struct {
	platform ispec.Platform
	diffIDs  []digest.Digest // nil if it is not known which
	// history is how many layers the history tells of, -1 if there is none.
	history int
}

// config reads the config of an image with so many layers, and returns nil if nothing
// can be made of it.
func (d *document) config() *configFacts {
	config, err := layout.ParseConfig(d.data)
	if d.refused(err) {
		return nil
	}
	if err != nil {
		d.malformed(err)
		return nil
	}
	if !d.has("rootfs") {
		d.found(InvalidDocument, "the document is not of the right form: member rootfs is missing or null")
		return nil
	}
	if config.OS == "" || config.Architecture == "" {
		code := EmptyPlatform
		if !d.has("os") || !d.has("architecture") {
			code = MissingPlatform
		}
		d.found(code, "the config does not say what platform the image is for: os %s, architecture %s",
			quote.Name(config.OS), quote.Name(config.Architecture))
	}
	if t := config.RootFS.Type; t != "layers" {
		d.found(RootFSType, "the rootfs is of type %s, not layers", quote.Name(t))
	}
	facts := &configFacts{platform: config.Platform, diffIDs: append([]digest.Digest{}, config.RootFS.DiffIDs...), history: -1}
	for i, id := range facts.diffIDs {
		if id.Validate() != nil || !slices.Contains(algorithms, id.Algorithm()) {
			d.found(InvalidDiffID, "diffID %d is %s", i, quote.Name(string(id)))
			facts.diffIDs[i] = ""
		}
	}
	if len(config.History) > 0 {
		facts.history = 0
		for _, h := range config.History {
			if !h.EmptyLayer {
				facts.history++
			}
		}
	}
	return facts
}
