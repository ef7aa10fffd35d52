// SPDX-License-Identifier: Apache-2.0

package split

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// document makes a blob of v.
func document(mediaType string, v any) (located, error) {
	data, err := encodeJSON(v, "")
	if err != nil {
		return located{}, fmt.Errorf("encode document: %w", err)
	}
	return newDocument(mediaType, data), nil
}

func newDocument(mediaType string, data []byte) located {
	return located{
		desc: ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))},
		data: data,
	}
}

// thin makes the image of a slice: the config and the manifest of an image that has
// the slice's layers and no others. config is the one of the tier's image as it
// stands. The same slice gives the same bytes each time.
func (c *slice) thin(config []byte) ([]located, error) {
	configBlob := located{desc: c.stack.manifest.Config, from: c.stack.from}
	if c.start > 0 {
		cut, err := c.cutConfig(config)
		if err != nil {
			return nil, err
		}
		configBlob = newDocument(c.stack.manifest.Config.MediaType, cut)
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: c.stack.desc.MediaType,
		Config:    configBlob.desc,
		Layers:    []ispec.Descriptor{},
	}
	if !c.exact { // the layers have the media types of an image's
		m.MediaType = c.users[0].desc.MediaType
		m.Config.MediaType = c.users[0].manifest.Config.MediaType
	}
	for _, l := range c.layers {
		m.Layers = append(m.Layers, l.desc)
	}
	if m.MediaType == ispec.MediaTypeImageManifest && c.below != nil {
		m.Annotations = map[string]string{
			ispec.AnnotationBaseImageName:   c.below.tier.img.Ref,
			ispec.AnnotationBaseImageDigest: string(c.below.entry.Digest),
		}
	}
	manifest, err := document(m.MediaType, m)
	if err != nil {
		return nil, err
	}
	c.entry = manifest.desc
	c.entry.Platform = c.stack.desc.Platform
	return []located{configBlob, manifest}, nil
}

// cutConfig takes from a config what belongs to the layers of the tiers below. All
// that it does not know stays.
func (c *slice) cutConfig(config []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(config, &members); err != nil {
		return nil, fmt.Errorf("parse config %s: %w", c.stack.manifest.Config.Digest, err)
	}
	rootfs := c.stack.config.RootFS
	rootfs.DiffIDs = append([]digest.Digest{}, rootfs.DiffIDs[c.start:]...)
	for key, v := range map[string]any{"rootfs": rootfs, "history": c.cutHistory()} {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode config: %w", err)
		}
		members[key] = data
	}
	return encodeJSON(members, "")
}

// cutHistory returns the history from the first layer above the tiers below on.
func (c *slice) cutHistory() []ispec.History {
	left := c.start
	for i, h := range c.stack.config.History {
		if h.EmptyLayer {
			continue
		}
		if left == 0 {
			return c.stack.config.History[i:]
		}
		left--
	}
	return []ispec.History{}
}

// indexOf makes one entry of index.json of several.
func indexOf(entries []ispec.Descriptor) (located, error) {
	mediaType := ispec.MediaTypeImageIndex
	if entries[0].MediaType == layout.MediaTypeDockerManifest {
		mediaType = layout.MediaTypeDockerIndex
	}
	return document(mediaType, ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: entries,
	})
}
