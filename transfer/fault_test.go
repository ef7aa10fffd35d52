// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// fault does to one request what a bad network does. It returns false if it leaves the
// request alone.
type fault func(w http.ResponseWriter, req *http.Request, next http.Handler) bool

// faulty is a handler that commits faults against some requests.
type faulty struct {
	next  http.Handler
	fault fault
	when  func(n int, req *http.Request) bool

	mu    sync.Mutex
	count int
	hits  int
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	f.count++
	hit := f.when(f.count, req)
	if hit {
		f.hits++
	}
	what := f.fault
	f.mu.Unlock()
	if !hit || !what(w, req, f.next) {
		f.next.ServeHTTP(w, req)
	}
}

func (f *faulty) seen() (count, hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count, f.hits
}

// cut breaks the connection before anything is done.
func cut(http.ResponseWriter, *http.Request, http.Handler) bool { panic(http.ErrAbortHandler) }

// cutAfter breaks the connection after some bytes of the answer.
func cutAfter(bytes int) fault {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		next.ServeHTTP(&cutWriter{ResponseWriter: w, left: bytes}, req)
		return true
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// cutBody breaks the connection after some bytes of what is sent.
func cutBody(bytes int64) fault {
	return func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		_, _ = io.CopyN(io.Discard, req.Body, bytes)
		panic(http.ErrAbortHandler)
	}
}

// lost does what is asked, and breaks the connection before it answers.
func lost(_ http.ResponseWriter, req *http.Request, next http.Handler) bool {
	next.ServeHTTP(httptest.NewRecorder(), req)
	panic(http.ErrAbortHandler)
}

func status(code int, header ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNKNOWN","message":"a \u001b[31mfault\nof ours"}]}`)
		return true
	}
}

func once(n int) func(int, *http.Request) bool {
	return func(k int, _ *http.Request) bool { return k == n }
}

func blobGet(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/sha256:")
}

func manifestGet(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/")
}

// always is for faults that do not end.
func always(match func(*http.Request) bool) func(int, *http.Request) bool {
	return func(_ int, req *http.Request) bool { return match(req) }
}

// faultyServer starts a registry with faults, which commits none yet.
func faultyServer(t testing.TB) (*faulty, string) {
	f := &faulty{when: func(int, *http.Request) bool { return false }}
	host := server(t, func(next http.Handler) http.Handler {
		f.next = next
		return f
	})
	return f, host
}

func (f *faulty) commit(what fault, when func(int, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.when, f.count, f.hits = what, when, 0, 0
}

func (f *faulty) none() { f.commit(nil, func(int, *http.Request) bool { return false }) }

// TestEveryRequestFailsOnce has each of the first 50 requests fail in turn, in several
// ways, of a push and of a pull: all is right in the end.
func TestEveryRequestFailsOnce(t *testing.T) {
	src := newSource(t)
	for name, what := range map[string]fault{
		"cut": cut, "lost": lost, "cut body": cutBody(100_000), "cut answer": cutAfter(10), "500": status(500), "503": status(503),
		"429": status(429, "Retry-After", "0"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 5
			if name == "cut" && !testing.Short() {
				step = 1
			}
			for n := 1; n <= 50; n += step {
				if !failOnce(t, src, what, n) {
					t.Logf("there are %d requests", n-1)
					break
				}
			}
		})
	}
}

// failOnce copies there and back while request n fails, and reports whether there was
// one.
func failOnce(t *testing.T, src string, what fault, n int) bool {
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:multi"
	f.commit(what, once(n))
	mustCopy(t, src+":multi", there, quick())
	_, hits := f.seen()
	f.commit(what, once(n))
	dst := filepath.Join(t.TempDir(), "new")
	mustCopy(t, there, dst+":multi", quick())
	_, more := f.seen()
	wantSame(t, src, dst, "multi")
	return hits+more > 0
}

// TestBlobsComeInPieces has every download end after some bytes: each goes on where it
// stopped.
func TestBlobsComeInPieces(t *testing.T) {
	src := newSource(t)
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, quick())
	var ranges atomic.Int64
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		if req.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		return cutAfter(300_000)(w, req, next)
	}, always(blobGet))
	dst := filepath.Join(t.TempDir(), "new")
	mustCopy(t, there, dst+":v1", quick())
	wantSame(t, src, dst, "v1")
	if ranges.Load() < 4 {
		t.Errorf("only %d requests were for a part of a blob", ranges.Load())
	}
}

// TestNoRanges is the same with a registry that does not know ranges.
func TestNoRanges(t *testing.T) {
	src := newSource(t)
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, quick())
	var n atomic.Int64
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		req.Header.Del("Range")
		if n.Add(1)%2 == 1 {
			return cutAfter(200_000)(w, req, next)
		}
		return false
	}, always(blobGet))
	dst := filepath.Join(t.TempDir(), "new")
	mustCopy(t, there, dst+":v1", quick())
	wantSame(t, src, dst, "v1")
}

// TestFaultsThatStay: what cannot work ends with one clear line, with nothing left
// behind, and works once the fault is gone.
func TestFaultsThatStay(t *testing.T) {
	src := newSource(t)
	flip := func(body []byte) []byte {
		body = bytes.Clone(body)
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		return body
	}
	for _, c := range []struct {
		name  string
		fault fault
		when  func(*http.Request) bool
		want  error
		text  string
	}{
		{"cut", cut, blobGet, ErrUnavailable, "EOF"},
		{"500", status(500), blobGet, ErrUnavailable, "500"},
		{"502 manifest", status(502), manifestGet, ErrUnavailable, "502"},
		{"429", status(429, "Retry-After", "3600"), blobGet, ErrUnavailable, "429"},
		{"404", status(404), blobGet, layout.ErrNotFound, "404"},
		{"403", status(403), blobGet, ErrUnauthorized, "403"},
		{"418", status(418), blobGet, nil, "418"},
		{"wrong bytes", rewrite(flip, nil), blobGet, layout.ErrDigest, "sha256:"},
		{"wrong manifest", rewrite(flip, nil), manifestGet, layout.ErrDigest, "sha256:"},
		{"more bytes", rewrite(func(b []byte) []byte { return append(bytes.Clone(b), 'x') }, nil), blobGet, layout.ErrSize, "bytes"},
		{"fewer bytes", rewrite(func(b []byte) []byte { return b[:len(b)-1] }, nil), blobGet, layout.ErrSize, "bytes"},
		{"endless bytes", endless, blobGet, layout.ErrSize, "more than"},
		{"endless manifest", endless, manifestGet, layout.ErrTooLarge, "limit"},
		{"announces more", lie(1), blobGet, layout.ErrSize, "announces"},
		{"announces less", lie(-1), blobGet, layout.ErrSize, "announces"},
		{"announces more of a manifest", lie(1), manifestGet, nil, "EOF"},
		{"announces less of a manifest", lie(-1), manifestGet, layout.ErrInvalid, "JSON"},
		{"no media type", rewrite(nil, func(h http.Header) { h.Set("Content-Type", "image/png") }), manifestGet, nil, ""},
		{"another digest", rewrite(nil, func(h http.Header) {
			h.Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
		}), manifestGet, layout.ErrDigest, "sha256:"},
		{"redirects in a circle", func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
			http.Redirect(w, req, req.URL.String(), http.StatusTemporaryRedirect)
			return true
		}, blobGet, ErrUnavailable, "redirections"},
		{"redirects to plain HTTP", func(w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
			http.Redirect(w, req, "http://192.0.2.1/blob", http.StatusTemporaryRedirect)
			return true
		}, blobGet, ErrInsecure, "plain HTTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, host := faultyServer(t)
			there := "docker://" + host + "/app:v1"
			mustCopy(t, src+":v1", there, quick())
			dst := filepath.Join(t.TempDir(), "new")
			stack("linux/arm64").Write(t, dst, "v1")
			before := digestOf(t, dst, "v1")
			f.commit(c.fault, always(c.when))
			_, err := Copy(t.Context(), location(t, there), location(t, dst+":v1"), quick())
			if c.text != "" {
				wantOneLine(t, err)
				if err == nil || !strings.Contains(err.Error(), c.text) || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%v, want %v with %q", err, c.want, c.text)
				}
				if got := digestOf(t, dst, "v1"); got != before {
					t.Errorf("the tag has moved to %s", got)
				}
			}
			ocitest.AssertWhole(t, dst)
			f.none()
			mustCopy(t, there, dst+":v1", quick())
			wantSame(t, src, dst, "v1")
		})
	}
}

// rewrite changes what the registry answers.
func rewrite(body func([]byte) []byte, header func(http.Header)) fault {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, req)
		data := rec.Body.Bytes()
		if body != nil {
			data = body(data)
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if header != nil {
			header(w.Header())
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(data)
		return true
	}
}

// lie announces another length than there is.
func lie(by int) fault {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, req)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
			rec.Header().Get("Content-Type"), rec.Body.Len()+by)
		_, _ = conn.Write(rec.Body.Bytes())
		return true
	}
}

// endless sends without an end, and without an announcement.
func endless(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, req)
	w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
	_, _ = w.Write(rec.Body.Bytes())
	for range 1000 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	return true
}

func TestSlowBodies(t *testing.T) {
	src := newSource(t)
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, quick())
	opt := quick()
	opt.Registry.Silence = 300 * time.Millisecond

	// Slow, but not silent.
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		next.ServeHTTP(&slowWriter{w, 20 * time.Millisecond}, req)
		return true
	}, always(blobGet))
	slow := filepath.Join(t.TempDir(), "slow")
	mustCopy(t, there, slow+":v1", opt)
	wantSame(t, src, slow, "v1")

	// Silent in the middle, each time, but further each time.
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		next.ServeHTTP(&stallWriter{w, 700_000, req.Context()}, req)
		return true
	}, always(blobGet))
	stalled := filepath.Join(t.TempDir(), "stalled")
	mustCopy(t, there, stalled+":v1", opt)
	wantSame(t, src, stalled, "v1")

	// Silent from the beginning.
	f.commit(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		<-req.Context().Done()
		return true
	}, always(blobGet))
	opt.Registry.Retries = 1
	_, err := Copy(t.Context(), location(t, there), location(t, filepath.Join(t.TempDir(), "silent")), opt)
	if wantOneLine(t, err); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

type slowWriter struct {
	http.ResponseWriter
	pause time.Duration
}

func (s *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	n, err := s.ResponseWriter.Write(p)
	_ = http.NewResponseController(s.ResponseWriter).Flush()
	return n, err
}

type stallWriter struct {
	http.ResponseWriter
	left int
	ctx  context.Context
}

func (s *stallWriter) Write(p []byte) (int, error) {
	if len(p) > s.left {
		_, _ = s.ResponseWriter.Write(p[:s.left])
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		s.left = 0
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}

// TestRetryAfter makes sure that the registry is waited for as long as it asks.
func TestRetryAfter(t *testing.T) {
	src := newSource(t)
	f, host := faultyServer(t)
	for name, value := range map[string]func() string{
		"seconds": func() string { return "1" },
		"date":    func() string { return time.Now().Add(1900 * time.Millisecond).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
				return status(429, "Retry-After", value())(w, req, next)
			}, once(3))
			start := time.Now()
			mustCopy(t, src+":v1", "docker://"+host+"/"+name+":v1", quick())
			if took := time.Since(start); took < 800*time.Millisecond {
				t.Errorf("was back after %s", took)
			}
		})
	}
}

// TestInterruptedPullGoesOn cancels a pull, as a signal does, and looks at what the next
// one asks for.
func TestInterruptedPullGoesOn(t *testing.T) {
	src := filepath.Join(t.TempDir(), "source")
	ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("big", string(random(9, 4<<20)), 0o644))}}.Write(t, src, "v1")
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, quick())
	ctx, cancel := context.WithCancel(t.Context())
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		next.ServeHTTP(&stallWriter{&cancelWriter{w, 3 << 20, cancel}, 3 << 20, req.Context()}, req)
		return true
	}, always(blobGet))
	dst := filepath.Join(t.TempDir(), "new")
	_, err := Copy(ctx, location(t, there), location(t, dst+":v1"), quick())
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ocitest.AssertWhole(t, dst)
	var offset atomic.Value
	f.commit(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if r := req.Header.Get("Range"); r != "" {
			offset.Store(r)
		}
		return false
	}, always(blobGet))
	mustCopy(t, there, dst+":v1", quick())
	wantSame(t, src, dst, "v1")
	if got, _ := offset.Load().(string); !strings.HasPrefix(got, "bytes=") || len(got) < len("bytes=1048576-") {
		t.Errorf("the second pull asked for %q", got)
	}
}

// cancelWriter cancels soon after so many bytes have been sent.
type cancelWriter struct {
	http.ResponseWriter
	left   int
	cancel func()
}

func (c *cancelWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	if c.left -= n; c.left <= 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		time.AfterFunc(200*time.Millisecond, c.cancel)
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *cancelWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// TestCorruptSourceIsNotCopied is L2 of the hostile inputs: whatever the place, and
// whether or not the registry would notice.
func TestCorruptSourceIsNotCopied(t *testing.T) {
	src := newSource(t)
	l := openAt(t, src)
	root, err := l.Lookup(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := l.Manifest(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	layer := manifest.Layers[2].Digest
	file := filepath.Join(src, "blobs", "sha256", layer.Encoded())
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	takesAll := server(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPut && strings.Contains(req.URL.RawQuery, layer.Encoded()) {
				_, _ = io.Copy(io.Discard, req.Body)
				w.WriteHeader(http.StatusCreated)
				return
			}
			next.ServeHTTP(w, req)
		})
	}, registry.WithReferrersSupport(true))
	for _, dst := range []string{
		"docker://" + takesAll + "/app:v1", "docker://" + server(t, nil) + "/app:v1", filepath.Join(t.TempDir(), "new") + ":v1",
		"oci-archive:" + filepath.Join(t.TempDir(), "new.tar") + ":v1",
	} {
		_, err := Copy(t.Context(), location(t, src+":v1"), location(t, dst), quick())
		if wantOneLine(t, err); !errors.Is(err, layout.ErrDigest) || !strings.Contains(err.Error(), layer.String()) {
			t.Errorf("to %s: %v", dst, err)
		}
		if ok, err := Exists(t.Context(), location(t, dst), quick()); ok {
			t.Errorf("%s is there: %v", dst, err)
		}
	}
}
