// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
)

func (a *app) tagCommand() *cli.Command {
	var image imageFlag
	return a.command(command{
		name:  "tag",
		usage: "give an image another tag",
		details: "The image keeps the tag that it has. What carried the new tag before loses it. With\n" +
			"--platform, only that one of several images gets the new tag.",
		examples: []string{
			"shale tag --image images:app stable",
			"shale tag --image images:app --platform linux/arm64 app-arm",
		},
		positional: argRule{names: []string{"<new-tag>"}},
		groups:     []flagGroup{&image},
		run: func(ctx context.Context, args []string) error {
			tag := args[0]
			if err := checkTag(tag); err != nil {
				return fmt.Errorf("invalid <new-tag>: %w", err)
			}
			err := a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				if image.platform != nil {
					return l.TagImage(ctx, image.ref, tag, image.platform)
				}
				return l.Tag(ctx, image.ref, tag)
			})
			if err == nil {
				a.log.Infof("tagged %s as %s", image.ref, tag)
			}
			return err
		},
	})
}
