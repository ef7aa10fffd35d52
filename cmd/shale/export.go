// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/transfer"
)

func (a *app) exportCommand() *cli.Command {
	var (
		image    imageFlag
		limits   limitFlags
		path     string
		compress string
	)
	return a.command(command{
		name:  "export",
		usage: "write the root filesystem of an image as a tar archive",
		details: "The archive has what all layers of the image amount to, with owners, times, xattrs and\n" +
			"devices as they are in the image, whoever runs this: nothing is unpacked. It goes to\n" +
			"<file>, or to standard output without one or if that is -, but never to a terminal. A file\n" +
			"that is there is replaced, at the very end and only if all went well.\n\n" +
			"The entries are sorted by path, so that tar can restore directories as they were. Files\n" +
			"of upper layers wait for their turn in a temporary file, in the directory that TMPDIR\n" +
			"names. The same image gives the same bytes.",
		examples: []string{
			"shale export --image images:app rootfs.tar",
			"shale export --image images:app | tar -x --xattrs --xattrs-include='*' -C rootfs",
			"shale export --image images:app --path /etc etc.tar.zst",
		},
		positional: argRule{
			names: []string{"[<file>]"},
			other: func(args []string) error {
				if len(args) > 1 {
					return fmt.Errorf("invalid number of positional arguments: expected [<file>], got %d", len(args))
				}
				if len(args) == 1 && args[0] == "" {
					return errors.New("<file> is empty")
				}
				return nil
			},
		},
		groups: []flagGroup{&image, &limits},
		flags: []cli.Flag{
			&cli.StringFlag{
				Name: "path", Destination: &path,
				Usage: "only what the image has at this `place`, and all below it, with the names that it has in the image",
			},
			&cli.StringFlag{
				Name: "compress", Value: "auto", Destination: &compress,
				Usage: "`how` to compress the archive: none, gzip, zstd, or auto, which is gzip for .gz and .tgz, zstd for .zst and .tzst, and none otherwise",
			},
		},
		run: func(ctx context.Context, args []string) error {
			file := append(args, "-")[0]
			c, err := archiveCompression(compress, file)
			if err != nil {
				return err
			}
			return a.withImage(ctx, image, func(l *layout.Layout, from layout.Path) error {
				s, err := stack.Open(ctx, l, from)
				if err != nil {
					return err
				}
				return a.writeArchive(ctx, file, func(w io.Writer) error {
					return compressed(w, c, func(w io.Writer) error {
						return s.Flatten(ctx, w, s.All(), stack.FlattenOptions{
							Options: stack.Options{Limits: limits.limits, Warn: a.warn, Progress: a.report()},
							Path:    path,
							Sorted:  true,
						})
					})
				})
			})
		},
	})
}

// archiveSuffixes are the ends of names of compressed archives.
var archiveSuffixes = map[string]layer.Compression{
	".gz": layer.Gzip, ".tgz": layer.Gzip, ".zst": layer.Zstd, ".tzst": layer.Zstd,
}

// archiveCompression returns how an archive with a name is compressed.
func archiveCompression(how, name string) (layer.Compression, error) {
	if how == "auto" {
		return cmp.Or(archiveSuffixes[filepath.Ext(name)], layer.None), nil
	}
	c := layer.Compression(how)
	if known := []layer.Compression{layer.None, layer.Gzip, layer.Zstd}; !slices.Contains(known, c) {
		return "", fmt.Errorf("invalid --compress: %s is none of auto, none, gzip and zstd", quote.Name(how))
	}
	return c, nil
}

// writeArchive has the archive written to the file called name, or to standard output.
func (a *app) writeArchive(ctx context.Context, name string, write func(w io.Writer) error) error {
	buffered := func(w io.Writer) error {
		buf := bufio.NewWriterSize(w, 256<<10)
		if err := write(buf); err != nil {
			return err
		}
		return buf.Flush()
	}
	if name == "-" {
		if _, err := unix.IoctlGetTermios(unix.Stdout, unix.TCGETS); err == nil {
			return errors.New("an archive is not for a terminal: name a file, or redirect standard output")
		}
		return buffered(a.stdout)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("write %s: %w", quote.Name(name), syscall.EISDIR)
	}
	err := transfer.WriteFile(ctx, name, buffered)
	if errors.Is(err, syscall.EPIPE) {
		err = &outputError{err} // it is a pipe, too
	}
	return err
}

// compressed has write write what is then compressed to w.
func compressed(w io.Writer, c layer.Compression, write func(w io.Writer) error) error {
	zw, err := layer.NewWriter(w, c, 0)
	if err != nil {
		return err
	}
	err = write(zw)
	// It is closed in any case: it has goroutines.
	if cerr := zw.Close(); err == nil {
		err = cerr
	}
	return err
}
