// SPDX-License-Identifier: Apache-2.0

package layout

import (
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParseIndex reads an index of the media type that is not, or not yet, in a layout,
// under the rules of [Layout.ImageIndex]. Its list of manifests is never nil. The error
// is ErrInvalid.
func ParseIndex(data []byte, mediaType string) (ispec.Index, error) {
	return parseIndex(data, mediaType)
}

// ParseManifest reads an image manifest of the media type that is not, or not yet, in a
// layout, under the rules of [Layout.Manifest]. Its list of layers is never nil. The
// error is ErrInvalid.
func ParseManifest(data []byte, mediaType string) (ispec.Manifest, error) {
	return parseManifest(data, mediaType)
}

// ParseConfig reads an image config that is not, or not yet, in a layout, under the
// rules of [Layout.Config]. The error is ErrInvalid.
func ParseConfig(data []byte) (ispec.Image, error) {
	var config ispec.Image
	if err := configDoc.Unmarshal(data, &config); err != nil {
		return ispec.Image{}, as(ErrInvalid, err)
	}
	return config, nil
}

// CheckDescriptor refuses a descriptor that contradicts itself: the error is ErrInvalid
// for a malformed digest or a negative size, and ErrSize or ErrDigest for embedded data
// that are not what it describes.
func CheckDescriptor(d ispec.Descriptor) error { return checkDescriptor(d) }
