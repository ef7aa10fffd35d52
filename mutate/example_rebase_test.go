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

func ExampleImage_Rebase() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := rebase(context.Background(), filepath.Join(dir, "images")); err != nil {
		fmt.Println(err)
	}
	// Output:
	// release 2
	// app
	// runs [/app]
}

func rebase(ctx context.Context, path string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	older, err := imageOf(ctx, l, "release 1")
	if err != nil {
		return err
	}
	newer, err := imageOf(ctx, l, "release 2")
	if err != nil {
		return err
	}
	app, err := imageOf(ctx, l, "release 1", "app")
	if err != nil {
		return err
	}
	settings := app.Settings()
	settings.Config.Cmd = []string{"/app"}
	app.Set(settings)
	if err := app.Rebase(ctx, mutate.RebaseOptions{Old: older, New: newer}); err != nil {
		return err
	}
	for _, h := range app.Config().History {
		fmt.Println(h.CreatedBy)
	}
	fmt.Println("runs", app.Config().Config.Cmd)
	_, err = app.Commit(ctx)
	return err
}

// imageOf makes an image with a layer for each name, which holds a directory called so.
func imageOf(ctx context.Context, l *layout.Layout, names ...string) (*mutate.Image, error) {
	image := mutate.Blank(l, mutate.NewOptions{})
	for _, name := range names {
		if _, err := image.AddLayer(ctx, mutate.AddLayerOptions{
			Write: func(w io.Writer) error {
				tw := tar.NewWriter(w)
				if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
					return err
				}
				return tw.Close()
			},
			History: &ispec.History{CreatedBy: name},
		}); err != nil {
			return nil, err
		}
	}
	return image, nil
}
