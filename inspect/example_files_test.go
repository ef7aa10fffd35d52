// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// What an image contains, where that comes from, and what it costs.
func ExampleFiles() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "shale-example-")
	if err != nil {
		log.Panic(err)
	}
	defer os.RemoveAll(dir)
	if _, err := ocitest.Put(dir, "app", ocitest.Image{Layers: [][]byte{
		ocitest.Layer(ocitest.File("greeting", "hello, hello", 0o644), ocitest.File("name", "shale", 0o644)),
		ocitest.Layer(ocitest.File("greeting", "hi", 0o644)),
	}}); err != nil {
		log.Panic(err)
	}

	l, err := layout.Open(ctx, dir, nil)
	if err != nil {
		log.Panic(err)
	}
	defer l.Close()
	path, err := l.Resolve(ctx, "app", nil)
	if err != nil {
		log.Panic(err)
	}
	sum, err := inspect.Files(ctx, l, path, inspect.FilesOptions{}, func(f inspect.File) error {
		if f.Type == "file" {
			fmt.Printf("layer %d has %s of %d bytes, which hides %d\n", f.Layer, f.Path, f.Size, f.Shadows)
		}
		return nil
	})
	if err != nil {
		log.Panic(err)
	}
	fmt.Printf("%d of %d bytes are wasted\n", sum.Wasted, sum.Bytes)
	// Output:
	// layer 2 has /greeting of 2 bytes, which hides 12
	// layer 1 has /name of 5 bytes, which hides 0
	// 12 of 19 bytes are wasted
}
