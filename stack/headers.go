// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shale-oci/shale/internal/tarstream"
	"github.com/shale-oci/shale/layer"
)

// Headers calls fn for each entry of the layers in the range, in order, with the number
// of the layer. It is for those who want to know which names layers speak of before they
// apply them: an entry by itself says little about the tree. Each layer is read to its
// end and checked.
func (s *Stack) Headers(ctx context.Context, in Range, fn func(i int, hdr *tar.Header) error, opt Options) error {
	r := newReader(s, in, "reading", opt)
	defer r.close()
	for i := in.From; i < in.To; i++ {
		err := r.use(ctx, i, func(content io.Reader) error {
			return headers(ctx, content, func(hdr *tar.Header) error {
				if err := r.budget.Header(hdr); err != nil {
					return &layer.EntryError{Entry: hdr.Name, Layer: int32(i), Err: err}
				}
				return fn(i, hdr)
			})
		})
		if err != nil {
			return s.inLayer(i, err)
		}
	}
	return nil
}

func headers(ctx context.Context, content io.Reader, fn func(*tar.Header) error) error {
	for tr, count := tarstream.NewReader(content), 0; ; count++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar header after %d entries: %w", count, err)
		}
		if err := fn(hdr); err != nil {
			return err
		}
	}
}
