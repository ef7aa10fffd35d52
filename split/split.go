// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// TopTier is what the topmost tier is called: it has all that no other tier has.
const TopTier = "app"

// Image names an image, which may be one for several platforms, in an open layout.
type Image struct {
	Layout *layout.Layout
	Ref    string
}

// Tier names the image whose layers are a tier.
type Tier struct {
	Name string // as a directory may be called: "base", "lib", "jre"
	Image
}

// Format is what the tiers are written as.
type Format string

// The formats there are.
const (
	FormatLayout  Format = "oci"         // a directory for each tier
	FormatArchive Format = "oci-archive" // a tar for each tier, the same each time
	FormatIsula   Format = "isula"       // what isula-build's "ctr-img save" writes
)

// Options say what to take apart, and how. Images must be given; the zero value of
// everything else is what most want.
type Options struct {
	// Images are what to take apart. They share the tiers.
	Images []Image
	// Tiers are the images below, the lowest first. What is above the last of them
	// is the tier [TopTier].
	Tiers []Tier
	// Against is what the site has already, and is left out.
	Against *Known
	// Each gives every image an OUT of its own, in a directory called like its ref
	// below the one that is given.
	Each bool
	// Link allows hard links to the blobs of the source where the file system cannot
	// clone files. Neither side may be written to then; shale never does.
	Link bool
	// Format is what is written; empty means FormatLayout.
	Format Format
	// MaxSize, if not 0, is the size that a file may have, in bytes: all of OUT becomes
	// a series of volumes. It goes with FormatLayout only.
	MaxSize int64
	// Rename gives files of FormatIsula other names, by the names that they would
	// have.
	Rename map[string]string
	// Limits bound what the layers of an image may become where they are uncompressed,
	// which is for FormatIsula. Only Bytes and Ratio are looked at. The error is a
	// [layer.LimitError].
	Limits layer.Limits
	// Tool is what split.json says has written it; empty means "shale".
	Tool string
	// Warn receives what is worth knowing, as sentences without a final stop. May be
	// nil.
	Warn func(msg string)
	// Progress receives how many bytes were read and hashed. May be nil.
	Progress progress.Func
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// Split writes the tiers of the images to out, which must not exist, and returns
// what it has written. The images are only read. What is at out appears complete,
// by a rename, or not at all, and what a crash has left beside it is removed by the
// next Split to the same place.
//
// The error is [ErrNotPrefix] if a tier does not fit an image, [fs.ErrExist] if there
// is something at out, and that of the layout package for a blob that is missing or
// not what its digest says.
func Split(ctx context.Context, out string, opt Options) (*Plan, error) {
	plan, err := split(ctx, out, opt)
	if err != nil {
		return nil, fmt.Errorf("split into %s: %w", quote.Name(out), err)
	}
	return plan, nil
}

func split(ctx context.Context, out string, opt Options) (*Plan, error) {
	if out == "" {
		return nil, errorf(ErrInvalid, "the path is empty")
	}
	taken := out
	if opt.MaxSize > 0 {
		taken = volumeName(out, 1)
	}
	if _, err := os.Lstat(taken); err == nil {
		return nil, errorf(fs.ErrExist, "%s exists already", quote.Name(taken))
	}
	plan, err := NewPlan(ctx, opt)
	if err != nil {
		return nil, err
	}
	s, err := newStaging(ctx, filepath.Clean(out))
	if err != nil {
		return nil, err
	}
	if err := plan.write(ctx, s, opt); err != nil {
		return nil, both(err, s.discard())
	}
	return plan, nil
}

// write fills the staging directory and publishes it.
func (p *Plan) write(ctx context.Context, s *staging, opt Options) error {
	w := &writer{opt: &opt, out: s.out, placed: map[digest.Digest]*layout.Layout{}, total: p.bytes()}
	defer w.close() //nolint:errcheck // an error has been returned already by then
	for i := range p.Outs {
		out := &p.Outs[i]
		dir := s.path
		if opt.Each {
			dir = filepath.Join(s.path, out.Name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return fmt.Errorf("make directory for image %s: %w", quote.Name(out.Name), cause(err))
			}
		}
		if err := w.write(ctx, dir, out); err != nil {
			return err
		}
	}
	if err := w.close(); err != nil {
		return err
	}
	w.end()
	if err := ctx.Err(); err != nil {
		return err
	}
	if opt.MaxSize > 0 {
		return s.publishVolumes()
	}
	return s.publish()
}

// check looks for what is missing or does not go together.
func (o *Options) check() error {
	if len(o.Images) == 0 {
		return errorf(ErrInvalid, "there is no image to split")
	}
	names := map[string]bool{TopTier: true}
	for _, t := range o.Tiers {
		if err := checkTierName(t.Name); err != nil {
			return err
		}
		if names[t.Name] {
			return errorf(ErrInvalid, "there are two tiers called %s", t.Name)
		}
		names[t.Name] = true
	}
	switch o.Format {
	case "", FormatLayout, FormatArchive, FormatIsula:
	default:
		return errorf(ErrInvalid, "%s is not a format", quote.Name(string(o.Format)))
	}
	switch {
	case o.MaxSize < 0:
		return errorf(ErrInvalid, "the size of a volume is negative")
	case o.MaxSize > 0 && (o.Format != "" && o.Format != FormatLayout || o.Each):
		return errorf(ErrInvalid, "volumes are all of an OUT: no other format, and no OUT for each image")
	case o.Format == FormatIsula && o.Against != nil:
		return errorf(ErrInvalid, "format isula has no place for what is left out")
	case len(o.Rename) > 0 && o.Format != FormatIsula:
		return errorf(ErrInvalid, "only files of format isula can be renamed")
	case o.Format == FormatIsula && (len(o.Tiers) == 0 || len(o.Tiers) > 2):
		return errorf(ErrInvalid, "format isula has a base, a lib or none, and an app, not %d tiers", len(o.Tiers)+1)
	}
	return nil
}
