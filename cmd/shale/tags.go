// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/transfer"
)

func (a *app) tagsCommand() *cli.Command {
	var registry registryFlags
	var asJSON bool
	return a.command(command{
		name:  "tags",
		usage: "list the tags that there are in a repository of a registry, or at another place",
		details: "SRC is docker://HOST/REPO or one of the other places of shale copy. The order is that of the\n" +
			"place.",
		examples: []string{
			"shale tags docker://registry.example/team/app",
			"shale tags docker-archive:images.tar",
		},
		positional: argRule{names: []string{"<SRC>"}},
		groups:     []flagGroup{&registry},
		flags: []cli.Flag{&cli.BoolFlag{
			Name: "json", Destination: &asJSON,
			Usage: "print a list in JSON, in one line",
		}},
		run: func(ctx context.Context, args []string) error {
			loc, err := parseLocation("<SRC>", args[0])
			if err != nil {
				return err
			}
			tags, err := transfer.Tags(ctx, loc, transfer.Options{Layout: *a.layoutOptions(), Registry: registry.options(loc)})
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(append([]string{}, tags...))
			}
			for _, tag := range tags {
				a.stdout.printf("%s\n", quote.Name(tag))
			}
			return nil
		},
	})
}
