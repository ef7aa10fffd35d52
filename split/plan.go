// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// Plan is what a split writes, or would write.
type Plan struct {
	Outs []Out `json:"outs"` // one, unless each image gets its own
}

// Out is what is written to one OUT.
type Out struct {
	// Name is the directory below the one that was given, and empty unless each
	// image gets its own.
	Name string `json:"name,omitzero"`
	// File is what split.json will say, but for its digest.
	File *File `json:"-"`
	// Tiers are the tiers, the lowest first.
	Tiers []TierPlan `json:"tiers"`
	// ImageBytes is how many bytes it takes to ship the images whole.
	ImageBytes int64 `json:"image_bytes"`

	images []*imagePlan
	slices [][]*slice
}

// TierPlan is what is written of one tier. Layers and blobs are counted in Blobs
// and Bytes if they are written, and in LeftOut and LeftOutBytes if the site has
// them.
type TierPlan struct {
	Name         string `json:"name"`
	Ref          string `json:"ref,omitzero"`
	Layers       int    `json:"layers"` // written or left out
	Blobs        int    `json:"blobs"`
	Bytes        int64  `json:"bytes"`
	LeftOut      int    `json:"left_out"`
	LeftOutBytes int64  `json:"left_out_bytes"`

	items []item // what is written
	index []byte // index.json; nil if the tier has no directory
}

// item is a blob of a tier.
type item struct {
	located
	diffID digest.Digest // empty if it is not the layer of an image
}

// Bytes returns how many bytes of blobs are written.
func (o *Out) Bytes() int64 {
	var n int64
	for _, t := range o.Tiers {
		n += t.Bytes
	}
	return n
}

// Saved returns how many bytes of the images need not be sent to the site: those
// that were left out, or, where nothing is known of the site, those of the tiers
// below the topmost, which are sent once.
func (o *Out) Saved() int64 {
	var below, left int64
	for i, t := range o.Tiers {
		left += t.LeftOutBytes
		if i < len(o.Tiers)-1 {
			below += t.Bytes
		}
	}
	if left > 0 {
		return left
	}
	return below
}

func (p *Plan) bytes() int64 {
	var n int64
	for i := range p.Outs {
		n += p.Outs[i].Bytes()
	}
	return n
}

// NewPlan decides what a split of the images is, without writing anything. It reads
// manifests and configs, but no layer. The errors are those of [Split].
func NewPlan(ctx context.Context, opt Options) (*Plan, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	var tiers []*tierImage
	for _, t := range opt.Tiers {
		ti, err := openTier(ctx, t)
		if err != nil {
			return nil, err
		}
		tiers = append(tiers, ti)
	}
	images, err := openImages(ctx, &opt)
	if err != nil {
		return nil, err
	}
	groups := [][]*imagePlan{images}
	if opt.Each {
		groups = slices.Collect(slices.Chunk(images, 1))
	}
	plan := &Plan{}
	names := map[string]string{}
	for _, g := range groups {
		out, err := newOut(ctx, g, tiers, &opt)
		if err != nil {
			return nil, err
		}
		if opt.Each {
			out.Name = strings.ReplaceAll(g[0].ref, "/", "_")
			if other, ok := names[out.Name]; ok {
				return nil, errorf(ErrInvalid, "images %s and %s would have the same directory", quote.Name(other), quote.Name(g[0].ref))
			}
			names[out.Name] = g[0].ref
		}
		plan.Outs = append(plan.Outs, *out)
	}
	return plan, nil
}

// imagePlan is an image that is taken apart.
type imagePlan struct {
	Image
	ref       string
	root      ispec.Descriptor
	stacks    []*stack
	nodes     []node
	referrers []ispec.Descriptor
}

func openImages(ctx context.Context, opt *Options) ([]*imagePlan, error) {
	var images []*imagePlan
	seen := map[string]*imagePlan{}
	for _, img := range opt.Images {
		p, err := openImage(ctx, img, opt)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", quote.Name(img.Ref), err)
		}
		if other := seen[img.Ref]; other == nil {
			seen[img.Ref] = p
			images = append(images, p)
		} else if other.root.Digest != p.root.Digest {
			return nil, errorf(ErrInvalid, "two different images are called %s: %s and %s",
				quote.Name(img.Ref), other.root.Digest, p.root.Digest)
		}
	}
	return images, nil
}

func openImage(ctx context.Context, img Image, opt *Options) (*imagePlan, error) {
	p := &imagePlan{Image: img, ref: img.Ref}
	var err error
	if p.root, err = img.Layout.Lookup(ctx, img.Ref); err != nil {
		return nil, err
	}
	if p.stacks, err = openStacks(ctx, img, p.root); err != nil {
		return nil, err
	}
	g := newGraph(img.Layout, opt.absentLayer(img.Ref))
	if p.nodes, err = g.closure(ctx, p.root); err != nil {
		return nil, err
	}
	about := map[digest.Digest]bool{}
	for _, n := range p.nodes {
		if !n.layer {
			about[n.desc.Digest] = true
		}
	}
	if p.referrers, err = referrers(ctx, img.Layout, about); err != nil {
		return nil, err
	}
	for _, r := range p.referrers {
		nodes, err := g.closure(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("referrer %s: %w", r.Digest, err)
		}
		p.nodes = append(p.nodes, nodes...)
	}
	return p, nil
}

// newOut plans one OUT.
func newOut(ctx context.Context, images []*imagePlan, tiers []*tierImage, opt *Options) (*Out, error) {
	var stacks []*stack
	for _, img := range images {
		stacks = append(stacks, img.stacks...)
	}
	matched, err := matchAll(ctx, tiers, stacks, opt)
	if err != nil {
		return nil, err
	}
	b := &outBuilder{
		opt: opt, out: &Out{images: images, slices: matched},
		diffIDs: map[digest.Digest]digest.Digest{}, tierOf: map[digest.Digest]string{},
	}
	for _, s := range stacks {
		for i, l := range s.manifest.Layers {
			b.diffIDs[l.Digest] = s.config.RootFS.DiffIDs[i]
		}
	}
	b.out.File = &File{Version: FileVersion, Tool: opt.Tool, Images: []FileImage{}, Tiers: []FileTier{}, LeftOut: []FileBlob{}}
	if opt.Tool == "" {
		b.out.File.Tool = "shale"
	}
	for i, t := range tiers {
		if err := b.addTier(ctx, t, matched[i]); err != nil {
			return nil, fmt.Errorf("tier %s: %w", t.name, err)
		}
	}
	if err := b.addTop(); err != nil {
		return nil, err
	}
	b.describeImages()
	return b.out, nil
}

// outBuilder fills an Out.
type outBuilder struct {
	opt     *Options
	out     *Out
	diffIDs map[digest.Digest]digest.Digest // by the digest of the layer
	tierOf  map[digest.Digest]string        // of each layer that is in a tier
}

// addTier adds a tier below the topmost.
func (b *outBuilder) addTier(ctx context.Context, t *tierImage, matched []*slice) error {
	content, entries, err := tierContent(ctx, t, matched, b.opt)
	if err != nil {
		return err
	}
	for _, c := range matched {
		for _, l := range c.layers {
			if b.tierOf[l.desc.Digest] == "" {
				b.tierOf[l.desc.Digest] = t.name
			}
		}
	}
	ref := map[string]string{ispec.AnnotationRefName: t.img.Ref}
	for i := range entries {
		annotations := maps.Clone(ref)
		for k, v := range entries[i].Annotations {
			annotations[k] = v
		}
		entries[i].Annotations = annotations
	}
	return b.add(TierPlan{Name: t.name, Ref: t.img.Ref}, t.root.Digest, content, entries)
}

// tierContent returns the blobs of a tier and its entry of index.json: what the
// tier's image is made of if it is written as it is, and otherwise a thin one.
func tierContent(ctx context.Context, t *tierImage, matched []*slice, opt *Options) ([]located, []ispec.Descriptor, error) {
	if len(matched) == 0 {
		return nil, nil, nil
	}
	var content []located
	whole := true // whether all of it is the tier's image as it is
	for _, c := range matched {
		whole = whole && c.below == nil && c.exact
	}
	closure := func(root ispec.Descriptor) error {
		nodes, err := newGraph(t.img.Layout, opt.absentLayer(t.img.Ref)).closure(ctx, root)
		for _, n := range nodes {
			content = append(content, located{desc: n.desc, from: t.img.Layout})
		}
		return err
	}
	if whole && len(matched) == len(t.stacks) {
		for _, c := range matched {
			c.entry = c.stack.desc
		}
		err := closure(t.root)
		return content, []ispec.Descriptor{t.root}, err
	}
	var entries []ispec.Descriptor
	for _, c := range matched {
		if c.below == nil && c.exact {
			c.entry = c.stack.desc
			if err := closure(c.entry); err != nil {
				return nil, nil, err
			}
		} else {
			config, err := t.img.Layout.ReadBlob(ctx, c.stack.manifest.Config)
			if err != nil {
				return nil, nil, err
			}
			documents, err := c.thin(config)
			if err != nil {
				return nil, nil, err
			}
			content = append(append(content, c.layers...), documents...)
		}
		entries = append(entries, c.entry)
	}
	if len(entries) == 1 {
		return content, entries, nil
	}
	for i := range entries {
		platform := matched[i].stack.platform
		entries[i].Platform = &platform
		entries[i].Annotations = nil
	}
	index, err := indexOf(entries)
	return append(content, index), []ispec.Descriptor{index.desc}, err
}

// addTop adds the topmost tier: all that is in no other.
func (b *outBuilder) addTop() error {
	var content []located
	var entries []ispec.Descriptor
	whole := map[digest.Digest]int64{}
	for _, img := range b.out.images {
		entries = append(entries, img.root)
		for _, n := range img.nodes {
			whole[n.desc.Digest] = n.desc.Size
			if !n.layer || b.tierOf[n.desc.Digest] == "" {
				content = append(content, located{desc: n.desc, from: img.Layout})
			}
		}
	}
	for _, size := range whole {
		b.out.ImageBytes += size
	}
	for _, img := range b.out.images {
		for _, r := range img.referrers {
			same := func(d ispec.Descriptor) bool { return d.Digest == r.Digest }
			if !slices.ContainsFunc(entries, same) {
				entries = append(entries, r)
				b.out.File.Referrers = append(b.out.File.Referrers, r)
			}
		}
	}
	for _, c := range content {
		if b.diffIDs[c.desc.Digest] != "" {
			b.tierOf[c.desc.Digest] = TopTier
		}
	}
	return b.add(TierPlan{Name: TopTier}, "", content, entries)
}

// add adds a tier, less what the site has.
func (b *outBuilder) add(t TierPlan, image digest.Digest, content []located, entries []ispec.Descriptor) error {
	f := FileTier{Name: t.Name, Ref: t.Ref, Image: image, Layers: []FileLayer{}, Blobs: []FileBlob{}}
	seen := map[digest.Digest]bool{}
	written := map[digest.Digest]bool{}
	for _, c := range content {
		d := c.desc
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		diffID := b.diffIDs[d.Digest]
		if diffID != "" {
			f.Layers = append(f.Layers, FileLayer{MediaType: d.MediaType, Digest: d.Digest, DiffID: diffID, Size: d.Size})
			t.Layers++
		} else {
			f.Blobs = append(f.Blobs, FileBlob{Digest: d.Digest, Size: d.Size})
		}
		if b.opt.Against.has(d) {
			t.LeftOut++
			t.LeftOutBytes += d.Size
			b.out.File.LeftOut = append(b.out.File.LeftOut, FileBlob{Digest: d.Digest, Size: d.Size, Tier: t.Name})
			continue
		}
		written[d.Digest] = true
		t.Blobs++
		t.Bytes += d.Size
		t.items = append(t.items, item{located: c, diffID: diffID})
	}
	if len(t.items) > 0 || t.Name == TopTier || len(entries) == 0 {
		there := slices.DeleteFunc(slices.Clone(entries), func(d ispec.Descriptor) bool { return !written[d.Digest] })
		index, err := encodeJSON(ispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex,
			Manifests: append([]ispec.Descriptor{}, there...),
		}, "")
		if err != nil {
			return fmt.Errorf("encode %s: %w", ispec.ImageIndexFile, err)
		}
		t.index = index
		f.Index = digest.FromBytes(index)
	}
	b.out.Tiers = append(b.out.Tiers, t)
	b.out.File.Tiers = append(b.out.File.Tiers, f)
	return nil
}

// describeImages writes into split.json what the images were.
func (b *outBuilder) describeImages() {
	for _, img := range b.out.images {
		fi := FileImage{Ref: img.ref, Digest: img.root.Digest, Descriptor: img.root, Manifests: []FileManifest{}}
		for _, s := range img.stacks {
			m := FileManifest{Digest: s.desc.Digest, Platform: s.platform, Config: s.manifest.Config.Digest, Layers: []FileLayer{}}
			for i, l := range s.manifest.Layers {
				m.Layers = append(m.Layers, FileLayer{
					MediaType: l.MediaType, Digest: l.Digest, Size: l.Size,
					DiffID: s.config.RootFS.DiffIDs[i], Tier: b.tierOf[l.Digest],
				})
			}
			fi.Manifests = append(fi.Manifests, m)
		}
		if len(img.stacks) == 1 && layout.IsManifest(img.root.MediaType) {
			fi.Platform = &img.stacks[0].platform
		}
		b.out.File.Images = append(b.out.File.Images, fi)
	}
}
