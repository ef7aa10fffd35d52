// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
)

func (a *app) statCommand() *cli.Command {
	var (
		image  imageFlag
		asJSON bool
	)
	return a.command(command{
		name:  "stat",
		usage: "show what an image consists of",
		details: "Shows the manifest, the config and the history of an image. The plain form is for\n" +
			"people and may change; programs use --json, whose form stays.",
		groups: []flagGroup{&image},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Destination: &asJSON, Usage: "print one line of JSON"},
		},
		run: func(ctx context.Context, _ []string) error {
			var s *inspect.ImageStat
			err := a.withImage(ctx, image, func(l *layout.Layout, path layout.Path) (err error) {
				s, err = inspect.Stat(ctx, l, path)
				return err
			})
			if err != nil {
				return err
			}
			for _, p := range s.Problems {
				a.warn(p)
			}
			if asJSON {
				return a.printJSON(s)
			}
			renderStat(a.stdout, s)
			return nil
		},
	})
}
