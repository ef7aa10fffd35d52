// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layout"
)

func (a *app) rawRuntimeConfigCommand() *cli.Command {
	var (
		image  imageFlag
		maps   mapFlags
		rootfs string
	)
	return a.command(command{
		name: "runtime-config", aliases: []string{"config"},
		usage: "write the runtime configuration of an image",
		details: "This is the config.json that unpack puts into a bundle. The container's root filesystem is\n" +
			"called as that of --rootfs, next to config.json. Without --rootfs it is called rootfs, and\n" +
			"a user whom the image names otherwise than by number cannot be looked up, and becomes\n" +
			"root.",
		examples: []string{
			"shale raw runtime-config --image images:app config.json",
			"shale raw runtime-config --image images:app --rootfs rootfs /dev/stdout",
		},
		positional: argRule{names: []string{"<config.json>"}},
		groups:     []flagGroup{&image, &maps},
		flags: []cli.Flag{&cli.StringFlag{
			Name: "rootfs", Destination: &rootfs,
			Usage: "the `directory` with the root filesystem, where the users are",
		}},
		run: func(ctx context.Context, args []string) error {
			var b bytes.Buffer
			err := a.withImage(ctx, image, func(l *layout.Layout, path layout.Path) error {
				manifest, err := l.Manifest(ctx, path.Target())
				if err != nil {
					return err
				}
				config, err := l.Config(ctx, manifest.Config)
				if err != nil {
					return err
				}
				opt := bundle.RuntimeOptions{Map: maps.options, Warn: a.warn}
				if rootfs != "" {
					if opt.Rootfs, err = openDir(rootfs); err != nil {
						return err
					}
					defer opt.Rootfs.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
					opt.RootPath = filepath.Base(rootfs)
				}
				return bundle.WriteRuntimeConfig(&b, &config, opt)
			})
			if err != nil {
				return err
			}
			if err := writeFile(args[0], b.Bytes()); err != nil {
				return err
			}
			a.log.Infof("wrote %s", quote.Name(args[0]))
			return nil
		},
	})
}

// openDir opens a directory by a path that is the user's own: it may well be a
// symbolic link.
func openDir(path string) (*rooted.Dir, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	return rooted.Open(resolved)
}

// writeFile makes data the content of the file at path. A regular file is replaced as
// a whole, so that an error leaves the old one; anything else is written to.
func writeFile(path string, data []byte) error {
	perm := uint32(0o666) // less the umask
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	case err == nil:
		perm = uint32(info.Mode().Perm())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	base := filepath.Base(path)
	temp := fmt.Sprintf(".%s.%d", base, os.Getpid())
	f, err := dir.Create(temp, perm)
	if err != nil {
		return &fs.PathError{Op: "create", Path: path, Err: cause(err)}
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = dir.Rename(temp, dir, base)
	}
	if err != nil {
		dir.Remove(temp) //nolint:errcheck // what failed first is what matters
		return &fs.PathError{Op: "write", Path: path, Err: cause(err)}
	}
	return nil
}
