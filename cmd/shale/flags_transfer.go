// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// registryFlags say how registries are spoken to.
type registryFlags struct {
	certDir  string
	insecure hostsValue
}

func (f *registryFlags) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "cert-dir", Destination: &f.certDir,
		Usage: "trust the *.crt in a `directory`, and use the client certificates *.cert and *.key there",
	}, &optionalFlag{&cli.GenericFlag{
		Name: "insecure", Value: &f.insecure,
		Usage: "do not check the certificates of the registries that are named, and speak plain HTTP to them if need be; " +
			"--insecure=HOST means only that one",
	}}}
}

func (f *registryFlags) check(given func(string) bool) error {
	if given("cert-dir") && f.certDir == "" {
		return errors.New("invalid --cert-dir: path is empty")
	}
	return nil
}

// options returns what the flags mean for registries at the given locations.
func (f *registryFlags) options(locations ...transfer.Location) transfer.RegistryOptions {
	opt := transfer.RegistryOptions{CertDir: f.certDir, Insecure: f.insecure.hosts}
	if f.insecure.all {
		for _, l := range locations {
			if l.Scheme == transfer.SchemeRegistry {
				opt.Insecure = append(opt.Insecure, l.Host())
			}
		}
	}
	return opt
}

// hostsValue is the value of --insecure: bare it stands for all hosts.
type hostsValue struct {
	all   bool
	hosts []string
}

// Set implements [cli.Value].
func (v *hostsValue) Set(s string) error {
	switch s {
	case "true":
		v.all = true
	case "false":
		*v = hostsValue{}
	default:
		v.hosts = append(v.hosts, s)
	}
	return nil
}

// Get implements [cli.Value].
func (v *hostsValue) Get() any { return v }

func (v *hostsValue) String() string { return "" }

// IsBoolFlag says that no argument follows.
func (v *hostsValue) IsBoolFlag() bool { return true }

// optionalFlag is a flag whose value, if it has one, follows an equals sign.
type optionalFlag struct{ *cli.GenericFlag }

// TakesValue implements [cli.DocGenerationFlag].
func (f *optionalFlag) TakesValue() bool { return false }

// String returns the line of the help text.
func (f *optionalFlag) String() string { return cli.FlagStringer(f) }

// copyFlags say what is copied, and how.
type copyFlags struct {
	registryFlags
	contentFlags
	platformNames []string
	all           bool
	format        string
	compress      string
	asJSON        bool

	opt transfer.Options
}

func (f *copyFlags) flags() []cli.Flag {
	return append([]cli.Flag{&cli.StringSliceFlag{
		Name: "platform", Destination: &f.platformNames,
		Usage: "copy only the image for `os/arch[/variant]` out of several; may be given several times",
	}, &cli.BoolFlag{
		Name: "all", Destination: &f.all,
		Usage: "copy the images for all platforms, which is the default, too",
	}, &cli.BoolFlag{
		Name: "all-tags", Destination: &f.opt.AllTags,
		Usage: "copy all tags, and keep their names; neither side names one",
	}, &cli.BoolFlag{
		Name: "referrers", Destination: &f.opt.Referrers,
		Usage: "take along what refers to the image: signatures, SBOMs, attestations",
	}, &cli.StringFlag{
		Name: "format", Destination: &f.format,
		Usage: "convert manifests to a `format`: oci or docker; by default they stay as they are",
	}, &cli.StringFlag{
		Name: "compress", Destination: &f.compress,
		Usage: "`how` to compress the layers: none, gzip or zstd; by default they stay as they are",
	}, &cli.BoolFlag{
		Name: "link", Destination: &f.opt.Link,
		Usage: "link blobs between layouts where the file system cannot clone them, in place of copying",
	}, &cli.BoolFlag{
		Name: "json", Destination: &f.asJSON,
		Usage: "print one line of JSON about what was copied",
	}}, append(f.registryFlags.flags(), f.contentFlags.flags()...)...)
}

func (f *copyFlags) check(given func(string) bool) error {
	if err := cmp.Or(f.registryFlags.check(given), f.contentFlags.check(given)); err != nil {
		return err
	}
	f.opt.Limits = f.limits
	for _, name := range f.platformNames {
		p, err := layout.ParsePlatform(name)
		if err != nil {
			return fmt.Errorf("invalid --platform: %s is %w", quote.Name(name), reason(err))
		}
		f.opt.Platforms = append(f.opt.Platforms, p)
	}
	if f.all && len(f.opt.Platforms) > 0 {
		return errors.New("--all and --platform may not be given together")
	}
	f.opt.Format = transfer.Format(f.format)
	if given("format") && !slices.Contains([]transfer.Format{transfer.FormatOCI, transfer.FormatDocker}, f.opt.Format) {
		return fmt.Errorf("invalid --format: %s is none of oci and docker", quote.Name(f.format))
	}
	f.opt.Compress = layer.Compression(f.compress)
	if given("compress") && !slices.Contains([]layer.Compression{layer.None, layer.Gzip, layer.Zstd}, f.opt.Compress) {
		return fmt.Errorf("invalid --compress: %s is none of none, gzip and zstd", quote.Name(f.compress))
	}
	return nil
}

// parseLocation reads the location that an argument of the name is.
func parseLocation(argument, value string) (transfer.Location, error) {
	l, err := transfer.ParseLocation(value)
	if err != nil {
		return l, fmt.Errorf("invalid %s: %w", argument, reason(err))
	}
	return l, nil
}

// imagePlace is --image as a location: the image in a layout that is copied from or to.
type imagePlace struct {
	value string
	loc   transfer.Location
}

func (f *imagePlace) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "image", Destination: &f.value,
		Usage: "the image, as `path[:tag]`: the path of a layout, and a tag in it, latest by default",
	}}
}

func (f *imagePlace) check(given func(string) bool) error {
	if !given("image") {
		return errors.New("missing mandatory argument: --image")
	}
	path, ref, err := layout.ParseImage(f.value)
	if err != nil {
		return fmt.Errorf("invalid --image: %w", reason(err))
	}
	f.loc = transfer.Location{Scheme: transfer.SchemeLayout, Path: path}
	if path+":"+ref == f.value {
		f.loc.Tag = ref
	}
	return nil
}
