// SPDX-License-Identifier: Apache-2.0

// Command checklayout checks OCI layouts from outside, sharing no code with
// shale: that all that index.json leads to is there, with the right sizes,
// digests and diffIDs.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/shale-oci/shale/test/ocitest"
)

func main() {
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: checklayout DIR...")
		os.Exit(2)
	}
	for _, dir := range flag.Args() {
		if err := ocitest.Verify(dir); err != nil {
			fmt.Fprintf(os.Stderr, "checklayout: %s: %v\n", dir, err)
			os.Exit(1)
		}
	}
}
