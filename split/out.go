// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// opened is an OUT whose blobs can be read.
type opened struct {
	path    string // as it was given; may be empty
	file    *File
	doc     []byte            // split.json as it stands
	sources map[string]source // by tier
	given   map[string]bool   // tiers that were given apart, from wherever
	volumes *volumeSet
}

// maxSmallFile is the size limit of index.json and oci-layout, in bytes.
const maxSmallFile = 64 << 20

// openOut opens an OUT. The tiers in given, which are paths by name, take the place
// of those in it; without a path, the topmost tier must be among them.
func openOut(ctx context.Context, path string, given map[string]string) (*opened, error) {
	o := &opened{path: path, sources: map[string]source{}, given: map[string]bool{}}
	err := o.open(ctx, given)
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *opened) close() {
	for _, s := range o.sources {
		s.close()
	}
	if o.volumes != nil {
		o.volumes.close()
	}
}

func (o *opened) open(ctx context.Context, given map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		s, err := openSource(ctx, given[name], name)
		if errors.Is(err, fs.ErrNotExist) {
			return errorf(ErrMissingTier, "tier %s is missing: there is no %s", quote.Name(name), quote.Name(given[name]))
		} else if err != nil {
			return fmt.Errorf("tier %s: %w", quote.Name(name), err)
		}
		o.sources[name], o.given[name] = s, true
	}
	var err error
	switch {
	case o.path == "":
		err = o.readApart()
	case exists(filepath.Join(o.path, FileName)):
		err = o.openDir(ctx)
	case exists(volumeName(o.path, 1)) || exists(checksumName(o.path)):
		err = o.openVolumes(ctx)
	case exists(o.path):
		err = errorf(ErrInvalid, "%s is not what split has written: there is no %s in it", quote.Name(o.path), FileName)
	default:
		err = fmt.Errorf("%s: %w", quote.Name(o.path), fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	return o.checkNames()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readApart reads the copy of split.json that travels with the topmost tier.
func (o *opened) readApart() error {
	top := o.sources[TopTier]
	if top == nil {
		return errorf(ErrMissingTier, "tier %s, which has %s, is not given", TopTier, FileName)
	}
	doc, err := top.file(FileName, maxFile)
	if err != nil {
		return errorf(ErrWrongTier, "%s is not tier %s: read %s: %w", quote.Name(top.where()), TopTier, FileName, cause(err))
	}
	o.doc = doc
	o.file, err = ParseFile(doc)
	return within(top.where(), err)
}

// within says where the file is that err is about.
func within(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", quote.Name(where), err)
}

func (o *opened) openDir(ctx context.Context) error {
	doc, err := readFile(filepath.Join(o.path, FileName), maxFile)
	if err != nil {
		return err
	}
	o.doc = doc
	if o.file, err = ParseFile(doc); err != nil {
		return within(o.path, err)
	}
	for _, t := range o.file.Tiers {
		if o.sources[t.Name] != nil {
			continue
		}
		for _, name := range []string{t.Name, t.Name + archiveSuffix} {
			path := filepath.Join(o.path, name)
			if !exists(path) {
				continue
			}
			s, err := openSource(ctx, path, name)
			if err != nil {
				return fmt.Errorf("tier %s: %w", t.Name, err)
			}
			o.sources[t.Name] = s
			break
		}
	}
	return nil
}

func (o *opened) openVolumes(ctx context.Context) error {
	set, err := openVolumes(ctx, o.path)
	if err != nil {
		return err
	}
	o.volumes = set
	all, err := readTar(ctx, o.path+".*", set)
	if err != nil {
		return err
	}
	if o.doc, err = (tarSource{all}).file(FileName, maxFile); err != nil {
		return err
	}
	if o.file, err = ParseFile(o.doc); err != nil {
		return within(o.path, err)
	}
	for _, t := range o.file.Tiers {
		if o.sources[t.Name] == nil {
			if sub := all.Sub(t.Name); sub != nil {
				o.sources[t.Name] = tarSource{sub}
			}
		}
	}
	return nil
}

// checkNames refuses tiers that were given and are not part of the split.
func (o *opened) checkNames() error {
	var names []string
	for _, t := range o.file.Tiers {
		names = append(names, t.Name)
	}
	for name := range o.given {
		if !slices.Contains(names, name) {
			return errorf(ErrWrongTier, "tier %s is given, but the tiers are %v", quote.Name(name), names)
		}
	}
	return nil
}

// checkFiles compares the files of a tier that are not blobs with what split.json
// says. Tiers that were given apart are somebody's layouts: they may hold more.
func (o *opened) checkFiles(t *FileTier) error {
	s := o.sources[t.Name]
	if s == nil || o.given[t.Name] {
		return nil
	}
	damaged := func(name, format string, args ...any) error {
		return errorf(ErrDamaged, "tier %s: %s in %s is damaged: %w", t.Name, name, quote.Name(s.where()), fmt.Errorf(format, args...))
	}
	if t.Index == "" {
		return errorf(ErrWrongTier, "tier %s: %s should not be there: the tier was left out", t.Name, quote.Name(s.where()))
	}
	index, err := s.file(ispec.ImageIndexFile, maxSmallFile)
	if err != nil {
		return damaged(ispec.ImageIndexFile, "%w", cause(err))
	}
	if got := digest.FromBytes(index); got != t.Index {
		return damaged(ispec.ImageIndexFile, "its digest is %s, not %s", got, t.Index)
	}
	header, err := s.file(ispec.ImageLayoutFile, maxSmallFile)
	if err != nil {
		return damaged(ispec.ImageLayoutFile, "%w", cause(err))
	}
	if !bytes.Equal(header, layoutFile) {
		return damaged(ispec.ImageLayoutFile, "it has another content")
	}
	if t.Name != TopTier {
		return nil
	}
	doc, err := s.file(FileName, maxFile)
	if err != nil {
		return damaged(FileName, "%w", cause(err))
	}
	if !bytes.Equal(doc, o.doc) {
		return damaged(FileName, "it differs from the one in %s", quote.Name(o.path))
	}
	return nil
}
