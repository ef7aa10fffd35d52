// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/backend"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/test/ocitest"
)

// A builder takes the root filesystem out of an image, and ships the image.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := ship(context.Background(), dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hello
	// loaded [example.com/hello:1]
	// exists: false
}

func ship(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "store")
	var store backend.Backend
	store, err := backend.Open(ctx, path, backend.Options{})
	if err != nil {
		return err
	}
	// Any program that writes layouts may put images into the store, or Download.
	hello := ocitest.Layer(ocitest.File("greeting", "hello", 0o644))
	if _, err := ocitest.Put(path, "example.com/hello:1", ocitest.Image{Layers: [][]byte{hello}}); err != nil {
		return err
	}
	rootfs, archive := filepath.Join(dir, "rootfs"), filepath.Join(dir, "hello.tar")
	err = store.Extract(ctx, backend.ExtractOptions{
		Name: "example.com/hello:1", Dir: rootfs, Map: layer.MapOptions{Rootless: true},
	})
	if err != nil {
		return err
	}
	greeting, err := os.ReadFile(filepath.Join(rootfs, "greeting"))
	fmt.Println(string(greeting))
	err = errors.Join(err, store.Export(ctx, backend.ExportOptions{Names: []string{"example.com/hello:1"}, File: archive}))
	if err != nil {
		return err
	}
	names, err := store.Load(ctx, archive)
	fmt.Println("loaded", names)
	err = errors.Join(err, store.Remove(ctx, "example.com/hello:1"))
	if err != nil {
		return err
	}
	there, err := store.Exists(ctx, "example.com/hello:1")
	fmt.Println("exists:", there)
	return err
}
