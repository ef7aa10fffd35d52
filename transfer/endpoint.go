// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"io"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a place that images are read from. Nothing that it gives is verified
// by itself: whoever reads compares size and digest. It may be used from several
// goroutines at once.
type Source interface {
	// Resolve returns what the name that the source was opened with leads to: the
	// descriptor of a manifest or of an index. The error is layout.ErrNotFound if
	// there is no such thing.
	Resolve(ctx context.Context) (ispec.Descriptor, error)
	// Open returns the content of the blob, manifest or index d from the byte offset
	// on. The error is layout.ErrNotFound if the source does not have it.
	Open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error)
	// Close gives back what the source holds.
	Close() error
}

// Opener opens one content from a byte offset on, unverified, as Source.Open does.
type Opener func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Destination is a place that images are written to, from the leaves up: first
// blobs, then the manifests and indexes that name them, and at last the ref. It may
// be used from several goroutines at once.
type Destination interface {
	// Has reports whether the blob d, which is no manifest or index, is there.
	Has(ctx context.Context, d ispec.Descriptor) (bool, error)
	// PutBlob writes the blob d with what open gives. The blob is there only once all
	// of it was received and had the size and the digest of d: otherwise the error is
	// layout.ErrSize or layout.ErrDigest. After a fault in between the destination may
	// ask for the rest only, in the same call or in a later one.
	PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error
	// PutManifest writes the manifest or index d, all of whose content is there and
	// whose data are verified.
	PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error
	// SetRef makes the name that the destination was opened with lead to the manifest
	// or index d, which is there.
	SetRef(ctx context.Context, d ispec.Descriptor) error
	// Close ends the work on the destination, whatever it has come to.
	Close() error
}
