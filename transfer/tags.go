// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Limits of a list of tags.
const (
	maxTags     = 1_000_000
	tagsPerPage = "1000"
)

// Limits of every list that comes in pages.
const (
	maxPages     = 1000
	maxPageBytes = 64 << 20 // of all pages together
)

// pages counts what was read of a list.
type pages struct {
	number int
	bytes  int
}

// add counts a page, and refuses it if the list seems to have no end.
func (p *pages) add(data []byte) error {
	p.number++
	p.bytes += len(data)
	if p.number > maxPages || p.bytes > maxPageBytes {
		return errorf(layout.ErrTooLarge, "the registry's list has more than %d pages or %d bytes", maxPages, maxPageBytes)
	}
	return nil
}

// tags lists the tags of the repository, in the order of the registry.
func (r *repository) tags(ctx context.Context) ([]string, error) {
	var tags []string
	var seen pages
	next := r.url("tags", "list") + "?n=" + tagsPerPage
	for next != "" {
		page, after, err := r.tagsPage(ctx, next, &seen)
		if err != nil {
			return nil, &Error{Op: "list tags of", Ref: "docker://" + r.loc.Repo, Err: err}
		}
		if tags = append(tags, page...); len(tags) > maxTags || len(page) == 0 && after != "" {
			return nil, errorf(layout.ErrTooLarge, "the registry lists more than %d tags, or no end of them", maxTags)
		}
		next = after
	}
	return tags, nil
}

func (r *repository) tagsPage(ctx context.Context, address string, seen *pages) ([]string, string, error) {
	ctx, q, done := r.web.watch(ctx)
	defer done()
	req, err := newRequest(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, "", err
	}
	data, resp, err := r.document(req, q)
	if err != nil {
		return nil, "", err
	}
	if err := seen.add(data); err != nil {
		return nil, "", err
	}
	var page struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &page); err != nil {
		return nil, "", invalid(fmt.Errorf("the registry's list of tags: %w", oneLine(err)))
	}
	next, err := nextPage(resp)
	return page.Tags, next, err
}

// nextPage returns where a list goes on (distribution-spec, "Listing Tags"), and nothing
// at its end. It must be at the same host.
func nextPage(resp *answer) (string, error) {
	link := resp.Header.Get("Link")
	target, params, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(params, `rel="next"`) && !strings.Contains(params, "rel=next") {
		return "", nil
	}
	next, err := resp.URL.Parse(target)
	if err != nil || next.Host != resp.URL.Host {
		return "", errorf(ErrUnavailable, "the registry's list goes on at what is no URL of its own")
	}
	if next.String() == resp.URL.String() {
		return "", errorf(ErrUnavailable, "the registry's list has no end")
	}
	return next.String(), nil
}

// Tags returns the tags at a place, in its own order: for a docker-archive, names with
// their tags. They are of foreign origin, and need not even be valid. Of the options only
// Layout and Registry count.
func Tags(ctx context.Context, loc Location, opt Options) ([]string, error) {
	p, err := newPlaces(&opt, loc)
	if err != nil {
		return nil, &Error{Op: "list tags of", Ref: loc.String(), Err: err}
	}
	defer p.close()
	return p.tags(ctx, loc)
}

// Resolve returns the descriptor of the manifest or index that a location leads to. The
// error is layout.ErrNotFound if there is none, or no such place. Of the options only Layout and Registry
// count.
func Resolve(ctx context.Context, loc Location, opt Options) (d ispec.Descriptor, err error) {
	p, err := newPlaces(&opt, loc)
	if err != nil {
		return d, &Error{Op: "resolve", Ref: loc.String(), Err: err}
	}
	defer p.close()
	p.web.maxDocument = opt.Layout.MaxDocument
	from, err := p.source(ctx, loc)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, layout.ErrInvalid) {
		err = as(layout.ErrNotFound, err)
	}
	if err != nil {
		return d, err
	}
	defer func() { err = both(err, from.Close()) }()
	return from.Resolve(ctx)
}

// Exists reports whether a location leads to an image. That a place as a whole is not
// there, a layout, a file, a repository, is no error but means that its images are not.
func Exists(ctx context.Context, loc Location, opt Options) (bool, error) {
	_, err := Resolve(ctx, loc, opt)
	if errors.Is(err, layout.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Delete removes the manifest that a location of a registry names by its digest, and with
// it all tags that lead to it. The error is ErrUnsupported if the registry does not
// allow that, and layout.ErrNotFound if there is no such manifest.
func Delete(ctx context.Context, loc Location, opt Options) error {
	failed := func(err error) error { return &Error{Op: "remove", Ref: loc.String(), Err: err} }
	if loc.Scheme != SchemeRegistry || loc.Digest == "" {
		return failed(invalid(errors.New("only docker://HOST/REPO@DIGEST can be removed from a registry")))
	}
	p, err := newPlaces(&opt, loc)
	if err != nil {
		return failed(err)
	}
	defer p.close()
	r, err := p.repository(loc, deleteScope)
	if err != nil {
		return failed(err)
	}
	req, err := newRequest(ctx, http.MethodDelete, r.url("manifests", loc.Digest.String()), http.NoBody)
	if err != nil {
		return failed(err)
	}
	resp, err := r.do(req, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return failed(err)
	}
	discard(resp.Body)
	return nil
}
