// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// candidate is an image that an index lists.
type candidate struct {
	desc     ispec.Descriptor
	platform ispec.Platform // may be empty, if nothing says what the image is for
	above    *document      // the index that lists it
}

// attestedDigest is the annotation by which BuildKit's attestations name the manifest that
// they are about.
const attestedDigest = "vnd.docker.reference.digest"

// choose returns what is to be copied of root: all of it, or the images of the platforms
// that were asked for.
func (c *copier) choose(ctx context.Context, root ispec.Descriptor) (ispec.Descriptor, error) {
	platforms := c.opt.Platforms
	if c.single && layout.IsIndex(root.MediaType) && len(platforms) == 0 {
		platforms = []ispec.Platform{{OS: runtime.GOOS, Architecture: runtime.GOARCH}}
	}
	if len(platforms) == 0 {
		return root, nil
	}
	if c.single && len(platforms) > 1 {
		return root, errorf(ErrUnsupported, "the destination holds images of one platform each")
	}
	c.docs, c.blobs = map[digest.Digest]*document{}, map[digest.Digest]ispec.Descriptor{}
	members, err := c.members(ctx, root)
	if err != nil {
		return root, err
	}
	var chosen []candidate
	for _, want := range platforms {
		m, err := pick(members, want)
		if err != nil {
			return root, err
		}
		if !slices.ContainsFunc(chosen, func(other candidate) bool { return other.desc.Digest == m.desc.Digest }) {
			chosen = append(chosen, m)
		}
	}
	if layout.IsManifest(root.MediaType) {
		return root, nil
	}
	if len(chosen) == 1 {
		if len(members) > 1 {
			c.change("of the %d images of %s, only %s is copied: %s", len(members), root.Digest,
				layout.PlatformString(chosen[0].platform), chosen[0].desc.Digest)
		}
		return chosen[0].desc, nil
	}
	return c.subset(root, chosen)
}

func (c *copier) change(format string, args ...any) {
	c.result.Changed = append(c.result.Changed, fmt.Sprintf(format, args...))
}

// members returns the images that root leads to.
func (c *copier) members(ctx context.Context, root ispec.Descriptor) ([]candidate, error) {
	if err := c.gatherIndexes(ctx, root, nil, 1); err != nil {
		return nil, err
	}
	members := c.found
	c.found = nil
	asked := 0
	for i := range members {
		m := &members[i]
		if m.desc.Platform != nil {
			m.platform = *m.desc.Platform
			continue
		}
		if asked++; asked > maxConfigs {
			return nil, errTooManyConfigs
		}
		p, err := c.platformOf(ctx, m.desc)
		if err != nil {
			return nil, err
		}
		m.platform = p
	}
	return members, nil
}

// gatherIndexes finds the manifests below an index. Statements about images, which are for
// no platform, are left out.
func (c *copier) gatherIndexes(ctx context.Context, d ispec.Descriptor, above *document, depth int) error {
	if depth > layout.DefaultMaxDepth {
		return errorf(layout.ErrTooDeep, "indexes refer to each other more than %d deep", layout.DefaultMaxDepth)
	}
	if layout.IsManifest(d.MediaType) {
		if p := d.Platform; above == nil || p == nil || p.OS != "unknown" || p.Architecture != "unknown" {
			c.found = append(c.found, candidate{desc: d, above: above})
		}
		return nil
	}
	if !layout.IsIndex(d.MediaType) || c.docs[d.Digest] != nil {
		return nil
	}
	doc := &document{desc: d}
	c.docs[d.Digest] = doc
	if err := c.read(ctx, doc); err != nil {
		return err
	}
	for _, child := range doc.children {
		if err := c.gatherIndexes(ctx, child, doc, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// platformOf reads the platform of an image out of its config.
func (c *copier) platformOf(ctx context.Context, d ispec.Descriptor) (ispec.Platform, error) {
	doc := &document{desc: d}
	if err := c.read(ctx, doc); err != nil {
		return ispec.Platform{}, err
	}
	if len(doc.blobs) == 0 || !layout.IsConfig(doc.blobs[0].MediaType) {
		return ispec.Platform{}, nil
	}
	data, err := c.content(ctx, doc.blobs[0])
	if err != nil {
		return ispec.Platform{}, err
	}
	config, err := layout.ParseConfig(data)
	if err != nil {
		return ispec.Platform{}, &Error{Op: "read config", Ref: doc.blobs[0].Digest.String(), Err: err}
	}
	return config.Platform, nil
}

// pick returns the image for a platform: that for the very same, or the best of those
// that run on it.
func pick(members []candidate, want ispec.Platform) (candidate, error) {
	best := -1
	var offered []string
	seen := map[string]bool{}
	for i, m := range members {
		if layout.SamePlatform(want, m.platform) {
			return m, nil
		}
		// What another one that fits runs on is newer, and so better.
		if layout.Fits(want, m.platform) && (best < 0 || layout.Fits(m.platform, members[best].platform)) {
			best = i
		}
		if name := quote.Name(layout.PlatformString(m.platform)); !seen[name] {
			seen[name] = true
			offered = append(offered, name)
		}
	}
	if best >= 0 {
		return members[best], nil
	}
	return candidate{}, errorf(layout.ErrNotFound, "there is no image for %s, only for %s",
		layout.PlatformString(want), list(offered))
}

// subset makes an index of some of the images below root, and of the attestations of
// these.
func (c *copier) subset(root ispec.Descriptor, chosen []candidate) (ispec.Descriptor, error) {
	index, err := layout.ParseIndex(c.docs[root.Digest].data, root.MediaType)
	if err != nil {
		return root, err
	}
	all := len(index.Manifests)
	var list []ispec.Descriptor
	keep := map[digest.Digest]bool{}
	for _, m := range chosen {
		keep[m.desc.Digest] = true
	}
	listed := map[digest.Digest]bool{}
	for _, d := range index.Manifests {
		if keep[d.Digest] || keep[digest.Digest(d.Annotations[attestedDigest])] {
			list = append(list, d)
			listed[d.Digest] = true
		}
	}
	for _, m := range chosen {
		if !listed[m.desc.Digest] { // it is in an index in the index
			list = append(list, m.desc)
		}
	}
	index.Manifests = list
	data, err := json.Marshal(index)
	if err != nil {
		return root, fmt.Errorf("encode index: %w", err)
	}
	made := root
	made.Digest, made.Size, made.Data = digest.FromBytes(data), int64(len(data)), nil
	c.own = map[digest.Digest][]byte{made.Digest: data}
	c.change("index %s becomes %s, with %d of its %d entries", root.Digest, made.Digest, len(list), all)
	return made, nil
}
