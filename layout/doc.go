// SPDX-License-Identifier: Apache-2.0

// Package layout is the image store: a directory as the OCI image-layout
// specification describes it, with blobs named by their digests, an index.json
// whose entries carry refs, and nothing else.
//
// Start with [Open] (or [Create] for a new layout) and end with [Layout.Close].
// [Layout.Resolve] leads from a ref to the descriptor of one image manifest,
// [Layout.Manifest] and [Layout.Config] read what is behind it, and
// [Layout.OpenBlob] streams a layer. To write, put blobs with
// [Layout.CreateBlob], [Layout.PutBlob] or [Layout.PutJSON], from the leaves
// up, and at last make the result visible with [Layout.SetRef].
//
// # What holds
//
// A blob appears under its name only complete and synced, so that a crash at any
// moment leaves the old or the new state and at worst a temporary directory that
// the next [Layout.GC] removes. index.json changes only in [Layout.Update],
// under an exclusive lock, by a rename; members that this package does not know
// stay as they are. Readers never lock and never write, so that a read-only
// layout is fully readable.
//
// Everything that is read is foreign input. Blobs are checked against size and
// digest while they are read. JSON is read up to a limit, and refused where two
// readers could understand it differently. No name out of a document is ever used
// as a path: a digest becomes a file name only after its algorithm and hex digits
// have been checked, all files are opened relative to the descriptor of their
// directory, and symbolic links, FIFOs and devices are refused. Only the path that
// is given to [Open] may itself be a symbolic link.
//
// A [Layout] may be used from several goroutines at once, and any number of
// processes may use the same directory.
//
// # Locking
//
// The lock is a flock(2) on the layout directory itself: it needs no file that
// would have to be created, that a rename could replace, or that a crash could
// leave behind, and the kernel drops it with the process that held it. It is
// held exclusively by [Layout.Update] and [Layout.GC], and shared for the moment
// in which a writer notes down a blob that it counts on. Such notes are empty
// files in the writer's temporary directory; gc spares the blobs that living
// writers have noted. [Options.NoLock] is for file systems that cannot lock.
//
// # Glossary
//
//	blob        a file named by the digest of its content
//	descriptor  media type, digest and size of a blob, and annotations
//	index       a JSON blob that lists manifests, or further indexes;
//	            index.json is the one that is no blob
//	manifest    a JSON blob that lists the config and the layers of one image
//	config      a JSON blob that says how to run an image, and its diffIDs
//	layer       a tar stream, mostly compressed, with one change to a tree
//	ref         a tag: the annotation org.opencontainers.image.ref.name of an
//	            entry of index.json
//	subject     the manifest that another manifest says something about
package layout
