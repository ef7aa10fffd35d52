// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

func (a *app) initCommand() *cli.Command {
	var where layoutFlag
	return a.command(command{
		name:    "init",
		usage:   "make an empty layout",
		details: "There must be nothing at the path yet.",
		examples: []string{
			"shale init --layout images",
		},
		groups: []flagGroup{&where},
		run: func(ctx context.Context, _ []string) error {
			l, err := layout.Create(ctx, where.path)
			if err != nil {
				return err
			}
			a.log.Infof("made an empty layout: %s", quote.Name(where.path))
			return l.Close()
		},
	})
}
