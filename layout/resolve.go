// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// ResolveOptions say which image of an index is meant. The zero value is what most
// want.
type ResolveOptions struct {
	// Platform is the platform that the image must be for. Nil means the platform
	// of this machine if there is a choice, and the only image if there is none.
	Platform *ispec.Platform
}

// Resolve leads from a ref to one image manifest. If the ref is that of an index,
// the first image in it that fits the platform best is taken, also out of indexes
// that are nested in it. Where a descriptor has no platform, that of the image
// config counts. Manifests for the platform unknown/unknown, which are not images
// but statements about one, are left out.
//
// A nil opt stands for the zero value. The error is ErrNotFound if there is no
// such ref or no image for the platform, ErrAmbiguous if several entries of
// index.json have the ref, and ErrMediaType if the ref is that of something else.
func (l *Layout) Resolve(ctx context.Context, ref string, opt *ResolveOptions) (Path, error) {
	root, err := l.Lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	path, err := l.choose(ctx, root, opt.want())
	return path, opError("resolve", ref, err)
}

// ResolveFrom is [Layout.Resolve] for what is there without a ref: it leads from root,
// a manifest or an index, to one image manifest.
func (l *Layout) ResolveFrom(ctx context.Context, root ispec.Descriptor, opt *ResolveOptions) (Path, error) {
	path, err := l.choose(ctx, root, opt.want())
	return path, opError("resolve", string(root.Digest), err)
}

func (o *ResolveOptions) want() *ispec.Platform {
	if o == nil {
		return nil
	}
	return o.Platform
}

// Member is one of the images that an index leads to.
type Member struct {
	Path     Path
	Platform ispec.Platform // may be empty, if nothing says what the image is for
}

// Members returns the images that root leads to, in the order in which the indexes
// list them: root itself, if it is a manifest, and otherwise those in the index and
// in the indexes that are nested in it. The platform is that of the nearest
// descriptor on the path that has one, and otherwise that of the image config.
// Manifests for the platform unknown/unknown, which are not images but statements
// about one, are left out. The error is ErrMediaType if root is neither a manifest
// nor an index.
func (l *Layout) Members(ctx context.Context, root ispec.Descriptor) ([]Member, error) {
	found, err := l.gather(ctx, root)
	if err != nil {
		return nil, opError("list images", string(root.Digest), err)
	}
	members := make([]Member, 0, len(found))
	for _, c := range found {
		p, err := l.platform(ctx, c)
		if err != nil {
			return nil, opError("list images", string(root.Digest), err)
		}
		members = append(members, Member{c.path, p})
	}
	return members, nil
}

// PlatformOf returns the platform of the image at the end of path, as [Member] has
// it.
func (l *Layout) PlatformOf(ctx context.Context, path Path) (ispec.Platform, error) {
	c := candidate{path: path}
	for _, d := range path {
		if d.Platform != nil {
			c.platform = d.Platform
		}
	}
	p, err := l.platform(ctx, c)
	return p, opError("find platform of", string(path.Target().Digest), err)
}

// candidate is one image that could be meant.
type candidate struct {
	path     Path
	platform *ispec.Platform // what the descriptors on the path say; may be nil
}

func (l *Layout) choose(ctx context.Context, root ispec.Descriptor, want *ispec.Platform) (Path, error) {
	found, err := l.gather(ctx, root)
	if err != nil {
		return nil, err
	}
	if len(found) == 1 && want == nil {
		return found[0].path, nil
	}
	if want == nil {
		want = hostPlatform()
	}
	best := -1
	var chosen Path
	var offered []string
	for _, c := range found {
		have, err := l.platform(ctx, c)
		if err != nil {
			return nil, err
		}
		if r := rank(*want, have); r >= 0 && (best < 0 || r < best) {
			best, chosen = r, c.path
		}
		offered = append(offered, describePlatform(have))
	}
	if chosen != nil {
		return chosen, nil
	}
	if len(offered) == 0 {
		return nil, as(ErrNotFound, errors.New("there is no image in it"))
	}
	return nil, as(ErrNotFound, fmt.Errorf("there is no image for %s, only for %s",
		describePlatform(*want), strings.Join(unique(offered), ", ")))
}

// unique drops what was there before.
func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// platform returns what c is for. That is the zero value if neither a descriptor
// nor a config says it.
func (l *Layout) platform(ctx context.Context, c candidate) (ispec.Platform, error) {
	if c.platform != nil {
		return *c.platform, nil
	}
	if manifest, err := l.Manifest(ctx, c.path.Target()); err == nil {
		if config, err := l.Config(ctx, manifest.Config); err == nil {
			return config.Platform, nil
		}
	}
	return ispec.Platform{}, ctx.Err()
}

// gather returns the images that root leads to.
func (l *Layout) gather(ctx context.Context, root ispec.Descriptor) ([]candidate, error) {
	if !IsManifest(root.MediaType) && !IsIndex(root.MediaType) {
		return nil, as(ErrMediaType, fmt.Errorf("blob %s is neither a manifest nor an index but %s",
			root.Digest, quote.Name(root.MediaType)))
	}
	g := gatherer{l: l, seen: map[string]bool{}}
	err := g.gather(ctx, Path{root}, nil)
	return g.found, err
}

// gatherer collects the image manifests below an index.
type gatherer struct {
	l     *Layout
	seen  map[string]bool
	found []candidate
}

// gather adds what path leads to. The platform is that of the nearest descriptor
// above that has one.
func (g *gatherer) gather(ctx context.Context, path Path, platform *ispec.Platform) error {
	d := path.Target()
	if d.Platform != nil {
		platform = d.Platform
	}
	key := d.Digest.String()
	if IsManifest(d.MediaType) && platform != nil {
		// The same image may be there for several platforms.
		key += " " + PlatformString(normalize(*platform)) + " " + platform.OSVersion
	}
	if g.seen[key] {
		return nil
	}
	g.seen[key] = true
	if err := g.l.checkDepth(path); err != nil {
		return err
	}
	if IsManifest(d.MediaType) {
		if len(path) == 1 || platform == nil || platform.OS != "unknown" || platform.Architecture != "unknown" {
			g.found = append(g.found, candidate{path, platform})
		}
		return nil
	}
	if !IsIndex(d.MediaType) {
		return nil
	}
	index, err := g.l.ImageIndex(ctx, d)
	if err != nil {
		return err
	}
	for _, child := range index.Manifests {
		if err := g.gather(ctx, path.step(child), platform); err != nil {
			return err
		}
	}
	return nil
}
