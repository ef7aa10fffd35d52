// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/transfer"
)

func (a *app) removeCommand() *cli.Command {
	var f removeFlags
	return a.command(command{
		name: "remove", aliases: []string{"rm"},
		usage: "remove a tag from a layout, or a manifest from a registry",
		details: "The blobs of the image stay until gc. It is no error if there is no such tag. With\n" +
			"--platform, only that image is removed from those that the tag leads to, and the tag\n" +
			"itself with the last of them.\n\n" +
			"From a registry, a manifest is removed by its digest, with all tags that lead to it,\n" +
			"provided that the registry allows it. Its blobs stay for the registry's own gc.",
		examples: []string{
			"shale rm --image images:old",
			"shale rm --image images:app --platform linux/s390x    # only that one of several",
			"shale rm docker://registry.example/app@sha256:4c4e...",
		},
		positional: argRule{names: []string{"[docker://HOST/REPO@DIGEST]"}, other: f.arguments},
		groups:     []flagGroup{&f},
		run: func(ctx context.Context, _ []string) error {
			image := f.imageFlag
			if f.where != "" {
				return a.removeRemote(ctx, &f)
			}
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

// removeFlags are the flags of remove, and its argument.
type removeFlags struct {
	imageFlag
	registryFlags
	where string // in a registry; empty for a layout
}

func (f *removeFlags) arguments(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("invalid number of positional arguments: expected at most one, got %d", len(args))
	}
	if len(args) == 1 {
		f.where = args[0]
	}
	return nil
}

func (f *removeFlags) flags() []cli.Flag {
	return append(f.imageFlag.flags(), f.registryFlags.flags()...)
}

func (f *removeFlags) check(given func(string) bool) error {
	if f.where == "" {
		return f.imageFlag.check(given)
	}
	if given("image") || given("platform") {
		return errors.New("invalid positional argument: what is in a registry has neither --image nor --platform")
	}
	return f.registryFlags.check(given)
}

// removeRemote removes a manifest from a registry.
func (a *app) removeRemote(ctx context.Context, f *removeFlags) error {
	loc, err := parseRegistry("argument", f.where)
	if err != nil {
		return err
	}
	err = transfer.Delete(ctx, loc, transfer.Options{Registry: f.options(loc)})
	if err == nil {
		a.log.Infof("removed %s from %s", loc.Digest, loc.Repo)
	}
	return err
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
