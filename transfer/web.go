// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shale-oci/shale/internal/quote"
)

// RegistryOptions say how registries are spoken to. The zero value is what most want:
// TLS with the system's roots, and the credentials of the user's docker config.
type RegistryOptions struct {
	// CertDir is a directory with certificates for the registries that locations
	// name: *.crt are roots to trust besides the system's, and NAME.cert with NAME.key
	// is a client certificate.
	CertDir string
	// Insecure are the hosts, with their port if they have one, whose certificates are
	// not checked and to which plain HTTP may be spoken. Nothing of this holds for a
	// host that one of them redirects to. To this machine itself plain HTTP may always
	// be spoken.
	Insecure []string
	// Retries is how often in a row a request that failed is made again. 0 means 5, and
	// a negative number means never.
	Retries int
	// Pause is how long to wait before the first of these; each wait is twice as long
	// as the one before, unless the registry says how long. 0 means 250 ms.
	Pause time.Duration
	// Silence is for how long a registry may do nothing before it counts as gone. 0
	// means a minute.
	Silence time.Duration
}

// The longest waits between two attempts: of our own accord, and because the registry
// asks for it.
const (
	maxPause      = 10 * time.Second
	maxRetryAfter = 2 * time.Minute
)

// web makes requests on behalf of all registries of one operation. It decides whom to
// trust, and repeats what can be repeated.
type web struct {
	opt RegistryOptions
	// maxDocument is the size limit of a document, in bytes. 0 means
	// layout.DefaultMaxDocument.
	maxDocument int64
	named       map[string]bool // the hosts that locations name, which get client certificates
	strict      *http.Transport
	trusting    *http.Transport // for hosts that are insecure
	known       *http.Transport // for hosts that are named: with client certificates

	mu       sync.Mutex
	answered map[string]bool // hosts that have answered once
}

func newWeb(opt RegistryOptions, hosts ...string) (*web, error) {
	if opt.Retries == 0 {
		opt.Retries = 5
	}
	opt.Retries = max(opt.Retries, 0)
	if opt.Pause == 0 {
		opt.Pause = 250 * time.Millisecond
	}
	if opt.Silence == 0 {
		opt.Silence = time.Minute
	}
	roots, certs, err := readCertDir(opt.CertDir)
	if err != nil {
		return nil, err
	}
	w := &web{opt: opt, named: map[string]bool{}, answered: map[string]bool{}}
	for _, host := range hosts {
		w.named[host] = true
	}
	w.strict = newTransport(opt, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	w.known = newTransport(opt, &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12})
	w.trusting = newTransport(opt, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // for the hosts that the user named for it
		Certificates:       certs, MinVersion: tls.VersionTLS12,
	})
	return w, nil
}

func newTransport(opt RegistryOptions, config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer(opt),
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   opt.Silence,
		ResponseHeaderTimeout: opt.Silence,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   16,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
		// Blobs are what they are: nothing may compress them on their way. And one
		// connection for each is faster than one for all, so no HTTP/2.
		DisableCompression: true,
	}
}

func (w *web) close() {
	for _, t := range []*http.Transport{w.strict, w.known, w.trusting} {
		t.CloseIdleConnections()
	}
}

// maxCertFile is more than any bundle of certificates has, in bytes.
const maxCertFile = 8 << 20

// readCertDir reads the certificates in a directory, in the form in which docker and
// skopeo know it.
func readCertDir(dir string) (*x509.CertPool, []tls.Certificate, error) {
	if dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificates: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	var certs []tls.Certificate
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			data, err := readCertFile(path)
			if err != nil {
				return nil, nil, err
			}
			if !roots.AppendCertsFromPEM(data) {
				return nil, nil, fmt.Errorf("there is no certificate in %s", quote.Name(path))
			}
		case ".cert":
			cert, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return nil, nil, fmt.Errorf("read client certificate %s: %w", quote.Name(path), err)
			}
			certs = append(certs, cert)
		}
	}
	return roots, certs, nil
}

func readCertFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read from
	data, err := io.ReadAll(io.LimitReader(f, maxCertFile))
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return data, nil
}

// insecure reports whether the host is one that the user named as insecure. A name
// without a port is that of all ports.
func (w *web) insecure(host string) bool {
	return slices.Contains(w.opt.Insecure, host) || slices.Contains(w.opt.Insecure, hostname(host))
}

// hostname returns host without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func loopback(host string) bool {
	name := hostname(host)
	ip := net.ParseIP(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback()
}

// RoundTrip implements [http.RoundTripper]. Requests whose body, if they have one, can
// be had again are repeated.
func (w *web) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	large := req.Header.Get(largeAnswer) != ""
	if large {
		req = req.Clone(req.Context())
		req.Header.Del(largeAnswer)
	}
	var t *http.Transport
	switch {
	case w.insecure(host):
		t = w.trusting
	case req.URL.Scheme != "https" && !loopback(host):
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errorf(ErrInsecure, "plain HTTP is not spoken to %s", quote.Name(host))
	case w.named[host]:
		t = w.known
	default:
		t = w.strict
	}
	if body, ok := req.Body.(*uploadBody); ok && !body.begin() {
		// The credentials were renewed meanwhile, and what was sent is gone.
		_ = body.Close()
		return nil, as(ErrUnavailable, errReplay)
	}
	replayable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	for p := w.pauser(); ; {
		resp, err := w.try(t, req, large)
		switch {
		case err == nil && !temporary(resp.StatusCode):
			w.note(host)
			return resp, nil
		case err != nil && !w.transient(host, err), !replayable, req.Context().Err() != nil:
			return resp, err
		}
		if !p.wait(req.Context(), retryAfter(resp)) {
			return resp, err
		}
		if resp != nil {
			discard(resp.Body)
		}
		if req.GetBody != nil {
			req = req.Clone(req.Context())
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// largeAnswer is a header, which is not sent, of requests for documents and blobs: whoever
// makes them looks after the size of the answer, and that it does not stop coming. All
// others, of which some are made by go-containerregistry, are answered in a few words.
// The requests for tokens that it makes on the way have the same context, and cannot be
// told apart by that.
const largeAnswer = "Shale-Large-Answer"

// maxAnswer is the size limit of all other answers, in bytes. There are tokens of some
// kilobytes.
const maxAnswer = 1 << 20

// try makes a request once.
func (w *web) try(t *http.Transport, req *http.Request, large bool) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &answerBody{ReadCloser: resp.Body, left: math.MaxInt64, cancel: cancel}
	if !large || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		b.left = maxAnswer
		b.timer = time.AfterFunc(w.opt.Silence, func() { cancel(errQuiet) })
	}
	resp.Body = b
	return resp, nil
}

// answerBody is a body that comes to an end, whoever reads it.
type answerBody struct {
	io.ReadCloser
	left   int64       // how many more bytes there may be
	timer  *time.Timer // cancels the request; nil if nothing does
	cancel context.CancelCauseFunc
}

var errLongAnswer = fmt.Errorf("the answer has more than %d bytes", maxAnswer)

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errLongAnswer
	}
	return n, err
}

func (b *answerBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

var errReplay = errors.New("the registry wanted other credentials in the middle of an upload")

// note remembers that a host has answered.
func (w *web) note(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered[host] = true
}

// discard reads a little of a body that nobody wants, so that its connection can be
// used again, and closes it.
func discard(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}

// temporary reports whether a request with such an answer is worth another attempt.
func temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// transient reports whether what failed may work the next time.
func (w *web) transient(host string, err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var noTLS tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrInsecure), errors.Is(err, http.ErrSchemeMismatch),
		errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &wrongName), errors.As(err, &noTLS),
		errors.As(err, &alert):
		return false
	}
	var dns *net.DNSError
	var op *net.OpError
	if errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED) {
		// What has never answered may just be a wrong name.
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.answered[host]
	}
	return true
}

// retryAfter returns how long the registry asks to wait, and 0 if it does not.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// pauser waits between attempts, and knows when it is enough.
type pauser struct {
	left int
	next time.Duration
	all  int
	from time.Duration
}

func (w *web) pauser() *pauser {
	return &pauser{left: w.opt.Retries, next: w.opt.Pause, all: w.opt.Retries, from: w.opt.Pause}
}

// reset forgets earlier failures, since there was some progress.
func (p *pauser) reset() { p.left, p.next = p.all, p.from }

// wait waits before the next attempt, for at least as long as the registry asks for. It
// returns false if there is to be none.
func (p *pauser) wait(ctx context.Context, asked time.Duration) bool {
	if p.left <= 0 || asked > maxRetryAfter {
		return false
	}
	p.left--
	// Many who have failed at the same moment should not come back at the same moment.
	d := max(p.next-rand.N(p.next/4+1), asked)
	p.next = min(2*p.next, max(maxPause, p.from))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// quiet cancels what it watches once nothing has happened for a while.
type quiet struct {
	timer *time.Timer
	limit time.Duration
}

var errQuiet = errors.New("nothing has come for too long")

// watch returns a context that ends when alive was not called for that long.
func (w *web) watch(ctx context.Context) (context.Context, *quiet, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	q := &quiet{limit: w.opt.Silence}
	q.timer = time.AfterFunc(q.limit, func() { cancel(errQuiet) })
	return ctx, q, func() {
		q.timer.Stop()
		cancel(nil)
	}
}

func (q *quiet) alive() { q.timer.Reset(q.limit) }

// stop ends the watch, not the context.
func (q *quiet) stop() { q.timer.Stop() }
