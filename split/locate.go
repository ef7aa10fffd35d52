// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// locate returns where a blob is: in a tier that should have it, or, if it was left
// out, in any. If it is in none of them, the error says what was expected where.
func (j *joiner) locate(ctx context.Context, d ispec.Descriptor) (source, error) {
	tiers := j.places[d.Digest]
	if len(tiers) == 0 {
		return nil, errorf(ErrInvalid, "blob %s belongs to the image, and %s does not know it", d.Digest, FileName)
	}
	if j.left[d.Digest] {
		tiers = nil
		for _, t := range j.out.file.Tiers {
			tiers = append(tiers, t.Name)
		}
	}
	var looked []string
	for _, name := range tiers {
		s := j.out.sources[name]
		if s == nil {
			continue
		}
		looked = append(looked, quote.Name(s.where()))
		if ok, err := s.has(ctx, d); err != nil {
			return nil, fmt.Errorf("tier %s: %w", name, err)
		} else if ok {
			return s, nil
		}
	}
	return nil, j.missing(ctx, d, looked)
}

// missing says why a blob was not found.
func (j *joiner) missing(ctx context.Context, d ispec.Descriptor, looked []string) error {
	tier := j.places[d.Digest][0]
	if j.left[d.Digest] {
		looked = append([]string{quote.Name(j.to.Path())}, looked...)
		return errorf(ErrMissingTier, "blob %s of tier %s was left out because the site has it: it is not in %s",
			d.Digest, tier, strings.Join(looked, ", "))
	}
	s := j.out.sources[tier]
	if s == nil {
		return errorf(ErrMissingTier, "tier %s is missing: %s, with %s, was looked for at %s",
			tier, j.whatTier(tier), d.Digest, quote.Name(j.expectedAt(tier)))
	}
	for other, o := range j.out.sources {
		if other == tier {
			continue
		}
		if ok, err := o.has(ctx, d); err == nil && ok {
			return errorf(ErrWrongTier, "%s is not tier %s (%s): it lacks blob %s, which is in what should be tier %s (%s)",
				quote.Name(s.where()), tier, j.whatTier(tier), d.Digest, other, quote.Name(o.where()))
		}
	}
	if !j.hasAny(ctx, s, tier) {
		return errorf(ErrWrongTier, "%s is not tier %s (%s): it has none of its blobs, such as %s",
			quote.Name(s.where()), tier, j.whatTier(tier), d.Digest)
	}
	return errorf(ErrMissingTier, "tier %s at %s is not whole: it lacks blob %s of %d bytes",
		tier, quote.Name(s.where()), d.Digest, d.Size)
}

// whatTier says what a tier was made of.
func (j *joiner) whatTier(name string) string {
	i := slices.IndexFunc(j.out.file.Tiers, func(t FileTier) bool { return t.Name == name })
	t := j.out.file.Tiers[i]
	if t.Ref == "" {
		return fmt.Sprintf("%d layers", len(t.Layers))
	}
	return fmt.Sprintf("%d layers of %s", len(t.Layers), quote.Name(t.Ref))
}

func (j *joiner) expectedAt(tier string) string {
	if j.out.path == "" {
		return "no place: it is not given"
	}
	return filepath.Join(j.out.path, tier)
}

// hasAny reports whether a source has a layer of the tier.
func (j *joiner) hasAny(ctx context.Context, s source, tier string) bool {
	for _, t := range j.out.file.Tiers {
		if t.Name != tier {
			continue
		}
		for _, b := range t.content() {
			if ok, err := s.has(ctx, ispec.Descriptor{Digest: b.Digest, Size: b.Size}); err == nil && ok {
				return true
			}
		}
	}
	return false
}
