// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func (a *app) newCommand() *cli.Command {
	var image imageFlag
	return a.command(command{
		name:  "new",
		usage: "make an empty image",
		details: "The image has no layers, and is for this machine's platform. What carried the tag\n" +
			"before loses it.",
		groups: []flagGroup{&image},
		run: func(ctx context.Context, _ []string) error {
			created, err := creationTime()
			if err != nil {
				return err
			}
			return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				d, err := mutate.New(ctx, l, mutate.NewOptions{Created: created})
				if err != nil {
					return err
				}
				if err := l.SetRef(ctx, image.ref, d); err != nil {
					return err
				}
				a.log.Infof("tagged the new image %s as %s", d.Digest, image.ref)
				return nil
			})
		},
	})
}
