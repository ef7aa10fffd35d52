// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/transfer"
)

func (a *app) pushCommand() *cli.Command {
	var f copyFlags
	var image imagePlace
	return a.command(command{
		name:  "push",
		usage: "copy an image from a layout to a registry",
		details: "DST is docker://HOST/REPO[:TAG]. This is shale copy for the most frequent case: all that is\n" +
			"said there holds.",
		examples: []string{
			"shale push --image images:app docker://registry.example/team/app:1.0",
		},
		positional: argRule{names: []string{"<DST>"}},
		groups:     []flagGroup{&image, &f},
		run: func(ctx context.Context, args []string) error {
			dst, err := parseRegistry("<DST>", args[0])
			if err != nil {
				return err
			}
			return a.copy(ctx, image.loc, dst, &f)
		},
	})
}

// parseRegistry is parseLocation for arguments that are registries.
func parseRegistry(argument, value string) (transfer.Location, error) {
	l, err := parseLocation(argument, value)
	if err == nil && l.Scheme != transfer.SchemeRegistry {
		err = fmt.Errorf("invalid %s: %s is not of the form docker://HOST/REPO", argument, quote.Name(value))
	}
	return l, err
}
