// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/quote"
)

// The media types of Docker's image manifest version 2, schema 2, which are read
// like those of the image-spec that they became.
const (
	MediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// IsIndex reports whether the media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == ispec.MediaTypeImageIndex || mediaType == MediaTypeDockerIndex
}

// IsManifest reports whether the media type is that of an image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ispec.MediaTypeImageManifest || mediaType == MediaTypeDockerManifest
}

// IsConfig reports whether the media type is that of an image config.
func IsConfig(mediaType string) bool {
	return mediaType == ispec.MediaTypeImageConfig || mediaType == MediaTypeDockerConfig
}

// required are the members without which a descriptor is none.
var required = map[reflect.Type][]string{
	reflect.TypeFor[ispec.Descriptor](): {"mediaType", "digest", "size"},
	reflect.TypeFor[ispec.Manifest]():   {"config"},
}

// A document that can be read both as an index and as a manifest is two images in
// one: which of them somebody gets depends on the program (CVE-2021-41190).
var (
	indexDoc = jsondoc.New[ispec.Index](jsondoc.Rules{
		Forbidden: []string{"config", "layers"}, Required: required, Key: "digest",
		MaxValues: maxIndexValues, MaxItems: map[string]int{"manifests": maxManifests},
	})
	manifestDoc = jsondoc.New[ispec.Manifest](jsondoc.Rules{
		Forbidden: []string{"manifests"}, Required: required,
		MaxItems: map[string]int{"layers": maxLayers},
	})
	configDoc = jsondoc.New[ispec.Image](jsondoc.Rules{
		MaxItems: map[string]int{"history": maxHistory, "diff_ids": maxLayers},
	})
)

// ImageIndex reads the index that d describes. The error is ErrMediaType if d is
// not of an index's type, and ErrInvalid if the document is not a proper one.
func (l *Layout) ImageIndex(ctx context.Context, d ispec.Descriptor) (ispec.Index, error) {
	if !IsIndex(d.MediaType) {
		return ispec.Index{}, wrongType(d, "index")
	}
	data, err := l.ReadBlob(ctx, d)
	if err != nil {
		return ispec.Index{}, err
	}
	index, err := parseIndex(data, d.MediaType)
	return index, opError("read index", string(d.Digest), err)
}

// Manifest reads the image manifest that d describes. The error is ErrMediaType if
// d is not of a manifest's type, and ErrInvalid if the document is not a proper
// one.
func (l *Layout) Manifest(ctx context.Context, d ispec.Descriptor) (ispec.Manifest, error) {
	if !IsManifest(d.MediaType) {
		return ispec.Manifest{}, wrongType(d, "image manifest")
	}
	data, err := l.ReadBlob(ctx, d)
	if err != nil {
		return ispec.Manifest{}, err
	}
	manifest, err := parseManifest(data, d.MediaType)
	return manifest, opError("read manifest", string(d.Digest), err)
}

// Config reads the image config that d describes. The error is ErrMediaType if d
// is not of an image config's type, as those of artifacts are not, and ErrInvalid
// if the document is not a proper one.
func (l *Layout) Config(ctx context.Context, d ispec.Descriptor) (ispec.Image, error) {
	if !IsConfig(d.MediaType) {
		return ispec.Image{}, wrongType(d, "image config")
	}
	data, err := l.ReadBlob(ctx, d)
	if err != nil {
		return ispec.Image{}, err
	}
	var config ispec.Image
	if err := configDoc.Unmarshal(data, &config); err != nil {
		return ispec.Image{}, opError("read config", string(d.Digest), as(ErrInvalid, err))
	}
	return config, nil
}

func wrongType(d ispec.Descriptor, want string) error {
	return opError("read "+want, string(d.Digest),
		as(ErrMediaType, fmt.Errorf("media type %s is not that of an %s", quote.Name(d.MediaType), want)))
}

// parseIndex reads an index of the media type. Its list of manifests is never nil.
func parseIndex(data []byte, mediaType string) (ispec.Index, error) {
	var index ispec.Index
	err := indexDoc.Unmarshal(data, &index)
	if err == nil {
		err = checkHeader(index.SchemaVersion, index.MediaType, mediaType)
	}
	for i := 0; err == nil && i < len(index.Manifests); i++ {
		if err = checkDescriptor(index.Manifests[i]); err != nil {
			err = fmt.Errorf("entry %d: %w", i, err)
		}
	}
	if err == nil {
		err = checkSubject(index.Subject)
	}
	if err != nil {
		return ispec.Index{}, as(ErrInvalid, err)
	}
	if index.Manifests == nil {
		index.Manifests = []ispec.Descriptor{}
	}
	return index, nil
}

// parseManifest reads a manifest of the media type. Its list of layers is never
// nil.
func parseManifest(data []byte, mediaType string) (ispec.Manifest, error) {
	var manifest ispec.Manifest
	err := manifestDoc.Unmarshal(data, &manifest)
	if err == nil {
		err = checkHeader(manifest.SchemaVersion, manifest.MediaType, mediaType)
	}
	if err == nil {
		if err = checkDescriptor(manifest.Config); err != nil {
			err = fmt.Errorf("config: %w", err)
		}
	}
	for i := 0; err == nil && i < len(manifest.Layers); i++ {
		if err = checkDescriptor(manifest.Layers[i]); err != nil {
			err = fmt.Errorf("layer %d: %w", i, err)
		}
	}
	if err == nil {
		err = checkSubject(manifest.Subject)
	}
	if err != nil {
		return ispec.Manifest{}, as(ErrInvalid, err)
	}
	if manifest.Layers == nil {
		manifest.Layers = []ispec.Descriptor{}
	}
	return manifest, nil
}

// checkHeader compares what a document says it is with what it is said to be.
func checkHeader(schemaVersion int, got, want string) error {
	if schemaVersion != 0 && schemaVersion != 2 {
		return fmt.Errorf("schema version %d is not supported", schemaVersion)
	}
	if got != "" && got != want {
		return fmt.Errorf("the document calls itself %s, its descriptor calls it %s", quote.Name(got), quote.Name(want))
	}
	return nil
}

func checkSubject(d *ispec.Descriptor) error {
	if d == nil {
		return nil
	}
	if err := checkDescriptor(*d); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	return nil
}

// checkDescriptor refuses a descriptor that contradicts itself. A digest with an
// algorithm that is not supported is well-formed: it can be listed, if not read.
func checkDescriptor(d ispec.Descriptor) error {
	alg, _, err := splitDigest(d.Digest)
	if err != nil && (errors.Is(err, errMalformed) || len(d.Data) > 0) {
		return err
	}
	if d.Size < 0 {
		return as(ErrInvalid, fmt.Errorf("blob %s: negative size %d", d.Digest, d.Size))
	}
	if len(d.Data) == 0 {
		return nil
	}
	if int64(len(d.Data)) != d.Size {
		return fmt.Errorf("embedded data of blob %s: %w: %d bytes, not %d", d.Digest, ErrSize, len(d.Data), d.Size)
	}
	h := newHash(alg)
	h.Write(d.Data)
	if got := sum(alg, h); got != d.Digest {
		return fmt.Errorf("embedded data of blob %s: %w: it is %s", d.Digest, ErrDigest, got)
	}
	return nil
}
