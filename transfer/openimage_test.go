// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// everywhere puts the image multi of newSource to all kinds of places, and returns their
// locations and its digest.
func everywhere(t *testing.T) (map[Scheme]Location, ispec.Descriptor) {
	t.Helper()
	dir := newSource(t)
	from := parse(t, "oci:"+dir+":multi")
	locs := map[Scheme]Location{
		SchemeLayout:        from,
		SchemeOCIArchive:    parse(t, "oci-archive:"+filepath.Join(t.TempDir(), "o.tar")+":multi"),
		SchemeDockerArchive: parse(t, "docker-archive:"+filepath.Join(t.TempDir(), "d.tar")+":multi:1"),
		SchemeRegistry:      parse(t, "docker://"+server(t, nil)+"/multi:1"),
	}
	for scheme, to := range locs {
		if scheme == SchemeLayout {
			continue
		}
		opt := Options{}
		if scheme == SchemeDockerArchive {
			opt.Platforms = []ispec.Platform{{OS: "linux", Architecture: "s390x"}}
		}
		if _, err := Copy(t.Context(), from, to, opt); err != nil {
			t.Fatal(err)
		}
	}
	return locs, lookup(t, dir, "multi")
}

func TestOpenImage(t *testing.T) {
	locs, index := everywhere(t)
	temp := t.TempDir()
	s390x := ispec.Platform{OS: "linux", Architecture: "s390x"}
	for scheme, loc := range locs {
		img, err := OpenImage(t.Context(), loc, temp, Options{Platforms: []ispec.Platform{s390x}})
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		p, err := img.Layout.PlatformOf(t.Context(), img.Path)
		if err != nil || p.Architecture != "s390x" {
			t.Errorf("%s: platform %v, %v", scheme, p, err)
		}
		m, err := img.Layout.Manifest(t.Context(), img.Path.Target())
		must(t, err)
		for _, d := range m.Layers {
			r, err := img.Layout.OpenBlob(t.Context(), d)
			must(t, err)
			must(t, r.Verify(t.Context()))
			must(t, r.Close())
		}
		switch scheme {
		case SchemeDockerArchive:
			if len(img.Path) != 1 {
				t.Errorf("%s: path %v", scheme, img.Path)
			}
		default:
			if len(img.Path) != 2 || img.Path.Root().Digest != index.Digest {
				t.Errorf("%s: path %v", scheme, img.Path)
			}
		}
		if scheme == SchemeOCIArchive || scheme == SchemeRegistry {
			// Nothing of the other images was fetched.
			members, err := img.Layout.Members(t.Context(), img.Path.Root())
			must(t, err)
			for _, other := range members {
				ok, err := img.Layout.HasBlob(t.Context(), other.Path.Target())
				if err != nil || ok != (other.Platform.Architecture == "s390x") {
					t.Errorf("%s: %s was fetched: %v, %v", scheme, other.Platform.Architecture, ok, err)
				}
			}
		}
		if scheme != SchemeLayout && filepath.Dir(filepath.Dir(img.Layout.Path())) != temp {
			t.Errorf("%s: fetched to %s", scheme, img.Layout.Path())
		}
		must(t, img.Close())
		if names := namesIn(t, temp); len(names) > 0 {
			t.Errorf("%s: left behind: %v", scheme, names)
		}
		// This machine's image is meant if nothing is said, and is not in each of them.
		img, err = OpenImage(t.Context(), loc, temp, Options{})
		if err == nil {
			must(t, img.Close())
		} else if !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("%s: %v", scheme, err)
		}
		for what, opt := range map[string]Options{
			"not there": {Platforms: []ispec.Platform{{OS: "plan9", Architecture: "mips"}}},
			"two":       {Platforms: []ispec.Platform{s390x, s390x}},
		} {
			_, err := OpenImage(t.Context(), loc, temp, opt)
			if !errors.Is(err, map[string]error{"not there": layout.ErrNotFound, "two": layout.ErrInvalid}[what]) {
				t.Errorf("%s: %s: %v", scheme, what, err)
			}
			wantOneLine(t, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := OpenImage(ctx, loc, temp, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: after the end: %v", scheme, err)
		}
		if names := namesIn(t, temp); len(names) > 0 {
			t.Errorf("%s: left behind: %v", scheme, names)
		}
	}
	ocitest.AssertWhole(t, locs[SchemeLayout].Path)
}

func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestStaleTempDirs removes what a killed process has left, and nothing else.
func TestStaleTempDirs(t *testing.T) {
	dir := t.TempDir()
	living, err := newTempDir(dir)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, tempPrefix+"dead", "layout"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "other"), 0o700))
	must(t, os.Symlink("other", filepath.Join(dir, tempPrefix+"link")))
	second, err := newTempDir(dir)
	must(t, err)
	if names := namesIn(t, dir); len(names) != 4 {
		t.Errorf("there are %v", names)
	}
	must(t, living.remove())
	must(t, second.remove())
	if names := namesIn(t, dir); len(names) != 2 {
		t.Errorf("there are %v", names)
	}
}
