// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/transfer"
)

// locationForms explains locations in help texts.
const locationForms = "oci:DIR[:TAG], or just DIR[:TAG]       an OCI layout\n" +
	"oci-archive:FILE[:TAG]                 the same in a tar\n" +
	"docker-archive:FILE[:NAME:TAG]         what docker save writes and docker load reads\n" +
	"docker://HOST/REPO[:TAG][@DIGEST]      a registry"

func (a *app) copyCommand() *cli.Command {
	var f copyFlags
	return a.command(command{
		name:  "copy",
		usage: "copy an image from one place to another",
		details: "SRC and DST are each one of\n\n" + indent(locationForms) + "\n\n" +
			"Without a tag, latest is meant. The image stays as it is, byte by byte, with its digest,\n" +
			"unless --platform, --format, --compress or the place itself make another one of it:\n" +
			"then that is said. A tag that is there already leads to the new image afterwards, and\n" +
			"never to one of which not all is there and verified.\n\n" +
			"Only the blobs that DST lacks travel. A copy that was interrupted goes on where it\n" +
			"stopped when it is run again. Credentials are those of shale login and docker login, or,\n" +
			"where there is no ~/.docker/config.json, those of podman login.",
		examples: []string{
			"shale copy docker://docker.io/library/debian:stable images:debian",
			"shale copy images:app docker://registry.example/team/app:1.0 --referrers",
			"shale copy --all-tags images oci-archive:images.tar",
			"shale copy --platform linux/arm64 docker://alpine:3.20 docker-archive:alpine.tar:alpine:3.20",
		},
		positional: argRule{names: []string{"<SRC>", "<DST>"}},
		groups:     []flagGroup{&f},
		run: func(ctx context.Context, args []string) error {
			src, err := parseLocation("<SRC>", args[0])
			if err != nil {
				return err
			}
			dst, err := parseLocation("<DST>", args[1])
			if err != nil {
				return err
			}
			return a.copy(ctx, src, dst, &f)
		},
	})
}

// indent puts each line a little to the right.
func indent(text string) string { return "   " + strings.ReplaceAll(text, "\n", "\n   ") }

// copy copies, and says what it has come to.
func (a *app) copy(ctx context.Context, src, dst transfer.Location, f *copyFlags) error {
	opt := f.opt
	opt.Registry = f.options(src, dst)
	opt.Layout, opt.Warn, opt.Progress = *a.layoutOptions(), a.warn, a.report()
	result, err := transfer.Copy(ctx, src, dst, opt)
	if err != nil {
		return err
	}
	for _, change := range result.Changed {
		a.log.Warn(change)
	}
	for _, img := range result.Images {
		a.log.Infof("copied %s from %s to %s", img.Digest, img.Source, img.Destination)
	}
	for _, how := range slices.Sorted(maps.Keys(result.Blobs)) {
		a.log.Infof("%d blobs %s (%s)", result.Blobs[how], how, humanSize(result.Bytes[how]))
	}
	if f.asJSON {
		return a.printJSON(result)
	}
	return nil
}
