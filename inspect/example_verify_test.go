// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/test/ocitest"
)

// A layout is looked through, whatever state it is in.
func ExampleVerify() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "shale-example-")
	if err != nil {
		log.Panic(err)
	}
	defer os.RemoveAll(dir)

	// An image, of which somebody has edited the manifest.
	d, err := ocitest.Put(dir, "app", ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "x", 0o644))}})
	if err != nil {
		log.Panic(err)
	}
	manifest := filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())
	content, err := os.ReadFile(manifest)
	if err != nil {
		log.Panic(err)
	}
	content[1] = '\''
	if err := os.WriteFile(manifest, content, 0o644); err != nil {
		log.Panic(err)
	}

	report, err := inspect.Verify(ctx, dir, inspect.VerifyOptions{})
	if err != nil {
		log.Panic(err)
	}
	for _, f := range report.Findings {
		fmt.Println(f.Severity, f.Code, f.Object.Kind)
	}
	fmt.Println(report.Errors, "errors")
	// Output:
	// error wrong-digest blob
	// 1 errors
}
