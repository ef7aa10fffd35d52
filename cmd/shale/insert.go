// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func (a *app) insertCommand() *cli.Command {
	var (
		image    imageFlag
		tag      tagFlag
		history  historyFlags
		maps     mapFlags
		compress compressFlag
		whiteout bool
		opaque   bool
	)
	return a.command(command{
		name:  "insert",
		usage: "put a file or a directory into an image, without a bundle",
		details: "What is at <source>, with all below it, becomes a new layer in which it is called\n" +
			"<target>. A directory is merged with the one that the image has there, unless --opaque\n" +
			"is given. What a layer hides or replaces stays in the layers below it: this is no way to\n" +
			"get secrets out of an image.",
		examples: []string{
			"shale insert --image images:app mybinary /usr/bin/mybinary",
			"shale insert --image images:app --tag new --opaque etc /etc/app    # nothing else will be in there",
			"shale insert --image images:app --whiteout /usr/share/doc          # removes it",
		},
		positional: argRule{
			names: []string{"[<source>]", "<target>"},
			other: func(args []string) error { return checkInsertion(args, whiteout) },
		},
		groups: []flagGroup{&image, &tag, &history, &maps, &compress},
		flags: []cli.Flag{
			&cli.BoolFlag{
				Name: "whiteout", Destination: &whiteout,
				Usage: "remove <target>, and take no <source>",
			},
			&cli.BoolFlag{
				Name: "opaque", Destination: &opaque,
				Usage: "hide what the image has in the directory <target>",
			},
		},
		run: func(ctx context.Context, args []string) error {
			entry, err := history.entry("shale insert", "")
			if err != nil {
				return err
			}
			a.warnOfMissing(entry)
			clamp, err := clampTime()
			if err != nil {
				return err
			}
			opt := bundle.InsertOptions{
				Target: args[len(args)-1],
				Map:    maps.options, Compression: compress.compression, History: entry, Clamp: clamp,
				Warn: a.warn, Progress: a.report(),
			}
			if !whiteout {
				opt.Source, opt.Opaque = args[0], opaque
			}
			return a.withImage(ctx, image, func(l *layout.Layout, from layout.Path) error {
				to, err := bundle.Insert(ctx, l, from, opt)
				if err != nil {
					return err
				}
				return a.retag(ctx, l, tag.or(image.ref), []mutate.Change{{From: from, To: to}})
			})
		},
	})
}

// checkInsertion checks the positional arguments of insert.
func checkInsertion(args []string, whiteout bool) error {
	want, expected := 2, "<source> <target>"
	if whiteout {
		want, expected = 1, "<target>"
	}
	if len(args) != want {
		return fmt.Errorf("invalid number of positional arguments: expected %s, got %d", expected, len(args))
	}
	switch slices.Index(args, "") {
	case want - 1:
		return errors.New("<target> is empty")
	case 0:
		return errors.New("<source> is empty")
	}
	return nil
}
