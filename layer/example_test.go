// SPDX-License-Identifier: Apache-2.0

package layer_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/test/ocitest"
)

// A stack of layers becomes one tree, without a disk.
func ExampleTree_Apply() {
	tree := layer.NewTree()
	for _, l := range [][]byte{
		ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/motd", "hello", 0o644), ocitest.File("etc/issue", "1", 0o644)),
		ocitest.Layer(ocitest.Whiteout("etc/issue"), ocitest.Symlink("bin", "usr/bin")),
	} {
		if err := tree.Apply(context.Background(), bytes.NewReader(l), layer.Discard, layer.ApplyOptions{}); err != nil {
			fmt.Println(err)
			return
		}
	}
	_ = tree.Walk(func(n *layer.Node) error {
		fmt.Println(n.Inode().Type, n.Path())
		return nil
	})
	// Output:
	// directory .
	// symbolic link bin
	// directory etc
	// regular file etc/motd
}
