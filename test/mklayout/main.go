// SPDX-License-Identifier: Apache-2.0

// Command mklayout writes an image into an OCI layout from uncompressed tar
// files, one per layer, lowest first. Scripts that prepare test images use it
// because it shares no code with shale.
//
//	go run ./test/mklayout -layout DIR -tag TAG base.tar next.tar...
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

func main() {
	layout := flag.String("layout", "", "`directory` of the layout, made if need be")
	tag := flag.String("tag", "latest", "`name` of the image in the layout")
	compression := flag.String("compress", "gzip", "compression of the layers: gzip, zstd or none")
	flag.Parse()
	if *layout == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}

	d, err := ocitest.Put(*layout, *tag, ocitest.Image{
		LayerFiles:  flag.Args(),
		Compression: *compression,
		Platform:    ispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config: ispec.ImageConfig{
			Env: []string{"PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"/bin/sh"},
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mklayout:", err)
		os.Exit(1)
	}
	fmt.Println(d.Digest)
}
