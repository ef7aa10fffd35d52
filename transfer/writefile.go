// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/shale-oci/shale/internal/quote"
)

// WriteFile makes the file at path what write writes, all at once: until then what was
// there before stays, and a kill leaves nothing half done. What a symbolic link leads to
// is replaced, not the link. Pipes and devices are written to as they are. Writing fails
// once ctx is done.
func WriteFile(ctx context.Context, path string, write func(w io.Writer) error) error {
	if err := writeArchiveFile(ctx, path, write); err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(path), err)
	}
	return nil
}
