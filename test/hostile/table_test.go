// SPDX-License-Identifier: Apache-2.0

package hostile

import "slices"

// The command lines that most cases run.
const (
	unpack = "unpack --image @LAYOUT:v @BUNDLE"
	repack = "repack --image @LAYOUT:new @BUNDLE"
	stat   = "stat --image @LAYOUT:v"
	ls     = "ls --layout @LAYOUT"
	tag    = "tag --image @LAYOUT:v new"
	rm     = "rm --image @LAYOUT:v"
	gc     = "gc --layout @LAYOUT"

	rawUnpack = "raw unpack --image @LAYOUT:v @BUNDLE/rootfs"
	addLayer  = "raw add-layer --image @LAYOUT:v --tag new @HOST/f"
)

// table returns all cases.
func table() []hostileCase {
	return slices.Concat(
		whiteouts, names, links, metadata, xattrs, // table_tree_test.go
		streams, compression, // table_stream_test.go
		descriptors, layoutFiles, // table_layout_test.go
		bundles, repacks, // table_bundle_test.go
		copies, limits, // table_limits_test.go
	)
}
