// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manyRefs makes a layout with 10,000 refs.
func manyRefs(b *testing.B) *Layout {
	b.Helper()
	l := newLayout(b)
	d := putImage(b, l, "a")
	var index ispec.Index
	for i := range 10_000 {
		addRef(&index, fmt.Sprintf("v%d", i), d)
	}
	data, err := encode(index)
	must(b, err)
	writeIndexFile(b, l, string(data))
	b.SetBytes(int64(len(data)))
	return l
}

func BenchmarkRefs(b *testing.B) {
	l := manyRefs(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Refs(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTag(b *testing.B) {
	l := manyRefs(b)
	b.ReportAllocs()
	for b.Loop() {
		must(b, l.Tag(b.Context(), "v5000", "new"))
	}
}

func BenchmarkPutBlob(b *testing.B) {
	l := newLayout(b)
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
		if _, _, err := l.PutBlob(b.Context(), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenBlob(b *testing.B) {
	l := newLayout(b)
	d := putBytes(b, l, "", make([]byte, 16<<20))
	b.SetBytes(d.Size)
	b.ReportAllocs()
	buf := make([]byte, 64<<10)
	for b.Loop() {
		r, err := l.OpenBlob(b.Context(), d)
		must(b, err)
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
		must(b, r.Close())
	}
}
