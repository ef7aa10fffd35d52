// SPDX-License-Identifier: Apache-2.0

// Command treefacts prints one line for every name in a directory tree, with
// all that two trees are compared by: type, mode, owner, size, content, link
// target, device, time, xattrs, link count and hardlink group.
//
//	diff <(treefacts a) <(treefacts b)
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/shale-oci/shale/test/ocitest"
)

func main() {
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: treefacts DIR")
		os.Exit(2)
	}
	if err := show(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "treefacts:", err)
		os.Exit(1)
	}
}

func show(root string) (err error) {
	tree, err := ocitest.ReadTree(root)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	defer func() { err = errors.Join(err, w.Flush()) }()
	for _, line := range tree.Lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
