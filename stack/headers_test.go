// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

func TestHeaders(t *testing.T) {
	s := image(t,
		ocitest.Layer(ocitest.File("a", "a", 0o644)),
		ocitest.Layer(ocitest.File("b", "b", 0o644), ocitest.Hardlink("c", "a")),
		ocitest.Layer(ocitest.Whiteout("a")),
	)
	var got []string
	must(t, s.Headers(t.Context(), stack.Range{From: 1, To: 3}, func(i int, hdr *tar.Header) error {
		got = append(got, fmt.Sprint(i, " ", hdr.Name))
		return nil
	}, stack.Options{}))
	if want := []string{"1 b", "1 c", "2 .wh.a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stop := errors.New("stop")
	err := s.Headers(t.Context(), s.All(), func(int, *tar.Header) error { return stop }, stack.Options{})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	s.Layers[2].DiffID = s.Layers[1].DiffID
	err = s.Headers(t.Context(), s.All(), func(int, *tar.Header) error { return nil }, stack.Options{})
	if !errors.Is(err, layer.ErrDiffID) || !strings.Contains(err.Error(), s.Layers[2].Descriptor.Digest.String()) {
		t.Errorf("got %v", err)
	}
}
