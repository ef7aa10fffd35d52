// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/layout"
)

const (
	testUser     = "somebody"
	testPassword = "a secret"
)

// dockerConfig makes a docker config for the test, with the credentials for the hosts.
func dockerConfig(t *testing.T, hosts ...string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	auths := map[string]any{}
	for _, host := range hosts {
		auths[host] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(testUser + ":" + testPassword))}
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// basicAuth lets only those in who have the password.
func basicAuth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, ok := req.BasicAuth(); !ok || user != testUser || password != testPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func TestCredentials(t *testing.T) {
	src := newSource(t)
	host := server(t, basicAuth)
	there := location(t, "docker://"+host+"/app:v1")
	dockerConfig(t)
	_, err := Copy(t.Context(), location(t, src+":v1"), there, quick())
	if wantOneLine(t, err); !errors.Is(err, ErrUnauthorized) || DeniedHost(err) != host {
		t.Errorf("without credentials: %v", err)
	}
	file := dockerConfig(t, "other.example")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Login(t.Context(), host, Credentials{testUser, "wrong"}, quick().Registry); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a wrong password: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the config has changed: %s %v", after, err)
	}
	plain, err := Login(t.Context(), host, Credentials{testUser, testPassword}, quick().Registry)
	if err != nil || plain != file {
		t.Fatalf("%q, %v", plain, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	mustCopy(t, src+":v1", there.String(), quick())
	for _, want := range []bool{true, false} {
		if removed, err := Logout(t.Context(), host); err != nil || removed != want {
			t.Errorf("logout: %v, %v", removed, err)
		}
	}
	if _, err := Resolve(t.Context(), there, quick()); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("after logout: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), "other.example") {
		t.Errorf("other credentials are gone: %s %v", data, err)
	}
}

// TestCredentialHelper has a helper give and take the password.
func TestCredentialHelper(t *testing.T) {
	host := server(t, basicAuth)
	bin := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\nstore) cat >" + bin + "/stored ;;\nget) cat " + bin + "/stored ;;\nerase) rm " + bin + "/stored ;;\nlist) echo '{}' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	file := dockerConfig(t)
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"credHelpers": {%q: "test"}}`, host), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, err := Login(t.Context(), host, Credentials{testUser, testPassword}, quick().Registry)
	if err != nil || plain != "" {
		t.Fatalf("%q, %v", plain, err)
	}
	if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), testUser) {
		t.Errorf("%s %v", data, err)
	}
	if _, err := Resolve(t.Context(), location(t, "docker://"+host+"/none"), quick()); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("with the helper: %v", err)
	}
	if removed, err := Logout(t.Context(), host); err != nil || !removed {
		t.Errorf("logout: %v, %v", removed, err)
	}
}

// TestRedirectsGetNoCredentials is L4 of the hostile inputs.
func TestRedirectsGetNoCredentials(t *testing.T) {
	src := newSource(t)
	for name, guard := range map[string]func(*testing.T) func(http.Handler) http.Handler{
		"basic":  func(*testing.T) func(http.Handler) http.Handler { return basicAuth },
		"bearer": func(*testing.T) func(http.Handler) http.Handler { return (&tokens{life: 1000}).guard },
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			var inner http.Handler
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				mu.Lock()
				for _, h := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
					if v := req.Header.Get(h); v != "" {
						seen = append(seen, h+": "+v)
					}
				}
				seen = append(seen, req.URL.Path)
				mu.Unlock()
				inner.ServeHTTP(w, req)
			}))
			t.Cleanup(other.Close)
			elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
			host := server(t, func(next http.Handler) http.Handler {
				inner = next
				return guard(t)(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if blobGet(req) {
						w.Header().Set("Set-Cookie", "a=b")
						http.Redirect(w, req, elsewhere+req.URL.Path, http.StatusTemporaryRedirect)
						return
					}
					next.ServeHTTP(w, req)
				}))
			})
			dockerConfig(t, host)
			there := "docker://" + host + "/app:v1"
			mustCopy(t, src+":v1", there, quick())
			dst := filepath.Join(t.TempDir(), "new")
			mustCopy(t, there, dst+":v1", quick())
			wantSame(t, src, dst, "v1")
			if len(seen) != 4 || strings.Contains(strings.Join(seen, "\n"), ": ") {
				t.Errorf("the other host has seen %q", seen)
			}
		})
	}
}

// tokens is a token server and what guards the registry with it. A token is good for so
// many requests.
type tokens struct {
	life int

	mu     sync.Mutex
	issued int
	left   map[string]int
}

func (k *tokens) guard(next http.Handler) http.Handler {
	k.left = map[string]int{}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			k.issue(w, req)
			return
		}
		k.mu.Lock()
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		k.left[token]--
		good := k.left[token] >= 0
		k.mu.Unlock()
		if !good {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, req.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (k *tokens) issue(w http.ResponseWriter, req *http.Request) {
	if user, password, ok := req.BasicAuth(); !ok || user != testUser || password != testPassword {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.issued++
	token := fmt.Sprintf("token-%d", k.issued)
	k.left[token] = k.life
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 60})
}

// TestTokensExpire has tokens that are good for few requests only: they are renewed, also
// in the middle of an upload.
func TestTokensExpire(t *testing.T) {
	src := newSource(t)
	for _, life := range []int{2, 3, 5} {
		k := &tokens{life: life}
		host := server(t, k.guard)
		dockerConfig(t, host)
		there := "docker://" + host + "/app:multi"
		opt := quick()
		opt.Parallel = 1
		opt.Registry.Retries = 20
		mustCopy(t, src+":multi", there, opt)
		dst := filepath.Join(t.TempDir(), "new")
		mustCopy(t, there, dst+":multi", opt)
		wantSame(t, src, dst, "multi")
		if k.issued < 5 {
			t.Errorf("only %d tokens were needed", k.issued)
		}
	}
}

// TestPinnedDigest is L6 of the hostile inputs.
func TestPinnedDigest(t *testing.T) {
	src := newSource(t)
	f, host := faultyServer(t)
	repo := "docker://" + host + "/app"
	mustCopy(t, src+":v1", repo+":v1", quick())
	mustCopy(t, src+":multi", repo+":multi", quick())
	good, other := digestOf(t, src, "v1"), digestOf(t, src, "multi")
	dst := filepath.Join(t.TempDir(), "new")

	mustCopy(t, repo+"@"+good.String(), dst+":v1", quick())
	wantSame(t, src, dst, "v1")

	// The registry answers with another manifest.
	f.commit(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		req.URL = &url.URL{Path: strings.Replace(req.URL.Path, good.String(), other.String(), 1)}
		return false
	}, always(manifestGet))
	_, err := Copy(t.Context(), location(t, repo+":v1@"+good.String()), location(t, dst+":pinned"), quick())
	if wantOneLine(t, err); !errors.Is(err, layout.ErrDigest) {
		t.Error(err)
	}
	f.none()

	absent := digest.FromString("nothing")
	if _, err := Copy(t.Context(), location(t, repo+"@"+absent.String()), location(t, dst+":absent"), quick()); !errors.Is(err, layout.ErrNotFound) {
		t.Error(err)
	}
	// A destination can be pinned, too.
	if _, err := Copy(t.Context(), location(t, src+":v1"), location(t, repo+":new@"+other.String()), quick()); !errors.Is(err, layout.ErrDigest) {
		t.Error(err)
	}
	mustCopy(t, src+":v1", repo+":new@"+good.String(), quick())
	tags, err := Tags(t.Context(), location(t, repo), quick())
	if err != nil || strings.Join(tags, " ") != "multi new v1" {
		t.Errorf("%q, %v", tags, err)
	}
	mustCopy(t, src+"@"+good.String(), dst+":again", quick())
	if got := digestOf(t, dst, "again"); got != good {
		t.Error(got)
	}
}

// TestPlainHTTP: only this machine, and hosts that are named for it, are spoken to in the
// open.
func TestPlainHTTP(t *testing.T) {
	w, err := newWeb(RegistryOptions{Insecure: []string{"named.example:5000", "portless.example"}}, "named.example:5000", "strict.example")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "localhost": true, "[::1]:1": true, "127.9.9.9": true, "a.localhost:80": true,
		"named.example:5000": true, "named.example": false, "portless.example:1": true,
		"strict.example": false, "192.168.0.1:5000": false, "10.0.0.1": false, "localhost.example": false, "127.0.0.1.example": false,
	} {
		if got := w.insecure(host) || loopback(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
		if want {
			continue
		}
		req := httptest.NewRequest(http.MethodGet, "http://"+host+"/v2/", nil)
		if _, err := w.RoundTrip(req.WithContext(t.Context())); !errors.Is(err, ErrInsecure) { //nolint:bodyclose // there is none
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestRedirectsLoseAuthorization has it in the request itself, which Go would send on to
// other ports and subdomains.
func TestRedirectsLoseAuthorization(t *testing.T) {
	first := httptest.NewRequest(http.MethodGet, "https://example.com/v2/", nil)
	for target, want := range map[string]string{
		"https://example.com/there": "secret", "https://example.com:8443/there": "", "https://blobs.example.com/there": "",
	} {
		req := httptest.NewRequest(http.MethodGet, target, nil)
		req.Header.Set("Authorization", "secret")
		if err := checkRedirect(req, []*http.Request{first}); err != nil {
			t.Fatal(err)
		}
		if got := req.Header.Get("Authorization"); got != want {
			t.Errorf("%s is sent %q", target, got)
		}
	}
}

// TestRedirectsKeepTheMethod: what was to be written or removed is not read instead.
func TestRedirectsKeepTheMethod(t *testing.T) {
	src := newSource(t)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther} {
		var method string
		host := server(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Method == method && strings.Contains(req.URL.Path, "/manifests/") {
					http.Redirect(w, req, req.URL.Path, status)
					return
				}
				next.ServeHTTP(w, req)
			})
		})
		repo := "docker://" + host + "/app"
		mustCopy(t, src+":v1", repo+":v1", quick())
		method = http.MethodPut
		_, err := Copy(t.Context(), location(t, src+":v1"), location(t, repo+":v1"), quick())
		if wantOneLine(t, err); err == nil {
			t.Errorf("a PUT redirected with %d is a success", status)
		}
		method = http.MethodDelete
		err = Delete(t.Context(), location(t, repo+"@"+digestOf(t, src, "v1").String()), quick())
		if wantOneLine(t, err); err == nil {
			t.Errorf("a DELETE redirected with %d is a success", status)
		}
	}
}

// TestDeniedHost: other credentials are of use to the registry alone, whoever wants them.
func TestDeniedHost(t *testing.T) {
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(denies.Close)
	host := server(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/v2/" {
				http.Redirect(w, req, denies.URL, http.StatusTemporaryRedirect)
			}
		})
	})
	_, err := Resolve(t.Context(), location(t, "docker://"+host+"/app:v1"), quick())
	other := strings.TrimPrefix(denies.URL, "http://")
	if wantOneLine(t, err); !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), other) || DeniedHost(err) != "" {
		t.Errorf("redirected: %v, %q", err, DeniedHost(err))
	}

	r, err := newRepository(&web{}, location(t, "docker://debian:stable"), pullScope)
	if err != nil {
		t.Fatal(err)
	}
	err = r.explain(&transport.Error{
		StatusCode: http.StatusUnauthorized, Request: httptest.NewRequest(http.MethodGet, "https://tokens.example/token", nil),
	})
	if wantOneLine(t, err); !strings.Contains(err.Error(), "tokens.example") || DeniedHost(err) != "docker.io" {
		t.Errorf("no token: %v, %q", err, DeniedHost(err))
	}
	a := &answer{StatusCode: http.StatusForbidden, Body: http.NoBody, URL: &url.URL{Host: "index.docker.io"}}
	if err := r.failure(a); DeniedHost(err) != "docker.io" {
		t.Errorf("by the registry: %v, %q", err, DeniedHost(err))
	}
}

// TestLogoutOldKeys: credentials may be kept under an address, as docker once did.
func TestLogoutOldKeys(t *testing.T) {
	file := dockerConfig(t, "https://registry.example/v1/", "http://registry.example", "other.example")
	for _, want := range []bool{true, false} {
		if removed, err := Logout(t.Context(), "registry.example"); err != nil || removed != want {
			t.Errorf("logout: %v, %v", removed, err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(data), "registry.example") || !strings.Contains(string(data), "other.example") {
		t.Errorf("%s %v", data, err)
	}
}
