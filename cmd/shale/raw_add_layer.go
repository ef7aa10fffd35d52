// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func (a *app) rawAddLayerCommand() *cli.Command {
	var (
		image    imageFlag
		tag      tagFlag
		history  historyFlags
		compress compressFlag
	)
	return a.command(command{
		name:  "add-layer",
		usage: "add a tar archive to an image, as it is, as a new layer",
		details: "The archive must not be compressed. Nothing checks that it is a proper layer, and\n" +
			"whiteouts in it are whiteouts.",
		examples: []string{
			"shale raw add-layer --image images:app layer.tar",
			"tar -c etc | shale raw add-layer --image images:app --compress zstd /dev/stdin",
		},
		positional: argRule{names: []string{"<layer.tar>"}},
		groups:     []flagGroup{&image, &tag, &history, &compress},
		run: func(ctx context.Context, args []string) error {
			tar, err := openTar(ctx, args[0])
			if err != nil {
				return err
			}
			defer tar.close()
			return a.withImage(ctx, image, func(l *layout.Layout, path layout.Path) error {
				img, err := mutate.Open(ctx, l, path)
				if err != nil {
					return err
				}
				entry, err := history.entry("shale raw add-layer", img.Config().Author)
				if err != nil {
					return err
				}
				a.warnOfMissing(entry)
				if _, err := img.AddLayer(ctx, mutate.AddLayerOptions{
					Compression: compress.compression,
					History:     entry,
					Write:       func(w io.Writer) error { return tar.copyTo(ctx, w, a.report()) },
				}); err != nil {
					return err
				}
				changes, err := mutate.CommitAll(ctx, img)
				if err != nil {
					return err
				}
				return a.retag(ctx, l, tag.or(image.ref), changes)
			})
		},
	})
}

// tarFile is a plain tar archive that somebody wants to be a layer.
type tarFile struct {
	name  string
	r     io.Reader
	size  int64 // 0 if not known
	close func()
}

func openTar(ctx context.Context, name string) (_ *tarFile, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &tarFile{name: name}
	// Reading from a pipe ends when the file is closed, if nothing comes.
	stop := context.AfterFunc(ctx, func() { f.Close() }) //nolint:errcheck // only read from
	t.close = func() {
		stop()
		f.Close() //nolint:errcheck // only read from
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, not a tar archive", quote.Name(name))
	}
	if info.Mode().IsRegular() {
		t.size = info.Size()
	}
	switch t.r, err = layer.NewReader(f, layer.None, nil); {
	case ctx.Err() != nil: // which is why the file is closed
		return nil, ctx.Err()
	case errors.Is(err, layer.ErrMagic):
		return nil, fmt.Errorf("%s must be a tar archive that is not compressed: %w", quote.Name(name), err)
	}
	return t, err
}

func (t *tarFile) copyTo(ctx context.Context, w io.Writer, report progress.Func) error {
	e := progress.Event{Stage: "adding", Name: t.name, Total: t.size, Unit: progress.Bytes}
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		e.Done += int64(n)
		switch e.End = errors.Is(err, io.EOF); {
		case e.End:
			report.Report(e)
			return nil
		case ctx.Err() != nil: // which is why the file is closed
			return ctx.Err()
		case err != nil:
			return err
		}
		report.Report(e)
	}
}
