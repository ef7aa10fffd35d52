// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/mutate"
)

// InsertOptions say what becomes a layer, and how.
type InsertOptions struct {
	// Source is the file or directory on this machine that goes into the layer,
	// with all below it. A symbolic link is taken as one. If empty, the layer
	// deletes Target.
	Source string
	// Target is the path in the image, relative to its root.
	Target string
	// Opaque hides what the image has in the directory Target.
	Opaque bool
	// Map relates the owners on the disk to those in the image.
	Map layer.MapOptions
	// Compression of the new layer. If empty, that of the image's last
	// compressed layer, or gzip.
	Compression layer.Compression
	// History is the entry for the new layer; nil for none.
	History *ispec.History
	// Clamp, if not nil, is the latest modification time that an entry of the
	// layer gets, as seconds since the Unix epoch.
	Clamp *int64
	// Warn receives what was left out or looks wrong. May be nil.
	Warn func(msg string)
	// Progress receives the stage "compressing" (bytes). May be nil.
	Progress progress.Func
}

// Insert adds a layer to the image that from leads to, without a bundle, and
// returns the path to the new manifest. No ref moves.
func Insert(ctx context.Context, l *layout.Layout, from layout.Path, opt InsertOptions) (layout.Path, error) {
	to, err := insert(ctx, l, from, opt)
	if err != nil {
		return nil, fmt.Errorf("insert %s: %w", quote.Name(opt.Target), err)
	}
	return to, nil
}

func insert(ctx context.Context, l *layout.Layout, from layout.Path, opt InsertOptions) (layout.Path, error) {
	img, err := mutate.Open(ctx, l, from)
	if err != nil {
		return nil, err
	}
	root, changes, err := insertion(ctx, opt)
	if err != nil {
		return nil, err
	}
	if root != nil {
		defer root.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
	if _, err := img.AddLayer(ctx, mutate.AddLayerOptions{
		Compression: opt.Compression,
		History:     opt.History,
		Write: func(w io.Writer) error {
			return layer.Generate(ctx, w, root, changes, layer.GenerateOptions{
				Map: opt.Map, Clamp: opt.Clamp, Warn: opt.Warn, Progress: opt.Progress,
			})
		},
	}); err != nil {
		return nil, err
	}
	return img.Commit(ctx)
}

var (
	errOpaqueWhiteout = errors.New("an opaque directory and its deletion exclude each other")
	errOpaqueFile     = errors.New("not a directory, and only directories can be opaque")
)

// insertion lists what goes into the layer, and returns the directory that its
// paths are relative to: nil if nothing comes from a disk.
func insertion(ctx context.Context, opt InsertOptions) (*rooted.Dir, []layer.Change, error) {
	target := path.Clean("/" + opt.Target)
	if opt.Source == "" {
		if opt.Opaque {
			return nil, nil, errOpaqueWhiteout
		}
		return nil, []layer.Change{{Name: target, Deleted: true}}, nil
	}
	parent, base, err := openParent(opt.Source)
	if err != nil {
		return nil, nil, err
	}
	var changes []layer.Change
	if opt.Opaque {
		changes = append(changes, layer.Change{Name: target, Opaque: true})
	}
	st, err := parent.Lstat(base)
	if err != nil {
		return nil, nil, errors.Join(err, parent.Close())
	}
	if !st.IsDir() && opt.Opaque {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", quote.Name(opt.Source), errOpaqueFile), parent.Close())
	}
	if !st.IsDir() && target == "/" {
		return nil, nil, errors.Join(layer.ErrRootType, parent.Close())
	}
	if !st.IsDir() {
		return parent, append(changes, layer.Change{Path: base, Name: target, Stat: st}), nil
	}
	root, err := parent.OpenDir(base)
	if err := errors.Join(err, parent.Close()); err != nil {
		return nil, nil, err
	}
	tree, err := mtree.Walk(ctx, root, mtree.WalkOptions{
		// Generate reads the files; nobody asks for their digests.
		Digest:   func(string, rooted.Stat) (none [32]byte, ok bool) { return none, true },
		Rootless: opt.Map.Rootless,
	})
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	for e := range tree.All() {
		changes = append(changes, layer.Change{Path: e.Path(), Name: path.Join(target, e.Path()), Stat: e.Stat()})
	}
	return root, changes, nil
}

// openParent opens the directory that a path of the user's is in. Symbolic links
// on the way are his own; only the last component is taken as it is.
func openParent(name string) (*rooted.Dir, string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, "", err
	}
	dir, base := filepath.Split(abs)
	if base == "" {
		base = "." // the root of the machine
	}
	parent, err := openDir(dir)
	return parent, base, err
}
