// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

func (a *app) rawUnpackCommand() *cli.Command {
	var (
		image        imageFlag
		maps         mapFlags
		ns           usernsFlag
		limits       limitFlags
		keepDirlinks bool
	)
	return a.command(command{
		name:  "unpack",
		usage: "write the root filesystem of an image, without a bundle around it",
		details: "The directory is made, or is there and empty. It cannot be repacked; see unpack for\n" +
			"that.",
		examples: []string{
			"shale raw unpack --image images:app rootfs",
			"shale raw unpack --rootless --platform linux/arm64 --image images:app rootfs",
		},
		positional: argRule{names: []string{"<rootfs>"}},
		groups:     []flagGroup{&image, &maps, &ns, &limits},
		flags:      []cli.Flag{keepDirlinksFlag(&keepDirlinks)},
		run: func(ctx context.Context, args []string) error {
			if err := ns.enter(maps.given()); err != nil {
				return err
			}
			dir := args[0]
			err := a.withImage(ctx, image, func(l *layout.Layout, path layout.Path) error {
				return bundle.UnpackRootfs(ctx, l, path, dir, bundle.UnpackOptions{
					Map:          maps.options,
					KeepDirlinks: keepDirlinks,
					Limits:       limits.limits,
					Warn:         a.warn,
					Progress:     a.report(),
				})
			})
			if err == nil {
				a.log.Infof("unpacked the root filesystem to %s", quote.Name(dir))
			}
			return err
		},
	})
}
