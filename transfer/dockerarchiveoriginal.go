// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// findOriginals lists the manifests of an archive that is a layout, too.
func (a *dockerArchive) findOriginals(ctx context.Context) error {
	if _, ok := a.members[ispec.ImageLayoutFile]; !ok {
		return nil
	}
	var err error
	if a.archive, err = layout.ReadArchive(ctx, a.loc.Path, a.file, nil); err != nil {
		a.archive = nil // it has links: then it is none
		return nil      //nolint:nilerr // and manifest.json says all there is to know
	}
	index, err := a.archive.Index(ctx)
	if err != nil {
		return err
	}
	a.originals = map[digest.Digest][]ispec.Descriptor{}
	var manifests []ispec.Descriptor
	g := graph{read: a.archive.ReadBlob, has: a.archive.HasBlob, visit: func(d ispec.Descriptor) {
		if layout.IsManifest(d.MediaType) {
			manifests = append(manifests, d)
		}
	}}
	for _, d := range index.Manifests {
		if err := g.walk(ctx, d, 1); err != nil {
			return err
		}
	}
	for _, d := range manifests {
		m, err := a.manifest(ctx, d)
		if err != nil {
			return err
		}
		a.originals[m.Config.Digest] = append(a.originals[m.Config.Digest], d)
	}
	return nil
}

func (a *dockerArchive) manifest(ctx context.Context, d ispec.Descriptor) (ispec.Manifest, error) {
	data, err := a.archive.ReadBlob(ctx, d)
	if err != nil {
		return ispec.Manifest{}, err
	}
	return layout.ParseManifest(data, d.MediaType)
}

// original returns the manifest that the image had where the archive was made, if it
// is there and is of the same config and the same layers.
func (a *dockerArchive) original(ctx context.Context, config digest.Digest, e dockerEntry) (ispec.Descriptor, bool, error) {
	for _, d := range a.originals[config] {
		m, err := a.manifest(ctx, d)
		if err != nil {
			return d, false, err
		}
		same := slices.EqualFunc(m.Layers, e.Layers, func(l ispec.Descriptor, name string) bool {
			return path.Clean(name) == path.Join(ispec.ImageBlobsDir, l.Digest.Algorithm().String(), l.Digest.Encoded())
		})
		if same {
			return ispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}, true, nil
		}
	}
	return ispec.Descriptor{}, false, nil
}
