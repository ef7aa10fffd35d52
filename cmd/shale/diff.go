// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// The exit codes of diff.
const (
	exitDiffers   = 1
	exitDiffError = 2
)

// diffFlags are the flags of diff.
type diffFlags struct {
	ignore, include, exclude []string
	format, platformName     string
	asJSON, summary          bool
	times, content, exitCode bool

	fields   inspect.DiffFields
	platform *ispec.Platform
}

func (a *app) diffCommand() *cli.Command {
	var (
		f      diffFlags
		limits limitFlags
		ns     usernsFlag
	)
	return a.command(command{
		name:  "diff",
		usage: "compare two images, bundles or directories",
		details: "OLD and NEW are each an image, as path[:tag], the directory of a bundle, or any other\n" +
			"directory. The name of a directory that is there is that of a tree, unless there is a layout\n" +
			"in it; anything else is an image. A prefix says so where there is doubt: oci:path[:tag] is\n" +
			"an image, dir:path a directory.\n\n" +
			"Nothing is unpacked. Layers that two images share are read once, or not at all. Paths of\n" +
			"which only the time differs are counted, and neither listed nor a difference without --times.",
		examples: []string{
			"shale diff images:app images:app2",
			"shale diff --content --include /etc images:app bundle    # what was edited in the bundle",
			"shale diff --exit-code --ignore mtime,owner,config images:app other:app",
			"shale diff --json images:app images:app2 | jq -r '.entries[] | select(.kind == \"added\") | .path'",
		},
		exit:       "1 there are differences, and --exit-code was given, 2 error",
		trouble:    exitDiffError,
		positional: argRule{names: []string{"<OLD>", "<NEW>"}},
		groups:     []flagGroup{&f, &limits, &ns},
		run: func(ctx context.Context, args []string) (err error) {
			var sides [2]inspect.DiffSource
			for i, arg := range args {
				if sides[i], err = a.diffSource(ctx, arg, f.platform, &ns); err != nil {
					return err
				}
				if l := sides[i].Layout; l != nil {
					defer func() { err = errors.Join(err, l.Close()) }()
				}
			}
			d, err := inspect.Diff(ctx, sides[0], sides[1], inspect.DiffOptions{
				Ignore: f.fields, Times: f.times, Include: f.include, Exclude: f.exclude, Content: f.content,
				NoLinks: f.format != "json", // nothing else shows them
				Limits:  limits.limits, Warn: a.warn, Progress: a.report(),
			})
			if err != nil {
				return err
			}
			if err := a.printDiff(d, &f); err != nil {
				return err
			}
			// What could not be printed must not count as an answer.
			if err := a.stdout.flush(); err != nil {
				return err
			}
			if f.exitCode && !d.Same() {
				return &elsewhere{status: exitDiffers} // which says nothing more
			}
			return nil
		},
	})
}

func (f *diffFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Destination: &f.asJSON, Usage: "print one line of JSON: the same as --format json"},
		&cli.StringFlag{
			Name: "format", Value: "text", Destination: &f.format,
			Usage: "the `form` of the output: text, json, or luet (the JSON that luet and container-diff have)",
		},
		&cli.BoolFlag{
			Name: "summary", Destination: &f.summary,
			Usage: "print numbers and sizes of what was added, deleted and changed, as the JSON that luet has",
		},
		&cli.StringSliceFlag{
			Name: "ignore", Destination: &f.ignore,
			Usage: "do not compare these `fields`: " + strings.Join(inspect.DiffFieldNames(), ", "),
		},
		&cli.BoolFlag{
			Name: "times", Destination: &f.times,
			Usage: "also show what differs in its time alone, and take that for a difference",
		},
		&cli.StringSliceFlag{
			Name: "include", Destination: &f.include,
			Usage: "compare only paths that this `glob` matches, and what is below them; ** is any number of directories, " +
				"and one without a slash is for names in all directories",
		},
		&cli.StringSliceFlag{
			Name: "exclude", Destination: &f.exclude,
			Usage: "leave out paths that this `glob` matches, and what is below them",
		},
		&cli.BoolFlag{
			Name: "content", Destination: &f.content,
			Usage: "show how the content of small text files differs, as diff -u does",
		},
		&cli.BoolFlag{
			Name: "exit-code", Destination: &f.exitCode,
			Usage: "exit with status 1 if there is a difference",
		},
		&cli.StringFlag{
			Name: "platform", Destination: &f.platformName,
			Usage: "the `os/arch[/variant]` whose images are meant; by default this machine's, if a tag is that of several images",
		},
	}
}

func (f *diffFlags) check(given func(string) bool) (err error) {
	if f.asJSON {
		if given("format") && f.format != "json" {
			return fmt.Errorf("--json and --format %s may not be given together", quote.Name(f.format))
		}
		f.format = "json"
	}
	switch f.format {
	case "text", "json", "luet":
	default:
		return fmt.Errorf("invalid --format: %s is none of text, json and luet", quote.Name(f.format))
	}
	if f.summary && (f.asJSON || given("format")) {
		return errors.New("--summary and another form may not be given together")
	}
	if f.content && (f.summary || f.format == "luet") {
		return errors.New("--content needs the form text or json")
	}
	if given("ignore") {
		if f.fields, err = inspect.ParseDiffFields(f.ignore...); err != nil {
			return fmt.Errorf("invalid --ignore: %w", err)
		}
	}
	if given("platform") {
		p, err := layout.ParsePlatform(f.platformName)
		if err != nil {
			return fmt.Errorf("invalid --platform: %s is %w", quote.Name(f.platformName), reason(err))
		}
		f.platform = &p
	}
	return nil
}

// diffOperand says what an argument of diff names: the directory of a tree, or an image.
func diffOperand(arg string) (path string, image bool) {
	if rest, ok := strings.CutPrefix(arg, "oci:"); ok && !hasLayout("oci") {
		return rest, true
	}
	if rest, ok := strings.CutPrefix(arg, "dir:"); ok && !hasLayout("dir") {
		return rest, false
	}
	st, err := os.Stat(arg)
	if err != nil || !st.IsDir() {
		return arg, true
	}
	return arg, hasLayout(arg) && !bundle.IsBundle(arg)
}

// hasLayout reports whether there is a layout in the directory.
func hasLayout(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, ispec.ImageLayoutFile))
	return err == nil
}

// diffSource opens what an argument names. The layout of an image is for the caller to
// close.
func (a *app) diffSource(ctx context.Context, arg string, platform *ispec.Platform, ns *usernsFlag) (inspect.DiffSource, error) {
	s := inspect.DiffSource{Name: arg}
	path, image := diffOperand(arg)
	switch {
	case image:
		path, ref, err := layout.ParseImage(path)
		if err != nil {
			return s, fmt.Errorf("invalid image %s: %w", quote.Name(arg), reason(err))
		}
		l, err := layout.Open(ctx, path, a.layoutOptions())
		if err != nil {
			return s, err
		}
		if s.Image, err = l.Resolve(ctx, ref, &layout.ResolveOptions{Platform: platform}); err != nil {
			return s, errors.Join(err, l.Close())
		}
		s.Layout = l
		return s, nil
	case !bundle.IsBundle(path):
		s.Dir = path
		return s, nil
	}
	meta, err := bundle.ReadMeta(path)
	if err != nil {
		return s, fmt.Errorf("bundle %s: %w", quote.Name(path), err)
	}
	// What an ordinary user has unpacked in a user namespace is only what it was there.
	if err := ns.enter(mapped(meta.Map)); err != nil {
		return s, err
	}
	s.Dir, s.Map, s.Of = bundle.Rootfs(path), meta.Map, meta.From.Target().Digest
	if s.Baseline, err = bundle.Baseline(ctx, path, meta); err != nil {
		a.log.Infof("reading all files: %v", err)
		return s, ctx.Err()
	}
	return s, nil
}
