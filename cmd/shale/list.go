// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

func (a *app) listCommand() *cli.Command {
	var (
		where  layoutFlag
		asJSON bool
	)
	return a.command(command{
		name: "list", aliases: []string{"ls"},
		usage:   "list the tags in a layout",
		details: "Prints one tag per line, in the order of index.json.",
		examples: []string{
			"shale ls --layout images",
		},
		groups: []flagGroup{&where},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Destination: &asJSON, Usage: "print one line of JSON: an array of strings"},
		},
		run: func(ctx context.Context, _ []string) error {
			var refs []string
			err := a.withLayout(ctx, where.path, func(l *layout.Layout) (err error) {
				refs, err = l.Refs(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(append([]string{}, refs...))
			}
			for _, ref := range refs {
				a.stdout.printf("%s\n", quote.Name(ref))
			}
			return nil
		},
	})
}
