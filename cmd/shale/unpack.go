// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

func (a *app) unpackCommand() *cli.Command {
	var (
		from         fromFlags
		maps         mapFlags
		ns           usernsFlag
		limits       limitFlags
		keepDirlinks bool
	)
	return a.command(command{
		name:  "unpack",
		usage: "make a bundle of an image",
		details: "A bundle is a directory with the image's root filesystem and a config.json, which OCI\n" +
			"runtimes run, and with what repack needs to find out later what was changed.\n\n" +
			"The image is in a layout, or --from says where else it is:\n\n" + indent(locationForms) + "\n\n" +
			"What comes from elsewhere passes through TMPDIR, or /var/tmp, and does not stay there. To\n" +
			"repack such a bundle later, copy the image into a layout first, and repack into that one.\n\n" +
			"What an ordinary user with subordinate IDs unpacks has owners of a user namespace. To run or\n" +
			"remove it, enter one: unshare --map-root-user --map-auto runc run NAME. A bundle that was\n" +
			"unpacked with --rootless needs none.",
		examples: []string{
			"shale unpack --image images:debian bundle",
			"shale unpack --rootless --image images:debian bundle    # without any privileges",
			"shale unpack --platform linux/arm64 --image images:app bundle",
			"shale unpack --from docker://docker.io/library/debian:stable bundle",
			"shale unpack --from docker-archive:saved.tar bundle",
		},
		positional: argRule{names: []string{"<bundle>"}},
		groups:     []flagGroup{&from, &maps, &ns, &limits},
		flags:      []cli.Flag{keepDirlinksFlag(&keepDirlinks)},
		run: func(ctx context.Context, args []string) error {
			if err := ns.enter(maps.given()); err != nil {
				return err
			}
			dir := args[0]
			err := a.withSource(ctx, &from, limits.limits, func(l *layout.Layout, path layout.Path) error {
				return bundle.Unpack(ctx, l, path, dir, bundle.UnpackOptions{
					Map:          maps.options,
					KeepDirlinks: keepDirlinks,
					Limits:       limits.limits,
					Warn:         a.warn,
					Progress:     a.report(),
				})
			})
			if err == nil {
				a.log.Infof("unpacked the image to %s", quote.Name(dir))
			}
			return err
		},
	})
}

func keepDirlinksFlag(to *bool) cli.Flag {
	return &cli.BoolFlag{
		Name: "keep-dirlinks", Destination: to,
		Usage: "leave symbolic links to directories alone where a layer has a directory",
	}
}
