// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func walked(t *testing.T, l *Layout, root ispec.Descriptor) ([]digest.Digest, error) {
	t.Helper()
	var got []digest.Digest
	err := l.Walk(t.Context(), root, func(p Path) error {
		got = append(got, p.Target().Digest)
		if p.Root().Digest != root.Digest {
			t.Errorf("path starts at %s", p.Root().Digest)
		}
		return nil
	})
	return got, err
}

func TestWalkOrder(t *testing.T) {
	l := newLayout(t)
	subject := putImage(t, l, "subject")
	config := putBytes(t, l, "x/config", []byte("{}"))
	one, two := putBytes(t, l, "x/layer", []byte("1")), putBytes(t, l, "x/layer", []byte("2"))
	manifest := putJSON(t, l, ispec.MediaTypeImageManifest, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		Config:    config,
		Layers:    []ispec.Descriptor{one, two, one},
		Subject:   &subject,
	})
	index := putIndex(t, l, manifest, manifest)
	got, err := walked(t, l, index)
	must(t, err)
	sub, err := l.Manifest(t.Context(), subject)
	must(t, err)
	want := []digest.Digest{
		index.Digest, manifest.Digest, config.Digest, one.Digest, two.Digest,
		subject.Digest, sub.Config.Digest, sub.Layers[0].Digest,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWalkCallback(t *testing.T) {
	l := newLayout(t)
	index := putIndex(t, l, putImage(t, l, "a"), putImage(t, l, "b"))
	boom := errors.New("boom")
	calls := 0
	err := l.Walk(t.Context(), index, func(p Path) error {
		calls++
		if len(p) == 2 {
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) || calls != 2 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	calls = 0
	var kept []Path
	err = l.Walk(t.Context(), index, func(p Path) error {
		calls++
		kept = append(kept, p)
		if len(p) == 2 {
			return SkipChildren
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	if kept[1].Target().Digest == kept[2].Target().Digest {
		t.Error("paths share memory")
	}
}

// TestWalkTwoKinds has one blob named as a layer and as a manifest.
func TestWalkTwoKinds(t *testing.T) {
	l := newLayout(t)
	inner := putImage(t, l, "inner")
	asLayer := inner
	asLayer.MediaType = "x/layer"
	outer := putJSON(t, l, ispec.MediaTypeImageManifest, ispec.Manifest{Config: asLayer, Layers: []ispec.Descriptor{}})
	got, err := walked(t, l, putIndex(t, l, outer, inner))
	must(t, err)
	if len(got) != 6 {
		t.Errorf("got %v: the layer hid the manifest", got)
	}
}

// TestDoublingGraph is H21: 30 indexes, each of which lists the next one twice.
func TestDoublingGraph(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "bottom")
	for range 30 {
		again := d
		again.Annotations = map[string]string{"twice": "yes"}
		d = putIndex(t, l, d, again)
	}
	point(t, l, "v1", d)
	start := time.Now()
	got, err := walked(t, l, d)
	must(t, err)
	if len(got) != 33 {
		t.Errorf("visited %d", len(got))
	}
	if _, err := l.Resolve(t.Context(), "v1", nil); err != nil {
		t.Error(err)
	}
	if _, err := l.GC(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// TestLongChain is H22: 20,000 indexes, each of which lists the next one.
func TestLongChain(t *testing.T) {
	l := newLayout(t)
	chain := func(n int) ispec.Descriptor {
		d := plantBlob(t, l, ispec.MediaTypeImageManifest, []byte(`{"config":`+anyDescriptor+`}`))
		for range n - 2 {
			doc := fmt.Sprintf(`{"manifests":[{"mediaType":"%s","digest":"%s","size":%d}]}`, d.MediaType, d.Digest, d.Size)
			d = plantBlob(t, l, ispec.MediaTypeImageIndex, []byte(doc))
		}
		return d
	}
	if got, err := walked(t, l, chain(DefaultMaxDepth)); err != nil || len(got) != DefaultMaxDepth {
		t.Errorf("%d documents: %d, %v", DefaultMaxDepth, len(got), err)
	}
	for _, n := range []int{DefaultMaxDepth + 1, 20_000} {
		d := chain(n)
		_, err := walked(t, l, d)
		wantOneLine(t, err)
		if !errors.Is(err, ErrTooDeep) {
			t.Errorf("%d documents: %v", n, err)
		}
		writeIndexFile(t, l, `{"manifests":[`+entry(d, "v1")+`]}`)
		if n > DefaultMaxDepth+1 {
			if _, err := l.Resolve(t.Context(), "v1", nil); !errors.Is(err, ErrTooDeep) {
				t.Errorf("Resolve: %v", err)
			}
		}
		before := len(blobNames(t, l))
		if _, err := l.GC(t.Context(), nil); !errors.Is(err, ErrTooDeep) {
			t.Errorf("GC: %v", err)
		}
		if after := len(blobNames(t, l)); after != before {
			t.Errorf("GC removed %d blobs of a graph that it does not know", before-after)
		}
	}
}

// TestWalkFlippedByte is H1 for every blob of an image, documents and others.
func TestWalkFlippedByte(t *testing.T) {
	l := newLayout(t)
	root := putIndex(t, l, putImage(t, l, "a"))
	all, err := walked(t, l, root)
	must(t, err)
	for _, d := range all {
		name := l.blobFile(d)
		data, err := os.ReadFile(name)
		must(t, err)
		bad := slices.Clone(data)
		bad[len(bad)/2] ^= 1
		must(t, os.WriteFile(name, bad, 0o644))
		err = l.Walk(t.Context(), root, func(p Path) error {
			if len(p) < 3 {
				return nil
			}
			r, err := l.OpenBlob(t.Context(), p.Target())
			if err != nil {
				return err
			}
			defer r.Close()
			return r.Verify(t.Context())
		})
		if !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", d, err)
		}
		must(t, os.WriteFile(name, data, 0o644))
	}
}
