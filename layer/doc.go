// SPDX-License-Identifier: Apache-2.0

// Package layer knows one layer as a tar stream, and a stack of layers as one
// tree.
//
// [Tree] is the merge engine: [Tree.Apply] applies layers to it in order, and
// it alone decides what an image contains: whiteouts, opaque directories,
// replaced types, hardlinks, names that lead through symbolic links. What that
// means for the outside goes to a [Sink]; [Disk] is the one that writes a
// directory tree. [Stream] reads a layer blob: decompressed, hashed and read
// ahead. In the other direction, [Generate] writes the changes of a directory
// tree as a layer, and [NewWriter] compresses it.
//
// The package never sees a layout: it takes rooted directories and readers.
//
// Glossary:
//
//   - entry: one member of a layer's tar stream.
//   - whiteout, opaque whiteout: entries that delete, as in the layer chapter of
//     the OCI image-spec ("Representing Changes").
//   - upper: what the layer being applied has touched itself; whiteouts in the
//     same layer spare it, whatever the order of the entries.
//   - placeholder: the empty file that stands for a device where a process may
//     not make one.
package layer
