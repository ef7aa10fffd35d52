// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestMain keeps the tests from the credentials and proxies of whoever runs them.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "shale-transfer-")
	if err != nil {
		log.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": dir, "DOCKER_CONFIG": dir, "XDG_RUNTIME_DIR": dir, "XDG_CONFIG_HOME": dir,
		// Nothing that goes to this machine may take a way round.
		"HTTP_PROXY": "http://192.0.2.1:1", "HTTPS_PROXY": "http://192.0.2.1:1", "NO_PROXY": "",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
	}
	// docker-registry would take it for a part of its configuration.
	if err := os.Unsetenv("REGISTRY_AUTH_FILE"); err != nil {
		log.Fatal(err)
	}
	if args := os.Getenv("SHALE_TEST_COPY"); args != "" {
		copyAsChild(args)
		return
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// copyAsChild is what this program does when a test starts it to be killed: it copies.
func copyAsChild(args string) {
	src, dst, _ := strings.Cut(args, " ")
	from, err1 := ParseLocation(src)
	to, err2 := ParseLocation(dst)
	_, err3 := Copy(context.Background(), from, to, quick())
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
}

// quick are options that do not keep tests waiting.
func quick() Options {
	return Options{Registry: RegistryOptions{Pause: time.Millisecond, Silence: 5 * time.Second}}
}

// server starts a registry in this process, with a handler around it, and returns its
// host.
func server(t testing.TB, around func(http.Handler) http.Handler, opts ...registry.Option) string {
	t.Helper()
	h := registry.New(append([]registry.Option{registry.Logger(log.New(io.Discard, "", 0))}, opts...)...)
	if around != nil {
		h = around(h)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func location(t testing.TB, s string) Location {
	t.Helper()
	l, err := ParseLocation(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustCopy(t testing.TB, src, dst string, opt Options) *Result {
	t.Helper()
	r, err := Copy(t.Context(), location(t, src), location(t, dst), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// random returns bytes that do not compress, the same each time.
func random(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// stack is an image with some layers, of which one is large.
func stack(platform string) ocitest.Image {
	p, err := layout.ParsePlatform(platform)
	if err != nil {
		panic(err)
	}
	seed := byte(len(platform) + int(platform[len(platform)-1]))
	return ocitest.Image{
		Layers: [][]byte{
			ocitest.Layer(ocitest.File("base", string(random(1, 300_000)), 0o644)),
			ocitest.Layer(ocitest.File("etc/name", platform, 0o644)),
			ocitest.Layer(ocitest.File("big", string(random(seed, 1_500_000)), 0o644)),
		},
		Platform: p, Annotations: map[string]string{"for": platform},
	}
}

// newSource makes a layout with the image v1 and the multi-platform image multi.
func newSource(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	stack("linux/amd64").Write(t, dir, "v1")
	ocitest.Index{Nodes: []ocitest.Node{stack("linux/amd64"), stack("linux/arm64"), stack("linux/s390x")}}.Write(t, dir, "multi")
	return dir
}

func openAt(t testing.TB, dir string) *layout.Layout {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func digestOf(t testing.TB, dir, ref string) digest.Digest {
	t.Helper()
	d, err := openAt(t, dir).Lookup(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest
}

// wantSame checks that a ref leads to the same image in both layouts, and that the second
// is whole and holds nothing else.
func wantSame(t testing.TB, a, b, ref string) {
	t.Helper()
	if x, y := digestOf(t, a, ref), digestOf(t, b, ref); x != y {
		t.Errorf("%s is %s in one layout and %s in the other", ref, x, y)
	}
	ocitest.AssertWhole(t, b)
	wantNoTemp(t, b)
}

func wantNoTemp(t testing.TB, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".shale*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v %v", dir, left, err)
	}
}

func wantOneLine(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Error("there is no error")
	} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("not one line: %q", err)
	}
}

// attach puts an artifact that refers to a manifest into a layout, as an entry without a
// ref.
func attach(t testing.TB, dir string, subject ispec.Descriptor, artifactType, content string) ispec.Descriptor {
	t.Helper()
	l := openAt(t, dir)
	ctx := t.Context()
	put := func(mediaType string, data []byte) ispec.Descriptor {
		d, size, err := l.PutBlob(ctx, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: put(ispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ispec.Descriptor{put("text/plain", []byte(content))},
		Subject:     &ispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: map[string]string{"content": content},
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := put(ispec.MediaTypeImageManifest, data)
	err = l.Update(ctx, func(index *ispec.Index) error {
		index.Manifests = append(index.Manifests, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
