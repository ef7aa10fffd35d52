// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// imageFlag is --image, the image that a command works on, and --platform, which says
// the one that is meant of those in an index.
type imageFlag struct {
	value        string
	platformName string

	path     string // of the layout
	ref      string
	platform *ispec.Platform // nil if none was given
}

func (f *imageFlag) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "image", Destination: &f.value,
		Usage: "the image, as `path[:tag]`: the path of a layout, and a tag in it, latest by default",
	}, &cli.StringFlag{
		Name: "platform", Destination: &f.platformName,
		Usage: "the `os/arch[/variant]` whose image is meant; by default this machine's, if the tag is that of several images",
	}}
}

func (f *imageFlag) check(given func(string) bool) (err error) {
	if !given("image") {
		return errors.New("missing mandatory argument: --image")
	}
	if f.path, f.ref, err = layout.ParseImage(f.value); err != nil {
		return fmt.Errorf("invalid --image: %w", reason(err))
	}
	return f.checkPlatform(given)
}

// checkPlatform is check for --platform alone.
func (f *imageFlag) checkPlatform(given func(string) bool) error {
	if given("platform") {
		p, err := layout.ParsePlatform(f.platformName)
		if err != nil {
			return fmt.Errorf("invalid --platform: %s is %w", quote.Name(f.platformName), reason(err))
		}
		f.platform = &p
	}
	return nil
}

// layoutFlag is --layout, for commands that work on a layout as a whole.
type layoutFlag struct{ path string }

func (f *layoutFlag) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "layout", Destination: &f.path,
		Usage: "the `path` of the layout",
	}}
}

func (f *layoutFlag) check(given func(string) bool) error {
	switch {
	case !given("layout"):
		return errors.New("missing mandatory argument: --layout")
	case f.path == "":
		return errors.New("invalid --layout: path is empty")
	case strings.Contains(f.path, ":"):
		// --image could not name it.
		return fmt.Errorf("invalid --layout: path contains a colon: %s", quote.Name(f.path))
	}
	return nil
}

// tagFlag is --tag, the tag that the result of a command gets.
type tagFlag struct {
	value string
	isSet bool
}

func (f *tagFlag) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "tag", Destination: &f.value,
		Usage: "the `tag` of the new image; without it, the new image takes the tag of --image",
	}}
}

func (f *tagFlag) check(given func(string) bool) error {
	f.isSet = given("tag")
	if !f.isSet {
		return nil
	}
	if err := checkTag(f.value); err != nil {
		return fmt.Errorf("invalid --tag: %w", err)
	}
	return nil
}

// or returns the tag, and otherwise if none was given.
func (f *tagFlag) or(otherwise string) string {
	if f.isSet {
		return f.value
	}
	return otherwise
}

func checkTag(tag string) error {
	switch {
	case tag == "":
		return errors.New("tag is empty")
	case !layout.ValidRef(tag):
		return fmt.Errorf("%s is not a valid tag", quote.Name(tag))
	}
	return nil
}

// compressFlag is --compress, the compression of new layers.
type compressFlag struct {
	value string

	compression layer.Compression // empty for automatic
}

func (f *compressFlag) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "compress", Value: "auto", Destination: &f.value,
		Usage: "`how` to compress the new layer: none, gzip, zstd, or auto, which is how the image's last compressed layer is",
	}}
}

func (f *compressFlag) check(func(string) bool) error {
	if f.value == "auto" {
		return nil
	}
	f.compression = layer.Compression(f.value)
	if known := []layer.Compression{layer.None, layer.Gzip, layer.Zstd}; !slices.Contains(known, f.compression) {
		return fmt.Errorf("invalid --compress: %s is none of auto, none, gzip and zstd", quote.Name(f.value))
	}
	return nil
}

// sourceDateEpoch returns the time that SOURCE_DATE_EPOCH stands for, which is
// to take the place of the clock, or nil.
func sourceDateEpoch() (*time.Time, error) {
	const name = "SOURCE_DATE_EPOCH"
	value := os.Getenv(name)
	if value == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("parse %s=%s: %w", name, quote.Name(value), reason(err))
	}
	t := time.Unix(seconds, 0).UTC()
	// Documents cannot hold other years.
	if t.Year() < 0 || t.Year() > 9999 {
		return nil, fmt.Errorf("parse %s=%s: not within the years 0 to 9999", name, quote.Name(value))
	}
	return &t, nil
}

// clampTime returns the latest time that files in a new layer get, in seconds since
// the Unix epoch, or nil.
func clampTime() (*int64, error) {
	epoch, err := sourceDateEpoch()
	if err != nil || epoch == nil {
		return nil, err
	}
	clamp := epoch.Unix()
	return &clamp, nil
}

// creationTime returns the time that things made now are said to be made at.
func creationTime() (time.Time, error) {
	epoch, err := sourceDateEpoch()
	if err != nil || epoch == nil {
		return time.Now().UTC(), err
	}
	return *epoch, nil
}

// reason returns what is wrong with a value, without the value and the
// function that found it out, for messages that have told these.
func reason(err error) error {
	var number *strconv.NumError
	if errors.As(err, &number) {
		return number.Err
	}
	var parse *layout.Error
	if errors.As(err, &parse) {
		return parse.Err
	}
	return err
}
