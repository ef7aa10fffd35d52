// SPDX-License-Identifier: Apache-2.0

// Package ocitest makes fixtures for tests in code: layers, whole layouts,
// random stacks of layers and random edits of a tree; and it takes snapshots
// of trees, so that two of them can be compared.
//
// Start with Layer and Image.Write:
//
//	base := ocitest.Layer(
//		ocitest.Dir("etc", 0o755),
//		ocitest.File("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644),
//	)
//	ocitest.Image{Layers: [][]byte{base}}.Write(t, dir, "latest")
//
// It imports none of shale's own packages, because it serves as an oracle for
// them.
package ocitest
