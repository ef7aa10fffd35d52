// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// places opens what locations name.
type places struct {
	opt   *Options
	web   *web
	repos map[string]*repository
	// archives are those that are read, by where they are. Each is opened once, however
	// many names are copied out of it: it may come through a pipe, or take long to read.
	archives map[Location]archiveSource
	// archive is the archive that is written; nil if there is none.
	archive archiveWriter
	// written are the locations that were written to, and where from.
	written map[Location]Location
}

// defaultParallel is how many blobs are copied at once.
const defaultParallel = 6

func (p *places) parallel() int {
	if p.opt.Parallel > 0 {
		return p.opt.Parallel
	}
	return defaultParallel
}

// newPlaces prepares for the given locations.
func newPlaces(opt *Options, locs ...Location) (*places, error) {
	var hosts []string
	for _, l := range locs {
		if l.Scheme == SchemeRegistry {
			hosts = append(hosts, l.Host())
		}
	}
	w, err := newWeb(opt.Registry, hosts...)
	if err != nil {
		return nil, err
	}
	return &places{
		opt: opt, web: w, repos: map[string]*repository{},
		archives: map[Location]archiveSource{}, written: map[Location]Location{},
	}, nil
}

func (p *places) close() {
	p.web.close()
	for _, a := range p.archives {
		a.shut()
	}
}

// discard gives up what was only needed on the way.
func (p *places) discard() error {
	if p.archive == nil {
		return nil
	}
	return p.archive.Close()
}

// repository returns the repository of a location, to do there what the scope says. The
// credentials for it are asked for once.
func (p *places) repository(loc Location, scope string, more ...string) (*repository, error) {
	key := strings.Join(append([]string{loc.Repo, scope}, more...), " ")
	if known := p.repos[key]; known != nil {
		return known.at(loc), nil
	}
	r, err := newRepository(p.web, loc, scope)
	if err != nil {
		return nil, err
	}
	r.scopes = append(r.scopes, more...)
	p.repos[key] = r
	return r, nil
}

func (p *places) openLayout(ctx context.Context, path string) (*layout.Layout, error) {
	return layout.Open(ctx, path, &p.opt.Layout)
}

// source opens a location for reading.
func (p *places) source(ctx context.Context, loc Location) (Source, error) {
	switch loc.Scheme {
	case SchemeRegistry:
		r, err := p.repository(loc, pullScope)
		if err != nil {
			return nil, err
		}
		return &registrySource{repository: r}, nil
	case SchemeOCIArchive, SchemeDockerArchive:
		return p.archiveSource(ctx, loc)
	case SchemeLayout:
		l, err := p.openLayout(ctx, loc.Path)
		if err != nil {
			return nil, err
		}
		return &layoutSource{l: l, loc: loc, own: true}, nil
	}
	return nil, errorf(ErrUnsupported, "there is no place of the kind %s", loc.Scheme)
}

// archiveSource is an archive that is read.
type archiveSource interface {
	Source
	// at makes loc what Resolve resolves. From then on Close leaves the archive open.
	at(loc Location)
	shut()
}

// archiveSource opens an archive for reading, or takes the one that is open. The names in
// it are copied one after the other.
func (p *places) archiveSource(ctx context.Context, loc Location) (Source, error) {
	key := Location{Scheme: loc.Scheme, Path: loc.Path}
	a, ok := p.archives[key]
	if !ok {
		var err error
		if loc.Scheme == SchemeOCIArchive {
			a, err = openOCIArchive(ctx, loc, p.opt)
		} else {
			a, err = openDockerArchive(ctx, loc, p.opt)
		}
		if err != nil {
			return nil, err
		}
		p.archives[key] = a
	}
	a.at(loc)
	return a, nil
}

// destination opens a location for writing what comes from a source.
func (p *places) destination(ctx context.Context, loc Location, from Source) (Destination, error) {
	switch loc.Scheme {
	case SchemeRegistry:
		return p.registryDestination(loc, from)
	case SchemeOCIArchive:
		if err := p.openArchive(ctx, loc); err != nil {
			return nil, err
		}
		return &ociArchiveDestination{archiveDestination{archiveWriter: p.archive, loc: loc}}, nil
	case SchemeDockerArchive:
		if err := p.openArchive(ctx, loc); err != nil {
			return nil, err
		}
		return &archiveDestination{archiveWriter: p.archive, loc: loc}, nil
	case SchemeLayout:
		return p.layoutDestination(ctx, loc, from)
	}
	return nil, errorf(ErrUnsupported, "there is no place of the kind %s", loc.Scheme)
}

func (p *places) registryDestination(loc Location, from Source) (Destination, error) {
	s, _ := from.(*registrySource)
	var more []string
	mount := s != nil && s.loc.Host() == loc.Host() && s.name.RepositoryStr() != loc.Repository()
	if mount {
		more = append(more, s.name.Scope(pullScope))
	}
	r, err := p.repository(loc, pushScope, more...)
	if err != nil {
		return nil, err
	}
	t := newRegistryDestination(r)
	if mount {
		t.from = s.name.RepositoryStr()
	}
	return t, nil
}

// layoutDestination opens a layout, which is made if there is none.
func (p *places) layoutDestination(ctx context.Context, loc Location, from Source) (Destination, error) {
	if loc.Tag != "" && !layout.ValidRef(loc.Tag) {
		return nil, &Error{Op: "tag", Ref: loc.Tag, Err: invalid(errors.New("not a valid tag of a layout"))}
	}
	made := false
	if _, err := os.Lstat(loc.Path); errors.Is(err, fs.ErrNotExist) {
		l, err := layout.Create(ctx, loc.Path)
		if err == nil {
			made = true
			err = l.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // somebody else may just have made it
			return nil, err
		}
	}
	l, err := p.openLayout(ctx, loc.Path)
	if err != nil {
		return nil, err
	}
	t := newLayoutDestination(l, loc)
	t.own, t.made, t.link, t.ctx = true, made, p.opt.Link, context.WithoutCancel(ctx)
	if s, ok := from.(*layoutSource); ok {
		t.from = s.l
	}
	return t, nil
}

// errSome stops a walk.
var errSome = errors.New("there is something")

// removeEmpty removes a layout that was made for nothing: with no entry, no blob and no
// beginning of a blob in it.
func removeEmpty(ctx context.Context, path string) error {
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return nil //nolint:nilerr // it is not what was made
	}
	index, err := l.Index(ctx)
	if err == nil && len(index.Manifests) > 0 {
		err = errSome
	}
	if err == nil {
		err = l.Blobs(ctx, func(digest.Digest, int64) error { return errSome })
	}
	if cerr := l.Close(); err != nil || cerr != nil {
		return cerr
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 3 {
		return nil //nolint:nilerr // there is something, and somebody else's
	}
	return os.RemoveAll(path)
}

// tags returns the tags of a location, in no special order.
func (p *places) tags(ctx context.Context, loc Location) (tags []string, err error) {
	from, err := p.source(ctx, loc)
	if err != nil {
		return nil, err
	}
	defer func() { err = both(err, from.Close()) }()
	switch s := from.(type) {
	case *registrySource:
		return s.tags(ctx)
	case *layoutSource:
		index, err := s.l.Index(ctx)
		return refsOf(index.Manifests), err
	case *ociArchive:
		return refsOf(s.index.Manifests), nil
	case *dockerArchive:
		for _, img := range s.images {
			tags = append(tags, img.Names...)
		}
		return tags, nil
	}
	return nil, errorf(ErrUnsupported, "there are no tags at %s", loc.Scheme)
}

// refsOf returns the refs that entries of index.json carry.
func refsOf(entries []ispec.Descriptor) []string {
	var refs []string
	for _, d := range entries {
		if ref, ok := d.Annotations[ispec.AnnotationRefName]; ok && isDocument(d) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// openArchive opens the archive that is written, once for all names in it.
func (p *places) openArchive(ctx context.Context, loc Location) error {
	switch {
	case p.archive != nil:
		return nil
	case loc.Scheme == SchemeOCIArchive:
		w, err := createOCIArchive(ctx, loc, p.opt)
		if err != nil {
			return err
		}
		p.archive = w
		return nil
	case loc.Digest != "":
		return errorf(ErrUnsupported, "a docker-archive has names, and no digests")
	}
	w, err := createDockerArchive(ctx, loc, p.opt)
	if err != nil {
		return err
	}
	p.archive = w
	return nil
}

// finish writes the archive, if there is one to be written.
func (p *places) finish(ctx context.Context) error {
	if p.archive == nil {
		return nil
	}
	return p.archive.flush(ctx)
}

// stage is a layout for what is on its way.
type stage struct {
	temp *tempDir
	l    *layout.Layout
}

// newStage makes a layout for what is on its way to dst, beside it if it is a file or a
// directory.
func newStage(ctx context.Context, dst Location) (*stage, error) {
	parent := ""
	if dst.Path != "" && dst.Path != standardStream {
		parent = filepath.Dir(filepath.Clean(dst.Path))
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, fmt.Errorf("make directory: %w", err)
		}
	}
	temp, err := newTempDir(parent)
	if err != nil {
		return nil, err
	}
	l, err := layout.Create(ctx, filepath.Join(temp.path, "layout"))
	if err != nil {
		return nil, both(err, temp.remove())
	}
	return &stage{temp, l}, nil
}

// discard removes what was only needed on the way.
func (s *stage) discard() error { return both(s.l.Close(), s.temp.remove()) }
