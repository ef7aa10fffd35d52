// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

func (a *app) gcCommand() *cli.Command {
	var (
		where  layoutFlag
		dryRun bool
		asJSON bool
	)
	return a.command(command{
		name:  "gc",
		usage: "remove the blobs that no tag leads to",
		details: "Also removes what killed programs have left behind. Blobs that others are writing at\n" +
			"the moment are spared.",
		examples: []string{
			"shale gc --layout images",
			"shale gc --layout images --dry-run --json",
		},
		groups: []flagGroup{&where},
		flags: []cli.Flag{
			&cli.BoolFlag{
				Name: "dry-run", Destination: &dryRun,
				Usage: "remove nothing, and list what would be removed",
			},
			&cli.BoolFlag{
				Name: "json", Destination: &asJSON,
				Usage: "print one line of JSON about what was removed, or would be",
			},
		},
		run: func(ctx context.Context, _ []string) error {
			var report layout.GCReport
			err := a.withLayout(ctx, where.path, func(l *layout.Layout) (err error) {
				report, err = l.GC(ctx, &layout.GCOptions{DryRun: dryRun})
				return err
			})
			if err != nil {
				return err
			}
			a.log.Infof("%d blobs (%s) and %d temporary directories",
				len(report.Blobs), humanSize(report.Bytes), len(report.TempDirs))
			switch {
			case asJSON:
				return a.printJSON(gcJSON(report, dryRun))
			case dryRun:
				for _, d := range report.Blobs {
					a.stdout.printf("%s\n", d)
				}
				for _, dir := range report.TempDirs {
					a.stdout.printf("%s\n", quote.Name(dir))
				}
			}
			return nil
		},
	})
}

// gcJSON is the form of gc --json, which other programs read.
func gcJSON(r layout.GCReport, dryRun bool) any {
	return struct {
		DryRun   bool            `json:"dry_run"`
		Blobs    []digest.Digest `json:"blobs"`
		Bytes    int64           `json:"bytes"`
		TempDirs []string        `json:"temp_dirs"`
	}{dryRun, append([]digest.Digest{}, r.Blobs...), r.Bytes, append([]string{}, r.TempDirs...)}
}
