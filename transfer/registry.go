// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// repository is a repository of a registry, spoken to by the OCI distribution API.
type repository struct {
	web    *web
	loc    Location
	name   name.Repository
	scopes []string

	mu     sync.Mutex
	client *http.Client // nil until the first request
}

// What is to be done in a repository.
const (
	pullScope   = transport.PullScope
	pushScope   = transport.PushScope // which is also to pull
	deleteScope = "delete,pull"
)

func newRepository(w *web, loc Location, scope string) (*repository, error) {
	var opts []name.Option
	if w.insecure(loc.Host()) || loopback(loc.Host()) {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(loc.Repo, opts...)
	if err != nil {
		return nil, invalid(err)
	}
	return &repository{web: w, loc: loc, name: repo, scopes: []string{repo.Scope(scope)}}, nil
}

// at returns the same repository for another location in it.
func (r *repository) at(loc Location) *repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &repository{web: r.web, loc: loc, name: r.name, scopes: r.scopes, client: r.client}
}

// connect returns the client with which requests to the registry are made.
func (r *repository) connect(ctx context.Context) (*http.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		return r.client, nil
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, r.name)
	if err != nil {
		return nil, fmt.Errorf("read the credentials for %s: %w", r.loc.Host(), oneLine(err))
	}
	t, err := transport.NewWithContext(ctx, r.name.Registry, auth, r.web, r.scopes)
	if err != nil {
		return nil, r.explain(err)
	}
	r.client = &http.Client{Transport: t, CheckRedirect: checkRedirect}
	return r.client, nil
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("there are too many redirections")
	}
	if req.Method != via[0].Method {
		// Reading would count as what was to be done, so that the redirection is an error.
		return http.ErrUseLastResponse
	}
	if req.URL.Host != via[0].URL.Host {
		// They would be kept for subdomains and other ports. The transport adds them where
		// they belong.
		req.Header.Del("Authorization")
	}
	return nil
}

// url returns the address of something in the repository. Which scheme it has is
// decided by the transport, which knows what the registry speaks.
func (r *repository) url(parts ...string) string {
	return "https://" + r.name.RegistryStr() + "/v2/" + r.name.RepositoryStr() + "/" + strings.Join(parts, "/")
}

// do makes a request. If its answer has none of the statuses it is an error, and its body
// closed; otherwise the caller closes it.
func (r *repository) do(req *http.Request, statuses ...int) (*answer, error) {
	client, err := r.connect(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := client.Do(req) //nolint:bodyclose // the caller closes it, or discard does
	if err != nil {
		return nil, r.explain(err)
	}
	a := &answer{
		StatusCode: resp.StatusCode, Header: resp.Header, ContentLength: resp.ContentLength,
		Body: resp.Body, URL: resp.Request.URL,
	}
	if slices.Contains(statuses, a.StatusCode) {
		return a, nil
	}
	defer discard(a.Body)
	return nil, r.failure(a)
}

// answer is what a registry has answered.
type answer struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64 // of Body in bytes; -1 if not known
	Body          io.ReadCloser
	URL           *url.URL // after all redirections
}

func newRequest(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, invalid(errors.New("the registry's address makes no URL"))
	}
	return req, nil
}

// statusError is an answer that was not hoped for.
type statusError struct {
	host    string // of the registry that has answered; empty if it was another server
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// Is puts the error under a sentinel.
func (e *statusError) Is(target error) bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrUnauthorized
	case http.StatusNotFound:
		return target == layout.ErrNotFound
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return target == ErrUnsupported
	}
	return temporary(e.status) && target == ErrUnavailable
}

// DeniedHost returns the host of the registry that wants other credentials, if err is an
// [ErrUnauthorized], and nothing otherwise. A server to which the registry has redirected
// wants none that anybody could have.
func DeniedHost(err error) string {
	var s *statusError
	if errors.As(err, &s) && errors.Is(s, ErrUnauthorized) {
		return s.host
	}
	return ""
}

// maxErrorBody limits what is read of an answer that tells of an error, in bytes.
const maxErrorBody = 64 << 10

// failure makes an error of an answer.
func (r *repository) failure(a *answer) error {
	data, err := io.ReadAll(io.LimitReader(a.Body, maxErrorBody))
	if err != nil {
		data = nil
	}
	var body struct {
		Errors []transport.Diagnostic `json:"errors"`
	}
	_ = json.Unmarshal(data, &body) // what is no JSON says nothing
	failed := newStatusError(a.URL.Host, a.StatusCode, body.Errors)
	if a.URL.Host == r.name.RegistryStr() {
		failed.host = r.loc.Host()
	}
	return failed
}

// newStatusError makes the error of an answer that came from host.
func newStatusError(host string, status int, list []transport.Diagnostic) *statusError {
	message := fmt.Sprintf("%s answers %d", quote.Name(host), status)
	if text := http.StatusText(status); text != "" {
		message += " " + text
	}
	if len(list) > 0 {
		said := strings.Trim(string(list[0].Code)+": "+list[0].Message, ": ")
		if len(said) > 500 {
			said = said[:500]
		}
		if said != "" {
			message += ", " + quote.Name(said)
		}
	}
	return &statusError{status: status, message: message}
}

// explain tells what went wrong with a request, without the URL, which may be a secret
// in itself.
func (r *repository) explain(err error) error {
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		// What plain HTTP came to after that tells nothing.
		return errorf(ErrInsecure, "%s: %w", quote.Name(r.loc.Host()), oneLine(verify))
	}
	var status *transport.Error
	if errors.As(err, &status) {
		host := r.loc.Host()
		if status.Request != nil {
			host = status.Request.URL.Host
		}
		failed := newStatusError(host, status.StatusCode, status.Errors)
		failed.host = r.loc.Host() // on behalf of which a server of tokens answers
		return failed
	}
	host := r.loc.Host()
	for {
		var in *url.Error
		if !errors.As(err, &in) {
			break
		}
		if u, perr := url.Parse(in.URL); perr == nil && u.Host != "" {
			host = u.Host
		}
		err = in.Err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrInsecure):
		return fmt.Errorf("%s: %w", quote.Name(host), oneLine(err))
	case untrusted(err):
		return errorf(ErrInsecure, "%s: %w", quote.Name(host), oneLine(err))
	}
	return errorf(ErrUnavailable, "%s: %w", quote.Name(host), oneLine(err))
}

// lineError is an error whose text is one line that is safe to print.
type lineError struct{ err error }

func oneLine(err error) error { return &lineError{err} }

func (e *lineError) Error() string {
	text := e.err.Error()
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return quote.Name(text)
	}
	return text
}

func (e *lineError) Unwrap() error { return e.err }

// untrusted reports whether the trouble is one of certificates, or of their absence.
func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	return errors.As(err, &verify) || errors.As(err, &noTLS) || errors.Is(err, http.ErrSchemeMismatch)
}
