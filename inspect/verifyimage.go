// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// manifestFacts is what is kept of a manifest.
type manifestFacts struct {
	config *configFacts // nil if it is not that of an image, or cannot be used
	image  bool         // and not an artifact
	read   bool         // the document is known
	// subject is what the manifest says something about; empty if nothing.
	subject digest.Digest
	done    bool // there is nothing more to be found
}

// imageStack is the layers of an image, to be applied to each other.
type imageStack struct {
	manifest digest.Digest
	config   digest.Digest
	layers   []stackLayer
}

type stackLayer struct {
	digest      digest.Digest
	compression layer.Compression
	supported   bool          // the media type is that of a layer
	usable      bool          // there is a blob, and it has the size of the descriptor
	data        []byte        // the blob, if the descriptor has it and the layout has not
	diffID      digest.Digest // empty if it is not known
}

// manifest checks an image manifest, its config, and the descriptors of its layers.
// The layers are read later.
func (v *verifier) manifest(ctx context.Context, d ispec.Descriptor, at place) error {
	platform := platformOf(d, at.platform)
	if facts := v.manifests[d.Digest]; facts != nil {
		if v.wants(platform, facts) {
			v.checkPlatform(d, at, facts.config)
			if facts.done {
				return nil
			}
		} else {
			return nil
		}
	}
	facts := &manifestFacts{done: true}
	v.manifests[d.Digest] = facts
	doc, err := v.readDocument(ctx, d)
	if doc == nil {
		return err
	}
	m := doc.manifest()
	if m == nil {
		return nil
	}
	facts.read = true
	if m.Subject != nil {
		facts.subject = m.Subject.Digest
	}
	below := at.below(d)
	facts.image = layout.IsConfig(m.Config.MediaType) && (len(m.Layers) == 0 ||
		slices.ContainsFunc(m.Layers, isMeantAsLayer))
	if v.opt.Platform != nil && !facts.image {
		return nil
	}
	v.checkArtifactType(d, at, m)
	if facts.config, err = v.config(ctx, m.Config, below, facts.image); err != nil {
		return err
	}
	if facts.done = v.wants(platform, facts); !facts.done {
		return nil
	}
	v.fits = true
	if err := v.checkDisguise(ctx, m, below); err != nil {
		return err
	}
	v.checkPlatform(d, at, facts.config)
	stack := v.layers(m, below, facts.image)
	if facts.image {
		stack.manifest, stack.config = d.Digest, m.Config.Digest
		v.pair(stack, facts.config)
		v.images = append(v.images, stack)
		v.report.Images++
	}
	if m.Subject != nil {
		below.subject = true
		return v.entry(ctx, *m.Subject, below)
	}
	return nil
}

// isMeantAsLayer reports whether a descriptor in an image is one of a layer, if perhaps of
// a kind that is not supported. Artifacts whose config calls itself an image's have
// other types.
func isMeantAsLayer(d ispec.Descriptor) bool {
	return isLayer(d.MediaType) || strings.HasPrefix(d.MediaType, ispec.MediaTypeImageLayer)
}

// isOther reports whether the media type is that of something that no config can be.
func isOther(mediaType string) bool {
	return layout.IsIndex(mediaType) || layout.IsManifest(mediaType) || isLayer(mediaType)
}

// checkDisguise looks for the config of an image under a type that makes the image an
// artifact for everybody who reads it.
func (v *verifier) checkDisguise(ctx context.Context, m *ispec.Manifest, at place) error {
	d := m.Config
	facts := v.blobs[d.Digest]
	if known := layout.IsConfig(d.MediaType) || isOther(d.MediaType); known || !v.leaves[d.Digest] || facts.bad || facts.size > v.limits.MaxDocument ||
		!slices.ContainsFunc(m.Layers, isMeantAsLayer) {
		return nil
	}
	doc, err := v.readDocument(ctx, d)
	if doc == nil {
		return err
	}
	config, err := layout.ParseConfig(doc.data)
	if err == nil && config.RootFS.Type == "layers" && len(config.RootFS.DiffIDs) == len(m.Layers) {
		v.found(DisguisedConfig, doc.about, at.in, "the config of an image has the media type %s", quote.Name(d.MediaType))
	}
	return nil
}

func (v *verifier) checkArtifactType(d ispec.Descriptor, at place, m *ispec.Manifest) {
	if d.ArtifactType != "" && m.ArtifactType != "" && d.ArtifactType != m.ArtifactType {
		v.found(MediaTypeMismatch, blobObject(d.Digest), at.in, "the manifest has the artifactType %s, and its descriptor %s",
			quote.Name(m.ArtifactType), quote.Name(d.ArtifactType))
	}
}

// wants reports whether a manifest is one of those that are asked for, if descriptors
// say that it is for the platform. Of an image that does not say what it is for nobody
// can tell that it is not.
func (v *verifier) wants(said *ispec.Platform, m *manifestFacts) bool {
	switch {
	case v.opt.Platform == nil:
		return true
	case !m.image:
		return false
	case said != nil:
		return layout.Fits(*v.opt.Platform, *said)
	case m.config != nil:
		return layout.Fits(*v.opt.Platform, m.config.platform)
	}
	return true
}

// config checks the config of a manifest. It returns nil if that is not the config of
// an image, or of no use.
func (v *verifier) config(ctx context.Context, d ispec.Descriptor, at place, isImage bool) (*configFacts, error) {
	if isOther(d.MediaType) {
		v.found(UnexpectedMediaType, blobObject(d.Digest), at.in, "the config of a manifest has the media type %s", quote.Name(d.MediaType))
	}
	if !v.descriptor(d, at) {
		return nil, nil
	}
	if d.MediaType == ispec.MediaTypeEmptyJSON {
		return nil, v.emptyConfig(ctx, d)
	}
	if !isImage {
		v.leaf(d.Digest)
		return nil, nil
	}
	if facts, ok := v.configs[d.Digest]; ok {
		return facts, nil
	}
	doc, err := v.readDocument(ctx, d)
	if doc == nil {
		return nil, err
	}
	facts := doc.config()
	v.configs[d.Digest] = facts
	return facts, nil
}

// emptyConfig checks that the config of an artifact is as empty as its type says.
func (v *verifier) emptyConfig(ctx context.Context, d ispec.Descriptor) error {
	doc, err := v.readDocument(ctx, d)
	if doc != nil && string(doc.data) != "{}" {
		doc.found(InvalidDocument, "the content of %s is not {}", ispec.MediaTypeEmptyJSON)
	}
	return err
}

// checkPlatform compares what a descriptor and the config say about an image.
func (v *verifier) checkPlatform(d ispec.Descriptor, at place, config *configFacts) {
	said := d.Platform
	if said == nil || config == nil || config.platform.OS == "" || config.platform.Architecture == "" ||
		said.OS == "unknown" && said.Architecture == "unknown" {
		return
	}
	has := config.platform
	kind := func(p ispec.Platform) ispec.Platform {
		return ispec.Platform{OS: p.OS, Architecture: p.Architecture}
	}
	code := PlatformMismatch
	if layout.SamePlatform(kind(*said), kind(has)) {
		if said.Variant == "" || has.Variant == "" || strings.EqualFold(said.Variant, has.Variant) {
			return
		}
		code = VariantMismatch
	}
	v.found(code, blobObject(d.Digest), at.in, "the descriptor says that the image is for %s, and the config says %s",
		quote.Name(layout.PlatformString(*said)), quote.Name(layout.PlatformString(has)))
}

// layers checks the descriptors of layers. Those of artifacts may be anything.
func (v *verifier) layers(m *ispec.Manifest, at place, isImage bool) *imageStack {
	stack := &imageStack{}
	for _, d := range m.Layers {
		l := stackLayer{digest: d.Digest}
		_, c, err := layer.SplitMediaType(d.MediaType)
		l.compression, l.supported = c, err == nil
		switch {
		case layout.IsIndex(d.MediaType), layout.IsManifest(d.MediaType), layout.IsConfig(d.MediaType):
			v.found(UnexpectedMediaType, blobObject(d.Digest), at.in, "a layer has the media type %s", quote.Name(d.MediaType))
		case isImage && !l.supported:
			v.found(UnsupportedLayer, blobObject(d.Digest), at.in, "the media type %s is not one of layers", quote.Name(d.MediaType))
		}
		l.usable = v.descriptor(d, at)
		switch {
		case !l.usable:
		case v.facts(d.Digest).err != nil:
			l.data = d.Data
		case !isImage || !l.supported:
			v.leaf(d.Digest)
		}
		stack.layers = append(stack.layers, l)
	}
	return stack
}

// pair compares the number of layers with what the config says, and tells each layer
// its diffID.
func (v *verifier) pair(s *imageStack, config *configFacts) {
	if config == nil {
		return
	}
	if len(config.diffIDs) != len(s.layers) {
		v.found(LayerCount, blobObject(s.config), string(s.manifest), "the config has %d diffIDs, and the manifest %d layers",
			len(config.diffIDs), len(s.layers))
		return
	}
	for i, id := range config.diffIDs {
		s.layers[i].diffID = id
	}
	switch {
	case config.history > len(s.layers):
		v.found(HistoryTooLong, blobObject(s.config), string(s.manifest), "the history tells of %d layers, and there are %d",
			config.history, len(s.layers))
	case config.history >= 0 && config.history < len(s.layers):
		v.found(HistoryTooShort, blobObject(s.config), string(s.manifest), "the history tells of %d of the %d layers",
			config.history, len(s.layers))
	}
}
