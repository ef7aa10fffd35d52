// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// including makes the ref lead to an index with the image.
func including(t testing.TB, l *layout.Layout, ref string, image ispec.Descriptor) ispec.Descriptor {
	t.Helper()
	must(t, l.MoveRef(t.Context(), ref, func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		d, err := Include(t.Context(), l, now, image, map[string]string{"of": "index"})
		return &d, err
	}))
	checkWhole(t, l, ref)
	d, err := l.Lookup(t.Context(), ref)
	must(t, err)
	return d
}

// platforms lists the images of a ref, each with its digest.
func platforms(t testing.TB, l *layout.Layout, ref string) string {
	t.Helper()
	root, err := l.Lookup(t.Context(), ref)
	must(t, err)
	members, err := l.Members(t.Context(), root)
	must(t, err)
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s=%s ", m.Platform.Architecture, m.Path.Target().Digest.Encoded()[:8])
	}
	return b.String()
}

func TestInclude(t *testing.T) {
	l := newLayout(t)
	a, b := platformImage(t, l, "a"), platformImage(t, l, "b")
	i := openPath(t, l, layout.Path{a})
	i.AddHistory(ispec.History{CreatedBy: "new"})
	fresh := commit(t, i).Target()
	short := func(d ispec.Descriptor) string { return d.Digest.Encoded()[:8] }

	including(t, l, "new", a)
	if got, want := platforms(t, l, "new"), "a="+short(a)+" "; got != want {
		t.Errorf("a ref that was not there: got %s, want %s", got, want)
	}
	must(t, l.SetRef(t.Context(), "one", a))
	root := including(t, l, "one", b)
	if got, want := platforms(t, l, "one"), "a="+short(a)+" b="+short(b)+" "; got != want {
		t.Errorf("a single image: got %s, want %s", got, want)
	}
	index, err := l.ImageIndex(t.Context(), root)
	must(t, err)
	if index.Annotations["of"] != "index" || index.Manifests[0].Annotations[ispec.AnnotationRefName] != "" {
		t.Errorf("the index is %+v", index)
	}
	including(t, l, "one", fresh)
	if got, want := platforms(t, l, "one"), "a="+short(fresh)+" b="+short(b)+" "; got != want {
		t.Errorf("the same platform again: got %s, want %s", got, want)
	}
	if again := including(t, l, "one", fresh); again.Digest == root.Digest {
		t.Error("the index did not change")
	} else if third := including(t, l, "one", fresh); third.Digest != again.Digest {
		t.Error("the same image again changes the index")
	}
	// A statement about the old image goes with it; a nested index is written anew.
	statement := a
	statement.Platform = &ispec.Platform{OS: "unknown", Architecture: "unknown"}
	statement.Annotations = map[string]string{attestationOf: a.Digest.String()}
	must(t, l.SetRef(t.Context(), "said", putIndex(t, l, a, statement)))
	root = including(t, l, "said", fresh)
	if index, err = l.ImageIndex(t.Context(), root); err != nil || len(index.Manifests) != 1 {
		t.Errorf("got %+v, %v", index.Manifests, err)
	}
	must(t, l.SetRef(t.Context(), "nested", putIndex(t, l, b, putIndex(t, l, a))))
	including(t, l, "nested", fresh)
	if got, want := platforms(t, l, "nested"), "b="+short(b)+" a="+short(fresh)+" "; got != want {
		t.Errorf("nested: got %s, want %s", got, want)
	}
}
