// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/stack"
)

// rebaseFlags are the flags of rebase.
type rebaseFlags struct {
	old, fresh string
	all        bool
}

func (a *app) rebaseCommand() *cli.Command {
	var (
		image  imageFlag
		tag    tagFlag
		limits limitFlags
		f      rebaseFlags
	)
	return a.command(command{
		name:  "rebase",
		usage: "put an image on another base",
		details: "The layers of the image that are above those of the old base come on top of the new one,\n" +
			"as they are. The image must begin with the layers of the old base, by their diffIDs, and\n" +
			"its own must be such that they can be applied to the new base. Without --old-base, the\n" +
			"base is the one that the annotations org.opencontainers.image.base.digest and .name tell\n" +
			"of; it is looked for in the layouts of the image and of the new base.\n\n" +
			"What the config has from the old base becomes what the new base has: user, environment,\n" +
			"entrypoint, command, working directory, labels, volumes, ports, stop signal and whatever\n" +
			"else says how to run it. What the image has changed itself stays. The history is that of\n" +
			"the new base, and then the image's own. The annotations name the new base afterwards.",
		examples: []string{
			"shale rebase --image images:app --old-base images:debian-12.1 --new-base images:debian-12.2",
			"shale rebase --image images:app --tag patched --new-base site:debian",
		},
		groups: []flagGroup{&image, &tag, &limits, &f},
		run: func(ctx context.Context, _ []string) (err error) {
			if f.all && image.platform != nil {
				return errors.New("--all-platforms and --platform may not be given together")
			}
			opt := mutate.RebaseOptions{Stack: stack.Options{Limits: limits.limits, Warn: a.warn, Progress: a.report()}}
			opened := &layouts{app: a, open: map[string]*layout.Layout{}}
			defer func() { err = errors.Join(err, opened.close()) }()
			return a.changeImages(ctx, opened, target{image, tag, f.all}, func(i *mutate.Image) error {
				fresh, err := opened.base(ctx, "new-base", f.fresh, i)
				if err != nil {
					return fmt.Errorf("--new-base %s: %w", quote.Name(f.fresh), err)
				}
				if opt.Old, err = f.oldBase(ctx, opened, i, image.path, fresh); err != nil {
					return err
				}
				opt.New, opt.Name = fresh.image, fresh.name
				return i.Rebase(ctx, opt)
			})
		},
	})
}

func (f *rebaseFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "old-base", Destination: &f.old,
			Usage: "the image that this one was built on, as `path[:tag]`; by default the one that its annotations tell of",
		},
		&cli.StringFlag{
			Name: "new-base", Destination: &f.fresh,
			Usage: "the image that takes its place, as `path[:tag]`",
		},
		&cli.BoolFlag{
			Name: "all-platforms", Destination: &f.all,
			Usage: "change all images that the tag leads to",
		},
	}
}

func (f *rebaseFlags) check(given func(string) bool) error {
	if !given("new-base") {
		return errors.New("missing mandatory argument: --new-base")
	}
	if given("old-base") && f.old == "" {
		return errors.New("invalid --old-base: path is empty")
	}
	return nil
}

// oldBase finds what the image was built on.
func (f *rebaseFlags) oldBase(ctx context.Context, opened *layouts, i *mutate.Image, path string, fresh *baseImage) (*mutate.Image, error) {
	if f.old != "" {
		base, err := opened.base(ctx, "old-base", f.old, i)
		if err != nil {
			return nil, fmt.Errorf("--old-base %s: %w", quote.Name(f.old), err)
		}
		return base.image, nil
	}
	l := opened.open[path]
	found, err := i.FindBase(ctx, l)
	if errors.Is(err, layout.ErrNotFound) && fresh.layout != l {
		var ferr error
		if found, ferr = i.FindBase(ctx, fresh.layout); ferr == nil {
			l, err = fresh.layout, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("without --old-base: %w", err)
	}
	return mutate.Open(ctx, l, found)
}

// baseImage is an image that another was, or is to be, built on.
type baseImage struct {
	image  *mutate.Image
	layout *layout.Layout
	name   string // by which people know it
}

// containerdName is the annotation by which containerd, and what is built on it, says
// with which registry and repository a tag goes.
const containerdName = "io.containerd.image.name"

// base opens the image that a flag names, for the platform of another.
func (o *layouts) base(ctx context.Context, flag, value string, of *mutate.Image) (*baseImage, error) {
	img, err := o.image(ctx, flag, value)
	if err != nil {
		return nil, err
	}
	platform := of.Settings().Platform
	// Versions of the system change from base to base.
	platform.OSVersion, platform.OSFeatures = "", nil
	var opt layout.ResolveOptions
	if platform.OS != "" || platform.Architecture != "" {
		opt.Platform = &platform
	}
	path, err := img.Layout.Resolve(ctx, img.Ref, &opt)
	if err != nil {
		return nil, err
	}
	i, err := mutate.Open(ctx, img.Layout, path)
	if err != nil {
		return nil, err
	}
	known := path.Root().Annotations
	return &baseImage{i, img.Layout, cmp.Or(known[containerdName], known[ispec.AnnotationRefName])}, nil
}

// target says which images a command changes, and the tag that they get.
type target struct {
	image imageFlag
	tag   tagFlag
	all   bool // of those that the tag leads to
}

// changeImages has the images changed that are meant, and makes the tag lead to what they
// have become.
func (a *app) changeImages(ctx context.Context, opened *layouts, t target, change func(*mutate.Image) error) error {
	l, err := opened.layout(ctx, t.image.path)
	if err != nil {
		return err
	}
	images, err := openImages(ctx, l, t.image, t.all)
	if err != nil {
		return err
	}
	for _, i := range images {
		if err := change(i); err != nil {
			return err
		}
	}
	changes, err := mutate.CommitAll(ctx, images...)
	if err != nil {
		return err
	}
	return a.retag(ctx, l, t.tag.or(t.image.ref), changes)
}
