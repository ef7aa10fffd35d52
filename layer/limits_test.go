// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/test/ocitest"
)

// wantOver checks that err is about the limit.
func wantOver(t *testing.T, err error, name limit.Name, found, most int64) {
	t.Helper()
	var over *LimitError
	if !errors.As(err, &over) || over.Name != name || over.Found != found || over.Limit != most {
		t.Errorf("got %v (%+v), want %s: %d of %d", err, over, name, found, most)
	}
}

func TestLimitsOfEntries(t *testing.T) {
	two := []byte(ocitest.Layer(tfile("a"), tfile("b")))
	xattr := func(n int) []byte {
		return ocitest.Layer(tfile("a").Xattr("user.x", strings.Repeat("v", n)))
	}
	for _, tc := range []struct {
		name   string
		limits Limits
		layers [][]byte
		over   limit.Name
		found  int64
		most   int64
	}{
		{"entries of two layers", Limits{Entries: 3}, [][]byte{two, two}, limit.Entries, 4, 3},
		{"as many as may be", Limits{Entries: 4}, [][]byte{two, two}, "", 0, 0},
		{"none", Limits{Entries: Unlimited}, [][]byte{two, two}, "", 0, 0},
		{"names that no entry has", Limits{Entries: 10}, [][]byte{ocitest.Layer(tfile(strings.Repeat("d/", 20)+"f"), tfile("g"))}, limit.Entries, 22, 10},
		{"bytes of files", Limits{Bytes: 1000}, [][]byte{ocitest.Layer(ocitest.File("a", strings.Repeat("a", 600), 0o644), ocitest.File("b", strings.Repeat("b", 600), 0o644))},
			limit.Bytes, 1200, 1000},
		{"an attribute", Limits{Xattr: 10}, [][]byte{xattr(11)}, limit.Xattr, 11, 10},
		{"an attribute that Linux does not take", Limits{Xattr: Unlimited}, [][]byte{xattr(64<<10 + 1)}, limit.Xattr, 64<<10 + 1, 64 << 10},
		{"an extended header", Limits{Header: 100}, [][]byte{ocitest.Layer(tfile("a").PAX("comment", strings.Repeat("c", 94)))}, limit.Header, 101, 100},
		{"metadata", Limits{Metadata: 1000}, [][]byte{xattr(2000)}, limit.Metadata, 2000 + 1 + 6 - 512, 1000},
		{"deep", Limits{}, [][]byte{ocitest.Layer(tfile(strings.Repeat("d/", maxDepth) + "f"))}, "", 0, 0},
		{"too deep", Limits{}, [][]byte{ocitest.Layer(tfile(strings.Repeat("d/", maxDepth+1) + "f"))}, "", maxDepth + 1, maxDepth},
	} {
		t.Run(tc.name, func(t *testing.T) {
			budget, tree := tc.limits.Budget(0), NewTree()
			var err error
			for _, l := range tc.layers {
				if err == nil {
					err = tree.Apply(t.Context(), bytes.NewReader(l), Discard, ApplyOptions{
						Budget: budget, Skip: func(e *EntryError) error { return e },
					})
				}
			}
			if tc.most == 0 {
				must(t, err)
				return
			}
			wantOver(t, err, tc.over, tc.found, tc.most)
		})
	}
}

// TestSkipEndsAtLimits checks that entries are not left out one by one when all that
// follow would be.
func TestSkipEndsAtLimits(t *testing.T) {
	l := ocitest.Layer(tfile("a").PAX("comment", "c"), tfile("b").PAX("comment", "c"))
	for limits, want := range map[Limits]int{{Entries: 1}: 0, {Header: 1}: 2} {
		skipped := 0
		err := NewTree().Apply(t.Context(), bytes.NewReader(l), Discard, ApplyOptions{
			Budget: limits.Budget(0), Skip: func(*EntryError) error { skipped++; return nil },
		})
		if (err == nil) != (want > 0) || skipped != want {
			t.Errorf("%+v: %d entries were left out, and then %v", limits, skipped, err)
		}
	}
}

func TestLimitsOfStreams(t *testing.T) {
	zeros := make([]byte, 3<<20)
	var blob bytes.Buffer
	z, err := NewWriter(&blob, Zstd, 0)
	must(t, err)
	// 60 MiB, of which no more than the limit is decompressed.
	for range 20 {
		_, err := z.Write(zeros)
		must(t, err)
	}
	must(t, z.Close())
	size := int64(blob.Len())
	for _, tc := range []struct {
		limits     Limits
		compressed int64
		over       limit.Name
	}{
		{Limits{Bytes: 20 << 20}, size, limit.Bytes},
		{Limits{}, size, limit.Ratio},
		{Limits{Ratio: Unlimited}, size, ""},
		{Limits{}, 0, ""},
	} {
		t.Run(fmt.Sprintf("%+v of %d", tc.limits, tc.compressed), func(t *testing.T) {
			budget := tc.limits.Budget(tc.compressed)
			budget.ratioFrom = 40 << 20
			s, err := NewStream(t.Context(), bytes.NewReader(blob.Bytes()), StreamOptions{
				Compression: Zstd, DiffID: digest.FromString("not that of zeros"), Budget: budget,
			})
			must(t, err)
			defer s.Close()
			n, err := io.Copy(io.Discard, s)
			if tc.over == "" {
				must(t, err)
				return
			}
			var over *LimitError
			if !errors.As(err, &over) || over.Name != tc.over {
				t.Errorf("got %v, want %s", err, tc.over)
			}
			if tc.over == limit.Bytes && n > tc.limits.Bytes {
				t.Errorf("%d bytes came", n)
			}
		})
	}
}

// TestCountCompressed: of a blob that comes from nobody knows where, as much may come as
// fits what has been read of it so far.
func TestCountCompressed(t *testing.T) {
	for packed, want := range map[int]bool{0: true, 9000: false, 10000: true} {
		budget := Limits{Ratio: 1000}.Budget(0)
		budget.ratioFrom = 9 << 20
		_, err := io.Copy(io.Discard, budget.CountCompressed(bytes.NewReader(make([]byte, packed))))
		must(t, err)
		_, err = io.Copy(io.Discard, budget.Count(io.NopCloser(bytes.NewReader(make([]byte, 10_000_000)))))
		if want != (err == nil) {
			t.Errorf("%d bytes: %v", packed, err)
		}
	}
}

// TestBudgetOf: a blob that is there twice counts once.
func TestBudgetOf(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	budget := Limits{}.BudgetOf([]ispec.Descriptor{{Digest: a, Size: 10}, {Digest: b, Size: 3}, {Digest: a, Size: 10}})
	if got := budget.compressed.Load(); got != 13 {
		t.Errorf("%d compressed bytes", got)
	}
}

func TestBudgetClone(t *testing.T) {
	one := ocitest.Layer(ocitest.File("a", "1", 0o644))
	b := Limits{Entries: 2}.Budget(0)
	tree, err := apply(t, Discard, ApplyOptions{Budget: b}, one)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // neither is charged for the other
		if err := tree.Clone().Apply(t.Context(), bytes.NewReader(one), Discard, ApplyOptions{Budget: b.Clone()}); err != nil {
			t.Error(err)
		}
	}
	two := ocitest.Layer(ocitest.File("b", "1", 0o644), ocitest.File("c", "1", 0o644))
	var over *LimitError
	if err := tree.Apply(t.Context(), bytes.NewReader(two), Discard, ApplyOptions{Budget: b.Clone()}); !errors.As(err, &over) {
		t.Errorf("the third entry: %v", err)
	}
}
