// SPDX-License-Identifier: Apache-2.0

// Package transfer moves images between places: OCI layouts, archives, and
// repositories of registries that speak the OCI distribution API.
//
// Start with [ParseLocation], which reads how a place and an image in it are named, and
// [Copy], which copies an image from one to the other. [Resolve] and [Exists] ask for an
// image, [Tags] for all of them, [Delete] removes one from a registry, and [Login] and
// [Logout] keep and forget credentials.
//
// # What holds
//
// A copy is byte-exact: manifests and indexes are written as they were read, so that
// digests stay. Only the options, or a place that cannot hold the original, change that,
// and then [Result] says so.
//
// Nothing that was read counts before it has the size and the digest that the descriptor
// leading to it says. A blob is hashed once on its way: by a layout, which takes it under
// its name only if all of it was right, or by a registry, whose answer must say so; if it
// does not, it is hashed here before anything names it. Manifests follow from the leaves
// up, and at last the tag, which so never leads to anything incomplete.
// What an interrupted copy has brought stays, and the next one asks for the rest: whole
// blobs, and of a blob that a layout has the beginning of, the bytes after that.
//
// # Registries
//
// Authentication is that of go-containerregistry, with the user's docker config and
// credential helpers. Credentials go to the host that they belong to, and to no other that
// it redirects to. All requests are made here, since its remote package would write
// manifests anew and could not resume. A request that fails is made again after a pause,
// which the registry may lengthen; of a download only what is missing is asked for again.
// Plain HTTP is spoken to this machine only, and to the hosts that
// [RegistryOptions] name.
//
// # Glossary
//
//	place      a layout, an archive, or a repository of a registry
//	location   a place and an image in it: what [ParseLocation] reads
//	document   a manifest or an index
//	referrer   a manifest whose subject is another one: a signature, for example
package transfer
