// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/pack"
)

func (a *app) packCommand() *cli.Command {
	var (
		image   imageFlag
		history historyFlags
		maps    mapFlags
		ns      usernsFlag
		config  configFlags
		limits  limitFlags
		f       packFlags
	)
	return a.command(command{
		name:  "pack",
		usage: "make an image of directories, of what overlayfs has collected, or of tar archives",
		details: "Each <tree> is a directory with a whole root filesystem or a tar archive, which may be\n" +
			"compressed; - is one on standard input. The first becomes a layer, and so does of each\n" +
			"following directory what makes it differ from the one before. With --from, the first is\n" +
			"compared with that image, whose layers come below. An --upper is an upper directory of\n" +
			"overlayfs or fuse-overlayfs; they come on top, in their order. Nothing in a directory\n" +
			"<tree> that is the same in everything that a layer can hold gets into a layer.\n\n" +
			"What an overlay that root has mounted without userxattr says in an upper directory of\n" +
			"what is deleted or hidden, only root can read: run shale as root then. And mount with\n" +
			"redirect_dir=off,metacopy=off: what was renamed or changed is whole in the upper\n" +
			"directory only then.\n\n" +
			"A tar archive is checked like a layer, and then taken as it is: its whiteouts delete,\n" +
			"and no flag changes its entries. The layout is made if need be. With --cache, a\n" +
			"directory in which nothing has changed since is not read again.\n\n" +
			"The flags for the config are those of shale config, and change what --config or --from\n" +
			"say. An --annotation is one of the manifest; with index: before it of the index that\n" +
			"--index makes, or of the entry in index.json; with config: of the config's descriptor.",
		examples: []string{
			"shale pack --image images:app --config.entrypoint /usr/bin/app rootfs",
			"shale pack --image images:app --from images:debian rootfs          # the difference is one layer",
			"shale pack --image images:app --cache ~/.cache/pack base lib app   # three layers",
			"shale pack --image images:app --from images:debian --upper up1 --upper up2",
			"tar -c . | shale pack --image images:app --platform linux/arm64 --index -",
		},
		positional: argRule{
			names: []string{"[<tree>...]"},
			other: f.checkTrees,
		},
		groups: []flagGroup{&image, &history, &maps, &ns, &config, &limits, &f},
		run: func(ctx context.Context, args []string) error {
			if err := ns.enter(maps.given() || f.options.Owner != nil); err != nil {
				return err
			}
			opt := f.options
			opt.Map, opt.Platform, opt.Limits = maps.options, image.platform, limits.limits
			opt.Refs = append([]string{image.ref}, f.names...)
			opt.Edit = func(i *mutate.Image) error {
				f.annotate(i)
				config.apply(i)
				return nil
			}
			opt.Warn, opt.Progress = a.warn, a.report()
			if err := a.packTimes(&opt); err != nil {
				return err
			}
			entry, err := history.entry("shale pack", "")
			if err != nil {
				return err
			}
			if entry == nil {
				opt.NoHistory = true
				a.warnOfMissing(nil)
			} else if !history.given("history.created") {
				entry.Created = nil // then it is the time at which the layer was made
			}
			snapshots, err := f.snapshots(ctx, args, entry)
			if err != nil {
				return err
			}
			if err := a.pack(ctx, image, &f, snapshots, opt); err != nil {
				return err
			}
			if len(f.uppers) > 0 && !readsTrusted() {
				a.warn("only root can read the trusted.overlay xattrs of --upper: if root has mounted the overlay without " +
					"userxattr, directories that hide what is below them do not do so in the image")
			}
			return nil
		},
	})
}

// packTimes says which times the image gets.
func (a *app) packTimes(opt *pack.Options) (err error) {
	if opt.Clamp, err = clampTime(); err != nil {
		return err
	}
	created, err := creationTime()
	opt.Created = &created
	return err
}

// pack packs into the layout of the image, and tells what came out.
func (a *app) pack(ctx context.Context, image imageFlag, f *packFlags, snapshots []pack.Snapshot, opt pack.Options) (err error) {
	if f.cache != "" {
		if opt.Cache, err = pack.OpenCache(f.cache); err != nil {
			return err
		}
		defer opt.Cache.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
	var result pack.Result
	err = a.withMadeLayout(ctx, image.path, func(l *layout.Layout) (err error) {
		if f.from != "" {
			if opt.Base, err = a.packBase(ctx, l, f.from, image); err != nil {
				return err
			}
		}
		result, err = pack.Image(ctx, l, snapshots, opt)
		return err
	})
	if err != nil {
		return err
	}
	for _, ref := range result.Refs {
		a.log.Infof("tagged the image %s as %s", result.Descriptor.Digest, ref)
	}
	if f.asJSON {
		return a.printJSON(result)
	}
	return nil
}

// packBase finds the image that is to be the base, and copies it if it is in another layout.
func (a *app) packBase(ctx context.Context, l *layout.Layout, value string, image imageFlag) (base layout.Path, err error) {
	path, ref, err := layout.ParseImage(value)
	if err != nil {
		return nil, fmt.Errorf("invalid --from: %w", reason(err))
	}
	from, err := layout.Open(ctx, path, &layout.Options{NoLock: a.global.noLock})
	if err != nil {
		return nil, err
	}
	defer from.Close() //nolint:errcheck // always nil
	if base, err = from.Resolve(ctx, ref, &layout.ResolveOptions{Platform: image.platform}); err != nil {
		return nil, err
	}
	base = layout.Path{base.Target()}
	if sameFile(path, image.path) {
		return base, nil
	}
	manifest, err := from.Manifest(ctx, base.Target())
	if err != nil {
		return nil, err
	}
	for _, d := range append(manifest.Layers, manifest.Config, base.Target()) {
		if _, err := l.CopyBlob(ctx, from, d, nil); err != nil {
			return nil, err
		}
	}
	return base, nil
}

// sameFile reports whether two paths lead to the same file.
func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// snapshots are the trees and the upper directories, each on top of the one before.
func (f *packFlags) snapshots(ctx context.Context, trees []string, entry *ispec.History) ([]pack.Snapshot, error) {
	var list []pack.Snapshot
	add := func(name string, s pack.Snapshot) error {
		s.Name, s.History = name, entry
		for n := 2; ; n++ { // the same directory may be there twice
			taken := false
			for _, other := range list {
				taken = taken || other.Name == s.Name
			}
			if !taken {
				break
			}
			s.Name = fmt.Sprintf("%s (%d)", name, n)
		}
		if len(list) > 0 {
			s.Parent = list[len(list)-1].Name
		}
		if f.cache != "" && name != stdinName {
			var err error
			s.Key, err = pack.Fingerprint(ctx, f.path(&s, name))
			if err != nil && !errors.Is(err, fs.ErrPermission) { // then it is read each time
				return err
			}
		}
		list = append(list, s)
		return nil
	}
	for _, name := range trees {
		s, err := treeSnapshot(name)
		if err == nil {
			err = add(name, s)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range f.uppers {
		dir, err := filepath.EvalSymlinks(name)
		if err == nil {
			err = add(name, pack.Snapshot{Upper: dir})
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// path is where the content of a snapshot is.
func (f *packFlags) path(s *pack.Snapshot, name string) string {
	switch {
	case s.Dir != "":
		return s.Dir
	case s.Upper != "":
		return s.Upper
	}
	return name
}

// stdinName stands for standard input.
const stdinName = "-"

// treeSnapshot is what a positional argument means.
func treeSnapshot(name string) (pack.Snapshot, error) {
	if name == stdinName {
		return pack.Snapshot{Tar: openStdin}, nil
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return pack.Snapshot{}, err
	case info.IsDir():
		// What the user names may be a link to the tree.
		path, err := filepath.EvalSymlinks(name)
		return pack.Snapshot{Dir: path}, err
	case info.Mode().IsRegular() || info.Mode()&fs.ModeNamedPipe != 0:
		// A link below /dev/fd leads nowhere that has a name.
		return pack.Snapshot{Tar: func(context.Context) (io.ReadCloser, error) { return os.Open(name) }}, nil
	}
	return pack.Snapshot{}, fmt.Errorf("%s is neither a directory nor a tar archive", quote.Name(name))
}

// openStdin opens standard input. A pipe or a terminal is opened once more, if that is
// permitted: then a read that waits ends when it is closed.
func openStdin(context.Context) (io.ReadCloser, error) {
	info, err := os.Stdin.Stat()
	if err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 {
		if again, err := os.Open("/dev/stdin"); err == nil {
			return again, nil
		}
	}
	return os.Stdin, nil
}
