// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"encoding/json"
	"errors"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// IndexStat is what [StatIndex] reports of an index.
type IndexStat struct {
	Index IndexDocument `json:"index"`

	// Platforms are the images that the index leads to, also through others, in
	// the order in which they are listed.
	Platforms []PlatformStat `json:"platforms"`
}

// IndexDocument is an index.
type IndexDocument struct {
	Descriptor ispec.Descriptor `json:"descriptor"` // the entry of index.json
	Index      ispec.Index      `json:"-"`
	Blob       json.RawMessage  `json:"blob"` // the document as it stands
}

// PlatformStat is one image of an index.
type PlatformStat struct {
	Platform   ispec.Platform   `json:"platform"`   // of the image, even if only its config says so
	Descriptor ispec.Descriptor `json:"descriptor"` // as the index that lists the image has it

	// There is false for an image of which the layout has not even the manifest,
	// so that nothing but what the index says is known.
	There bool `json:"there"`
	// Layers is the number of layers, and Size that of all their bytes together, as
	// they are in the layout.
	Layers int   `json:"layers"`
	Size   int64 `json:"size"`
}

// StatIndex reads the index that root describes and the manifests that it leads to.
// Their configs are only read where the platform of an image is not known otherwise.
func StatIndex(ctx context.Context, l *layout.Layout, root ispec.Descriptor) (*IndexStat, error) {
	s := &IndexStat{Index: IndexDocument{Descriptor: root}, Platforms: []PlatformStat{}}
	var err error
	if s.Index.Index, err = l.ImageIndex(ctx, root); err != nil {
		return nil, err
	}
	if s.Index.Blob, err = l.ReadBlob(ctx, root); err != nil {
		return nil, err
	}
	members, err := l.Members(ctx, root)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		p := PlatformStat{Platform: m.Platform, Descriptor: m.Path.Target()}
		manifest, err := l.Manifest(ctx, p.Descriptor)
		switch {
		case errors.Is(err, layout.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			p.There, p.Layers = true, len(manifest.Layers)
			for _, d := range manifest.Layers {
				p.Size += d.Size
			}
		}
		s.Platforms = append(s.Platforms, p)
	}
	return s, nil
}
