// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// newReferred makes a layout with a multi-platform image that has an attestation in its
// index, a signature, an SBOM for one platform, and a signature of that.
func newReferred(t testing.TB) (dir string, referrers []digest.Digest) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "referred")
	amd64 := stack("linux/amd64").Write(t, dir, "amd64")
	statement := attach(t, dir, ispec.Descriptor{
		MediaType: amd64.MediaType, Digest: amd64.Digest, Size: amd64.Size,
	}, "application/vnd.in-toto+json", "the SBOM")
	stack("linux/arm64").Write(t, dir, "arm64")
	arm64, err := openAt(t, dir).Lookup(t.Context(), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	l := openAt(t, dir)
	attestation := attach(t, dir, arm64, "application/vnd.docker.attestation", "attested")
	entries := []ispec.Descriptor{bare(amd64), bare(arm64), bare(attestation)}
	entries[0].Platform = &ispec.Platform{OS: "linux", Architecture: "amd64"}
	entries[1].Platform = &ispec.Platform{OS: "linux", Architecture: "arm64"}
	entries[2].Platform = &ispec.Platform{OS: "unknown", Architecture: "unknown"}
	entries[2].Annotations = map[string]string{attestedDigest: arm64.Digest.String(), "vnd.docker.reference.type": "attestation-manifest"}
	d, size, err := l.PutJSON(t.Context(), ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: entries})
	if err != nil {
		t.Fatal(err)
	}
	root := ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: d, Size: size}
	if err := l.SetRef(t.Context(), "multi", root); err != nil {
		t.Fatal(err)
	}
	signature := attach(t, dir, root, "application/vnd.example.signature", "signed")
	second := attach(t, dir, statement, "application/vnd.example.signature", "signed, too")
	// Somebody else's.
	stack("linux/s390x").Write(t, dir, "other")
	other, err := l.Lookup(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	attach(t, dir, other, "application/vnd.example.signature", "of another image")
	return dir, []digest.Digest{statement.Digest, signature.Digest, second.Digest}
}

// wantReferred checks that all of a layout can be read, and that the index and the
// manifests that refer to it are there.
func wantReferred(t *testing.T, src, dst string, referrers []digest.Digest) {
	t.Helper()
	if a, b := digestOf(t, src, "multi"), digestOf(t, dst, "multi"); a != b {
		t.Errorf("the index is %s, not %s", b, a)
	}
	l := openAt(t, dst)
	index, err := l.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[digest.Digest]bool{}
	for _, root := range index.Manifests {
		err := l.Walk(t.Context(), root, func(p layout.Path) error {
			d := p.Target()
			there[d.Digest] = true
			r, err := l.OpenBlob(t.Context(), d)
			if err != nil {
				return err
			}
			defer r.Close()
			return r.Verify(t.Context())
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, d := range referrers {
		if !there[d] {
			t.Errorf("%s is missing", d)
		}
	}
	if want := len(referrers) + 1; len(index.Manifests) != want {
		t.Errorf("index.json has %d entries, not %d", len(index.Manifests), want)
	}
}

// TestReferrers takes a signed image from a layout through a registry to a layout, where
// all has the same digests: with the referrers API and without.
func TestReferrers(t *testing.T) {
	src, referrers := newReferred(t)
	opt := quick()
	opt.Referrers = true
	for name, api := range map[string]bool{"API": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			host := server(t, nil, registry.WithReferrersSupport(api))
			one, two := "docker://"+host+"/one:multi", "docker://"+host+"/two:multi"
			r := mustCopy(t, src+":multi", one, opt)
			// The attestation is in the index, and refers to an image, too.
			if got := r.Images[0].Referrers; len(got) != len(referrers) {
				t.Errorf("%d referrers: %v", len(got), got)
			}
			mustCopy(t, one, two, opt)
			mustCopy(t, one, two, opt) // once more changes nothing
			dst := filepath.Join(t.TempDir(), "new")
			mustCopy(t, two, dst+":multi", opt)
			mustCopy(t, two, dst+":multi", opt)
			wantReferred(t, src, dst, referrers)
			tags, err := Tags(t.Context(), location(t, two), opt)
			if err != nil || api && len(tags) != 1 || !api && len(tags) != 5 {
				t.Errorf("tags: %v, %v", tags, err)
			}
		})
	}
	t.Run("layout", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "new")
		mustCopy(t, src+":multi", dst+":multi", opt)
		wantReferred(t, src, dst, referrers)
	})
	t.Run("without", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "new")
		mustCopy(t, src+":multi", dst+":multi", quick())
		wantReferred(t, src, dst, nil)
	})
}

// TestForgedReferrers: what only says that it refers to an image is not taken.
func TestForgedReferrers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "source")
	v1 := stack("linux/amd64").Write(t, dir, "v1")
	other := ocitest.Image{}.Write(t, dir, "other")
	l := openAt(t, dir)
	d, size, err := l.PutJSON(t.Context(), ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{bare(other)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetRef(t.Context(), fallbackTag(v1.Digest), ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: d, Size: size}); err != nil {
		t.Fatal(err)
	}
	host := server(t, nil)
	repo := "docker://" + host + "/app"
	opt := quick()
	opt.AllTags = true
	mustCopy(t, dir, repo, opt)
	opt = quick()
	opt.Referrers = true
	_, err = Copy(t.Context(), location(t, repo+":v1"), location(t, filepath.Join(t.TempDir(), "new")+":v1"), opt)
	wantOneLine(t, err)
}
