// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// registryDestination writes to a repository.
type registryDestination struct {
	*repository
	// from is a repository of the same registry that has what is copied; may be empty.
	from string

	mu       sync.Mutex
	docs     map[digest.Digest][]byte        // what was put
	subjects map[digest.Digest]digest.Digest // the subjects that the registry takes note of by itself
	mounted  map[digest.Digest]bool
}

func newRegistryDestination(r *repository) *registryDestination {
	return &registryDestination{
		repository: r,
		docs:       map[digest.Digest][]byte{},
		subjects:   map[digest.Digest]digest.Digest{},
		mounted:    map[digest.Digest]bool{},
	}
}

func (t *registryDestination) Close() error { return nil }

// method returns how a blob got here.
func (t *registryDestination) method(d digest.Digest) Method {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mounted[d] {
		return Mounted
	}
	return Copied
}

// Has implements [Destination].
func (t *registryDestination) Has(ctx context.Context, d ispec.Descriptor) (bool, error) {
	req, err := newRequest(ctx, http.MethodHead, t.url("blobs", d.Digest.String()), http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := t.do(req, http.StatusOK)
	if errors.Is(err, layout.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, &Error{Op: "look for blob", Ref: d.Digest.String(), Err: err}
	}
	discard(resp.Body)
	return resp.ContentLength < 0 || resp.ContentLength == d.Size, nil
}

// PutBlob implements [Destination]. A blob that the registry has in the repository that
// the images come from is not sent.
func (t *registryDestination) PutBlob(ctx context.Context, d ispec.Descriptor, open Opener) error {
	u := &upload{registryDestination: t, desc: d, open: open, pause: t.web.pauser()}
	if err := u.run(ctx); err != nil {
		return &Error{Op: "push blob", Ref: d.Digest.String(), Err: err}
	}
	return nil
}

// upload is the sending of one blob.
type upload struct {
	*registryDestination
	desc  ispec.Descriptor
	open  Opener
	pause *pauser

	session string // where the rest goes; empty if there is no session
	at      int64  // how many bytes the registry has in it
	best    int64  // how many bytes were sent in the best attempt
	hash    hash.Hash
	hashed  int64
	unseen  bool // some bytes were sent without being hashed
}

func (u *upload) run(ctx context.Context) error {
	u.hash = u.desc.Digest.Algorithm().Hash()
	for {
		err := u.try(ctx)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrUnavailable) && !errors.Is(err, errSession), !u.pause.wait(ctx, 0):
			u.cancel(ctx)
			return err
		}
		// What seemed to fail may have worked but for the answer.
		if ok, herr := u.Has(ctx, u.desc); herr == nil && ok {
			return nil
		}
		u.locate(ctx)
	}
}

// errSession means that the registry knows nothing of the upload any more.
var errSession = errors.New("the upload got lost")

func (u *upload) try(ctx context.Context) error {
	if u.session == "" {
		if done, err := u.start(ctx); err != nil || done {
			return err
		}
	}
	if u.at == 0 {
		// All in one go: the digest is known beforehand.
		return u.send(ctx, http.MethodPut, http.StatusCreated)
	}
	if u.at < u.desc.Size {
		if err := u.send(ctx, http.MethodPatch, http.StatusAccepted, http.StatusNoContent); err != nil {
			return err
		}
		u.at = u.desc.Size
	}
	req, err := newRequest(ctx, http.MethodPut, u.final(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := u.do(req, http.StatusCreated)
	known := err == nil && u.confirmed(resp)
	if err = u.finish(resp, err); u.unseen {
		return u.settle(ctx, known, err)
	}
	return err
}

// confirmed reports whether the registry says that it has hashed the blob.
func (u *upload) confirmed(resp *answer) bool {
	return resp.Header.Get("Docker-Content-Digest") == u.desc.Digest.String()
}

// start begins an upload, unless the registry finds that it has the blob already.
func (u *upload) start(ctx context.Context) (done bool, err error) {
	address := u.url("blobs", "uploads") + "/"
	if u.from != "" {
		address += "?" + url.Values{"mount": {u.desc.Digest.String()}, "from": {u.from}}.Encode()
	}
	req, err := newRequest(ctx, http.MethodPost, address, http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := u.do(req, http.StatusAccepted, http.StatusCreated)
	if u.from != "" && err != nil && !errors.Is(err, ErrUnavailable) {
		// Some refuse a mount that they may not make, where they could just begin.
		u.from = ""
		return u.start(ctx)
	} else if err != nil {
		return false, err
	}
	discard(resp.Body)
	if resp.StatusCode == http.StatusCreated {
		u.mu.Lock()
		u.mounted[u.desc.Digest] = true
		u.mu.Unlock()
		return true, nil
	}
	u.at = 0
	return false, u.follow(resp)
}

// follow notes down where the next request of the session goes.
func (u *upload) follow(resp *answer) error {
	location := resp.Header.Get("Location")
	if location == "" {
		if u.session != "" {
			return nil
		}
		return errorf(ErrUnavailable, "the registry does not say where to send it")
	}
	next, err := resp.URL.Parse(location)
	if err != nil {
		return errorf(ErrUnavailable, "the registry says where to send it by what is no URL")
	}
	u.session = next.String()
	return nil
}

// final is where the last request of the session goes.
func (u *upload) final() string {
	separator := "?"
	if strings.Contains(u.session, "?") {
		separator = "&"
	}
	return u.session + separator + url.Values{"digest": {u.desc.Digest.String()}}.Encode()
}

// send sends what is left.
func (u *upload) send(ctx context.Context, method string, statuses ...int) error {
	src, err := u.open(ctx, u.at)
	if err != nil {
		return err
	}
	outer := ctx
	ctx, q, done := u.web.watch(ctx)
	defer done()
	body := &uploadBody{u: u, ctx: ctx, src: src, at: u.at, quiet: q, closed: make(chan struct{})}
	if body.file = fileOf(src); body.file != nil {
		if m, ok := src.(*meteredReader); ok {
			body.sent = m.sent
		}
	}
	address := u.session
	if method == http.MethodPut {
		address = u.final()
	}
	req, err := newRequest(ctx, method, address, body)
	if err != nil {
		_ = src.Close()
		return err
	}
	req.ContentLength = u.desc.Size - u.at
	if req.ContentLength == 0 {
		req.Body = http.NoBody
		err := body.end()
		if cerr := body.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.at, u.desc.Size-1))
	}
	resp, err := u.do(req, statuses...)
	known := err == nil && u.confirmed(resp)
	if err == nil {
		err = u.finish(resp, nil)
	} else {
		if errors.Is(context.Cause(ctx), errQuiet) {
			err = as(ErrUnavailable, errQuiet)
		}
		err = u.finish(nil, err)
	}
	// The transport may still be reading, though nobody listens any more.
	done()
	<-body.closed
	if body.err != nil {
		return body.err // it was not the registry
	}
	if body.at-u.best >= enoughProgress {
		u.pause.reset()
	}
	u.best = max(u.best, body.at)
	if u.unseen && method == http.MethodPut {
		return u.settle(outer, known, err)
	}
	return err
}

// finish looks at the answer to a request of the session.
func (u *upload) finish(resp *answer, err error) error {
	if errors.Is(err, layout.ErrNotFound) || isStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		u.session = ""
		return as(errSession, err)
	}
	if err != nil {
		return err
	}
	discard(resp.Body)
	if got := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode == http.StatusCreated && got != "" && got != u.desc.Digest.String() {
		return errorf(layout.ErrDigest, "the registry has stored %s", oneLine(errors.New(got)))
	}
	return u.follow(resp)
}

func isStatus(err error, status int) bool {
	var s *statusError
	return errors.As(err, &s) && s.status == status
}

// locate asks how far the session got, and gives it up if that cannot be told.
func (u *upload) locate(ctx context.Context) {
	if u.session == "" {
		return
	}
	session := u.session
	u.session = ""
	req, err := newRequest(ctx, http.MethodGet, session, http.NoBody)
	if err != nil {
		return
	}
	resp, err := u.do(req, http.StatusNoContent, http.StatusAccepted)
	if err != nil {
		return
	}
	discard(resp.Body)
	_, last, ok := strings.Cut(resp.Header.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 || n >= u.desc.Size {
		return
	}
	// "0-0" is what some say who have nothing. Of one byte nothing is lost.
	if u.at = n + 1; n == 0 {
		return
	}
	u.session = session
	_ = u.follow(resp)
}

// cancel tells the registry that no more will come.
func (u *upload) cancel(ctx context.Context) {
	if u.session == "" {
		return
	}
	ctx, _, done := u.web.watch(context.WithoutCancel(ctx))
	defer done()
	if req, err := newRequest(ctx, http.MethodDelete, u.session, http.NoBody); err == nil {
		if resp, err := u.do(req, http.StatusNoContent); err == nil {
			discard(resp.Body)
		}
	}
}

// uploadBody is the body of a request that sends a blob. If it is not a file that the
// kernel sends, it hashes what goes through, and keeps the last bytes back until all of it
// is known to be right: a blob that is not what it should be never gets to its end.
type uploadBody struct {
	u     *upload
	ctx   context.Context
	src   io.ReadCloser
	at    int64
	quiet *quiet
	file  *os.File // what src reads; nil if it is no file
	sent  func(n int)

	used   atomic.Bool
	once   sync.Once
	closed chan struct{} // closed with the body; then the fields may be looked at
	err    error         // what is wrong with the source

	// The transport may close a body and go on reading it for a moment. What comes then
	// changes nothing any more.
	mu   sync.Mutex // guards what a body notes here and in u
	over bool
}

// note calls fn unless the body is closed.
func (b *uploadBody) note(fn func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return os.ErrClosed
	}
	return fn()
}

// begin reports whether the body has not been sent before.
func (b *uploadBody) begin() bool { return !b.used.Swap(true) }

// Read implements [io.Reader].
func (b *uploadBody) Read(p []byte) (int, error) {
	b.quiet.alive()
	size := b.u.desc.Size
	if b.at == size {
		return 0, io.EOF
	}
	n, err := b.src.Read(p[:min(int64(len(p)), size-b.at)])
	err = b.note(func() error {
		b.hash(p[:n])
		b.at += int64(n)
		switch {
		case b.at == size:
			return b.end()
		case errors.Is(err, io.EOF):
			return b.fail(fmt.Errorf("%w: ended %d bytes early", layout.ErrSize, size-b.at))
		case err != nil:
			return b.fail(err)
		}
		return nil
	})
	if err != nil && b.at == size {
		n = 0 // the last bytes are held back
	}
	return n, err
}

// hash hashes what was not hashed in an earlier attempt.
func (b *uploadBody) hash(p []byte) {
	skip := b.u.hashed - b.at
	if skip < 0 {
		b.u.unseen = true
	} else if skip < int64(len(p)) {
		p = p[skip:]
		b.u.hash.Write(p)
		b.u.hashed += int64(len(p))
	}
}

// end is called once all bytes were read. From then on the registry has as long to
// answer as for any request.
func (b *uploadBody) end() error {
	b.quiet.stop()
	if n, err := io.ReadFull(b.src, make([]byte, 1)); n > 0 {
		return b.fail(fmt.Errorf("%w: more than %d bytes", layout.ErrSize, b.u.desc.Size))
	} else if !errors.Is(err, io.EOF) {
		return b.fail(err)
	}
	if b.u.unseen {
		return nil // that is settled later
	}
	if got := digest.NewDigest(b.u.desc.Digest.Algorithm(), b.u.hash); got != b.u.desc.Digest {
		return b.fail(fmt.Errorf("%w: the content is %s", layout.ErrDigest, got))
	}
	return nil
}

func (b *uploadBody) fail(err error) error {
	b.err = err
	return err
}

// Close implements [io.Closer].
func (b *uploadBody) Close() (err error) {
	b.once.Do(func() {
		b.mu.Lock()
		b.over = true
		b.mu.Unlock()
		err = b.src.Close()
		close(b.closed)
	})
	return err
}

// PutManifest implements [Destination].
func (t *registryDestination) PutManifest(ctx context.Context, d ispec.Descriptor, data []byte) error {
	if err := t.putManifest(ctx, d.Digest.String(), d, data); err != nil {
		return &Error{Op: "push manifest", Ref: d.Digest.String(), Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.docs[d.Digest] = data
	return nil
}

func (t *registryDestination) putManifest(ctx context.Context, reference string, d ispec.Descriptor, data []byte) error {
	req, err := newRequest(ctx, http.MethodPut, t.url("manifests", reference), bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", d.MediaType)
	resp, err := t.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	discard(resp.Body)
	got := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if got.Validate() == nil && got.Algorithm() == d.Digest.Algorithm() && got != d.Digest {
		return errorf(layout.ErrDigest, "the registry has stored %s", got)
	}
	if subject := digest.Digest(resp.Header.Get("OCI-Subject")); subject.Validate() == nil {
		t.mu.Lock()
		t.subjects[d.Digest] = subject
		t.mu.Unlock()
	}
	return nil
}

// SetRef implements [Destination]. A location with a digest only gets no tag.
func (t *registryDestination) SetRef(ctx context.Context, d ispec.Descriptor) error {
	tag := t.loc.Ref()
	if tag == "" {
		return nil
	}
	t.mu.Lock()
	data, ok := t.docs[d.Digest]
	t.mu.Unlock()
	err := errorf(layout.ErrNotFound, "manifest %s was not pushed", d.Digest)
	if ok {
		err = t.putManifest(ctx, tag, d, data)
	}
	if err != nil {
		return &Error{Op: "tag", Ref: t.loc.String(), Err: err}
	}
	return nil
}
