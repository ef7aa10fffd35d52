// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/mtree"
)

func (a *app) rawMtreeValidateCommand() *cli.Command {
	var flags validateFlags
	return a.command(command{
		name:   "mtree-validate",
		hidden: true,
		usage:  "compare a directory with an mtree manifest",
		details: "Prints a line for each path that differs, by the rules of go-mtree. Bundles have such a\n" +
			"manifest of their root filesystem.",
		examples: []string{"shale raw mtree-validate -f bundle/sha256_*.mtree -p bundle/rootfs"},
		exit:     "1 if there is a difference or an error",
		groups:   []flagGroup{&flags},
		run: func(ctx context.Context, _ []string) error {
			f, err := os.Open(flags.manifest)
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // only read from
			lines, err := mtree.Validate(ctx, flags.path, f, flags.options)
			if err != nil {
				return err
			}
			for _, line := range lines {
				a.stdout.printf("%s\n", oneLine(line))
			}
			if len(lines) > 0 {
				return fmt.Errorf("validation failed: %d differences found", len(lines))
			}
			return nil
		},
	})
}

// validateFlags say what is compared with what, and by which keywords.
type validateFlags struct {
	manifest, path string
	use, add       string
	umoci          bool

	options mtree.ValidateOptions
}

func (f *validateFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "manifest", Aliases: []string{"f", "file"}, Destination: &f.manifest,
			Usage: "the mtree manifest `file`",
		},
		&cli.StringFlag{
			Name: "path", Aliases: []string{"p"}, Destination: &f.path,
			Usage: "the `directory` that is to be as the manifest says",
		},
		&cli.StringFlag{
			Name: "use-keywords", Aliases: []string{"k"}, Destination: &f.use,
			Usage: "compare these `keywords`, separated by commas or spaces, in place of those that the manifest has",
		},
		&cli.StringFlag{
			Name: "add-keywords", Aliases: []string{"K"}, Destination: &f.add,
			Usage: "compare these `keywords` too, separated by commas or spaces",
		},
		&cli.BoolFlag{
			Name: "umoci-keywords", Destination: &f.umoci,
			Usage: "compare the keywords of the manifests in bundles, unless --use-keywords names others",
		},
		&cli.BoolFlag{
			Name: "rootless", Destination: &f.options.Rootless,
			Usage: "read also what you have denied yourself to read",
		},
	}
}

func (f *validateFlags) check(given func(string) bool) error {
	switch {
	case !given("manifest"):
		return errors.New("missing mandatory argument: --manifest")
	case !given("path"):
		return errors.New("missing mandatory argument: --path")
	case f.manifest == "":
		return errors.New("invalid --manifest: path is empty")
	case f.path == "":
		return errors.New("invalid --path: path is empty")
	}
	switch {
	case given("use-keywords"):
		f.options.Keywords = splitKeywords(f.use)
	case f.umoci:
		f.options.Keywords = mtree.Keywords()
	}
	f.options.More = splitKeywords(f.add)
	return nil
}

// splitKeywords never returns nil, which would mean all keywords.
func splitKeywords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
