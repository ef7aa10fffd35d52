// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"

	"github.com/shale-oci/shale/internal/limit"
)

// The limits that hold unless [Options] say otherwise.
const (
	// DefaultMaxIndex is enough for a hundred thousand refs with platforms.
	DefaultMaxIndex = 32 << 20
	// DefaultMaxDocument is twice what registries accept.
	DefaultMaxDocument = 8 << 20
	// DefaultMaxDepth is how many descriptors a path in the graph of a layout may
	// have: far more than any honest image needs.
	DefaultMaxDepth = 64
)

// Limits that nothing changes. What a document of the greatest size costs in
// memory depends on how many things it lists.
const (
	// maxManifests is how many entries an index may have.
	maxManifests = 200_000
	// maxLayers is how many layers an image may have: thirty times as many as
	// container engines mount.
	maxLayers = 4096
	// maxHistory is how many entries the history of an image may have, which has
	// some for steps that made no layer.
	maxHistory = 4 * maxLayers
	// maxIndexValues is how many JSON values an index may hold: ten for each of a
	// hundred thousand entries.
	maxIndexValues = 1 << 20
)

// setDefaults puts the defaults in the place of what is 0.
func (o *Options) setDefaults() {
	o.MaxIndex = cmp.Or(o.MaxIndex, DefaultMaxIndex)
	o.MaxDocument = cmp.Or(o.MaxDocument, DefaultMaxDocument)
	o.MaxDepth = cmp.Or(o.MaxDepth, DefaultMaxDepth)
}

// sizeLimit is how many bytes there may be of something.
type sizeLimit struct {
	name limit.Name // empty for one that nothing changes
	max  int64
}

func (s sizeLimit) check(found int64) error {
	if err := limit.Check(s.name, "bytes", found, s.max); err != nil {
		return as(ErrTooLarge, err)
	}
	return nil
}

func (o *Options) indexLimit() sizeLimit    { return sizeLimit{limit.Index, o.MaxIndex} }
func (o *Options) documentLimit() sizeLimit { return sizeLimit{limit.Document, o.MaxDocument} }
