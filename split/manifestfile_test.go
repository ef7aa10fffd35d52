// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// reseal writes split.json as a forger would, who can compute digests.
func reseal(t testing.TB, path string, f *File) {
	t.Helper()
	data, err := f.encode()
	must(t, err)
	for _, dir := range []string{path, filepath.Join(path, TopTier)} {
		name := filepath.Join(dir, FileName)
		must(t, os.RemoveAll(name))
		must(t, os.WriteFile(name, data, 0o644))
	}
}

func TestForgedFile(t *testing.T) {
	s := newSite(t)
	path := splitTo(t, s.opt)
	good, err := os.ReadFile(filepath.Join(path, FileName))
	must(t, err)
	other := digest.FromString("other")
	for name, change := range map[string]func(*File){
		"version":             func(f *File) { f.Version = 2 },
		"no tier":             func(f *File) { f.Tiers = nil },
		"no image":            func(f *File) { f.Images = nil },
		"tier that leaves":    func(f *File) { f.Tiers[0].Name = "../x" },
		"tier twice":          func(f *File) { f.Tiers[0].Name = f.Tiers[1].Name },
		"image twice":         func(f *File) { f.Images[0].Ref = f.Images[1].Ref },
		"bad ref":             func(f *File) { f.Images[0].Ref = "../\x1b[2J" },
		"bad digest":          func(f *File) { f.Tiers[0].Layers[0].Digest = "sha256:../../x" },
		"negative size":       func(f *File) { f.Tiers[0].Layers[0].Size = -1 },
		"other descriptor":    func(f *File) { f.Images[0].Descriptor.Digest = other },
		"manifest not there":  func(f *File) { f.Images[0].Digest, f.Images[0].Descriptor.Digest = other, other },
		"other manifest":      func(f *File) { f.Images[0].Manifests[0].Digest = other },
		"other layer":         func(f *File) { f.Images[0].Manifests[0].Layers[0].Digest = f.Images[1].Manifests[0].Layers[2].Digest },
		"other diffID":        func(f *File) { f.Images[0].Manifests[0].Layers[0].DiffID = other },
		"other config":        func(f *File) { f.Images[0].Manifests[0].Config = other },
		"fewer layers":        func(f *File) { f.Images[0].Manifests[0].Layers = f.Images[0].Manifests[0].Layers[:2] },
		"layers in no order":  func(f *File) { l := f.Images[0].Manifests[0].Layers; l[0], l[1] = l[1], l[0] },
		"layer of other tier": func(f *File) { f.Tiers[0].Layers, f.Tiers[1].Layers = f.Tiers[1].Layers, f.Tiers[0].Layers },
		"other index":         func(f *File) { f.Tiers[0].Index = other },
		"tier left out":       func(f *File) { f.Tiers[0].Index = "" },
		"unknown tier":        func(f *File) { f.Images[0].Manifests[0].Layers[0].Tier = "x" },
		"bad referrer":        func(f *File) { f.Referrers = append(f.Referrers, f.Images[0].Descriptor); f.Referrers[0].Digest = "x" },
		"bad left out":        func(f *File) { f.LeftOut = []FileBlob{{Digest: "x"}} },
		"another's manifest":  func(f *File) { d := f.Images[1].Descriptor; f.Images[0].Digest, f.Images[0].Descriptor = d.Digest, d },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFile(good)
			must(t, err)
			change(f)
			reseal(t, path, f)
			to := newLayout(t)
			_, err = joinFrom(t.Context(), to, path)
			oneLine(t, err)
			if refs, _ := to.Refs(t.Context()); len(refs) > 0 {
				t.Errorf("refs: %v", refs)
			}
		})
	}
}

func TestFileIsSealed(t *testing.T) {
	s := newSite(t)
	good, err := os.ReadFile(filepath.Join(splitTo(t, s.opt), FileName))
	must(t, err)
	for i := range good {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if _, err := ParseFile(bad); err == nil {
				t.Fatalf("byte %d of %d, %#x: no error", i, len(good), flip)
			}
		}
	}
	f, err := ParseFile(good)
	must(t, err)
	again, err := f.encode()
	must(t, err)
	if !bytes.Equal(good, again) {
		t.Error("read and written it differs")
	}
	for _, bad := range []string{"", "{}", strings.TrimSpace(string(good)), string(good) + "\n"} {
		if _, err := ParseFile([]byte(bad)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
}

func FuzzManifestFile(f *testing.F) {
	body := func(s string) []byte {
		return []byte(s + sealBefore + digest.FromString(s).Encoded() + sealAfter)
	}
	f.Add(body(`{"version":1,"images":[],"tiers":[]`))
	f.Add(body(`{"version":1,"tool":"x","images":[{"ref":"a","digest":"sha256:","descriptor":{},"manifests":[]}],"tiers":[{"name":"base","layers":[],"blobs":[]}]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// What follows is as good as what a forger could make of it.
		for _, doc := range [][]byte{data, body(string(data))} {
			var file *File
			var err error
			ocitest.AssertPureAllocates(t, 1<<20+200*uint64(len(doc)), func() { file, err = ParseFile(doc) })
			if err != nil {
				oneLine(t, err)
				continue
			}
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, FileName), doc, 0o644))
			l, err := layout.Create(context.Background(), filepath.Join(dir, "to"))
			must(t, err)
			_, err = joinFrom(context.Background(), l, dir)
			oneLine(t, err) // there are no tiers
			must(t, l.Close())
			for _, tier := range file.Tiers {
				if filepath.Base(tier.Name) != tier.Name {
					t.Errorf("tier %q", tier.Name)
				}
			}
		}
	})
}
