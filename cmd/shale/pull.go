// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func (a *app) pullCommand() *cli.Command {
	var f copyFlags
	var image imagePlace
	return a.command(command{
		name:  "pull",
		usage: "copy an image from a registry to a layout",
		details: "SRC is docker://HOST/REPO[:TAG][@DIGEST]. The layout is made if there is none. This is shale\n" +
			"copy for the most frequent case: all that is said there holds.",
		examples: []string{
			"shale pull docker://docker.io/library/debian:stable --image images:debian",
			"shale pull docker://registry.example/app@sha256:4c4e... --image images:app    # that and no other",
		},
		positional: argRule{names: []string{"<SRC>"}},
		groups:     []flagGroup{&image, &f},
		run: func(ctx context.Context, args []string) error {
			src, err := parseRegistry("<SRC>", args[0])
			if err != nil {
				return err
			}
			return a.copy(ctx, src, image.loc, &f)
		},
	})
}
