// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// GCOptions change what gc does. The zero value is what most want.
type GCOptions struct {
	// DryRun reports what would be removed, and neither locks nor removes.
	DryRun bool
}

// GCReport says what gc has removed, or would remove.
type GCReport struct {
	Blobs    []digest.Digest // sorted
	Bytes    int64           // of the blobs together
	TempDirs []string        // temporary directories that crashed writers left, sorted
}

// GC removes the blobs that nothing in index.json leads to, and the temporary
// directories of writers that are no more, be they shale's or umoci's. It spares
// all that open layouts have put or hold, in this process and in others.
//
// Of the graph only indexes and manifests are read. If one of them is corrupt or
// cannot be read, what it leads to is not known: then nothing is removed. Blobs
// that are missing do no harm. Files in blobs whose names are not digests stay.
// After an error the report says what was removed until then. A nil opt stands for
// the zero value.
func (l *Layout) GC(ctx context.Context, opt *GCOptions) (GCReport, error) {
	if err := l.usable(ctx); err != nil {
		return GCReport{}, opError("collect garbage", "", err)
	}
	dryRun := opt != nil && opt.DryRun
	if !dryRun {
		unlock, err := l.lock(ctx, unix.LOCK_EX)
		if err != nil {
			return GCReport{}, opError("collect garbage", "", err)
		}
		defer unlock()
	}
	// The order matters where there is no lock. What is listed is either noted by
	// its writer when the notes are read, or that writer was through by then and
	// index.json, read at last, leads to it.
	blobs, err := l.listBlobs(ctx)
	if err != nil {
		return GCReport{}, opError("list blobs", "", err)
	}
	temps, err := l.listTemps()
	defer temps.close()
	if err != nil {
		return GCReport{}, opError("list temporary directories", "", err)
	}
	if err := l.reach(ctx, temps.noted); err != nil {
		return GCReport{}, err
	}
	s := sweeper{l: l, dryRun: dryRun, keep: temps.noted}
	err = s.sweep(ctx, blobs, temps)
	slices.Sort(s.report.Blobs)
	slices.Sort(s.report.TempDirs)
	return s.report, err
}

// listBlobs returns the names of all blobs, by algorithm.
func (l *Layout) listBlobs(ctx context.Context) (map[digest.Algorithm][]string, error) {
	blobs := map[digest.Algorithm][]string{}
	for _, alg := range algorithms {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// A directory that is listed needs an open file of its own.
		dir, err := l.blobs.OpenDir(alg.String())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		entries, err := dir.Names()
		closeDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if len(e.Name) == hexLen(alg) && isHex(e.Name) && (e.Type == unix.DT_REG || e.Type == unix.DT_UNKNOWN) {
				blobs[alg] = append(blobs[alg], e.Name)
			}
		}
	}
	return blobs, nil
}

// temps is what the temporary directories tell.
type temps struct {
	stale []staleTemp
	noted map[digest.Digest]bool // what living writers count on
}

// staleTemp is a temporary directory without a living writer, locked.
type staleTemp struct {
	name string
	dir  *rooted.Dir
}

func (t *temps) close() {
	for _, s := range t.stale {
		closeDir(s.dir)
	}
}

func (l *Layout) listTemps() (*temps, error) {
	t := &temps{noted: map[digest.Digest]bool{}}
	root, err := l.dir.OpenDir(".")
	if err != nil {
		return t, err
	}
	defer closeDir(root)
	entries, err := root.Names()
	if err != nil {
		return t, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, tempPrefix) && !strings.HasPrefix(e.Name, ".umoci-") {
			continue
		}
		st, err := l.dir.Lstat(e.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
			continue
		}
		if err == nil {
			err = l.addTemp(t, e.Name)
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// addTemp finds out whether the temporary directory is in use, and what for.
func (l *Layout) addTemp(t *temps, name string) error {
	dir, err := l.dir.OpenDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its writer has just finished
	} else if err != nil {
		return err
	}
	err = tryLock(dir.Fd(), unix.LOCK_EX)
	if err == nil || l.opt.NoLock && errors.Is(err, ErrLock) {
		t.stale = append(t.stale, staleTemp{name, dir})
		return nil
	}
	defer closeDir(dir)
	if errors.Is(err, ErrLock) {
		return err
	}
	entries, err := dir.Names()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // which means removed by its writer
		return err
	}
	for _, e := range entries {
		if d, ok := noteDigest(e.Name); ok {
			t.noted[d] = true
		}
	}
	return nil
}

// reach adds to keep all that index.json leads to.
func (l *Layout) reach(ctx context.Context, keep map[digest.Digest]bool) error {
	index, err := l.Index(ctx)
	if err != nil {
		return err
	}
	w := walker{l: l, seen: map[visit]bool{}, fn: func(path Path) error {
		d := path.Target()
		keep[d.Digest] = true
		if !IsIndex(d.MediaType) && !IsManifest(d.MediaType) || len(d.Data) > 0 {
			return nil
		}
		if _, err := l.statBlob(d.Digest); errors.Is(err, fs.ErrNotExist) {
			return SkipChildren
		}
		return nil
	}}
	for _, d := range withSubject(index.Manifests, index.Subject) {
		if err := w.walk(ctx, Path{d}); err != nil {
			return err
		}
	}
	return nil
}

// sweeper removes what is not kept.
type sweeper struct {
	l      *Layout
	dryRun bool
	keep   map[digest.Digest]bool
	report GCReport
}

func (s *sweeper) sweep(ctx context.Context, blobs map[digest.Algorithm][]string, t *temps) error {
	for alg, names := range blobs {
		dir, err := s.l.algDir(alg)
		if err != nil {
			return opError("remove blobs", alg.String(), cause(err))
		}
		for _, name := range names {
			d := digest.NewDigestFromEncoded(alg, name)
			if s.keep[d] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return opError("collect garbage", "", err)
			}
			if err := s.remove(dir, name, d); err != nil {
				return opError("remove blob", string(d), cause(err))
			}
		}
	}
	for _, temp := range t.stale {
		if !s.dryRun {
			if err := s.l.dir.RemoveAll(temp.name); err != nil {
				return opError("remove temporary directory", temp.name, err)
			}
		}
		s.report.TempDirs = append(s.report.TempDirs, temp.name)
	}
	return nil
}

func (s *sweeper) remove(dir *rooted.Dir, name string, d digest.Digest) error {
	st, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsRegular() {
		return nil
	}
	if err == nil && !s.dryRun {
		err = dir.Remove(name)
	}
	if err != nil {
		return err
	}
	s.report.Blobs = append(s.report.Blobs, d)
	s.report.Bytes += st.Size
	return nil
}
