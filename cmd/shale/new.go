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
		details: "The image has no layers. It is for the platform that --platform names, or else for this\n" +
			"machine's. What carried the tag before loses it.",
		examples: []string{
			"shale new --image images:empty",
			"shale new --image images:arm --platform linux/arm64",
		},
		groups: []flagGroup{&image},
		run: func(ctx context.Context, _ []string) error {
			created, err := creationTime()
			if err != nil {
				return err
			}
			return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				d, err := mutate.New(ctx, l, mutate.NewOptions{Created: created, Platform: image.platform})
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
