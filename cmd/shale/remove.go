// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func (a *app) removeCommand() *cli.Command {
	var image imageFlag
	return a.command(command{
		name: "remove", aliases: []string{"rm"},
		usage: "remove a tag from a layout",
		details: "The blobs of the image stay until gc. It is no error if there is no such tag. With\n" +
			"--platform, only that image is removed from those that the tag leads to, and the tag\n" +
			"itself with the last of them.",
		examples: []string{
			"shale rm --image images:old",
			"shale rm --image images:app --platform linux/s390x    # only that one of several",
		},
		groups: []flagGroup{&image},
		run: func(ctx context.Context, _ []string) error {
			return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
				if image.platform != nil {
					return a.removePlatform(ctx, l, image)
				}
				removed, err := l.DeleteRef(ctx, image.ref)
				switch {
				case err != nil:
				case removed:
					a.log.Infof("removed the tag %s", image.ref)
				default:
					a.log.Infof("there was no tag %s", image.ref)
				}
				return err
			})
		},
	})
}

// removePlatform removes one of the images that a tag leads to.
func (a *app) removePlatform(ctx context.Context, l *layout.Layout, image imageFlag) error {
	var removed layout.Path
	err := l.MoveRef(ctx, image.ref, func(*ispec.Descriptor) (*ispec.Descriptor, error) {
		root, err := l.Lookup(ctx, image.ref)
		if errors.Is(err, layout.ErrNotFound) {
			return nil, errNotThere
		}
		if err != nil {
			return nil, err
		}
		members, err := l.Members(ctx, root)
		if err != nil {
			return nil, err
		}
		// An older variant would be good enough for others, but not for this.
		i := slices.IndexFunc(members, func(m layout.Member) bool { return layout.SamePlatform(m.Platform, *image.platform) })
		if i < 0 {
			return nil, errNotThere
		}
		removed = members[i].Path
		return mutate.Remove(ctx, l, removed)
	})
	if errors.Is(err, errNotThere) {
		a.log.Infof("there was no image %s for %s", image.ref, layout.PlatformString(*image.platform))
		return nil
	}
	if err == nil {
		a.log.Infof("removed the image %s from %s", removed.Target().Digest, image.ref)
	}
	return err
}

var errNotThere = errors.New("not there")
