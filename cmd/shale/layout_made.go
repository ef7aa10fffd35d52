// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// withMadeLayout is withLayout for a layout that is made if there is none. If nothing comes
// of it then, it does not stay.
func (a *app) withMadeLayout(ctx context.Context, path string, fn func(*layout.Layout) error) error {
	made, err := a.ensureLayout(ctx, path)
	if err != nil {
		return err
	}
	err = a.withLayout(ctx, path, fn)
	if err == nil || !made {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	gerr := a.withLayout(ctx, path, func(l *layout.Layout) error {
		_, err := l.GC(ctx, nil) // it spares what others have put there meanwhile
		return err
	})
	if gerr != nil {
		a.log.Warnf("the new layout stays: %s", gerr)
		return err
	}
	a.dropEmptyLayout(ctx, path)
	return err
}

// ensureLayout makes the layout at path if there is nothing, and reports whether it did.
func (a *app) ensureLayout(ctx context.Context, path string) (made bool, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	l, err := layout.Create(ctx, path)
	switch {
	case errors.Is(err, fs.ErrExist): // another command may just have made it
		return false, nil
	case err != nil:
		return false, err
	}
	return true, l.Close()
}

// dropEmptyLayout removes the layout at path if there is nothing in it: nothing but what
// makes a directory a layout, and so no temporary directory of anybody who is writing.
// No handle of this process may be open.
func (a *app) dropEmptyLayout(ctx context.Context, path string) {
	empty := false
	err := a.withLayout(context.WithoutCancel(ctx), path, func(l *layout.Layout) error {
		empty = isEmpty(context.WithoutCancel(ctx), l)
		return nil
	})
	if err == nil && empty {
		err = removeLayout(path)
	}
	if err != nil {
		a.log.Warnf("the new layout stays: %s", err)
	}
}

// isEmpty reports whether there is nothing in the layout: no entry, no blob, and no other
// file or directory than those of every layout.
func isEmpty(ctx context.Context, l *layout.Layout) bool {
	index, err := l.Index(ctx)
	if err != nil || len(index.Manifests) > 0 {
		return false
	}
	some := errors.New("there is a blob")
	if l.Blobs(ctx, func(digest.Digest, int64) error { return some }) != nil {
		return false
	}
	entries, err := os.ReadDir(l.Path())
	return err == nil && len(entries) == 3
}

// removeLayout removes an empty layout, with what must be empty first: if somebody has
// begun to write a moment ago, that stays.
func removeLayout(path string) error {
	blobs := filepath.Join(path, ispec.ImageBlobsDir)
	algorithms, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	var names []string
	for _, alg := range algorithms {
		names = append(names, filepath.Join(blobs, alg.Name()))
	}
	names = append(names, blobs, filepath.Join(path, ispec.ImageIndexFile), filepath.Join(path, ispec.ImageLayoutFile), path)
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
