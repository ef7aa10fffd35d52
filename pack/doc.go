// SPDX-License-Identifier: Apache-2.0

// Package pack makes images of directories: of one, of a chain of snapshots, of what
// overlayfs has collected in upper directories, and of tar archives.
//
// Start with [Image]. Each [Snapshot] becomes a layer: its difference from its parent.
// Layers are made concurrently. Two calls of Image that need the same layer at once make
// it once, and with a [Cache] a layer that was made before is not made again: then none of
// the files behind it is looked at. [Fingerprint] makes a key for a directory that may have
// changed since.
//
// # What a layer contains
//
// The entries of a layer are in canonical form: sorted, without user and group names, times
// cut to seconds, and independent of inode numbers, umask, locale, time zone and the user
// who packs. So the same trees give the same digests everywhere. Modification times count,
// those of directories too; where they differ from machine to machine, Options.Clamp makes
// all that are later the same.
//
// A tar archive is the exception: it is checked like a layer that is unpacked, on top of
// those below it, but then kept byte by byte. Whiteouts in it are whiteouts.
//
// # Overlayfs
//
// What goes into the layer of an upper directory is what the mount showed: the root has
// the mode, the owner and the time of the upper directory itself.
//
// An upper directory may be that of the kernel's overlayfs, mounted with or without
// userxattr, or of fuse-overlayfs. Deletions are devices 0:0, empty files called .wh.NAME, or
// files with the xattr overlay.whiteout where the kernel has them; opaque directories have
// the xattr trusted.overlay.opaque, user.overlay.opaque or user.fuseoverlayfs.opaque, or
// contain .wh..wh..opq. Directories that were renamed (the xattr redirect) and files without
// content (metacopy) need the lower directories, which are not at hand, and are refused:
// mount with redirect_dir=off,metacopy=off. No attribute that belongs to overlayfs gets into
// a layer. Reading trusted xattrs takes the privileges of whoever has mounted the overlay.
//
// # Glossary
//
//   - snapshot: one state of a tree, by its content and the snapshot it is based on.
//   - key: what says that two snapshots are the same without looking at them.
//   - base: the image that the lowest snapshot is based on.
package pack
