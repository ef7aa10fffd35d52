// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layout"
)

func (a *app) repackCommand() *cli.Command {
	var (
		image    imageFlag
		history  historyFlags
		compress compressFlag
		ns       usernsFlag
		opt      bundle.RepackOptions
	)
	return a.command(command{
		name:  "repack",
		usage: "make an image of a bundle, with what was changed as a new layer",
		details: "The tag in --image is that of the new image; the bundle knows which image it was made\n" +
			"of, and that must be in the same layout. If nothing was changed, the new image is the\n" +
			"old one, unless a --history flag says what to tell of it. An image out of an index is\n" +
			"replaced there; --platform only makes sure that the bundle is one for that platform.",
		examples: []string{
			"shale repack --image images:edited bundle",
			"shale repack --image images:edited --refresh-bundle --history.comment 'more tools' bundle",
			"SOURCE_DATE_EPOCH=0 shale repack --image images:edited --mask-path /tmp bundle",
		},
		positional: argRule{names: []string{"<bundle>"}},
		groups:     []flagGroup{&image, &history, &compress, &ns},
		flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name: "mask-path", Destination: &opt.Masks,
				Usage: "leave out changes at and below `path` in the root filesystem",
			},
			&cli.BoolFlag{
				Name: "no-mask-volumes", Destination: &opt.NoMaskVolumes,
				Usage: "do not leave out changes in the volumes of the image",
			},
			&cli.BoolFlag{
				Name: "refresh-bundle", Destination: &opt.Refresh,
				Usage: "make the bundle one of the new image",
			},
			&cli.BoolFlag{
				Name: "checksum", Destination: &opt.Checksum,
				Usage: "read every file, also where its times say that it is unchanged",
			},
		},
		run: func(ctx context.Context, args []string) (err error) {
			meta, err := bundle.ReadMeta(args[0])
			if err != nil {
				return err
			}
			if err := ns.enter(mapped(meta.Map)); err != nil {
				return err
			}
			if opt.History, err = history.entry("shale repack", ""); err != nil {
				return err
			}
			if opt.Clamp, err = clampTime(); err != nil {
				return err
			}
			opt.ImageAuthor = !history.given("history.author")
			opt.Ref, opt.Platform = image.ref, image.platform
			opt.Compression = compress.compression
			opt.KeepHistory = history.details() != ""
			opt.Warn, opt.Progress = a.warn, a.report()
			var result bundle.RepackResult
			err = a.withLayout(ctx, image.path, func(l *layout.Layout) (err error) {
				result, err = bundle.Repack(ctx, l, args[0], opt)
				return err
			})
			if err == nil {
				a.log.Infof("tagged the image %s as %s; %d paths in its new layer",
					result.Path.Target().Digest, image.ref, result.Changes)
			}
			return err
		},
	})
}
