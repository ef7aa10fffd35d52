// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/split"
)

// joinFlags are the flags of join.
type joinFlags struct {
	image, app string
	tiers      []string
	path       string // of the layout
	opt        split.JoinOptions
	asJSON     bool
}

func (a *app) joinCommand() *cli.Command {
	var f joinFlags
	var limits contentFlags
	return a.command(command{
		name:  "join",
		usage: "put images together again that shale split, or isula-build, has taken apart",
		details: "The images are in OUT, or their tiers in different places: then --app says where the\n" +
			"topmost one is, and --tier where each other one is. Everything is verified, and the\n" +
			"images have the digests that they had. A tag in --image is the name of the image, or, if\n" +
			"there are several in OUT, the one that is meant; without it, all keep their names.\n\n" +
			"Blobs that were left out of OUT are looked for in the layout and in all tiers. If a join\n" +
			"is interrupted, running it again does what is left.",
		examples: []string{
			"shale join --image images out",
			"shale join --image images:app --app out/app --tier base=/srv/base",
		},
		positional: argRule{names: []string{"[OUT]"}, other: func(args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("invalid number of positional arguments: expected at most OUT, got %d", len(args))
			}
			return nil
		}},
		groups: []flagGroup{&f, &limits},
		run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				f.opt.From = args[0]
			}
			if f.opt.From == "" && f.opt.Tiers[split.TopTier] == "" {
				return errors.New("there is nothing to join: neither OUT nor --app is given")
			}
			f.opt.Limits, f.opt.Warn, f.opt.Progress = limits.limits, a.warn, a.report()
			result, err := a.join(ctx, f.path, f.opt)
			if err != nil {
				return err
			}
			a.log.Info(describeJoin(result))
			if f.asJSON {
				return a.printJSON(result)
			}
			return nil
		},
	})
}

func (f *joinFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "image", Destination: &f.image,
			Usage: "where to put the images, as `path[:tag]`: the path of a layout, which is made if need be",
		},
		&cli.StringFlag{
			Name: "app", Destination: &f.app,
			Usage: "where the topmost tier is: a layout or a tar with one, at this `path`",
		},
		&cli.StringSliceFlag{
			Name: "tier", Destination: &f.tiers,
			Usage: "where a tier is, as `name=path`; may be given several times",
		},
		&cli.BoolFlag{
			Name: "force", Destination: &f.opt.Force,
			Usage: "let a tag that is there already stand for another image",
		},
		&cli.BoolFlag{
			Name: "link", Destination: &f.opt.Link,
			Usage: "link blobs where the file system cannot clone them, in place of copying",
		},
		&cli.BoolFlag{
			Name: "json", Destination: &f.asJSON,
			Usage: "print one line of JSON about what was put together",
		},
	}
}

func (f *joinFlags) check(given func(string) bool) error {
	if !given("image") {
		return errors.New("missing mandatory argument: --image")
	}
	path, ref, err := layout.ParseImage(f.image)
	if err != nil {
		return fmt.Errorf("invalid --image: %w", reason(err))
	}
	f.path = path
	if strings.Contains(f.image, ":") {
		f.opt.Ref = ref
	}
	f.opt.Tiers = map[string]string{}
	if f.app != "" {
		f.tiers = append(f.tiers, split.TopTier+"="+f.app)
	}
	for _, value := range f.tiers {
		name, path, ok := strings.Cut(value, "=")
		if !ok || name == "" || path == "" {
			return fmt.Errorf("invalid --tier: %s is not of the form name=path", quote.Name(value))
		}
		if f.opt.Tiers[name] != "" {
			return fmt.Errorf("invalid --tier: %s is given twice", quote.Name(name))
		}
		f.opt.Tiers[name] = path
	}
	return nil
}

// join joins into the layout at path, which it makes if there is none. If nothing
// comes of it, the new layout does not stay, unless there is something in it that the
// next attempt need not copy.
func (a *app) join(ctx context.Context, path string, opt split.JoinOptions) (result *split.Joined, err error) {
	made, err := a.ensureLayout(ctx, path)
	if err != nil {
		return nil, err
	}
	err = a.withLayout(ctx, path, func(l *layout.Layout) (err error) {
		result, err = split.Join(ctx, l, opt)
		return err
	})
	if err != nil && made {
		a.dropEmptyLayout(ctx, path)
	}
	return result, err
}
