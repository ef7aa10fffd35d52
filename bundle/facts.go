// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"fmt"
	"io"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/mtree"
)

// facts are what a bundle keeps about its root filesystem, to find later what
// has changed.
type facts struct {
	image ispec.Descriptor // the manifest of the image that the tree is
	path  string           // the root filesystem, for the comments of the mtree manifest
	tree  *mtree.Tree
	stamp mtree.Stamp // taken before the tree was walked
}

// write writes the mtree manifest and the stat cache, each by create.
func (f *facts) write(create func(name string, perm uint32, write func(io.Writer) error) error) error {
	var sum [32]byte
	err := create(mtreeName(f.image), 0o644, func(w io.Writer) (err error) {
		sum, err = f.tree.WriteManifest(w, mtree.NewHeader(f.path))
		return err
	})
	if err != nil {
		return err
	}
	return create(statName(f.image), 0o600, func(w io.Writer) error {
		if err := f.tree.WriteCache(w, sum, f.stamp); err != nil {
			return fmt.Errorf("stat cache: %w", err)
		}
		return nil
	})
}
