// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"path"

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
	if a.archive, err = layout.ReadArchive(ctx, a.loc.Path, a.file, &a.opt.Layout); err != nil {
		a.archive = nil // it has links: then it is none
		return nil      //nolint:nilerr // and manifest.json says all there is to know
	}
	index, err := a.archive.Index(ctx)
	if err != nil {
		return err
	}
	a.originals = map[digest.Digest]ispec.Descriptor{}
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
		key := imageKey(m.Config.Digest, blobNames(m.Layers))
		if _, ok := a.originals[key]; !ok {
			a.originals[key] = ispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
		}
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

// blobNames returns what the blobs are called in an archive that is a layout.
func blobNames(blobs []ispec.Descriptor) []string {
	names := make([]string, len(blobs))
	for i, d := range blobs {
		names[i] = path.Join(ispec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	return names
}

// imageKey is one and the same for images that have the same config and the same files as
// layers: an entry of manifest.json finds the manifest that the image had where the
// archive was made. Thousands of either may be alike, and are not compared one by one.
func imageKey(config digest.Digest, layers []string) digest.Digest {
	key := digest.Canonical.Digester()
	fmt.Fprintln(key.Hash(), config) //nolint:errcheck // a hash takes everything
	for _, name := range layers {
		fmt.Fprintf(key.Hash(), "%q\n", path.Clean(name)) //nolint:errcheck // likewise
	}
	return key.Digest()
}
