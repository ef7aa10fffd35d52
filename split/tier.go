// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// stack is an image for one platform: the stack of its layers.
type stack struct {
	from     *layout.Layout
	ref      string
	desc     ispec.Descriptor // of the manifest
	platform ispec.Platform
	manifest ispec.Manifest
	config   ispec.Image

	ends []int // of an image: how many layers there are up to each tier
}

func (s *stack) platformName() string { return layout.PlatformString(s.platform) }

// openStacks reads the manifests of all images that root leads to. What has no
// image config, as artifacts have none, is left out.
func openStacks(ctx context.Context, img Image, root ispec.Descriptor) ([]*stack, error) {
	members, err := img.Layout.Members(ctx, root)
	if err != nil {
		return nil, err
	}
	var stacks []*stack
	for _, m := range members {
		s := &stack{from: img.Layout, ref: img.Ref, desc: m.Path.Target(), platform: m.Platform}
		if s.manifest, err = img.Layout.Manifest(ctx, s.desc); err != nil {
			return nil, err
		}
		if !layout.IsConfig(s.manifest.Config.MediaType) {
			continue
		}
		if s.config, err = img.Layout.Config(ctx, s.manifest.Config); err != nil {
			return nil, err
		}
		if n, want := len(s.manifest.Layers), len(s.config.RootFS.DiffIDs); n != want {
			return nil, errorf(ErrInvalid, "manifest %s has %d layers, and its config %d diffIDs", s.desc.Digest, n, want)
		}
		stacks = append(stacks, s)
	}
	return stacks, nil
}

// createdBy returns what the history says has made layer i.
func (s *stack) createdBy(i int) string {
	for _, h := range s.config.History {
		if h.EmptyLayer {
			continue
		}
		if i == 0 {
			return h.CreatedBy
		}
		i--
	}
	return ""
}

// tierImage is the image of a tier.
type tierImage struct {
	name   string
	img    Image
	root   ispec.Descriptor
	stacks []*stack
}

func openTier(ctx context.Context, t Tier) (*tierImage, error) {
	root, err := t.Layout.Lookup(ctx, t.Ref)
	if err != nil {
		return nil, fmt.Errorf("tier %s: %w", t.Name, err)
	}
	stacks, err := openStacks(ctx, t.Image, root)
	if err == nil && len(stacks) == 0 {
		err = errorf(ErrInvalid, "%s is not an image", quote.Name(t.Ref))
	}
	if err != nil {
		return nil, fmt.Errorf("tier %s: %w", t.Name, err)
	}
	return &tierImage{name: t.Name, img: t.Image, root: root, stacks: stacks}, nil
}

// forPlatform returns the tier's image that belongs below s: the only one, or else
// the one that fits the platform of s best.
func (t *tierImage) forPlatform(ctx context.Context, s *stack) (*stack, error) {
	if len(t.stacks) == 1 {
		return t.stacks[0], nil
	}
	path, err := t.img.Layout.Resolve(ctx, t.img.Ref, &layout.ResolveOptions{Platform: &s.platform})
	if err != nil {
		return nil, fmt.Errorf("tier %s of image %s: %w", t.name, quote.Name(s.ref), err)
	}
	for _, c := range t.stacks {
		if c.desc.Digest == path.Target().Digest {
			return c, nil
		}
	}
	return nil, errorf(ErrInvalid, "tier %s: %s is not an image", t.name, path.Target().Digest)
}

// match checks that the layers of below are what s begins with.
func (s *stack) match(t *tierImage, below *stack) error {
	for i, want := range below.config.RootFS.DiffIDs {
		var got digest.Digest
		if i < len(s.config.RootFS.DiffIDs) {
			got = s.config.RootFS.DiffIDs[i]
		}
		if got == want {
			continue
		}
		e := &NotPrefixError{
			Image: s.ref, Platform: s.platformName(), Tier: t.name, TierRef: t.img.Ref,
			Layer: i, TierDiffID: want, TierCreatedBy: below.createdBy(i), ImageDiffID: got,
		}
		if got != "" {
			e.ImageCreatedBy = s.createdBy(i)
		}
		return e
	}
	return nil
}

// slice is what one platform of a tier holds: the tier's own layers of it.
type slice struct {
	tier  *tierImage
	stack *stack // the tier's image
	start int    // how many layers are in the tiers below
	below *slice // nil for the lowest tier
	users []*stack

	layers []located // the tier's own, as they are written
	exact  bool      // whether these are the blobs of the tier's image
	entry  ispec.Descriptor
}

// located is a blob and where its content comes from.
type located struct {
	desc ispec.Descriptor
	from *layout.Layout
	data []byte // in place of from: a document made here
}

// choose decides which blobs the tier gets: its image's own where an image has
// them, and otherwise those of the first image. It tells what was compressed again.
func (c *slice) choose(opt *Options) {
	c.exact = true
	for i := c.start; i < len(c.stack.manifest.Layers); i++ {
		own := c.stack.manifest.Layers[i]
		pick := located{desc: c.users[0].manifest.Layers[i], from: c.users[0].from}
		for _, u := range c.users {
			if u.manifest.Layers[i].Digest == own.Digest {
				pick = located{desc: own, from: c.stack.from}
			}
		}
		c.layers = append(c.layers, pick)
		c.exact = c.exact && pick.desc.Digest == own.Digest
	}
	for _, u := range c.users {
		c.tellRecompressed(opt, u)
	}
}

func (c *slice) tellRecompressed(opt *Options, u *stack) {
	count, first := 0, -1
	for i := c.start; i < len(c.stack.manifest.Layers); i++ {
		if u.manifest.Layers[i].Digest != c.stack.manifest.Layers[i].Digest {
			if count++; first < 0 {
				first = i
			}
		}
	}
	if count == 0 {
		return
	}
	opt.warn("tier %s was recompressed: %d of its layers match image %s (%s) by diffID only; layer %d is %s in the image and %s in %s",
		c.tier.name, count, quote.Name(u.ref), quote.Name(u.platformName()), first,
		u.manifest.Layers[first].Digest, c.stack.manifest.Layers[first].Digest, quote.Name(c.tier.img.Ref))
}

// matchAll matches every image with every tier. The result has the slices of each
// tier, in the order in which images use them.
func matchAll(ctx context.Context, tiers []*tierImage, images []*stack, opt *Options) ([][]*slice, error) {
	all := make([][]*slice, len(tiers))
	for _, s := range images {
		var below *slice
		s.ends = nil
		for i, t := range tiers {
			ts, err := t.forPlatform(ctx, s)
			if err != nil {
				return nil, err
			}
			if err := s.match(t, ts); err != nil {
				return nil, err
			}
			start := 0
			if below != nil {
				start = len(below.stack.manifest.Layers)
			}
			end := len(ts.manifest.Layers)
			if end < start {
				return nil, errorf(ErrInvalid, "tier %s has %d layers and tier %s, which should be above it, %d: the lowest tier comes first",
					below.tier.name, start, t.name, end)
			}
			c := findSlice(all[i], ts)
			switch {
			case c == nil:
				c = &slice{tier: t, stack: ts, start: start, below: below}
				all[i] = append(all[i], c)
			case c.start != start:
				return nil, errorf(ErrInvalid, "tier %s has one image for platforms whose tiers below differ", t.name)
			}
			c.users = append(c.users, s)
			s.ends = append(s.ends, end)
			below = c
		}
	}
	for _, tier := range all {
		for _, c := range tier {
			c.choose(opt)
		}
	}
	return all, nil
}

func findSlice(list []*slice, s *stack) *slice {
	for _, c := range list {
		if c.stack.desc.Digest == s.desc.Digest {
			return c
		}
	}
	return nil
}
