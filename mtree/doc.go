// SPDX-License-Identifier: Apache-2.0

// Package mtree knows what a directory tree on disk looks like and how it
// differs from what it looked like before.
//
// Start with [Walk], which makes a [Tree] out of a directory: one lstat per
// entry, in parallel, and a digest per regular file. [Tree.WriteManifest]
// writes it as an mtree manifest, byte for byte as umoci v0.6.0 does with
// go-mtree v0.7.0, and [Tree.WriteCache] writes the stat cache next to it.
// Later, [LoadBaseline] reads both back, Walk hashes only what the cache does
// not vouch for, and [Compare] lists the changes as [Delta]s, which [Mask] and
// [Simplify] thin out.
//
// # Glossary
//
//   - tree: the facts about a directory and all below it, without contents.
//   - entry: one name in a tree. The root is an entry too, called ".".
//   - mtree manifest: a tree as text, as in mtree(5). It is the truth about
//     what a bundle was unpacked from.
//   - stat cache: a tree as stat(2) saw it right after the manifest was made. A
//     shortcut, never the truth; it may be deleted at any time.
//   - stamp: the time on the clock of a file system.
//   - baseline: manifest and stat cache of one bundle, read back.
//   - delta: how one path differs between two trees.
//
// # Order
//
// "Byte-lexical order" is the order of whole paths compared byte by byte, as
// umoci sorts the members of a layer. Parents come before what is below them,
// but not always directly before it: "a" < "a.conf" < "a/b". The root, although it
// is called ".", comes first of all. Manifests have an
// order of their own: in each directory all that is no directory, then the
// directories, each sorted by name.
//
// # Paths
//
// Paths are relative to the root of the tree, with slashes, without a leading
// "./"; the root is ".". Names are bytes: they need not be UTF-8.
package mtree
