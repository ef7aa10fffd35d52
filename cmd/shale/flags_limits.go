// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// unlimited is the value of a flag for no limit.
const unlimited = "none"

// contentFlags are --max-bytes and --max-ratio, for commands that uncompress layers, and
// do not look at what is in them.
type contentFlags struct {
	bytes, ratio string

	limits layer.Limits
}

func (f *contentFlags) flags() []cli.Flag {
	return []cli.Flag{
		limitFlag("bytes", "256GiB", "the greatest `size` of all layers together when they are uncompressed, and of the files in them; none for no limit", &f.bytes),
		limitFlag("ratio", strconv.Itoa(layer.DefaultMaxRatio), "the greatest `number` of uncompressed bytes for each compressed one, from 1 GiB on, or none", &f.ratio),
	}
}

func (f *contentFlags) check(func(string) bool) error {
	return parseLimits(
		limitValue{"bytes", f.bytes, parseSize, &f.limits.Bytes},
		limitValue{"ratio", f.ratio, parseCount, &f.limits.Ratio},
	)
}

// limitFlags are those and their like for what is in layers, for commands that read them.
type limitFlags struct {
	contentFlags
	entries                 string
	xattr, header, metadata string
}

func (f *limitFlags) flags() []cli.Flag {
	return append(f.contentFlags.flags(),
		limitFlag("entries", strconv.Itoa(layer.DefaultMaxEntries), "the greatest `number` of entries in all layers together, or none", &f.entries),
		limitFlag("xattr-size", "64KiB", "the greatest `size` of the value of an extended attribute", &f.xattr),
		limitFlag("header-size", "1MiB", "the greatest `size` of the extended header of an entry", &f.header),
		limitFlag("metadata-size", "12MiB", "the greatest `size` of all names, links and attributes, beyond 512 bytes for each entry, or none", &f.metadata),
	)
}

func (f *limitFlags) check(given func(string) bool) error {
	if err := f.contentFlags.check(given); err != nil {
		return err
	}
	return parseLimits(
		limitValue{"entries", f.entries, parseCount, &f.limits.Entries},
		limitValue{"xattr-size", f.xattr, parseSize, &f.limits.Xattr},
		limitValue{"header-size", f.header, parseSize, &f.limits.Header},
		limitValue{"metadata-size", f.metadata, parseSize, &f.limits.Metadata},
	)
}

func limitFlag(name, value, usage string, to *string) cli.Flag {
	return &cli.StringFlag{Name: "max-" + name, Value: value, Destination: to, Usage: usage}
}

// limitValue is what was given as the limit of a name.
type limitValue struct {
	name, value string
	parse       func(string) (int64, error)
	to          *int64
}

func parseLimits(values ...limitValue) error {
	for _, l := range values {
		n, err := parseLimit(l.value, l.parse)
		if err != nil {
			return fmt.Errorf("invalid --max-%s: %w", l.name, err)
		}
		*l.to = n
	}
	return nil
}

// parseLimit reads a number, or the word for there being none.
func parseLimit(value string, parse func(string) (int64, error)) (int64, error) {
	if value == unlimited {
		return layer.Unlimited, nil
	}
	return parse(value)
}

// parseCount reads a number of things.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s is not a number from 1 on", quote.Name(s))
	}
	return n, nil
}

// layoutFlags are the limits of what a layout may hold, which are flags of all commands.
type layoutFlags struct {
	index, document string
	depth           int

	limits layout.Options
}

func (f *layoutFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "max-index-size", Value: "32MiB", Destination: &f.index,
			Usage: "the greatest `size` of index.json",
		},
		&cli.StringFlag{
			Name: "max-document-size", Value: "8MiB", Destination: &f.document,
			Usage: "the greatest `size` of a manifest, config or index that is a blob",
		},
		&cli.IntFlag{
			Name: "max-depth", Value: layout.DefaultMaxDepth, Destination: &f.depth,
			Usage: "the greatest `number` of indexes and manifests that lead to each other",
		},
	}
}

func (f *layoutFlags) parse() error {
	for _, l := range []struct {
		name, value string
		to          *int64
	}{
		{"max-index-size", f.index, &f.limits.MaxIndex},
		{"max-document-size", f.document, &f.limits.MaxDocument},
	} {
		n, err := parseSize(l.value)
		if err != nil {
			return fmt.Errorf("invalid --%s: %w", l.name, err)
		}
		*l.to = n
	}
	if f.depth < 1 {
		return fmt.Errorf("invalid --max-depth: %d is not a number from 1 on", f.depth)
	}
	f.limits.MaxDepth = f.depth
	return nil
}

// layoutOptions are those that the global flags make.
func (a *app) layoutOptions() *layout.Options {
	opt := a.global.layout.limits
	opt.NoLock = a.global.noLock
	return &opt
}

// limitHint names the flag that changes the limit that err is about.
func limitHint(err error, in *commandError) string {
	var over *layer.LimitError
	if !errors.As(err, &over) || over.Name == "" {
		return ""
	}
	flag := "max-" + string(over.Name)
	switch {
	case in.has(flag):
		return "--" + flag + " changes the limit"
	case in.hasGlobal(flag):
		return "shale --" + flag + " changes the limit"
	}
	return ""
}
