// SPDX-License-Identifier: Apache-2.0

package mutate_test

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := build(context.Background(), filepath.Join(dir, "images")); err != nil {
		fmt.Println(err)
	}
	// Output: 1 layer, runs [/hello]
}

func build(ctx context.Context, path string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	empty, err := mutate.New(ctx, l, mutate.NewOptions{})
	if err != nil {
		return err
	}
	image, err := mutate.Open(ctx, l, layout.Path{empty})
	if err != nil {
		return err
	}
	if _, err := image.AddLayer(ctx, mutate.AddLayerOptions{
		Write:   writeHello,
		History: &ispec.History{CreatedBy: "example"},
	}); err != nil {
		return err
	}
	settings := image.Settings()
	settings.Config.Cmd = []string{"/hello"}
	image.Set(settings)
	way, err := image.Commit(ctx)
	if err != nil {
		return err
	}
	fmt.Println(len(image.Manifest().Layers), "layer, runs", image.Config().Config.Cmd)
	return l.SetRef(ctx, "hello", way.Root())
}

func writeHello(w io.Writer) error {
	tw := tar.NewWriter(w)
	script := "#!/bin/sh\necho hello\n"
	if err := tw.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(script))}); err != nil {
		return err
	}
	if _, err := io.WriteString(tw, script); err != nil {
		return err
	}
	return tw.Close()
}

func ExampleImage_Squash() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := squash(context.Background(), filepath.Join(dir, "images")); err != nil {
		fmt.Println(err)
	}
	// Output:
	// merged 2 layers: first; second
	// 1 layer
}

func squash(ctx context.Context, path string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	image := mutate.Blank(l, mutate.NewOptions{})
	for _, by := range []string{"first", "second"} {
		if _, err := image.AddLayer(ctx, mutate.AddLayerOptions{
			Write:   writeHello,
			History: &ispec.History{CreatedBy: by},
		}); err != nil {
			return err
		}
	}
	if _, err := image.Squash(ctx, mutate.SquashOptions{History: ispec.History{CreatedBy: "example"}}); err != nil {
		return err
	}
	fmt.Println(image.Config().History[0].Comment)
	fmt.Println(len(image.Manifest().Layers), "layer")
	way, err := image.Commit(ctx)
	if err != nil {
		return err
	}
	return l.SetRef(ctx, "hello", way.Root())
}
