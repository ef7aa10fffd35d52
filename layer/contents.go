// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shale-oci/shale/internal/tarstream"
)

// Contents reads the plain tar stream of a layer for the contents of wanted:
// regular files of that layer, in the order of their entries, as a [Tree] has them
// to which the layer has been applied. fn is called for each, with what the file
// contains. Nothing is read behind the last of them.
func Contents(ctx context.Context, r io.Reader, wanted []*Inode, fn func(*Inode, io.Reader) error) error {
	tr := tarstream.NewReader(r)
	entry := int32(-1)
	for _, ino := range wanted {
		var hdr *tar.Header
		for entry < ino.Entry {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			if hdr, err = tr.Next(); errors.Is(err, io.EOF) {
				return fmt.Errorf("read entry %d of the layer: %w", ino.Entry, io.ErrUnexpectedEOF)
			} else if err != nil {
				return fmt.Errorf("read entry %d of the layer: %w", ino.Entry, err)
			}
			entry++
		}
		if hdr == nil || hdr.Size != ino.Size {
			return fmt.Errorf("entry %d of the layer is another than before", ino.Entry)
		}
		if err := fn(ino, tr); err != nil {
			return &EntryError{Entry: hdr.Name, Layer: ino.Layer, Err: err}
		}
	}
	return nil
}
