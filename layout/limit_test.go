// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/test/ocitest"
)

// many returns a document with a list of n elements in it.
func many(start, elem string, n int, end string) []byte {
	return []byte(start + elem + strings.Repeat(","+elem, n-1) + end)
}

// TestManyTinyElements is about documents that are small to write and large to
// keep: they must be refused before anything is made of them.
func TestManyTinyElements(t *testing.T) {
	const config = `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},`
	manifest := `{"schemaVersion":2,"config":` + anyDescriptor + `,`
	for _, tc := range []struct {
		name string
		data []byte
		says string
	}{
		{"index entries", many(`{"manifests":[`, `{"mediaType":"","digest":"a:b","size":0}`, maxManifests+1, `]}`), "manifests: 200001 elements"},
		{"index annotations", many(`{"annotations":{`, `"":""`, maxIndexValues, `}}`), "values in one document"},
		{"history", many(config+`"history":[`, `{}`, maxHistory+1, `]}`), "history: 16385 elements"},
		{"diff_ids", many(`{"rootfs":{"type":"layers","diff_ids":[`, `""`, maxLayers+1, `]}}`), "rootfs: diff_ids: 4097 elements"},
		{"environment", many(config+`"config":{"Env":[`, `""`, 1<<20, `]}}`), "values in one document"},
		{"foreign members", many(config+`"x":[`, `{}`, 2<<20, `]}`), "values in one document"},
		{"layers", many(manifest+`"layers":[`, anyDescriptor, maxLayers+1, `]}`), "layers: 4097 elements"},
		{"URLs", many(manifest+`"layers":[{"mediaType":"","digest":"","size":0,"urls":[`, `""`, 1<<20, `]}]}`), "values in one document"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var err error
			ocitest.AssertPureAllocates(t, 1<<20, func() {
				switch {
				case bytes.HasPrefix(tc.data, []byte(manifest)):
					_, err = parseManifest(tc.data, ispec.MediaTypeImageManifest)
				case bytes.HasPrefix(tc.data, []byte(`{"manifests"`)), bytes.HasPrefix(tc.data, []byte(`{"annotations"`)):
					_, err = parseIndex(tc.data, ispec.MediaTypeImageIndex)
				default:
					err = configDoc.Unmarshal(tc.data, new(ispec.Image))
				}
			})
			var over *limit.Error
			if !errors.As(err, &over) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
}

// TestHundredThousandRefs checks that what an honest layout may have fits the
// limits.
func TestHundredThousandRefs(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "a")
	d.Platform = &ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	index := ispec.Index{Manifests: []ispec.Descriptor{}}
	for i := range 100_000 {
		addRef(&index, fmt.Sprintf("registry.example.org/project/image:v%d", i), d)
	}
	writeIndexFile(t, l, string(mustEncode(t, index)))
	list, err := l.Refs(t.Context())
	must(t, err)
	if len(list) != 100_000 {
		t.Errorf("%d refs", len(list))
	}
}

func TestMaxDepth(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "a")
	for range 3 {
		d = putIndex(t, l, d)
	}
	point(t, l, "v1", d)
	for depth := 3; depth <= 6; depth++ {
		shallow := openLayout(t, l.path, &Options{MaxDepth: depth})
		_, err := shallow.Resolve(t.Context(), "v1", nil)
		var over *limit.Error
		if wrong := errors.As(err, &over); wrong != (depth < 4) || wrong && over.Name != limit.Depth {
			t.Errorf("3 indexes and a manifest, with a depth of %d: %v", depth, err)
		}
	}
}
