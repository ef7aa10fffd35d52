// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/rooted"
)

// StatBlob returns the facts about the file of the blob that d describes, by which one
// that was verified can be known again without reading it. The error is ErrNotFound if
// there is none, and ErrSize if it has another size than d says.
func (l *Layout) StatBlob(ctx context.Context, d ispec.Descriptor) (rooted.Stat, error) {
	if err := l.usable(ctx); err != nil {
		return rooted.Stat{}, opError("look for blob", string(d.Digest), err)
	}
	st, err := l.statBlob(d.Digest)
	switch {
	case err != nil:
		err = missing(err)
	case !st.IsRegular():
		err = as(ErrInvalid, errors.New("not a regular file"))
	case st.Size != d.Size:
		err = fmt.Errorf("%w: %d bytes, not %d", ErrSize, st.Size, d.Size)
	}
	return st, opError("look for blob", string(d.Digest), err)
}
