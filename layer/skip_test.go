// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/test/ocitest"
)

func TestApplySkipsWhatCannotBeApplied(t *testing.T) {
	l := ocitest.Layer(
		ocitest.File("a", "1", 0o644),
		ocitest.Hardlink("b", "nothing"),
		ocitest.File("c", "22", 0o644),
		ocitest.File("d/.wh.", "x", 0o644),
		ocitest.File("e", "333", 0o644),
	)
	var bad []string
	tree, err := apply(t, Discard, ApplyOptions{Skip: func(e *EntryError) error {
		bad = append(bad, e.Entry)
		return nil
	}}, l)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(tree), "a(1) c(2) e(3)"; got != want {
		t.Errorf("the tree has %s, not %s", got, want)
	}
	if got := strings.Join(bad, " "); got != "b d/.wh." {
		t.Errorf("skipped %s", got)
	}
	if tree.Layer() != 0 {
		t.Errorf("the last layer is %d", tree.Layer())
	}

	enough := errors.New("enough")
	if _, err := apply(t, Discard, ApplyOptions{Skip: func(*EntryError) error { return enough }}, l); !errors.Is(err, enough) {
		t.Errorf("the error is %v", err)
	}
}

func TestStreamSum(t *testing.T) {
	data := text(3 << 20)
	for _, said := range []digest.Digest{digest.FromBytes(data), digest.FromString("other")} {
		s, err := NewStream(context.Background(), bytes.NewReader(compressed(t, Gzip, data)), StreamOptions{Compression: Gzip, DiffID: said})
		must(t, err)
		if _, err := io.CopyN(io.Discard, s, 1000); err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(); err != nil && !errors.Is(err, ErrDiffID) {
			t.Fatal(err)
		}
		if got := s.Sum(); got != digest.FromBytes(data) {
			t.Errorf("the sum is %s", got)
		}
		s.Close()
	}
}
