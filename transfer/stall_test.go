// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stalls answers with a status and the beginning of a body, of which no more comes, or
// with one that has no end.
func stalls(w http.ResponseWriter, r *http.Request, status int, endless bool) {
	w.WriteHeader(status)
	for n := 0; n == 0 || endless; n++ {
		if _, err := w.Write([]byte(strings.Repeat(" ", 4096))); err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

// TestAnswersWithoutEnd: whatever a registry answers to whatever request, a body that
// stops coming, or comes forever, ends the copy.
func TestAnswersWithoutEnd(t *testing.T) {
	src := newSource(t)
	for _, tc := range []struct {
		what   string
		method string
		path   string // the end of it
		status int
		push   bool
	}{
		{"ping", http.MethodGet, "/v2/", http.StatusOK, false},
		{"ping that is refused", http.MethodGet, "/v2/", http.StatusForbidden, false},
		{"manifest that is not there", http.MethodGet, "/manifests/v1", http.StatusNotFound, false},
		{"manifest", http.MethodGet, "/manifests/v1", http.StatusOK, false},
		{"upload", http.MethodPost, "/blobs/uploads/", http.StatusAccepted, true},
		{"upload that is busy", http.MethodPost, "/blobs/uploads/", http.StatusServiceUnavailable, true},
	} {
		for _, endless := range []bool{false, true} {
			t.Run(tc.what, func(t *testing.T) {
				t.Parallel()
				var strange bool
				host := server(t, func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if strange && r.Method == tc.method && strings.HasSuffix(r.URL.Path, tc.path) {
							stalls(w, r, tc.status, endless)
							return
						}
						h.ServeHTTP(w, r)
					})
				})
				there := "docker://" + host + "/x:v1"
				from, to := there, filepath.Join(t.TempDir(), "to")+":v1"
				if tc.push {
					from, to = src+":v1", there
				} else {
					mustCopy(t, src+":v1", there, quick())
				}
				strange = true
				opt := Options{Registry: RegistryOptions{Retries: -1, Silence: 300 * time.Millisecond}}
				done := make(chan error, 1)
				go func() {
					_, err := Copy(t.Context(), location(t, from), location(t, to), opt)
					done <- err
				}()
				select {
				case err := <-done:
					if tc.what != "ping" && err == nil {
						t.Error("the copy has come to an end as if all was well")
					}
				case <-time.After(60 * time.Second):
					t.Error("the copy hangs")
				}
			})
		}
	}
}
