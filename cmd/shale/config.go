// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func (a *app) configCommand() *cli.Command {
	var (
		image   imageFlag
		tag     tagFlag
		history historyFlags
		config  configFlags
		all     bool
	)
	return a.command(command{
		name:  "config",
		usage: "change what an image says about itself and about how to run it",
		details: "What --clear names is cleared first; then everything else is set. A key with a minus\n" +
			"sign at its end, as in --config.label key-, is removed: an environment variable, label or\n" +
			"annotation, and so is a port or volume. (A volume whose name ends in that sign is added\n" +
			"with a slash after it.) --config.entrypoint and --config.cmd take one argument of the\n" +
			"command each time, and together replace what was there.",
		examples: []string{
			"shale config --image images:app --config.entrypoint /usr/bin/app --config.cmd --help",
			"shale config --image images:app --tag new --config.env LANG=C.UTF-8 --config.env DEBUG-",
			"shale config --image images:app --clear config.entrypoint --config.cmd.json '[\"sh\", \"-c\", \"id\"]'",
			"shale config --image images:app --all-platforms --manifest.annotation org.opencontainers.image.version=1.2",
		},
		flagsFirst: true,
		groups:     []flagGroup{&image, &tag, &history, &config},
		flags: []cli.Flag{&cli.BoolFlag{
			Name: "all-platforms", Destination: &all,
			Usage: "change all images that the tag leads to",
		}},
		run: func(ctx context.Context, _ []string) error {
			if err := config.checkAll(all, image.platform != nil); err != nil {
				return err
			}
			entry, err := history.entry("shale config", "")
			if err != nil {
				return err
			}
			return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				images, err := openImages(ctx, l, image, all)
				if err != nil {
					return err
				}
				for _, i := range images {
					config.apply(i)
					if entry == nil {
						continue
					}
					h := *entry
					if !history.given("history.author") {
						h.Author = i.Settings().Author
					}
					i.AddHistory(h)
				}
				changes, err := mutate.CommitAll(ctx, images...)
				if err != nil {
					return err
				}
				return a.retag(ctx, l, tag.or(image.ref), changes)
			})
		},
	})
}

// openImages opens the image that is meant for changing it, or all images that the tag
// leads to.
func openImages(ctx context.Context, l *layout.Layout, image imageFlag, all bool) ([]*mutate.Image, error) {
	var paths []layout.Path
	if all {
		root, err := l.Lookup(ctx, image.ref)
		if err != nil {
			return nil, err
		}
		members, err := l.Members(ctx, root)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			paths = append(paths, m.Path)
		}
		if len(paths) == 0 {
			return nil, errors.New("the tag leads to no image")
		}
	} else {
		path, err := l.Resolve(ctx, image.ref, &layout.ResolveOptions{Platform: image.platform})
		if err != nil {
			return nil, err
		}
		paths = []layout.Path{path}
	}
	images := make([]*mutate.Image, 0, len(paths))
	for _, path := range paths {
		i, err := mutate.Open(ctx, l, path)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	return images, nil
}
