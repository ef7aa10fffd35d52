// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// exitTrouble is the exit code of exists for a question that could not be answered.
const exitTrouble = 2

func (a *app) existsCommand() *cli.Command {
	var registry registryFlags
	var asJSON bool
	return a.command(command{
		name:  "exists",
		usage: "say by the exit status whether there is an image",
		details: "SRC is one of the places of shale copy. Nothing is printed, without --json, but for errors.\n" +
			"That a layout, a file or a repository is not there at all means that its images are not.",
		examples: []string{
			"shale exists docker://registry.example/team/app:1.0 || shale push --image images:app docker://registry.example/team/app:1.0",
		},
		exit:       "1 there is no such image, 2 error",
		trouble:    exitTrouble,
		positional: argRule{names: []string{"<SRC>"}},
		groups:     []flagGroup{&registry},
		flags: []cli.Flag{&cli.BoolFlag{
			Name: "json", Destination: &asJSON,
			Usage: "print the digest and media type, and whether there is an image, as one line of JSON",
		}},
		run: func(ctx context.Context, args []string) error {
			loc, err := parseLocation("<SRC>", args[0])
			if err != nil {
				return err
			}
			return a.exists(ctx, loc, transfer.Options{Layout: *a.layoutOptions(), Registry: registry.options(loc)}, asJSON)
		},
	})
}

func (a *app) exists(ctx context.Context, loc transfer.Location, opt transfer.Options, asJSON bool) error {
	d, err := transfer.Resolve(ctx, loc, opt)
	there := err == nil
	if err != nil && !errors.Is(err, layout.ErrNotFound) {
		return err
	}
	if asJSON {
		err := a.printJSON(struct {
			Exists    bool          `json:"exists"`
			Digest    digest.Digest `json:"digest,omitempty"`
			MediaType string        `json:"mediaType,omitempty"`
		}{there, d.Digest, d.MediaType})
		if err != nil {
			return err
		}
	}
	if !there {
		return &elsewhere{status: exitError} // which says nothing more
	}
	return nil
}
