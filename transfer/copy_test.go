// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func TestLayoutRegistryLayout(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	for _, ref := range []string{"v1", "multi"} {
		there := "docker://" + host + "/some/app:" + ref
		dst := filepath.Join(t.TempDir(), "new")
		r := mustCopy(t, src+":"+ref, there, quick())
		if len(r.Changed) > 0 || len(r.Images) != 1 || r.Images[0].Digest != digestOf(t, src, ref) {
			t.Errorf("%+v", r)
		}
		mustCopy(t, there, dst+":"+ref, quick())
		wantSame(t, src, dst, ref)
		// Nothing travels twice.
		for _, again := range []string{there, dst + ":" + ref} {
			if r := mustCopy(t, src+":"+ref, again, quick()); len(r.Blobs) != 1 || r.Blobs[Kept] == 0 {
				t.Errorf("to %s: %v", again, r.Blobs)
			}
		}
		// And in the same registry not even once.
		if r := mustCopy(t, there, "docker://"+host+"/other/app:"+ref, quick()); r.Blobs[Copied] > 0 {
			t.Errorf("in the registry: %v", r.Blobs)
		}
	}
}

func TestLayoutLayout(t *testing.T) {
	src := newSource(t)
	dst := filepath.Join(t.TempDir(), "deep", "new")
	opt := quick()
	opt.Link = true
	r := mustCopy(t, src+":multi", "oci:"+dst+":multi", opt)
	if r.Blobs[Linked]+r.Blobs[Cloned] == 0 || r.Blobs[Copied] > 0 {
		t.Errorf("%v", r.Blobs)
	}
	wantSame(t, src, dst, "multi")
	// The only image of a layout needs no tag.
	mustCopy(t, dst, dst+":other", opt)
	if digestOf(t, dst, "other") != digestOf(t, dst, "multi") {
		t.Error("another image was copied")
	}
	if _, err := Copy(t.Context(), location(t, src), location(t, dst), opt); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("one of two without a tag: %v", err)
	}
}

// TestTagThatIsThere is L1 of the hostile inputs: the tag moves, in one step, and only to
// what is whole.
func TestTagThatIsThere(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	for _, there := range []string{"docker://" + host + "/app:same", filepath.Join(t.TempDir(), "new") + ":same"} {
		mustCopy(t, src+":v1", there, quick())
		mustCopy(t, src+":multi", there, quick())
		if got := mustResolve(t, there, quick()); got != digestOf(t, src, "multi").String() {
			t.Errorf("%s: %s", there, got)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	host := server(t, nil)
	for _, c := range []struct{ src, dst string }{
		{"docker://" + host + "/none:v1", "new"},
		{"none:v1", "new"},
		{newSource(t) + ":v1", "new:in/valid:/"},
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		dst, err := ParseLocation(c.dst)
		if err == nil {
			_, err = Copy(t.Context(), location(t, c.src), dst, quick())
		}
		wantOneLine(t, err)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v %v", c.src, left, err)
		}
	}
	// A signal before the first blob is there.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Copy(ctx, location(t, newSource(t)+":v1"), location(t, filepath.Join(dir, "new")), quick()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v %v", left, err)
	}
}

func platforms(t *testing.T, names ...string) (list []ispec.Platform) {
	for _, name := range names {
		p, err := layout.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestPlatforms(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	there := "docker://" + host + "/app:multi"
	mustCopy(t, src+":multi", there, quick())
	var index ispec.Index
	data, err := os.ReadFile(filepath.Join(src, "blobs", "sha256", digestOf(t, src, "multi").Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{src + ":multi", there} {
		opt := quick()
		opt.Platforms = platforms(t, "linux/aarch64")
		dst := filepath.Join(t.TempDir(), "new")
		r := mustCopy(t, from, dst+":one", opt)
		if got := digestOf(t, dst, "one"); got != index.Manifests[1].Digest || len(r.Changed) != 1 {
			t.Errorf("%s %v", got, r.Changed)
		}
		opt.Platforms = platforms(t, "linux/s390x", "linux/amd64")
		r = mustCopy(t, from, dst+":two", opt)
		d, err := openAt(t, dst).Lookup(t.Context(), "two")
		if err != nil {
			t.Fatal(err)
		}
		got, err := openAt(t, dst).ImageIndex(t.Context(), d)
		if err != nil || len(got.Manifests) != 2 || len(r.Changed) != 1 ||
			got.Manifests[0].Digest != index.Manifests[0].Digest || got.Manifests[1].Digest != index.Manifests[2].Digest {
			t.Errorf("%+v %v %v", got, r.Changed, err)
		}
		ocitest.AssertWhole(t, dst)
		opt.Platforms = platforms(t, "windows/amd64")
		_, err = Copy(t.Context(), location(t, from), location(t, dst+":none"), opt)
		if wantOneLine(t, err); !errors.Is(err, layout.ErrNotFound) || !strings.Contains(err.Error(), "linux/s390x") {
			t.Error(err)
		}
		// For a single image the platform is only checked.
		opt.Platforms = platforms(t, "linux/arm64")
		mustCopy(t, dst+":one", dst+":checked", opt)
		opt.Platforms = platforms(t, "linux/amd64")
		if _, err := Copy(t.Context(), location(t, dst+":one"), location(t, dst+":wrong"), opt); !errors.Is(err, layout.ErrNotFound) {
			t.Error(err)
		}
	}
}

func TestAllTags(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	opt := quick()
	opt.AllTags = true
	dir := t.TempDir()
	last := src
	for _, next := range []string{
		"docker://" + host + "/app", "oci-archive:" + filepath.Join(dir, "all.tar"), filepath.Join(dir, "new"),
	} {
		if r := mustCopy(t, last, next, opt); len(r.Images) != 2 {
			t.Errorf("to %s: %+v", next, r.Images)
		}
		tags, err := Tags(t.Context(), location(t, next), quick())
		slices.Sort(tags)
		if err != nil || strings.Join(tags, " ") != "multi v1" {
			t.Errorf("%s: %q, %v", next, tags, err)
		}
		last = next
	}
	for _, ref := range []string{"v1", "multi"} {
		wantSame(t, src, last, ref)
	}
	if _, err := Copy(t.Context(), location(t, src+":v1"), location(t, last), opt); !errors.Is(err, layout.ErrInvalid) {
		t.Error(err)
	}
}

// facts are what a conversion must not change.
func facts(t *testing.T, dir, ref string) (diffIDs [][]digest.Digest, types []string) {
	t.Helper()
	l := openAt(t, dir)
	root, err := l.Lookup(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	members, err := l.Members(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	types = append(types, root.MediaType)
	for _, m := range members {
		manifest, err := l.Manifest(t.Context(), m.Path.Target())
		if err != nil {
			t.Fatal(err)
		}
		config, err := l.Config(t.Context(), manifest.Config)
		if err != nil {
			t.Fatal(err)
		}
		diffIDs = append(diffIDs, config.RootFS.DiffIDs)
		types = append(types, m.Path.Target().MediaType, manifest.Config.MediaType)
		for _, l := range manifest.Layers {
			types = append(types, l.MediaType)
		}
	}
	return diffIDs, types
}

func TestConversions(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	for _, ref := range []string{"v1", "multi"} {
		before, _ := facts(t, src, ref)
		for _, c := range []struct {
			format   Format
			compress layer.Compression
			want     string
			not      string
		}{
			{FormatDocker, "", "vnd.docker.", "vnd.oci."},
			{FormatDocker, layer.None, "vnd.docker.", "gzip"},
			{"", layer.Zstd, "zstd", "gzip"},
			{FormatOCI, layer.None, "vnd.oci.", "gzip"},
		} {
			opt := quick()
			opt.Format, opt.Compress = c.format, c.compress
			dst := filepath.Join(t.TempDir(), "new")
			there := "docker://" + host + "/converted:" + string(c.format) + string(c.compress) + "-" + ref
			r := mustCopy(t, src+":"+ref, there, opt)
			if c.format != FormatOCI && len(r.Changed) == 0 {
				t.Errorf("%v: nothing is said", c)
			}
			mustCopy(t, there, dst+":"+ref, quick())
			ocitest.AssertWhole(t, dst)
			after, types := facts(t, dst, ref)
			if !slices.EqualFunc(before, after, slices.Equal[[]digest.Digest]) {
				t.Errorf("%v: the diffIDs have changed", c)
			}
			all := strings.Join(types, " ")
			if !strings.Contains(all, c.want) || strings.Contains(all, c.not) {
				t.Errorf("%v: %s", c, all)
			}
			// What is so already stays as it is.
			if r := mustCopy(t, dst+":"+ref, dst+":again", opt); len(r.Changed) > 0 || r.Images[0].Digest != digestOf(t, dst, ref) {
				t.Errorf("%v again: %v", c, r.Changed)
			}
			wantNoTemp(t, filepath.Dir(dst))
		}
	}
	opt := quick()
	opt.Format, opt.Compress = FormatDocker, layer.Zstd
	if _, err := Copy(t.Context(), location(t, src+":v1"), location(t, filepath.Join(t.TempDir(), "new")), opt); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// TestProgress: what is reported only grows, and ends at the sum.
func TestProgress(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	for _, dst := range []string{"docker://" + host + "/app:multi", filepath.Join(t.TempDir(), "new") + ":multi"} {
		var mu sync.Mutex
		last := map[string]progress.Event{}
		opt := quick()
		opt.Progress = func(e progress.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Done < last[e.Name].Done || e.Done > e.Total || last[e.Name].End {
				t.Errorf("%+v after %+v", e, last[e.Name])
			}
			last[e.Name] = e
		}
		mustCopy(t, src+":multi", dst, opt)
		if sum := last[""]; !sum.End || sum.Done != sum.Total || len(last) != 10 {
			t.Errorf("%d things, and in sum %+v", len(last), sum)
		}
		for name, e := range last {
			if !e.End || e.Done != e.Total {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

// TestForeignLayers: what only URLs deliver is left out, and that is said.
func TestForeignLayers(t *testing.T) {
	src := filepath.Join(t.TempDir(), "source")
	img := stack("linux/amd64")
	var foreign digest.Digest
	img.Edit = func(_ *ispec.Image, m *ispec.Manifest) {
		m.Layers[0].URLs = []string{"https://layers.example/base"}
		m.Layers[0].MediaType = ispec.MediaTypeImageLayerNonDistributableGzip //nolint:staticcheck // deprecated, but images have it
		foreign = m.Layers[0].Digest
	}
	img.Write(t, src, "v1")
	if err := os.Remove(filepath.Join(src, "blobs", "sha256", foreign.Encoded())); err != nil {
		t.Fatal(err)
	}
	opt := quick()
	var warned []string
	opt.Warn = func(msg string) { warned = append(warned, msg) }
	dst := filepath.Join(t.TempDir(), "new")
	mustCopy(t, src+":v1", dst+":v1", opt)
	if digestOf(t, src, "v1") != digestOf(t, dst, "v1") || len(warned) != 1 || !strings.Contains(warned[0], foreign.String()) {
		t.Errorf("%q", warned)
	}
}
