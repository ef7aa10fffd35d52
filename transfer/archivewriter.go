// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archiveWriter is an archive that is written as a whole once all that is to go into it
// is there: one image, or many.
type archiveWriter interface {
	Has(ctx context.Context, d ispec.Descriptor) (bool, error)
	PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error
	PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error
	// add makes the name in a location lead to d.
	add(loc Location, d ispec.Descriptor)
	// flush writes the archive.
	flush(ctx context.Context) error
	Close() error
}

// archiveDestination writes to one name in an archive that stays open.
type archiveDestination struct {
	archiveWriter
	loc       Location
	referrers []ispec.Descriptor
}

var _ Destination = (*archiveDestination)(nil)

// SetRef implements [Destination]. What was set is there once the archive is written.
func (t *archiveDestination) SetRef(_ context.Context, d ispec.Descriptor) error {
	t.add(t.loc, d)
	for _, r := range t.referrers {
		t.add(Location{Digest: r.Digest}, r)
	}
	return nil
}

// Close implements [Destination].
func (t *archiveDestination) Close() error { return nil }

// ociArchiveDestination is an archiveDestination that has a place for referrers.
type ociArchiveDestination struct{ archiveDestination }

// putReferrers implements referrerDestination, as layouts do.
func (t *ociArchiveDestination) putReferrers(_ context.Context, _ digest.Digest, list []ispec.Descriptor) error { //nolint:unparam // registries can fail
	t.referrers = append(t.referrers, list...)
	return nil
}

// referrers implements referrerSource by a look at all manifests in the archive, once.
func (a *ociArchive) referrers(ctx context.Context, subject digest.Digest) ([]ispec.Descriptor, error) {
	if a.subjects != nil {
		return a.subjects[subject], nil
	}
	var all []ispec.Descriptor
	g := graph{read: a.archive.ReadBlob, has: a.archive.HasBlob, visit: func(d ispec.Descriptor) {
		if isDocument(d) {
			all = append(all, d)
		}
	}}
	for _, root := range a.index.Manifests {
		if err := g.walk(ctx, root, 1); err != nil {
			return nil, err
		}
	}
	a.subjects = map[digest.Digest][]ispec.Descriptor{}
	for _, d := range all {
		_, about, err := g.children(ctx, d)
		if err != nil {
			return nil, err
		}
		if about != nil {
			a.subjects[about.Digest] = append(a.subjects[about.Digest], d)
		}
	}
	return a.subjects[subject], nil
}
