// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestRepackSeesSneakyChanges changes a file in every way that a stat cache
// could overlook, at once and again when the clock has moved on.
func TestRepackSeesSneakyChanges(t *testing.T) {
	for name, change := range map[string]func(s *site, dir, file string){
		"same size and mtime": func(s *site, _, file string) {
			st, err := os.Stat(file)
			s.must(err)
			s.must(os.WriteFile(file, []byte("CONTENT"), 0o644))
			s.must(os.Chtimes(file, st.ModTime(), st.ModTime()))
		},
		"replaced by rename, same mtime": func(s *site, _, file string) {
			st, err := os.Stat(file)
			s.must(err)
			s.must(os.WriteFile(file+".new", []byte("CONTENT"), st.Mode()))
			s.must(os.Chtimes(file+".new", st.ModTime(), st.ModTime()))
			s.must(os.Rename(file+".new", file))
		},
		"xattr only": func(s *site, _, file string) {
			s.must(unix.Setxattr(file, "user.new", []byte("1"), 0))
		},
		"through a hardlink outside": func(s *site, dir, file string) {
			link := filepath.Join(dir, "..", "link")
			s.must(os.Link(file, link))
			st, err := os.Stat(file)
			s.must(err)
			s.must(os.WriteFile(link, []byte("CONTENT"), 0o644))
			s.must(os.Chtimes(link, st.ModTime(), st.ModTime()))
			s.must(os.Remove(link))
		},
		"deleted cache": func(s *site, dir, file string) {
			s.must(removeCaches(dir))
			s.must(os.WriteFile(file, []byte("CONTENT"), 0o644))
		},
		"truncated cache": func(s *site, dir, file string) {
			s.must(os.WriteFile(file, []byte("CONTENT"), 0o644))
			caches, err := filepath.Glob(filepath.Join(dir, "*.statcache"))
			s.must(err)
			s.must(os.Truncate(caches[0], 60))
		},
		"cache of another bundle": func(s *site, dir, file string) {
			other := s.unpack("v0", "other")
			s.must(os.WriteFile(filepath.Join(other, "rootfs", "f"), []byte("CONTENT"), 0o644))
			s.repack(other, bundle.RepackOptions{Refresh: true})
			caches, err := filepath.Glob(filepath.Join(other, "*.statcache"))
			s.must(err)
			mine, err := filepath.Glob(filepath.Join(dir, "*.statcache"))
			s.must(err)
			s.must(os.Rename(caches[0], mine[0]))
			s.must(os.WriteFile(file, []byte("CONTENT"), 0o644))
			removeAll(s.T, other)
		},
		"times of the cache": func(s *site, _, file string) {
			s.must(os.WriteFile(file, []byte("CONTENT"), 0o644))
			s.must(os.Chtimes(file, time.Unix(1, 0), time.Unix(1_500_000_000, 0)))
		},
	} {
		for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
			s := newSite(t)
			s.image("v0", ocitest.Image{Layers: [][]byte{ocitest.Layer(
				ocitest.File("f", "content", 0o644), ocitest.Hardlink("g", "f"), ocitest.File("h", "other", 0o644),
			)}})
			dir := s.unpack("v0", "b")
			time.Sleep(wait)
			change(s, dir, filepath.Join(dir, "rootfs", "f"))
			want := s.snapshot(dir)
			if res := s.repack(dir, bundle.RepackOptions{Ref: "v1"}); res.Layer == nil {
				t.Errorf("%s, after %v: not seen", name, wait)
				continue
			}
			ocitest.AssertSame(t, want, s.snapshot(s.unpack("v1", "fresh")))
		}
	}
}
