// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/backend"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
	"github.com/shale-oci/shale/transfer"
)

// TestMain keeps the tests from the credentials and proxies of whoever runs them.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "shale-backend-")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, dir); err != nil {
			log.Fatal(err)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func image(content string) ocitest.Image {
	base := ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/base", "base", 0o644))
	return ocitest.Image{Layers: [][]byte{base, ocitest.Layer(ocitest.File("content", content, 0o644))}}
}

// newStore returns a store, its directory, and the host of a registry.
func newStore(t testing.TB, opt backend.Options) (s *backend.Store, dir, host string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	dir = filepath.Join(t.TempDir(), "store")
	s, err := backend.Open(t.Context(), dir, opt)
	must(t, err)
	return s, dir, strings.TrimPrefix(server.URL, "http://")
}

func entry(t testing.TB, dir, ref string) ispec.Descriptor {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	d, err := l.Lookup(t.Context(), ref)
	must(t, err)
	return d
}

func refs(t testing.TB, dir string) []string {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	refs, err := l.Refs(t.Context())
	must(t, err)
	slices.Sort(refs)
	return refs
}

func wantExists(t testing.TB, s *backend.Store, name string, want bool) {
	t.Helper()
	if ok, err := s.Exists(t.Context(), name); ok != want || err != nil {
		t.Errorf("%s exists: %v, %v", name, ok, err)
	}
}

// TestRoundTrip has an image go from a store to a registry and into another store.
func TestRoundTrip(t *testing.T) {
	s, dir, host := newStore(t, backend.Options{})
	name := host + "/team/app:1.0"
	want := image("app").Write(t, dir, name)
	if ok, err := s.Available(t.Context(), name); ok || err != nil {
		t.Errorf("available before it was pushed: %v, %v", ok, err)
	}
	must(t, s.Push(t.Context(), name))
	if ok, err := s.Available(t.Context(), name); !ok || err != nil {
		t.Errorf("available after it was pushed: %v, %v", ok, err)
	}
	other, otherDir, _ := newStore(t, backend.Options{})
	wantExists(t, other, name, false)
	must(t, other.Download(t.Context(), name))
	wantExists(t, other, name, true)
	if d := entry(t, otherDir, name); d.Digest != want.Digest {
		t.Errorf("downloaded %s, not %s", d.Digest, want.Digest)
	}
	ocitest.AssertWhole(t, otherDir)
	for what, err := range map[string]error{
		"push":     s.Push(t.Context(), host+"/team/other:1"),
		"download": s.Download(t.Context(), host+"/team/other:1"),
	} {
		if !errors.Is(err, layout.ErrNotFound) || !strings.Contains(err.Error(), "team/other") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s what is not there: %v", what, err)
		}
	}
	wantExists(t, other, host+"/team/other:1", false)
}

// TestNames calls the same image by all of its names.
func TestNames(t *testing.T) {
	s, dir, _ := newStore(t, backend.Options{})
	want := image("tool").Write(t, dir, "tool:latest")
	for name, there := range map[string]bool{
		"tool": true, "tool:latest": true, "library/tool": true, "docker.io/library/tool:latest": true, "docker.io/tool": true,
		"tool:2": false, "example.com/tool": false, "tools": false, "team/tool": false,
	} {
		wantExists(t, s, name, there)
	}
	must(t, s.Copy(t.Context(), "docker.io/library/tool", "team/tool:2"))
	must(t, s.Copy(t.Context(), "team/tool:2", "docker.io/tool")) // what tool leads to already
	must(t, s.Copy(t.Context(), "tool", "new"))
	if got := refs(t, dir); !slices.Equal(got, []string{"new:latest", "team/tool:2", "tool:latest"}) {
		t.Errorf("refs %v", got)
	}
	if d := entry(t, dir, "new:latest"); d.Digest != want.Digest {
		t.Errorf("copied %s", d.Digest)
	}
	if err := s.Copy(t.Context(), "missing", "x"); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("copy what is not there: %v", err)
	}
	for _, bad := range []string{"", "UPPER", "a b", "../x", "x:\x1b[2J"} {
		if err := s.Copy(t.Context(), "tool", bad); !errors.Is(err, layout.ErrInvalid) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("copy to %q: %v", bad, err)
		}
	}
	must(t, s.Remove(t.Context(), "library/tool"))
	wantExists(t, s, "tool", false)
	wantExists(t, s, "new", true)
	ocitest.AssertWhole(t, dir)
	must(t, s.Remove(t.Context(), "new"))
	must(t, s.Remove(t.Context(), "team/tool:2"))
	if err := s.Remove(t.Context(), "new"); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("remove what is not there: %v", err)
	}
	// With the last name goes all that it took.
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil || len(blobs) > 0 {
		t.Errorf("left behind: %v, %v", blobs, err)
	}
}

// TestArchives exports two images and loads them in another store.
func TestArchives(t *testing.T) {
	s, dir, _ := newStore(t, backend.Options{})
	one, two := image("one").Write(t, dir, "one:1"), image("two").Write(t, dir, "example.com/two:2")
	for _, format := range []transfer.Scheme{"", transfer.SchemeDockerArchive, transfer.SchemeOCIArchive} {
		file := filepath.Join(t.TempDir(), "x.tar")
		opt := backend.ExportOptions{Names: []string{"one:1", "example.com/two:2"}, File: file, Format: format}
		must(t, s.Export(t.Context(), opt))
		before, err := os.ReadFile(file)
		must(t, err)
		must(t, s.Export(t.Context(), opt))
		if again, err := os.ReadFile(file); err != nil || !bytes.Equal(before, again) {
			t.Errorf("%s: another archive the second time, %v", format, err)
		}
		other, otherDir, _ := newStore(t, backend.Options{})
		names, err := other.Load(t.Context(), file)
		if err != nil || !slices.Equal(names, []string{"one:1", "example.com/two:2"}) {
			t.Fatalf("%s: loaded %v, %v", format, names, err)
		}
		ocitest.AssertWhole(t, otherDir)
		for ref, want := range map[string]ispec.Descriptor{"one:1": one, "example.com/two:2": two} {
			got := entry(t, otherDir, ref)
			if configOf(t, otherDir, got) != configOf(t, dir, want) {
				t.Errorf("%s: %s has another ID", format, ref)
			}
			if format == transfer.SchemeOCIArchive && got.Digest != want.Digest {
				t.Errorf("%s: %s is %s, not %s", format, ref, got.Digest, want.Digest)
			}
		}
		opt.Names = append(opt.Names, "three")
		if err := s.Export(t.Context(), opt); !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("export what is not there: %v", err)
		}
		if again, err := os.ReadFile(file); err != nil || !bytes.Equal(before, again) {
			t.Errorf("what failed has changed the archive: %v", err)
		}
	}
	if err := s.Export(t.Context(), backend.ExportOptions{Names: []string{"one:1"}, File: filepath.Join(t.TempDir(), "x"), Format: "sif"}); !errors.Is(err, transfer.ErrUnsupported) {
		t.Errorf("an unknown format: %v", err)
	}
	if _, err := s.Load(t.Context(), filepath.Join(dir, "index.json")); !errors.Is(err, layout.ErrInvalid) || strings.Contains(err.Error(), "\n") {
		t.Errorf("load what is no archive: %v", err)
	}
}

// TestLoadedNames loads archives into a store that has an image of the same name, written
// otherwise: it must be in its place.
func TestLoadedNames(t *testing.T) {
	for _, format := range []transfer.Scheme{transfer.SchemeDockerArchive, transfer.SchemeOCIArchive} {
		s, dir, _ := newStore(t, backend.Options{})
		image("old").Write(t, dir, "one:1")
		from, fromDir, _ := newStore(t, backend.Options{})
		image("new").Write(t, fromDir, "docker.io/library/one:1")
		want := configOf(t, fromDir, entry(t, fromDir, "docker.io/library/one:1"))
		file := filepath.Join(t.TempDir(), "x.tar")
		must(t, from.Export(t.Context(), backend.ExportOptions{Names: []string{"docker.io/library/one:1"}, File: file, Format: format}))
		names, err := s.Load(t.Context(), file)
		if err != nil || !slices.Equal(names, []string{"one:1"}) || !slices.Equal(refs(t, dir), names) {
			t.Errorf("%s: loaded %v, %v; the refs are %v", format, names, err, refs(t, dir))
		}
		if got := configOf(t, dir, entry(t, dir, "one:1")); got != want {
			t.Errorf("%s: the name leads to %s, not to %s", format, got, want)
		}
	}
}

// TestLoadAllOrNothing loads an archive of which the last name cannot be one.
func TestLoadAllOrNothing(t *testing.T) {
	from, fromDir, _ := newStore(t, backend.Options{})
	image("one").Write(t, fromDir, "one:1")
	image("two").Write(t, fromDir, "two:2")
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, from.Export(t.Context(), backend.ExportOptions{Names: []string{"one:1", "two:2"}, File: file}))
	data, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.ReplaceAll(data, []byte(`"two:2"`), []byte(`"TWO:2"`)), 0o644))
	s, dir, _ := newStore(t, backend.Options{})
	if names, err := s.Load(t.Context(), file); err == nil || len(names) > 0 {
		t.Errorf("loaded %v, %v", names, err)
	}
	if got := refs(t, dir); len(got) > 0 {
		t.Errorf("the refs are %v", got)
	}
}

func configOf(t testing.TB, dir string, d ispec.Descriptor) digest.Digest {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	m, err := l.Manifest(t.Context(), d)
	must(t, err)
	return m.Config.Digest
}

func TestExtract(t *testing.T) {
	s390x := ispec.Platform{OS: "linux", Architecture: "s390x"}
	s, dir, _ := newStore(t, backend.Options{Platform: &s390x})
	other := image("s390x")
	other.Platform = s390x
	ocitest.Index{Nodes: []ocitest.Node{image("amd64"), other}}.Write(t, dir, "app:1")
	to := filepath.Join(t.TempDir(), "rootfs")
	must(t, s.Extract(t.Context(), backend.ExtractOptions{Name: "app:1", Dir: to, Map: layer.MapOptions{Rootless: true}}))
	if data, err := os.ReadFile(filepath.Join(to, "content")); err != nil || string(data) != "s390x" {
		t.Errorf("content %q, %v", data, err)
	}
	err := s.Extract(t.Context(), backend.ExtractOptions{Name: "app:2", Dir: to + "2"})
	if _, serr := os.Stat(to + "2"); !errors.Is(err, layout.ErrNotFound) || serr == nil {
		t.Errorf("extract what is not there: %v, %v", err, serr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Extract(ctx, backend.ExtractOptions{Name: "app:1", Dir: to + "3"}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDefinitionToTar(t *testing.T) {
	s, dir, _ := newStore(t, backend.Options{})
	file := filepath.Join(t.TempDir(), "x.tar")
	def := backend.BuildOptions{Name: "built:1", Dockerfile: "Dockerfile", Context: t.TempDir()}
	for what, err := range map[string]error{"build": s.Build(t.Context(), def), "definition to tar": s.DefinitionToTar(t.Context(), def, file)} {
		if !errors.Is(err, backend.ErrBuild) || !strings.Contains(err.Error(), "built:1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("there is an archive of nothing")
	}
	// What is in the store stays there.
	image("there").Write(t, dir, "built:1")
	must(t, s.DefinitionToTar(t.Context(), def, file))
	wantExists(t, s, "built:1", true)
	must(t, s.Remove(t.Context(), "built:1"))
	// What a builder builds is gone afterwards.
	s, err := backend.Open(t.Context(), dir, backend.Options{Builder: func(_ context.Context, store string, opt backend.BuildOptions) error {
		image("built").Write(t, store, opt.Name)
		return nil
	}})
	must(t, err)
	must(t, s.DefinitionToTar(t.Context(), def, file))
	wantExists(t, s, "built:1", false)
	names, err := s.Load(t.Context(), file)
	if err != nil || !slices.Equal(names, []string{"built:1"}) {
		t.Fatalf("loaded %v, %v", names, err)
	}
	to := filepath.Join(t.TempDir(), "rootfs")
	must(t, s.Extract(t.Context(), backend.ExtractOptions{Name: "built:1", Dir: to, Map: layer.MapOptions{Rootless: true}}))
	if data, err := os.ReadFile(filepath.Join(to, "content")); err != nil || string(data) != "built" {
		t.Errorf("content %q, %v", data, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := backend.Open(t.Context(), dir, backend.Options{}); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("a directory that is no layout: %v", err)
	}
	// Whoever comes second finds the store of the first.
	path := filepath.Join(dir, "a", "store")
	for range 2 {
		_, err := backend.Open(t.Context(), path, backend.Options{})
		must(t, err)
	}
	ocitest.AssertWhole(t, path)
}
