// SPDX-License-Identifier: Apache-2.0

// Package split takes a set of images apart into tiers, and puts them together
// again with the same digests: so that the base is shipped once, the libraries
// once, and after that only what has changed.
//
// Start with [Split], or with [NewPlan] to see what it would write, and go back
// with [Join]. [Inspect] tells what is in an OUT.
//
// # OUT
//
// What Split writes is a directory, called OUT here. It holds one OCI layout for
// each tier and split.json ([File]), which says what belongs where:
//
//	OUT/split.json
//	OUT/base/    oci-layout, index.json, blobs/
//	OUT/lib/     the same
//	OUT/app/     the same, and a copy of split.json that travels with it
//
// A tier below the topmost is the ordered prefix of every image that its own image
// has, less the layers of the tiers below it. Layers are matched by their diffIDs,
// never by their digests: a base that was compressed again is still the base. Then
// the tier gets the blobs that the images have, not those of the tier's image,
// because it is the images that must come back byte by byte.
//
// The lowest tier is the image that it was made from, with the same digest. A tier
// above it is an image with nothing but its own layers: complete and of use to any
// program, though what it holds only makes sense on top of the tiers below, which
// its annotation org.opencontainers.image.base.digest names. Were the layers below
// in it, too, they would be written twice and shipped twice. The topmost tier holds
// the manifests and configs of the images as they are, and with them all layers
// that are in no tier below: its manifests name layers that are elsewhere.
//
// No layer is in two tiers, except for one that a tier's own image repeats. What
// Options.Against knows is in none, and a tier of which nothing is left has no
// directory.
//
// # Trust
//
// Join takes no file for what its name says. split.json carries a digest of itself
// and says what the other files are; every blob is hashed when it is read, no tar
// decides where anything is written, and nothing has a tag before all of it is
// there and right.
//
// # Glossary
//
//	tier    one part of a split: base, lib, app, or any other name
//	own     the layers of a tier's image that are not in a tier below
//	OUT     what a split has written
//	site    where the images are joined
package split
