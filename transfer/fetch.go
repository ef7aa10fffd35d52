// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// accepted are the media types of manifests that are asked for.
var accepted = strings.Join([]string{
	ispec.MediaTypeImageIndex, ispec.MediaTypeImageManifest,
	layout.MediaTypeDockerIndex, layout.MediaTypeDockerManifest,
}, ", ")

// isDocument reports whether the descriptor is that of a manifest or an index.
func isDocument(d ispec.Descriptor) bool {
	return layout.IsIndex(d.MediaType) || layout.IsManifest(d.MediaType)
}

// registrySource reads from a repository.
type registrySource struct {
	*repository

	mu   sync.Mutex
	docs map[digest.Digest][]byte // manifests that were read when they were resolved
}

func (s *registrySource) Close() error { return nil }

// Resolve implements [Source].
func (s *registrySource) Resolve(ctx context.Context) (ispec.Descriptor, error) {
	reference := s.loc.Ref()
	if s.loc.Digest != "" {
		reference = s.loc.Digest.String()
	}
	d, data, err := s.manifest(ctx, reference, s.loc.Digest)
	if err != nil {
		return ispec.Descriptor{}, &Error{Op: "resolve", Ref: s.loc.String(), Err: err}
	}
	s.keep(d.Digest, data)
	return d, nil
}

func (s *registrySource) keep(d digest.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs == nil {
		s.docs = map[digest.Digest][]byte{}
	}
	s.docs[d] = data
}

// manifest fetches a manifest by tag or digest. If pinned is not empty the manifest must
// have that digest.
func (r *repository) manifest(ctx context.Context, reference string, pinned digest.Digest) (ispec.Descriptor, []byte, error) {
	for p := r.web.pauser(); ; {
		d, data, err := r.tryManifest(ctx, reference, pinned)
		if !errors.Is(err, errBroken) || !p.wait(ctx, 0) {
			return d, data, err
		}
	}
}

func (r *repository) tryManifest(ctx context.Context, reference string, pinned digest.Digest) (ispec.Descriptor, []byte, error) {
	ctx, q, done := r.web.watch(ctx)
	defer done()
	req, err := newRequest(ctx, http.MethodGet, r.url("manifests", reference), http.NoBody)
	if err != nil {
		return ispec.Descriptor{}, nil, err
	}
	req.Header.Set("Accept", accepted)
	data, resp, err := r.document(req, q)
	if err != nil {
		return ispec.Descriptor{}, nil, err
	}
	d, err := identify(resp, data, pinned)
	return d, data, err
}

// document makes a request that is answered with a document.
func (r *repository) document(req *http.Request, q *quiet) ([]byte, *answer, error) {
	// Repeating the request has waits and limits of its own.
	q.stop()
	req.Header.Set(largeAnswer, "yes")
	resp, err := r.do(req, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	q.alive()
	data, err := readDocument(resp, cmp.Or(r.web.maxDocument, layout.DefaultMaxDocument))
	return data, resp, err
}

var errBroken = errors.New("the connection broke")

// readDocument reads the whole of an answer, which may have most bytes.
func readDocument(resp *answer, most int64) ([]byte, error) {
	defer resp.Body.Close() //nolint:errcheck // it was only read from
	tooLarge := errorf(layout.ErrTooLarge, "larger than the limit of %d bytes", most)
	if resp.ContentLength > most {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, as(errBroken, fmt.Errorf("read the answer: %w", oneLine(err)))
	case int64(len(data)) > most:
		return nil, tooLarge
	}
	return data, nil
}

// identify makes the descriptor of a manifest that was fetched. Its digest is that of
// its bytes, whatever the registry says, which must be the same.
func identify(resp *answer, data []byte, pinned digest.Digest) (ispec.Descriptor, error) {
	var none ispec.Descriptor
	d := ispec.Descriptor{Size: int64(len(data)), Digest: digest.FromBytes(data)}
	for what, want := range map[string]digest.Digest{
		"the registry calls it": digest.Digest(resp.Header.Get("Docker-Content-Digest")),
		"the digest given is":   pinned,
	} {
		if want == "" || want.Validate() != nil {
			continue
		}
		if got := want.Algorithm().FromBytes(data); got != want {
			return none, errorf(layout.ErrDigest, "the content is %s, %s %s", got, what, want)
		}
	}
	if pinned != "" {
		d.Digest = pinned
	}
	d.MediaType = mediaTypeOf(resp.Header.Get("Content-Type"), data)
	if !isDocument(d) {
		return none, errorf(ErrUnsupported, "%s is the media type of no manifest or index", quote.Name(d.MediaType))
	}
	return d, nil
}

// mediaTypeOf returns the media type of a manifest. Registries and proxies that do not
// know it call it JSON or text: then the document itself counts.
func mediaTypeOf(header string, data []byte) string {
	said, _, err := mime.ParseMediaType(header)
	if err == nil && isDocument(ispec.Descriptor{MediaType: said}) {
		return said
	}
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"` // seen, and not gone through
		Config    json.RawMessage `json:"config"`
	}
	if json.Unmarshal(data, &doc) != nil {
		return said
	}
	switch {
	case doc.MediaType != "":
		return doc.MediaType
	case doc.Manifests != nil:
		return ispec.MediaTypeImageIndex
	case doc.Config != nil:
		return ispec.MediaTypeImageManifest
	}
	return said
}

// Open implements [Source].
func (s *registrySource) Open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > d.Size {
		return nil, errorf(layout.ErrInvalid, "blob %s has no byte %d", d.Digest, offset)
	}
	if isDocument(d) {
		s.mu.Lock()
		data, ok := s.docs[d.Digest]
		s.mu.Unlock()
		if !ok {
			var err error
			if _, data, err = s.manifest(ctx, d.Digest.String(), d.Digest); err != nil {
				return nil, &Error{Op: "fetch manifest", Ref: d.Digest.String(), Err: err}
			}
		}
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}
	b := &blobReader{r: s.repository, ctx: ctx, desc: d, at: offset, pause: s.web.pauser()}
	for b.body == nil && b.err == nil {
		b.reopen() //nolint:contextcheck // it has ctx, for as long as it is read
	}
	if b.err != nil {
		return nil, b.err
	}
	return b, nil
}

// blobReader streams a blob, and asks for the rest of it when the stream breaks.
type blobReader struct {
	r     *repository
	ctx   context.Context
	desc  ispec.Descriptor
	at    int64 // the byte that comes next
	from  int64 // the byte that the stream began at
	pause *pauser

	body  io.ReadCloser
	quiet *quiet
	done  func()
	err   error
}

// enoughProgress is how many bytes must have come for an earlier fault to be forgotten.
const enoughProgress = 256 << 10

func (b *blobReader) failed(err error) error {
	return &Error{Op: "fetch blob", Ref: b.desc.Digest.String(), Err: err}
}

// open asks for what is left.
func (b *blobReader) open() error {
	ctx, q, done := b.r.web.watch(b.ctx)
	resp, err := b.request(ctx, q)
	if err != nil {
		done()
		return err
	}
	b.body, b.quiet, b.done, b.from = resp.Body, q, done, b.at
	return nil
}

func (b *blobReader) request(ctx context.Context, q *quiet) (*answer, error) {
	ranged := b.at > 0 && b.at < b.desc.Size
	// Repeating the request has waits and limits of its own.
	q.stop()
	resp, err := b.ask(ctx, ranged)
	if ranged && isStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		resp, err = b.ask(ctx, false)
	}
	q.alive()
	if err != nil {
		return nil, err
	}
	if err := b.accept(resp, q); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// ask makes one request. No other may be made of the same [http.Request]: the credentials
// that the first put into it would follow redirections.
func (b *blobReader) ask(ctx context.Context, ranged bool) (*answer, error) {
	req, err := newRequest(ctx, http.MethodGet, b.r.url("blobs", b.desc.Digest.String()), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set(largeAnswer, "yes")
	if !ranged {
		return b.r.do(req, http.StatusOK)
	}
	// Not all that know ranges know one without an end.
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.at, b.desc.Size-1))
	return b.r.do(req, http.StatusOK, http.StatusPartialContent)
}

// accept looks whether the answer is to what was asked, and goes to the place in it
// where the rest begins.
func (b *blobReader) accept(resp *answer, q *quiet) error {
	want := b.desc.Size - b.at
	skip := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		unit, rest, _ := strings.Cut(resp.Header.Get("Content-Range"), " ")
		start, _, _ := strings.Cut(rest, "-")
		first, err := strconv.ParseInt(start, 10, 64)
		if unit != "bytes" || err != nil || first != b.at {
			return errorf(ErrUnavailable, "the registry sends another range than it was asked for")
		}
	} else {
		// Not every registry knows ranges.
		want, skip = b.desc.Size, b.at
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		return fmt.Errorf("%w: the registry announces %d bytes, not %d", layout.ErrSize, resp.ContentLength, want)
	}
	skipped := &meteredReader{resp.Body, func(int) { q.alive() }}
	if _, err := io.CopyN(io.Discard, skipped, skip); err != nil {
		return as(errBroken, oneLine(err))
	}
	return nil
}

// Read implements [io.Reader]. It never gives more than the blob should have: if there
// is more, that is an error.
func (b *blobReader) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.body == nil {
			b.reopen()
			continue
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.desc.Size-b.at+1)])
		b.quiet.alive()
		b.at += int64(n)
		switch {
		case b.at > b.desc.Size:
			b.err = b.failed(fmt.Errorf("%w: more than %d bytes", layout.ErrSize, b.desc.Size))
			return 0, b.err
		case errors.Is(err, io.EOF) && b.at == b.desc.Size:
			b.err = io.EOF
		case err != nil:
			b.broke(err)
		}
		if b.at-b.from >= enoughProgress {
			b.pause.reset()
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// broke closes a stream that ended early.
func (b *blobReader) broke(err error) {
	if cerr := b.ctx.Err(); cerr != nil {
		b.err = b.failed(cerr)
		return
	}
	b.shut()
	if errors.Is(err, context.Canceled) {
		err = errQuiet
	} else if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if !b.pause.wait(b.ctx, 0) {
		if cerr := b.ctx.Err(); cerr != nil {
			err = cerr
		}
		b.err = b.failed(errorf(ErrUnavailable, "%s: ended %d bytes early: %w",
			quote.Name(b.r.loc.Host()), b.desc.Size-b.at, oneLine(err)))
	}
}

func (b *blobReader) reopen() {
	err := b.open()
	if errors.Is(err, errBroken) {
		b.broke(err)
	} else if err != nil {
		b.err = b.failed(err)
	}
}

func (b *blobReader) shut() {
	if b.body != nil {
		_ = b.body.Close()
		b.done()
		b.body = nil
	}
}

// Close implements [io.Closer].
func (b *blobReader) Close() error {
	b.shut()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		b.err = b.failed(errors.New("the reader is closed"))
	}
	return nil
}
