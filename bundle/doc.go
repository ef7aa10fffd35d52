// SPDX-License-Identifier: Apache-2.0

// Package bundle makes a runtime bundle of an image, and an image of what
// somebody changed in the bundle.
//
// [Unpack] writes an image's root filesystem, a config.json for OCI runtimes and
// the facts that [Repack] needs to find later what has changed. [Repack] adds
// the changes to the image as one layer. Neither moves a ref unless it is asked
// to.
//
// A bundle holds:
//
//   - rootfs/: the root filesystem.
//   - config.json: the runtime configuration (OCI runtime-spec).
//   - umoci.json: where the bundle comes from; umoci reads and writes it too.
//   - sha256_<manifest>.mtree: the mtree manifest, the truth about what the root
//     filesystem was when it was unpacked.
//   - sha256_<manifest>.stat: the stat cache, a shortcut that may be deleted at
//     any time.
package bundle
