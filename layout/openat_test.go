// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"io"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestOpenBlobAt(t *testing.T) {
	l := newLayout(t)
	d := putBytes(t, l, ispec.MediaTypeImageLayer, []byte("0123456789"))
	embedded := d
	embedded.Data = []byte("0123456789")
	for _, d := range []ispec.Descriptor{d, embedded} {
		for _, offset := range []int64{0, 3, 10} {
			r, err := l.OpenBlobAt(t.Context(), d, offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != "0123456789"[offset:] {
				t.Errorf("at %d: %q, %v", offset, got, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, offset := range []int64{-1, 11} {
			if _, err := l.OpenBlobAt(t.Context(), d, offset); !errors.Is(err, ErrSize) {
				t.Errorf("at %d: %v", offset, err)
			}
		}
	}
	d.Size++
	if _, err := l.OpenBlobAt(t.Context(), d, 0); !errors.Is(err, ErrSize) {
		t.Errorf("of another size: %v", err)
	}
}
