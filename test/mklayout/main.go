// SPDX-License-Identifier: Apache-2.0

// Command mklayout writes an image into an OCI layout from uncompressed tar
// files, one per layer, lowest first. Scripts that prepare test images use it
// because it shares no code with shale.
//
//	go run ./test/mklayout -layout DIR -tag TAG base.tar next.tar...
package main

import (
	"encoding/json"
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
	docker := flag.Bool("docker", false, "write Docker's media types")
	config := flag.String("config", `{"Cmd":["/bin/sh"]}`, "the `JSON` of what the image says about running it")
	flag.Parse()
	if *layout == "" {
		flag.Usage()
		os.Exit(2)
	}

	image := ocitest.Image{
		LayerFiles:  flag.Args(),
		Compression: *compression,
		Docker:      *docker,
		Platform:    ispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
	}
	if err := json.Unmarshal([]byte(*config), &image.Config); err != nil {
		fail(fmt.Errorf("parse -config: %w", err))
	}
	d, err := ocitest.Put(*layout, *tag, image)
	if err != nil {
		fail(err)
	}
	fmt.Println(d.Digest)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mklayout:", err)
	os.Exit(1)
}
