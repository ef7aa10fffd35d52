// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
)

// DiffSource is one of the two sides of [Diff]: an image, if there is a Layout, or else
// a directory.
type DiffSource struct {
	// Name is what the side is called in the result.
	Name string

	// Layout has the image, and Image leads to it.
	Layout *layout.Layout
	Image  layout.Path

	// Dir is the path of the directory, which may be a symbolic link.
	Dir string
	// Map relates owners on the disk to those inside the container. In a rootless tree,
	// what its owner may not read is made readable for the moment in which it is read.
	Map layer.MapOptions
	// Baseline, if not nil, is what a bundle knows of its root filesystem. What it
	// vouches for is not read.
	Baseline *mtree.Baseline
	// Of is the digest of the manifest that Baseline was made for.
	Of digest.Digest
}

// DiffOptions say what counts as a difference. The zero value compares all there is.
type DiffOptions struct {
	// Ignore are the fields that do not count.
	Ignore DiffFields
	// Times makes differences of time alone count like others: modification times,
	// and the time at which the config says the image was created.
	Times bool
	// Include, if not empty, are globs of the only paths that count, and Exclude globs
	// of those that do not. A glob that a directory matches takes all below it, too.
	// In a glob, * and ? do not stand for a slash, and ** is any number of components.
	// One without a slash is for names in any directory, others are for paths.
	Include, Exclude []string
	// Content adds unified diffs of text files of up to 128 KiB whose content differs.
	Content bool
	// NoLinks leaves out the names in [DiffFile].Links. Whether they differ is still
	// compared.
	NoLinks bool
	// Limits bound what the layers of an image may cost.
	Limits layer.Limits
	// Warn receives what looks wrong in a layer. May be nil.
	Warn func(msg string)
	// Progress receives the stages "reading" and "applying" (bytes of layer blobs) and
	// "checking" (files). May be nil.
	Progress progress.Func
}

// Difference is what [Diff] has found.
type Difference struct {
	Old DiffSide `json:"old"`
	New DiffSide `json:"new"`
	// Summary counts the entries.
	Summary DiffSummary `json:"summary"`
	// Config has what differs in the configs and manifests, if both sides are images.
	Config []ConfigChange `json:"config"`

	d *differ
}

// DiffSide says what was compared.
type DiffSide struct {
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`              // "image", "bundle" or "directory"
	Digest   digest.Digest `json:"digest,omitzero"`   // of the manifest, of an image
	Platform string        `json:"platform,omitzero"` // of an image, as os/arch[/variant]
}

// DiffSummary counts what there is, or would be, in the entries.
type DiffSummary struct {
	Added   DiffCount `json:"added"`
	Deleted DiffCount `json:"deleted"`
	Changed DiffCount `json:"changed"`
	// TimeOnly is the number of paths, the config counting as one, of which nothing
	// but the time differs. They are in no other count.
	TimeOnly int `json:"timeOnly"`
}

// DiffCount counts paths.
type DiffCount struct {
	Paths int   `json:"paths"`
	Bytes int64 `json:"bytes"` // of regular files: deleted ones as they were, others as they are
}

// Same reports whether nothing differs that counts.
func (d *Difference) Same() bool {
	s := &d.Summary
	return s.Added.Paths+s.Deleted.Paths+s.Changed.Paths+len(d.Config) == 0 && (s.TimeOnly == 0 || !d.d.opt.Times)
}

// Entries returns the paths that differ, sorted bytewise. They are made one by one as
// they are asked for, so that they need no memory. Those of which only the time differs
// are left out unless [DiffOptions].Times is set.
func (d *Difference) Entries() iter.Seq[DiffEntry] { return d.d.entries() }

// Diff compares two images, two directories, or one with the other, without unpacking
// anything.
//
// Layers that two images share from the bottom are applied once, and if they share all
// layers none is read. A file is hashed only if its metadata do not say whether its
// content differs: if both sides have it with the same size and it is not from the same
// layer. Only where two images share little, the old one's are all hashed as they are
// read, which is less work than reading them twice. The trees of both sides are held in
// memory, contents are not.
//
// In a directory whose owners are kept in extended attributes, what cannot be kept does
// not count: owners and attributes of what is neither file nor directory, and
// attributes outside of "user.".
func Diff(ctx context.Context, was, now DiffSource, opt DiffOptions) (*Difference, error) {
	d := &differ{opt: opt, linked: map[[2]linkID]bool{}}
	var err error
	if d.filter, err = newDiffFilter(opt.Include, opt.Exclude); err != nil {
		return nil, err
	}
	defer d.close()
	for i, source := range []*DiffSource{&was, &now} {
		if d.sides[i], err = openSide(ctx, source); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
	}
	if err := d.load(ctx); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	res := &Difference{Old: d.sides[0].describe(), New: d.sides[1].describe(), Config: []ConfigChange{}, d: d}
	if a, b := d.sides[0], d.sides[1]; a.stack != nil && b.stack != nil {
		var timeOnly bool
		if res.Config, timeOnly = diffConfigs(a, b, &opt); timeOnly {
			res.Summary.TimeOnly++
		}
	}
	if err := d.count(ctx, &res.Summary); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	if opt.Content {
		if err := d.readTexts(ctx); err != nil {
			return nil, fmt.Errorf("compare contents: %w", err)
		}
	}
	return res, nil
}

// differ is the state of one Diff.
type differ struct {
	opt    DiffOptions
	filter diffFilter
	sides  [2]*diffSide // old and new
	linked map[[2]linkID]bool
	texts  map[string]textDiff
}

func (d *differ) close() {
	for _, s := range d.sides {
		if s != nil && s.disk != nil {
			s.disk.close()
		}
	}
}

// load makes the trees of both sides, and finds out what it takes to compare them.
func (d *differ) load(ctx context.Context) error {
	for i, s := range d.sides {
		if s.disk == nil {
			continue
		}
		if err := s.disk.walk(ctx, &d.opt); err != nil {
			return err
		}
		other := d.sides[1-i]
		if s.source.Baseline != nil && other.stack != nil && s.source.Of == other.stack.Descriptor.Digest {
			other.known = s.source.Baseline.Tree
		}
	}
	if err := d.loadImages(ctx); err != nil {
		return err
	}
	need, err := d.survey(ctx)
	if err != nil {
		return err
	}
	return d.hash(ctx, need)
}

func (d *differ) loadImages(ctx context.Context) error {
	if d.sides[0].stack != nil && d.sides[1].stack != nil {
		return d.loadPair(ctx)
	}
	for i, s := range d.sides {
		if s.stack == nil {
			continue
		}
		other := d.sides[1-i].disk.tree
		sink := d.hashing(func(n *layer.Node) bool {
			path := n.Path()
			e, ok := other.Lookup(path)
			if !ok || !e.IsRegular() || e.Stat().Size != n.Inode().Size {
				return false
			}
			_, known := s.knownDigest(path, n.Inode().Size)
			return !known
		})
		var err error
		if s.tree, err = s.stack.Tree(ctx, sink, d.stackOptions()); err != nil {
			return s.name(err)
		}
	}
	return nil
}

func (d *differ) stackOptions() stack.Options {
	return stack.Options{Limits: d.opt.Limits, Warn: d.opt.Warn, Progress: d.opt.Progress}
}
