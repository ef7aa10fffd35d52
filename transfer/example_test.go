// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/shale-oci/shale/test/ocitest"
	"github.com/shale-oci/shale/transfer"
)

// Images travel from a layout to a registry and back, and have the same digests.
func ExampleCopy() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	images := filepath.Join(dir, "images")
	d, err := ocitest.Put(images, "app", ocitest.Image{Layers: [][]byte{ocitest.Layer()}})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(registry.New())
	defer server.Close()

	names := []string{images + ":app", "docker://" + strings.TrimPrefix(server.URL, "http://") + "/app:1.0", filepath.Join(dir, "copy") + ":app"}
	for i := range names[1:] {
		src, err := transfer.ParseLocation(names[i])
		if err != nil {
			panic(err)
		}
		dst, err := transfer.ParseLocation(names[i+1])
		if err != nil {
			panic(err)
		}
		result, err := transfer.Copy(ctx, src, dst, transfer.Options{})
		if err != nil {
			panic(err)
		}
		fmt.Println(result.Images[0].Digest == d.Digest, result.Blobs)
	}
	// Output:
	// true map[copied:2]
	// true map[copied:2]
}
