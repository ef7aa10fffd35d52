// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
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
				if entry == nil {
					a.warn("the new layer has no history entry, which confuses many tools")
				}
				if _, err := img.AddLayer(ctx, mutate.AddLayerOptions{
					Compression: compress.compression,
					History:     entry,
					Write:       func(w io.Writer) error { return tar.copyTo(ctx, w, a.report()) },
				}); err != nil {
					return err
				}
				if path, err = img.Commit(ctx); err != nil {
					return err
				}
				if err := l.SetRef(ctx, tag.or(image.ref), path.Root()); err != nil {
					return err
				}
				a.log.Infof("tagged the image %s as %s", path.Target().Digest, tag.or(image.ref))
				return nil
			})
		},
	})
}

// tarFile is a plain tar archive that somebody wants to be a layer.
type tarFile struct {
	name  string
	r     *bufio.Reader
	size  int64 // 0 if not known
	close func()
}

// magics are what compressed files begin with.
var magics = map[string][]byte{
	"gzip":  {0x1f, 0x8b},
	"zstd":  {0x28, 0xb5, 0x2f, 0xfd},
	"bzip2": []byte("BZh"),
	"xz":    {0xfd, '7', 'z', 'X', 'Z', 0},
}

func openTar(ctx context.Context, name string) (_ *tarFile, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &tarFile{name: name, r: bufio.NewReaderSize(f, 256<<10)}
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
	// As much as there is: an error comes again when the archive is read.
	start, _ := t.r.Peek(8)
	for algorithm, magic := range magics {
		if bytes.HasPrefix(start, magic) {
			return nil, fmt.Errorf("%s is compressed with %s, and must be a plain tar archive", quote.Name(name), algorithm)
		}
	}
	return t, nil
}

func (t *tarFile) copyTo(ctx context.Context, w io.Writer, report progress.Func) error {
	e := progress.Event{Stage: "adding", Name: t.name, Total: t.size, Unit: progress.Bytes}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, t.r, 1<<20)
		e.Done += n
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
