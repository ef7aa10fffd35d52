// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/pack"
)

// packFlags are the flags that only pack has.
type packFlags struct {
	from, config, compress, owner, cache string
	uppers, annotations, names           []string
	index, oci, docker, asJSON           bool

	options pack.Options
	// annotations of the manifest and of the config's descriptor
	manifest, configDescriptor map[string]string
}

func (f *packFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "from", Destination: &f.from,
			Usage: "the image that the layers go on top of, as `path[:tag]`; it is copied if it is in another layout",
		},
		&cli.StringSliceFlag{
			Name: "upper", Destination: &f.uppers,
			Usage: "an upper `directory` of overlayfs or fuse-overlayfs; may be given several times, the lowest first",
		},
		&cli.StringFlag{
			Name: "config", Destination: &f.config,
			Usage: "begin with the image config in a JSON `file`, but for its rootfs and history",
		},
		&cli.StringFlag{
			Name: "compress", Value: "auto", Destination: &f.compress,
			Usage: "`how` to compress the new layers: none, gzip[:1-9], zstd[:1-22], or auto, which is gzip or how the topmost compressed layer of --from is",
		},
		&cli.StringFlag{
			Name: "owner", Destination: &f.owner,
			Usage: "give everything in the new layers to `uid:gid`",
		},
		&cli.StringSliceFlag{
			Name: "mask-path", Destination: &f.options.Masks,
			Usage: "leave out what is at and below `path` in the trees",
		},
		&cli.StringSliceFlag{
			Name: "annotation", Destination: &f.annotations,
			Usage: "set an annotation, as in `[manifest:|index:|config:]key=value`",
		},
		&cli.BoolFlag{
			Name: "index", Destination: &f.index,
			Usage: "add the image to the index that the tag leads to, in place of that for the same platform",
		},
		&cli.StringSliceFlag{
			Name: "name", Destination: &f.names,
			Usage: "one more `tag` for the image; may be given several times",
		},
		&cli.BoolFlag{
			Name: "oci-types", Destination: &f.oci,
			Usage: "use the media types of OCI, also if --from has Docker's",
		},
		&cli.BoolFlag{
			Name: "docker-types", Destination: &f.docker,
			Usage: "use the media types of Docker",
		},
		&cli.StringFlag{
			Name: "cache", Destination: &f.cache,
			Usage: "remember in this `directory` which layers trees have become, and do not make them again",
		},
		&cli.BoolFlag{
			Name: "json", Destination: &f.asJSON,
			Usage: "print one line of JSON about the image",
		},
	}
}

func (f *packFlags) check(given func(string) bool) error {
	for _, part := range []func(func(string) bool) error{
		f.checkTypes, f.checkCompress, f.checkOwner, f.checkNames, f.checkAnnotations, f.checkConfig,
	} {
		if err := part(given); err != nil {
			return err
		}
	}
	f.options.Index = f.index
	for _, v := range []struct{ name, value string }{{"from", f.from}, {"cache", f.cache}} {
		if given(v.name) && v.value == "" {
			return fmt.Errorf("invalid --%s: path is empty", v.name)
		}
	}
	if f.from != "" {
		if _, _, err := layout.ParseImage(f.from); err != nil {
			return fmt.Errorf("invalid --from: %w", reason(err))
		}
	}
	return nil
}

// checkTrees checks the positional arguments.
func (f *packFlags) checkTrees(args []string) error {
	if len(args) == 0 && len(f.uppers) == 0 {
		return errors.New("nothing to pack: expected a <tree> or --upper")
	}
	stdin := 0
	for _, arg := range append(slices.Clone(args), f.uppers...) {
		if arg == "" {
			return errors.New("<tree> is empty")
		}
	}
	for _, arg := range args {
		if arg == stdinName {
			stdin++
		}
	}
	if stdin > 1 {
		return errors.New("standard input can only be read once")
	}
	return nil
}

func (f *packFlags) checkTypes(func(string) bool) error {
	switch {
	case f.oci && f.docker:
		return errors.New("--oci-types and --docker-types may not be given together")
	case f.oci:
		f.options.MediaTypes = mutate.OCITypes
	case f.docker:
		f.options.MediaTypes = mutate.DockerTypes
	}
	return nil
}

// compressLevels are the greatest levels.
var compressLevels = map[layer.Compression]int{layer.Gzip: 9, layer.Zstd: 22}

func (f *packFlags) checkCompress(func(string) bool) error {
	if f.compress == "auto" {
		return nil
	}
	how, level, leveled := strings.Cut(f.compress, ":")
	c := layer.Compression(how)
	if known := []layer.Compression{layer.None, layer.Gzip, layer.Zstd}; !slices.Contains(known, c) {
		return fmt.Errorf("invalid --compress: %s is none of auto, none, gzip and zstd", quote.Name(how))
	}
	f.options.Compression = c
	if !leveled {
		return nil
	}
	n, err := strconv.Atoi(level)
	if err != nil || n < 1 || n > compressLevels[c] {
		if compressLevels[c] == 0 {
			return fmt.Errorf("invalid --compress: %s has no levels", c)
		}
		return fmt.Errorf("invalid --compress: %s is no level of %s, which has 1 to %d", quote.Name(level), c, compressLevels[c])
	}
	f.options.Level = n
	return nil
}

func (f *packFlags) checkOwner(given func(string) bool) error {
	if !given("owner") {
		return nil
	}
	uid, gid, ok := strings.Cut(f.owner, ":")
	if !ok {
		return fmt.Errorf("invalid --owner: %s is not of the form uid:gid", quote.Name(f.owner))
	}
	var ids [2]uint32
	for i, s := range []string{uid, gid} {
		n, err := strconv.ParseUint(s, 10, 32)
		if err == nil && n > lastID {
			err = errors.New("out of range")
		}
		if err != nil {
			return fmt.Errorf("invalid --owner: number %s: %w", quote.Name(s), reason(err))
		}
		ids[i] = uint32(n)
	}
	f.options.Owner = &layer.Owner{UID: ids[0], GID: ids[1]}
	return nil
}

func (f *packFlags) checkNames(func(string) bool) error {
	for _, name := range f.names {
		if err := checkTag(name); err != nil {
			return fmt.Errorf("invalid --name: %w", err)
		}
	}
	return nil
}

func (f *packFlags) checkAnnotations(func(string) bool) error {
	for _, s := range f.annotations {
		to, rest := &f.manifest, s
		for prefix, m := range map[string]*map[string]string{
			"manifest:": &f.manifest, "index:": &f.options.IndexAnnotations, "config:": &f.configDescriptor,
		} {
			if cut, ok := strings.CutPrefix(s, prefix); ok {
				to, rest = m, cut
			}
		}
		key, value, ok := strings.Cut(rest, "=")
		switch {
		case !ok:
			return fmt.Errorf("invalid --annotation: %s has no '='", quote.Name(s))
		case key == "":
			return fmt.Errorf("invalid --annotation: %s has no key", quote.Name(s))
		case key == ispec.AnnotationRefName:
			return fmt.Errorf("invalid --annotation: %s is the tag of the image, for --image and --name to set", key)
		}
		change(to, key, value, false)
	}
	return nil
}

// checkConfig reads the config to begin with.
func (f *packFlags) checkConfig(given func(string) bool) error {
	if !given("config") {
		return nil
	}
	file, err := os.Open(f.config)
	if err != nil {
		return fmt.Errorf("invalid --config: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read from
	f.options.Config, err = io.ReadAll(io.LimitReader(file, layout.DefaultMaxDocument+1))
	if err != nil {
		return fmt.Errorf("invalid --config: %w", err)
	}
	if len(f.options.Config) > layout.DefaultMaxDocument {
		return fmt.Errorf("invalid --config: %s has more than %d bytes", quote.Name(f.config), layout.DefaultMaxDocument)
	}
	return nil
}

// annotate sets the annotations that are in the manifest.
func (f *packFlags) annotate(i *mutate.Image) {
	if len(f.manifest) > 0 {
		s := i.Settings()
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		maps.Copy(s.Annotations, f.manifest)
		i.Set(s)
	}
	if len(f.configDescriptor) > 0 {
		a := i.ConfigAnnotations()
		if a == nil {
			a = map[string]string{}
		}
		maps.Copy(a, f.configDescriptor)
		i.SetConfigAnnotations(a)
	}
}
