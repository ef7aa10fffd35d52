// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := packTwice(context.Background(), dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// base: reused false
	// app: reused false
	// base: reused true
	// app: reused true
}

// packTwice packs a base and an application on top of it, and then the same again.
func packTwice(ctx context.Context, dir string) error {
	base, app := filepath.Join(dir, "base"), filepath.Join(dir, "app")
	for _, d := range []string{base, app} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(app, "hello"), []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		return err
	}
	images, err := layout.Create(ctx, filepath.Join(dir, "images"))
	if err != nil {
		return err
	}
	defer images.Close()
	snapshots := []pack.Snapshot{
		{Name: "base", Key: "build 1, step 1", Dir: base},
		{Name: "app", Key: "build 1, step 2", Dir: app, Parent: "base"},
	}
	var cache pack.Cache
	for range 2 {
		image, err := pack.Image(ctx, images, snapshots, pack.Options{Refs: []string{"app"}, Cache: &cache})
		if err != nil {
			return err
		}
		for _, l := range image.Layers {
			fmt.Printf("%s: reused %t\n", l.Snapshot, l.Reused)
		}
	}
	return nil
}
