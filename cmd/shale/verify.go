// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/quote"
)

func (a *app) verifyCommand() *cli.Command {
	var (
		where  verifyFlag
		limits limitFlags
		asJSON bool
	)
	return a.command(command{
		name:  "verify",
		usage: "look for everything that is wrong with a layout",
		details: "Checks a whole layout, or what one tag leads to: sizes, digests and diffIDs, the form of\n" +
			"all documents and what they say of each other, tags, and every layer down to its entries.\n" +
			"Goes on after each finding, and takes layouts that are so broken that nothing else does.\n" +
			"Writes nothing. A finding has a code, a severity (error, warning or info), what it is\n" +
			"about, and a sentence.",
		examples: []string{
			"shale verify --layout images",
			"shale verify --image images:app --platform linux/arm64",
			"shale verify --layout images --json | jq -r '.findings[] | select(.severity == \"error\") | .code'",
		},
		exit:   "1 there is an error in the layout, or it cannot be looked at (warnings alone are 0)",
		groups: []flagGroup{&where, &limits},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Destination: &asJSON, Usage: "print one line of JSON"},
		},
		run: func(ctx context.Context, _ []string) error {
			report, err := inspect.Verify(ctx, where.path, inspect.VerifyOptions{
				Ref:      where.ref,
				Platform: where.image.platform,
				Limits:   limits.limits,
				Layout:   a.layoutOptions(),
				Progress: a.report(),
			})
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(report)
			} else {
				renderVerify(a.stdout, report)
			}
			if err == nil && report.Errors > 0 {
				err = fmt.Errorf("%s found in the layout %s", plural(report.Errors, "error"), quote.Name(where.path))
			}
			return err
		},
	})
}

// verifyFlag is --layout or --image, of which there must be one, and --platform.
type verifyFlag struct {
	layout layoutFlag
	image  imageFlag

	path string
	ref  string // empty for all of the layout
}

func (f *verifyFlag) flags() []cli.Flag { return append(f.layout.flags(), f.image.flags()...) }

func (f *verifyFlag) check(given func(string) bool) error {
	switch {
	case given("layout") && given("image"):
		return errors.New("--layout and --image may not be given together")
	case given("image"):
		err := f.image.check(given)
		f.path, f.ref = f.image.path, f.image.ref
		return err
	case !given("layout"):
		return errors.New("missing mandatory argument: --layout or --image")
	}
	f.path = f.layout.path
	if err := f.layout.check(given); err != nil {
		return err
	}
	return f.image.checkPlatform(given)
}

// renderVerify writes the report for people: a line for each finding, and one about
// them all.
func renderVerify(w *output, r *inspect.VerifyReport) {
	for _, f := range r.Findings {
		in := ""
		if f.In != "" {
			in = " (in " + quote.Name(f.In) + ")"
		}
		w.printf("%-7s  %s  %s %s: %s%s\n", f.Severity, f.Code, f.Object.Kind, quote.Name(f.Object.Name), f.Message, in)
	}
	if r.Omitted > 0 {
		w.printf("and %d more\n", r.Omitted)
	}
	found := []string{plural(r.Errors, "error"), plural(r.Warnings, "warning")}
	if r.Infos > 0 {
		found = append(found, plural(r.Infos, "note"))
	}
	w.printf("%s in %s, %s, %s\n", strings.Join(found, ", "), plural(r.Images, "image"), plural(r.Blobs, "blob"), humanSize(r.Bytes))
}

// plural returns a number with what it counts.
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
