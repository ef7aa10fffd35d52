// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// TestRecompressLimits: a layer costs no more than the budget of its image, and is what
// its diffID says.
func TestRecompressLimits(t *testing.T) {
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "l"))
	must(t, err)
	defer l.Close()
	content := make([]byte, 1<<20)
	diffID := digest.FromBytes(content)
	dgst, size, err := l.PutBlob(t.Context(), bytes.NewReader(compressed(t, content, layer.Zstd)))
	must(t, err)
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayerZstd, Digest: dgst, Size: size}
	v := &converter{l: l, opt: &Options{Compress: layer.Gzip}, budget: layer.Limits{Bytes: 3 << 19}.Budget(size)}
	if _, err := v.recompress(t.Context(), d, layer.Zstd, diffID); err != nil {
		t.Error(err)
	}
	var over *layer.LimitError
	if _, err := v.recompress(t.Context(), d, layer.Zstd, diffID); !errors.As(err, &over) {
		t.Errorf("beyond the budget: %v", err)
	}
	v.budget = nil
	if _, err := v.recompress(t.Context(), d, layer.Zstd, digest.FromString("another")); !errors.Is(err, layer.ErrDiffID) {
		t.Errorf("another diffID: %v", err)
	}
}
