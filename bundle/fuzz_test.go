// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/test/ocitest"
)

// FuzzRepack unpacks an image whose second layer is arbitrary. If that goes well,
// repacking what was not changed must change nothing; and after edits the new image
// must unpack to the same tree. Nothing outside of the bundle and the layout may
// change.
func FuzzRepack(f *testing.F) {
	f.Add(ocitest.Layer(ocitest.File("d/new", "new\n", 0o4755), ocitest.Whiteout("d/f"), ocitest.Symlink("l", "../../x")), uint64(1))
	f.Add(ocitest.Layer(ocitest.Opaque("d"), ocitest.Hardlink("h", "f"), ocitest.Fifo("p", 0o600), ocitest.Char("null", 0o666, 1, 3)), uint64(2))
	f.Add(ocitest.Layer(ocitest.File("\xff\n", "in\n", 0o644).Xattr("user.x", "\x00"), ocitest.Dir("d", 0)), uint64(3))
	f.Add(ocitest.Layer(ocitest.Symlink("out", "../.."), ocitest.File("out/canary", "in\n", 0o644)), uint64(4))
	f.Add([]byte(nil), uint64(5))
	base := ocitest.Layer(ocitest.Dir("d", 0o755), ocitest.File("d/f", "d/f\n", 0o644), ocitest.File("f", "f\n", 0o644))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		s := newSite(t)
		canary := filepath.Join(s.dir, "canary")
		s.must(os.WriteFile(canary, []byte("untouched\n"), 0o600))
		before := ocitest.Snapshot(t, canary)
		s.image("v", ocitest.Image{Layers: [][]byte{base}, Compression: "none", Edit: func(c *ispec.Image, m *ispec.Manifest) {
			d := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
			s.must(os.WriteFile(filepath.Join(s.dir, "layout/blobs/sha256", d.Digest.Encoded()), data, 0o644))
			m.Layers, c.RootFS.DiffIDs = append(m.Layers, d), append(c.RootFS.DiffIDs, d.Digest)
		}})
		opt := unpackOptions()
		opt.Limits = layer.Limits{Bytes: 8 << 20, Entries: 2000}
		dir := filepath.Join(s.dir, "bundle")
		var err error
		ocitest.AssertAllocates(t, 64<<20+100*uint64(len(data)), func() {
			err = bundle.Unpack(t.Context(), s.layout, s.resolve("v"), dir, opt)
		})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if _, err := os.Lstat(dir); err == nil {
				t.Error("a bundle was left")
			}
			return
		}
		if res := s.repack(dir, bundle.RepackOptions{Ref: "same"}); res.Path.Target().Digest != s.resolve("v").Target().Digest {
			t.Errorf("without a change it became %s", res.Path.Target().Digest)
		}
		edits := ocitest.RandomEdits(t, rand.New(rand.NewPCG(seed, 0)), filepath.Join(dir, "rootfs"), 8)
		s.repack(dir, bundle.RepackOptions{Ref: "edited"})
		again := s.unpack("edited", "again")
		if diff := ocitest.Diff(s.snapshot(dir), s.snapshot(again)); len(diff) > 0 {
			t.Errorf("%s\nafter %s", strings.Join(diff, "\n"), edits)
		}
		ocitest.AssertSame(t, before, ocitest.Snapshot(t, canary))
	})
}
