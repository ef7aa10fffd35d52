// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// fromFlags are --image or --from, which name the image that a command reads, in a layout
// or anywhere.
type fromFlags struct {
	imageFlag
	registryFlags
	from string

	loc transfer.Location
}

func (f *fromFlags) flags() []cli.Flag {
	flags := append(f.imageFlag.flags(), &cli.StringFlag{
		Name: "from", Destination: &f.from,
		Usage: "the image, in place of --image, from anywhere: a `source` as shale copy takes it",
	})
	return append(flags, f.registryFlags.flags()...)
}

func (f *fromFlags) check(given func(string) bool) (err error) {
	if err := f.registryFlags.check(given); err != nil {
		return err
	}
	switch {
	case given("image") && given("from"):
		return errors.New("--image and --from may not be given together")
	case given("image"):
		return f.imageFlag.check(given)
	case !given("from"):
		return errors.New("missing mandatory argument: --image, or --from")
	}
	if f.loc, err = parseLocation("--from", f.from); err != nil {
		return err
	}
	return f.checkPlatform(given)
}

// withSource calls fn with the image that the flags name, and the layout that it is in. The
// limits are for what is uncompressed on the way there.
func (a *app) withSource(ctx context.Context, f *fromFlags, limits layer.Limits, fn func(*layout.Layout, layout.Path) error) (err error) {
	if f.from == "" {
		return a.withImage(ctx, f.imageFlag, fn)
	}
	opt := transfer.Options{
		Limits: limits, Layout: *a.layoutOptions(), Registry: f.options(f.loc), Warn: a.warn, Progress: a.report(),
	}
	if f.platform != nil {
		opt.Platforms = []ispec.Platform{*f.platform}
	}
	img, err := transfer.OpenImage(ctx, f.loc, largeTempDir(), opt)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := img.Close(); err == nil {
			err = cerr
		}
	}()
	return fn(img.Layout, img.Path)
}

// largeTempDir is the directory for temporary files that need much room: /tmp is often
// kept in memory.
func largeTempDir() string {
	const large = "/var/tmp"
	if info, err := os.Stat(large); os.Getenv("TMPDIR") == "" && err == nil && info.IsDir() {
		return large
	}
	return os.TempDir()
}
