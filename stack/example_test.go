// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

func ExampleStack_Flatten() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if _, err := ocitest.Put(filepath.Join(dir, "images"), "app", ocitest.Image{Layers: [][]byte{
		ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/motd", "hello", 0o644), ocitest.File("etc/old", "", 0o644)),
		ocitest.Layer(ocitest.Whiteout("etc/old"), ocitest.File("bin", "new", 0o755)),
	}}); err != nil {
		fmt.Println(err)
		return
	}
	if err := list(context.Background(), filepath.Join(dir, "images"), "app"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// bin
	// etc/
	// etc/motd
}

// list prints the names in the root filesystem of an image.
func list(ctx context.Context, path, ref string) error {
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	found, err := l.Resolve(ctx, ref, nil)
	if err != nil {
		return err
	}
	s, err := stack.Open(ctx, l, found)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := s.Flatten(ctx, &archive, s.All(), stack.FlattenOptions{Sorted: true}); err != nil {
		return err
	}
	for tr := tar.NewReader(&archive); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(hdr.Name)
	}
}
