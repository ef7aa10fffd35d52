// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
)

func (a *app) removeCommand() *cli.Command {
	var image imageFlag
	return a.command(command{
		name: "remove", aliases: []string{"rm"},
		usage:   "remove a tag from a layout",
		details: "The blobs of the image stay until gc. It is no error if there is no such tag.",
		groups:  []flagGroup{&image},
		run: func(ctx context.Context, _ []string) error {
			return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				removed, err := l.DeleteRef(ctx, image.ref)
				switch {
				case err != nil:
				case removed:
					a.log.Infof("removed the tag %s", image.ref)
				default:
					a.log.Infof("there was no tag %s", image.ref)
				}
				return err
			})
		},
	})
}
