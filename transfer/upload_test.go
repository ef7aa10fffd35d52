// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// resumable is a registry that takes one blob, and loses the connection after some bytes of
// each request, but none of the bytes.
type resumable struct {
	cut int64

	mu   sync.Mutex
	got  bytes.Buffer
	sent int64 // bytes that came, those that came again included
	done digest.Digest
}

func (s *resumable) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.URL.Path == "/v2/" {
		return
	}
	switch req.Method {
	case http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
		return
	case http.MethodPost:
		w.Header().Set("Location", "/v2/app/blobs/uploads/1?state=0")
		w.WriteHeader(http.StatusAccepted)
		return
	case http.MethodPatch:
		if want := fmt.Sprintf("%d-", s.got.Len()); !strings.HasPrefix(req.Header.Get("Content-Range"), want) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		fallthrough
	case http.MethodPut:
		n, err := io.CopyN(&s.got, req.Body, s.cut)
		if s.sent += n; err == nil {
			panic(http.ErrAbortHandler)
		}
	}
	w.Header().Set("Location", fmt.Sprintf("/v2/app/blobs/uploads/1?state=%d", s.got.Len()))
	switch req.Method {
	case http.MethodGet:
		w.Header().Set("Range", fmt.Sprintf("0-%d", s.got.Len()-1))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		if s.done = digest.Digest(req.URL.Query().Get("digest")); s.done != digest.FromBytes(s.got.Bytes()) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// TestUploadsGoOn has a registry that can resume lose the connection again and again: no
// byte is sent twice, whether the kernel sends them or not, and the blob is right.
func TestUploadsGoOn(t *testing.T) {
	data := random(3, 5<<20)
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, _, err := l.PutBlob(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]Opener{
		"file":   func(ctx context.Context, offset int64) (io.ReadCloser, error) { return l.OpenBlobAt(ctx, d, offset) },
		"memory": bytesOpener(data),
	} {
		t.Run(name, func(t *testing.T) {
			s := &resumable{cut: 1 << 20}
			server := httptest.NewServer(s)
			defer server.Close()
			dst := openRepository(t, strings.TrimPrefix(server.URL, "http://")+"/app")
			if err := dst.PutBlob(t.Context(), d, open); err != nil {
				t.Fatal(err)
			}
			if s.done != d.Digest || s.sent != d.Size {
				t.Errorf("%s, and %d bytes were sent for %d", s.done, s.sent, d.Size)
			}
		})
	}
}

func openRepository(t *testing.T, repo string) *registryDestination {
	t.Helper()
	opt := quick()
	p, err := newPlaces(&opt, location(t, "docker://"+repo))
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.repository(location(t, "docker://"+repo), pushScope)
	if err != nil {
		t.Fatal(err)
	}
	return newRegistryDestination(r)
}

// TestKernelSends makes sure that the file of a layout is found below what counts its
// bytes, and that the one of a document in memory is not looked for.
func TestKernelSends(t *testing.T) {
	src := newSource(t)
	l := openAt(t, src)
	root, err := l.Lookup(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.OpenBlobAt(t.Context(), root, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if fileOf(&meteredReader{ReadCloser: r}) == nil {
		t.Error("the file of a blob is not found")
	}
	if fileOf(&meteredReader{ReadCloser: io.NopCloser(strings.NewReader("x"))}) != nil {
		t.Error("there is a file of what is in memory")
	}
}
