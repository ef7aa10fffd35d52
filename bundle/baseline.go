// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/mtree"
)

// IsBundle reports whether the directory dir has an umoci.json, as the last thing that
// makes a bundle of it.
func IsBundle(dir string) bool {
	d, err := openDir(dir)
	if err != nil {
		return false
	}
	defer d.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	_, err = d.Lstat(metaName)
	return err == nil
}

// Rootfs returns the path of the root filesystem of the bundle in the directory dir.
func Rootfs(dir string) string { return filepath.Join(dir, rootfsName) }

// Baseline reads what the bundle in the directory dir, which meta is about, knows of its
// root filesystem as it was when it was unpacked.
func Baseline(ctx context.Context, dir string, meta Meta) (*mtree.Baseline, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	b, err := mtree.LoadBaseline(ctx, d, mtreeName(meta.From.Target()))
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", quote.Name(dir), err)
	}
	return b, nil
}
