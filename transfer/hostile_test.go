// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shale-oci/shale/layout"
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
