// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/stack"
)

// squashFlags are the flags of squash.
type squashFlags struct {
	base, from, to string
	all            bool
}

func (a *app) squashCommand() *cli.Command {
	var (
		image    imageFlag
		tag      tagFlag
		history  squashHistory
		compress compressFlag
		limits   limitFlags
		f        squashFlags
	)
	return a.command(command{
		name:  "squash",
		usage: "merge layers of an image into one",
		details: "The new layer does what the merged ones do together: what one of them has and another\n" +
			"deletes or replaces is gone, and the root filesystem stays the same. All layers are merged\n" +
			"unless --keep-base, --from or --to say which: by a number, 1 being the lowest as shale stat\n" +
			"lists them, or by the digest or diffID of the layer. A range of one layer stays as it is.\n\n" +
			"In the history, one entry takes the place of those of the merged layers, with a comment\n" +
			"that tells what they were; entries without a layer stay. The blobs of merged layers stay\n" +
			"in the layout as long as other tags lead to them, and until shale gc. The same layers give\n" +
			"the same new one.",
		examples: []string{
			"shale squash --image images:app                                    # one layer",
			"shale squash --image images:app --tag small --keep-base images:debian",
			"shale squash --image images:app --from 3 --to 5 --compress zstd",
		},
		groups: []flagGroup{&image, &tag, &history, &compress, &limits, &f},
		run: func(ctx context.Context, _ []string) (err error) {
			if f.all && image.platform != nil {
				return errors.New("--all-platforms and --platform may not be given together")
			}
			entry, err := history.entry("shale squash", "")
			if err != nil {
				return err
			}
			opt := mutate.SquashOptions{
				Compression: compress.compression,
				Stack:       stack.Options{Limits: limits.limits, Warn: a.warn, Progress: a.report()},
			}
			opened := &layouts{app: a, open: map[string]*layout.Layout{}}
			defer func() { err = errors.Join(err, opened.close()) }()
			return a.changeImages(ctx, opened, target{image, tag, f.all}, func(i *mutate.Image) error {
				opt.History = *entry
				if !history.given("history.author") {
					opt.History.Author = i.Settings().Author
				}
				if opt.From, opt.To, err = f.layers(ctx, opened, i); err != nil {
					return err
				}
				merged, err := i.Squash(ctx, opt)
				if err == nil {
					a.log.Infof("merged %d layers of the image for %s", merged, layout.PlatformString(i.Settings().Platform))
				}
				return err
			})
		},
	})
}

func (f *squashFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "keep-base", Destination: &f.base,
			Usage: "leave the layers of an image as they are that this one was built on, as `path[:tag]`, also in another layout",
		},
		&cli.StringFlag{
			Name: "from", Destination: &f.from,
			Usage: "the lowest `layer` that is merged",
		},
		&cli.StringFlag{
			Name: "to", Destination: &f.to,
			Usage: "the topmost `layer` that is merged",
		},
		&cli.BoolFlag{
			Name: "all-platforms", Destination: &f.all,
			Usage: "change all images that the tag leads to",
		},
	}
}

func (f *squashFlags) check(given func(string) bool) error {
	if given("keep-base") && given("from") {
		return errors.New("--keep-base and --from may not be given together: each says where to begin")
	}
	for name, value := range map[string]string{"keep-base": f.base, "from": f.from, "to": f.to} {
		if given(name) && value == "" {
			return fmt.Errorf("invalid --%s: it is empty", name)
		}
	}
	return nil
}

// layers returns the layers that are meant: from which on, and before which, counted from
// 0.
func (f *squashFlags) layers(ctx context.Context, opened *layouts, i *mutate.Image) (from, to int, err error) {
	to = len(i.Manifest().Layers)
	if f.to != "" {
		if to, err = findLayer(i, f.to); err != nil {
			return 0, 0, fmt.Errorf("--to %s: %w", quote.Name(f.to), err)
		}
	}
	switch {
	case f.from != "":
		if from, err = findLayer(i, f.from); err != nil {
			return 0, 0, fmt.Errorf("--from %s: %w", quote.Name(f.from), err)
		}
		if from--; from >= to {
			return 0, 0, fmt.Errorf("--from %s is above --to %s", f.from, f.to)
		}
	case f.base != "":
		base, err := opened.base(ctx, "keep-base", f.base, i)
		if err == nil {
			from, err = i.Seam(base.image)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("--keep-base %s: %w", quote.Name(f.base), err)
		}
		if from > to {
			return 0, 0, fmt.Errorf("--to %s: the base has %d layers", quote.Name(f.to), from)
		}
	}
	return from, to, nil
}

// findLayer returns the number of a layer, counted from 1.
func findLayer(i *mutate.Image, name string) (int, error) {
	layers, ids := i.Manifest().Layers, i.Config().RootFS.DiffIDs
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > len(layers) {
			return 0, fmt.Errorf("the image has %d layers, counted from 1", len(layers))
		}
		return n, nil
	}
	for n, l := range layers {
		if name == string(l.Digest) || n < len(ids) && name == string(ids[n]) {
			return n + 1, nil
		}
	}
	return 0, errors.New("the image has no such layer")
}

// squashHistory is historyFlags without the choice to have no entry: without one, tools
// would take the entries of the layers above for those of others.
type squashHistory struct{ historyFlags }

func (h *squashHistory) flags() []cli.Flag { return h.historyFlags.flags()[1:] }
