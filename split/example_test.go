// SPDX-License-Identifier: Apache-2.0

package split_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/split"
	"github.com/shale-oci/shale/test/ocitest"
)

// A vendor has an app on a base. What is split there is joined at the site.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, out := context.Background(), filepath.Join(dir, "OUT")
	if err := vendor(ctx, filepath.Join(dir, "vendor"), out); err != nil {
		fmt.Println(err)
	}
	if err := site(ctx, out, filepath.Join(dir, "site")); err != nil {
		fmt.Println(err)
	}
	// Output:
	// tier base: 1 layers
	// tier app: 1 layers
	// joined v1
}

func vendor(ctx context.Context, path, out string) error {
	base, app := ocitest.Layer(ocitest.File("base", "base", 0o644)), ocitest.Layer(ocitest.File("app", "app", 0o644))
	if _, err := ocitest.Put(path, "base", ocitest.Image{Layers: [][]byte{base}}); err != nil {
		return err
	}
	if _, err := ocitest.Put(path, "v1", ocitest.Image{Layers: [][]byte{base, app}}); err != nil {
		return err
	}
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	plan, err := split.Split(ctx, out, split.Options{
		Images: []split.Image{{Layout: l, Ref: "v1"}},
		Tiers:  []split.Tier{{Name: "base", Image: split.Image{Layout: l, Ref: "base"}}},
	})
	if err != nil {
		return err
	}
	for _, t := range plan.Outs[0].Tiers {
		fmt.Printf("tier %s: %d layers\n", t.Name, t.Layers)
	}
	return nil
}

func site(ctx context.Context, out, path string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	joined, err := split.Join(ctx, l, split.JoinOptions{From: out})
	if err != nil {
		return err
	}
	fmt.Println("joined", joined.Images[0].Ref)
	return nil
}
