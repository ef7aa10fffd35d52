// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestForeignTags: what makes no tag gets into no URL of a registry, from a layout as
// little as from a registry, and then nothing is copied.
func TestForeignTags(t *testing.T) {
	src := newSource(t)
	stack("linux/amd64").Write(t, src, "zz/blobs/uploads")
	var mu sync.Mutex
	var paths []string
	host := server(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/tags/list") {
				_, _ = io.WriteString(w, `{"name":"lies","tags":["v1","../../victim/manifests/v1"]}`)
				return
			}
			mu.Lock()
			paths = append(paths, req.URL.Path)
			mu.Unlock()
			next.ServeHTTP(w, req)
		})
	})
	opt := quick()
	opt.AllTags = true
	_, err := Copy(t.Context(), location(t, src), location(t, "docker://"+host+"/app"), opt)
	if wantOneLine(t, err); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("from a layout: %v", err)
	}
	_, err = Copy(t.Context(), location(t, "docker://"+host+"/lies"), location(t, filepath.Join(t.TempDir(), "new")), opt)
	if wantOneLine(t, err); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("from a registry: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, path := range paths {
		if path != "/v2/" {
			t.Errorf("a request for %s was made", path)
		}
	}
}

// lastLayer returns the descriptor of the large layer of v1, and where it is in a registry.
func lastLayer(t *testing.T, host string, opt Options) (ispec.Descriptor, Source) {
	t.Helper()
	src := newSource(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, opt)
	l := openAt(t, src)
	root, err := l.Lookup(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := l.Manifest(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlaces(&opt, location(t, there))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	s, err := p.source(t.Context(), location(t, there))
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Layers[2], s
}

// TestRefusedRangeKeepsCredentials: where a range is refused and the whole is elsewhere,
// on another port of the same host, that is told no credentials.
func TestRefusedRangeKeepsCredentials(t *testing.T) {
	var inner http.Handler
	leaked := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		leaked <- req.Header.Get("Authorization")
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(other.Close)
	host := server(t, func(next http.Handler) http.Handler {
		inner = next
		return basicAuth(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch {
			case blobGet(req) && req.Header.Get("Range") != "":
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			case blobGet(req):
				http.Redirect(w, req, other.URL+req.URL.Path, http.StatusTemporaryRedirect)
			default:
				next.ServeHTTP(w, req)
			}
		}))
	})
	dockerConfig(t, host)
	d, s := lastLayer(t, host, quick())
	r, err := s.Open(t.Context(), d, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); err != nil || n != d.Size-1000 {
		t.Errorf("%d bytes of %d: %v", n, d.Size-1000, err)
	}
	if got := <-leaked; got != "" {
		t.Errorf("the other port was told %q", got)
	}
}

// TestManyLargeDocuments: each may be as large as the limit, and all together not.
func TestManyLargeDocuments(t *testing.T) {
	data, err := json.Marshal(ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{}})
	if err != nil {
		t.Fatal(err)
	}
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: layout.DefaultMaxDocument}
	c := &copier{opt: &Options{}, own: map[digest.Digest][]byte{d.Digest: data}}
	for n := 1; n <= maxDocumentBytes/layout.DefaultMaxDocument; n++ {
		if err := c.read(t.Context(), &document{desc: d}); err != nil {
			t.Fatalf("document %d: %v", n, err)
		}
	}
	d.Size = 1
	if err := c.read(t.Context(), &document{desc: d}); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

// TestSlowSkip: where ranges are not known, to get to where the rest begins may take
// longer than silence may last, and fail once.
func TestSlowSkip(t *testing.T) {
	f, host := faultyServer(t)
	opt := quick()
	opt.Registry.Silence, opt.Registry.Retries = 300*time.Millisecond, 1
	d, s := lastLayer(t, host, opt)
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		req.Header.Del("Range")
		if _, hits := f.seen(); hits == 1 {
			return cutAfter(200_000)(w, req, next)
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, req)
		slow := &slowWriter{w, 20 * time.Millisecond}
		for part := range slices.Chunk(rec.Body.Bytes(), 32<<10) {
			_, _ = slow.Write(part)
		}
		return true
	}, always(blobGet))
	offset := d.Size - 1000
	r, err := s.Open(t.Context(), d, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); err != nil || n != d.Size-offset {
		t.Errorf("%d bytes of %d: %v", n, d.Size-offset, err)
	}
}

// TestEndlessLists: a list of which every page is small and announces another ends.
func TestEndlessLists(t *testing.T) {
	var page atomic.Int64
	host := server(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body := `{"tags":["v1"]}`
			if strings.Contains(req.URL.Path, "/referrers/") {
				body = `{"schemaVersion":2,"manifests":[]}`
			} else if !strings.HasSuffix(req.URL.Path, "/tags/list") {
				next.ServeHTTP(w, req)
				return
			}
			n := page.Add(1)
			if n > 2*maxPages {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, req.URL.Path, n))
			_, _ = io.WriteString(w, body)
		})
	})
	opt := quick()
	_, s := lastLayer(t, host, opt)
	there := location(t, "docker://"+host+"/app")
	if _, err := Tags(t.Context(), there, opt); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("tags: %v", err)
	}
	page.Store(0)
	if _, err := s.(referrerSource).referrers(t.Context(), digest.FromString("subject")); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("referrers: %v", err)
	}
	var seen pages
	if err := seen.add(make([]byte, maxPageBytes)); err != nil {
		t.Error(err)
	}
	if err := seen.add([]byte{0}); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("bytes: %v", err)
	}
}

// TestCopyKeepsToLimits: the limits of documents are those that the options set, whatever
// the source.
func TestCopyKeepsToLimits(t *testing.T) {
	there := "docker://" + server(t, nil) + "/app:multi"
	src := newSource(t) + ":multi"
	mustCopy(t, src, there, quick())
	to := func() Location { return location(t, filepath.Join(t.TempDir(), "new")+":multi") }
	for _, c := range []struct {
		opt  layout.Options
		want error
	}{
		{layout.Options{MaxDepth: 1}, layout.ErrTooDeep},
		{layout.Options{MaxDepth: 10}, nil},
		{layout.Options{MaxDocument: 100}, layout.ErrTooLarge},
	} {
		opt := quick()
		opt.Layout = c.opt
		if _, err := Copy(t.Context(), location(t, there), to(), opt); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.opt, err)
		}
	}
	// What is larger than the default.
	dir := filepath.Join(t.TempDir(), "large")
	opt := quick()
	opt.Layout.MaxDocument = 2 * layout.DefaultMaxDocument
	image := ocitest.Image{Annotations: map[string]string{"large": strings.Repeat("x", layout.DefaultMaxDocument)}}
	image.Write(t, dir, "multi")
	mustCopy(t, dir+":multi", there, opt)
	if _, err := Copy(t.Context(), location(t, there), to(), quick()); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("with the default: %v", err)
	}
	mustCopy(t, there, to().String(), opt)
}
