// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
)

// UnpackRootfs writes the root filesystem of the image that from leads to into
// the directory dir, which is made, or is there and empty. There is no bundle
// around it. If it fails or ctx ends, what it made is removed again.
func UnpackRootfs(ctx context.Context, l *layout.Layout, from layout.Path, dir string, opt UnpackOptions) (err error) {
	img, err := stack.Open(ctx, l, from)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := checkOwners(ctx, img, opt); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	b := &newDir{path: dir, image: img.Descriptor}
	defer func() {
		if err != nil {
			err = fmt.Errorf("unpack into %s: %w", quote.Name(dir), errors.Join(err, b.undo()))
		}
		b.close()
	}()
	if err := b.mkdirAll(dir); err != nil {
		return err
	}
	if b.dir, err = openDir(dir); err != nil {
		return err
	}
	there, err := b.dir.Names()
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%w, and is not empty", ErrExists)
	}
	before, err := b.dir.Lstat(".")
	if err != nil {
		return err
	}
	if _, err = applyLayers(ctx, img, b.dir, opt); err != nil {
		return errors.Join(err, b.empty(before))
	}
	return nil
}

// empty removes what is in the directory and gives it the mode that it had.
func (b *newDir) empty(before rooted.Stat) error {
	if err := b.dir.Chmod(".", 0o700); err != nil {
		return err
	}
	names, err := b.dir.Names()
	if err != nil {
		return err
	}
	errs := make([]error, 0, len(names))
	for _, e := range names {
		errs = append(errs, b.dir.RemoveAll(e.Name))
	}
	return errors.Join(append(errs, b.dir.Chmod(".", before.Perm()))...)
}

// applyLayers writes the image's tree below rootfs.
func applyLayers(ctx context.Context, img *stack.Stack, rootfs *rooted.Dir, opt UnpackOptions) (_ *layer.Tree, err error) {
	disk, err := layer.NewDisk(rootfs, layer.DiskOptions{Map: opt.Map, Warn: opt.Warn})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			disk.Abort()
		}
	}()
	tree, err := img.Tree(ctx, disk, stack.Options{
		KeepDirlinks: opt.KeepDirlinks, Limits: opt.Limits, Warn: opt.Warn, Progress: opt.Progress,
	})
	if err != nil {
		return nil, err
	}
	return tree, img.InLayer(disk.Finish(ctx, tree))
}
