// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/split"
)

// splitFlags are the flags of split.
type splitFlags struct {
	images, tiers, against  []string
	base, lib               string
	format, maxSize, rename string
	each, link              bool
	dryRun, inspect, asJSON bool

	limits layer.Limits
}

func (a *app) splitCommand() *cli.Command {
	var f splitFlags
	var limits contentFlags
	return a.command(command{
		name:  "split",
		usage: "take images apart into tiers, to ship only what changed",
		details: "OUT gets one layout for each tier, lowest first, and split.json; shale join puts the\n" +
			"images together again, with the same digests. A tier is what an image begins with: the\n" +
			"layers of --base, those that --lib adds to them, and app, which is all the rest.\n\n" +
			"With --against, what the site has is left out: SITE is a layout, an earlier OUT or its\n" +
			"split.json, or a file with a digest on each line.",
		examples: []string{
			"shale split --image images:app --base images:debian out",
			"shale split --image images:app --against site.json --max-size 4GiB out",
			"shale split --inspect out",
		},
		positional: argRule{names: []string{"<OUT>"}},
		groups:     []flagGroup{&f, &limits},
		run: func(ctx context.Context, args []string) error {
			if f.inspect {
				return a.inspectSplit(ctx, args[0], f.asJSON)
			}
			f.limits = limits.limits
			return a.split(ctx, args[0], &f)
		},
	})
}

func (f *splitFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "image", Destination: &f.images,
			Usage: "an image to take apart, as `path[:tag]`; may be given several times",
		},
		&cli.StringFlag{
			Name: "base", Destination: &f.base,
			Usage: "the image of the tier base, as `path[:tag]`: the same as --tier base=path[:tag]",
		},
		&cli.StringFlag{
			Name: "lib", Destination: &f.lib,
			Usage: "the image of the tier lib, as `path[:tag]`, with the layers of the base at its bottom",
		},
		&cli.StringSliceFlag{
			Name: "tier", Destination: &f.tiers,
			Usage: "a tier and its image, as `name=path[:tag]`; any number of times, the lowest tier first",
		},
		&cli.StringSliceFlag{
			Name: "against", Destination: &f.against,
			Usage: "leave out every blob that `SITE` has; may be given several times",
		},
		&cli.BoolFlag{
			Name: "each", Destination: &f.each,
			Usage: "give every image a directory of its own below OUT, called like its tag",
		},
		&cli.BoolFlag{
			Name: "link", Destination: &f.link,
			Usage: "link blobs where the file system cannot clone them, in place of copying",
		},
		&cli.StringFlag{
			Name: "format", Value: string(split.FormatLayout), Destination: &f.format,
			Usage: "the `form` of the tiers: oci (directories), oci-archive (a tar each) or isula (isula-build's)",
		},
		&cli.StringFlag{
			Name: "max-size", Destination: &f.maxSize,
			Usage: "write volumes OUT.001, OUT.002, ... of at most this `size`: a number with K, M, G or KiB, MiB, GiB",
		},
		&cli.StringFlag{
			Name: "rename", Destination: &f.rename,
			Usage: "take the names of the files of --format=isula from a JSON `file`",
		},
		&cli.BoolFlag{
			Name: "dry-run", Destination: &f.dryRun,
			Usage: "write nothing, and print what would be written and what a site saves",
		},
		&cli.BoolFlag{
			Name: "inspect", Destination: &f.inspect,
			Usage: "print what is in OUT: images, tiers, layers, sizes, what is missing",
		},
		&cli.BoolFlag{
			Name: "json", Destination: &f.asJSON,
			Usage: "print one line of JSON, with --inspect or about what was written or would be",
		},
	}
}

func (f *splitFlags) check(given func(string) bool) error {
	if f.inspect {
		for _, name := range []string{"image", "base", "lib", "tier", "against", "each", "link", "format", "max-size", "rename", "dry-run", "max-bytes", "max-ratio"} {
			if given(name) {
				return fmt.Errorf("--inspect and --%s may not be given together", name)
			}
		}
		return nil
	}
	switch {
	case !given("image"):
		return errors.New("missing mandatory argument: --image")
	case given("lib") && !given("base"):
		return errors.New("--lib needs --base")
	case given("base") && given("tier"):
		return errors.New("--base and --tier may not be given together: --base is short for the first --tier")
	}
	if f.base != "" {
		f.tiers = append(f.tiers, "base="+f.base)
	}
	if f.lib != "" {
		f.tiers = append(f.tiers, "lib="+f.lib)
	}
	return nil
}

// split does what the flags say.
func (a *app) split(ctx context.Context, out string, f *splitFlags) (err error) {
	opened := &layouts{app: a, open: map[string]*layout.Layout{}}
	defer func() { err = errors.Join(err, opened.close()) }()
	opt, err := f.options(ctx, opened)
	if err != nil {
		return err
	}
	opt.Warn, opt.Progress = a.warn, a.report()
	opt.Tool = "shale " + programVersion()
	var plan *split.Plan
	if f.dryRun {
		plan, err = split.NewPlan(ctx, opt)
	} else {
		plan, err = split.Split(ctx, out, opt)
	}
	switch {
	case err != nil:
		return err
	case f.asJSON:
		return a.printJSON(plan)
	case f.dryRun || len(f.against) > 0:
		for i := range plan.Outs {
			renderOut(a.stdout, &plan.Outs[i])
		}
	}
	return nil
}

func (f *splitFlags) options(ctx context.Context, opened *layouts) (split.Options, error) {
	opt := split.Options{Each: f.each, Link: f.link, Format: split.Format(f.format), Limits: f.limits}
	var err error
	for _, value := range f.images {
		img, err := opened.image(ctx, "image", value)
		if err != nil {
			return opt, err
		}
		opt.Images = append(opt.Images, img)
	}
	for _, value := range f.tiers {
		name, image, ok := strings.Cut(value, "=")
		if !ok {
			return opt, fmt.Errorf("invalid --tier: %s is not of the form name=path[:tag]", quote.Name(value))
		}
		img, err := opened.image(ctx, "tier", image)
		if err != nil {
			return opt, err
		}
		opt.Tiers = append(opt.Tiers, split.Tier{Name: name, Image: img})
	}
	for _, site := range f.against {
		known, err := split.ReadKnown(ctx, site)
		if err != nil {
			return opt, err
		}
		if opt.Against == nil {
			opt.Against = split.NewKnown()
		}
		opt.Against.Add(known)
	}
	if f.maxSize != "" {
		if opt.MaxSize, err = parseSize(f.maxSize); err != nil {
			return opt, fmt.Errorf("invalid --max-size: %w", err)
		}
	}
	if f.rename != "" {
		if opt.Rename, err = split.ReadRename(f.rename); err != nil {
			return opt, err
		}
	}
	return opt, nil
}

// layouts opens each layout once.
type layouts struct {
	app  *app
	open map[string]*layout.Layout
}

// image opens the layout of an image that a flag names.
func (o *layouts) image(ctx context.Context, flag, value string) (split.Image, error) {
	path, ref, err := layout.ParseImage(value)
	if err != nil {
		return split.Image{}, fmt.Errorf("invalid --%s: %w", flag, reason(err))
	}
	l, err := o.layout(ctx, path)
	if err != nil {
		return split.Image{}, err
	}
	return split.Image{Layout: l, Ref: ref}, nil
}

func (o *layouts) layout(ctx context.Context, path string) (*layout.Layout, error) {
	if l := o.open[path]; l != nil {
		return l, nil
	}
	l, err := layout.Open(ctx, path, o.app.layoutOptions())
	if err == nil {
		o.open[path] = l
	}
	return l, err
}

func (o *layouts) close() error {
	var errs []error
	for _, l := range o.open {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// sizeUnits are the units of a size, the longer ones first.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"B", 1}, {"", 1},
}

// parseSize reads a number of bytes with a unit, as in 650M.
func parseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(strings.ToUpper(s), strings.ToUpper(u.suffix))
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%s is not a size, as 650M is", quote.Name(s))
}
