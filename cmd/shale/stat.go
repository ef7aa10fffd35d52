// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
)

func (a *app) statCommand() *cli.Command {
	var (
		image  imageFlag
		files  filesFlags
		limits limitFlags
		asJSON bool
	)
	return a.command(command{
		name:  "stat",
		usage: "show what an image consists of",
		details: "Shows the manifest, the config and the history of an image. If the tag is that of several\n" +
			"images, and --platform does not say which is meant, shows the index and the platforms.\n" +
			"With --files, lists what the image contains, or one of its layers: for each name the layer\n" +
			"that it comes from, and how many bytes of lower layers it hides, which are wasted.\n" +
			"The plain form is for people and may change; programs use --json, whose form stays.",
		examples: []string{
			"shale stat --image images:app",
			"shale stat --json --image images:app | jq -r '.history[].created_by'",
			"shale stat --image images:app --platform linux/arm64",
			"shale stat --image images:app --files --layer 2",
			"shale stat --image images:app --files --json | jq '.files | max_by(.shadows)'",
		},
		groups: []flagGroup{&image, &files, &limits},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Destination: &asJSON, Usage: "print one line of JSON"},
		},
		run: func(ctx context.Context, _ []string) error {
			if files.on {
				return a.statFiles(ctx, image, files, limits, asJSON)
			}
			var (
				s     *inspect.ImageStat
				index *inspect.IndexStat
			)
			err := a.withLayout(ctx, image.path, func(l *layout.Layout) (err error) {
				if index, err = statIndex(ctx, l, image); err != nil || index != nil {
					return err
				}
				path, err := l.Resolve(ctx, image.ref, &layout.ResolveOptions{Platform: image.platform})
				if err == nil {
					s, err = inspect.Stat(ctx, l, path)
				}
				return err
			})
			switch {
			case err != nil:
				return err
			case index != nil && asJSON:
				return a.printJSON(index)
			case index != nil:
				renderIndex(a.stdout, index)
				return nil
			}
			for _, p := range s.Problems {
				a.warn(p)
			}
			if asJSON {
				return a.printJSON(s)
			}
			renderStat(a.stdout, s)
			return nil
		},
	})
}

// statIndex returns what there is to say about the index that the tag leads to, or nil
// if one image is meant: because it is named, or because there is no other.
func statIndex(ctx context.Context, l *layout.Layout, image imageFlag) (*inspect.IndexStat, error) {
	if image.platform != nil {
		return nil, nil
	}
	root, err := l.Lookup(ctx, image.ref)
	if err != nil || !layout.IsIndex(root.MediaType) {
		return nil, err
	}
	s, err := inspect.StatIndex(ctx, l, root)
	if err != nil || len(s.Platforms) == 1 && len(s.Index.Index.Manifests) == 1 {
		return nil, err
	}
	return s, nil
}
