// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// Report is what an OUT holds.
type Report struct {
	Path   string       `json:"path"`
	Tool   string       `json:"tool"`
	Images []FileImage  `json:"images"`
	Tiers  []TierReport `json:"tiers"`
}

// TierReport is what an OUT has of one tier. Sizes are in bytes.
type TierReport struct {
	Name   string      `json:"name"`
	Ref    string      `json:"ref,omitzero"`
	Path   string      `json:"path,omitzero"` // empty if the tier is not there
	Layers []FileLayer `json:"layers"`
	Blobs  int         `json:"blobs"` // that are there, layers included
	Bytes  int64       `json:"bytes"`
	// LeftOut is what the site was known to have.
	LeftOut []FileBlob `json:"left_out"`
	// Missing is what should be there and is not, or has another size.
	Missing []FileBlob `json:"missing"`
}

// Inspect tells what is in an OUT of one of shale's own formats. Blobs are looked for
// but not read; volumes are checked.
func Inspect(ctx context.Context, path string) (*Report, error) {
	r, err := inspect(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", quote.Name(path), err)
	}
	return r, nil
}

func inspect(ctx context.Context, path string) (*Report, error) {
	if isIsula(path) {
		return nil, errorf(ErrInvalid, "it is in isula-build's format, which its file %s describes", isulaManifest)
	}
	out, err := openOut(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	defer out.close()
	report := &Report{Path: path, Tool: out.file.Tool, Images: out.file.Images}
	left := map[FileBlob]bool{}
	for _, b := range out.file.LeftOut {
		left[b] = true
	}
	for i := range out.file.Tiers {
		t := &out.file.Tiers[i]
		tr := TierReport{Name: t.Name, Ref: t.Ref, Layers: t.Layers, LeftOut: []FileBlob{}, Missing: []FileBlob{}}
		s := out.sources[t.Name]
		if s != nil {
			tr.Path = s.where()
		}
		for _, b := range t.content() {
			if left[FileBlob{Digest: b.Digest, Size: b.Size, Tier: t.Name}] {
				tr.LeftOut = append(tr.LeftOut, b)
				continue
			}
			has := false
			if s != nil {
				if has, err = s.has(ctx, ispec.Descriptor{Digest: b.Digest, Size: b.Size}); err != nil {
					return nil, fmt.Errorf("tier %s: %w", t.Name, err)
				}
			}
			if !has {
				tr.Missing = append(tr.Missing, b)
				continue
			}
			tr.Blobs++
			tr.Bytes += b.Size
		}
		report.Tiers = append(report.Tiers, tr)
	}
	return report, nil
}
