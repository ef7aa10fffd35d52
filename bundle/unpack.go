// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
)

// ErrExists is returned when the place of a bundle is taken.
var ErrExists = errors.New("already exists")

// UnpackOptions change how an image is unpacked. The zero value is root's way.
type UnpackOptions struct {
	// Map relates the image's owners to those on the disk.
	Map layer.MapOptions
	// KeepDirlinks lets symbolic links to directories stay where a layer has a
	// directory of the same name.
	KeepDirlinks bool
	// Limits bound what the image's layers may cost.
	Limits layer.Limits
	// Warn receives what was left out or looks wrong. May be nil.
	Warn func(msg string)
	// Progress receives the stages "applying" (bytes of layer blobs) and
	// "checking" (files). May be nil.
	Progress progress.Func
}

// Unpack makes a bundle of the image that from leads to, in the directory dir,
// which is made if it does not exist. If it fails or ctx ends, what it made is
// removed again; what was there before is never touched.
func Unpack(ctx context.Context, l *layout.Layout, from layout.Path, dir string, opt UnpackOptions) (err error) {
	img, err := stack.Open(ctx, l, from)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := checkOwners(ctx, img, opt); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	b, err := newBundle(dir, img.Descriptor)
	if err != nil {
		return fmt.Errorf("unpack into %s: %w", quote.Name(dir), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.undo())
		}
		b.close()
	}()
	if err := b.unpack(ctx, from, img, opt); err != nil {
		return fmt.Errorf("unpack into %s: %w", quote.Name(dir), err)
	}
	return nil
}

// newDir is a bundle that is being made, and what has been made of it.
type newDir struct {
	path  string
	dir   *rooted.Dir
	image ispec.Descriptor
	dirs  []string // directories made on the way, the outermost first
	files []string // names made in dir
}

// newBundle makes the directory and checks that there is room in it.
func newBundle(path string, manifest ispec.Descriptor) (*newDir, error) {
	b := &newDir{path: path, image: manifest}
	if err := b.mkdirAll(path); err != nil {
		return nil, errors.Join(err, b.undo())
	}
	dir, err := openDir(path)
	if err != nil {
		return nil, errors.Join(err, b.undo())
	}
	b.dir = dir
	if err := b.checkFree(); err != nil {
		err = errors.Join(err, b.undo())
		b.close()
		return nil, err
	}
	return b, nil
}

// openDir opens a directory by a path that is the user's own: it may well be a
// symbolic link.
func openDir(path string) (*rooted.Dir, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	return rooted.Open(resolved)
}

func (b *newDir) mkdirAll(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := b.mkdirAll(parent); err != nil {
			return err
		}
	}
	// Until somebody widens it, nobody else gets at the setuid files inside.
	err := os.Mkdir(path, 0o700)
	if err == nil {
		b.dirs = append(b.dirs, path)
	}
	return err
}

// checkFree refuses a directory in which a bundle is already, or a part of one.
func (b *newDir) checkFree() error {
	var hint string
	if _, err := b.dir.Lstat(metaName); errors.Is(err, fs.ErrNotExist) {
		hint = fmt.Sprintf(" (there is no %s, so an unpack was interrupted here or something else made it: remove it to go on)", metaName)
	}
	for _, name := range []string{configName, rootfsName, metaName, metaTemp, mtreeName(b.image), statName(b.image)} {
		_, err := b.dir.Lstat(name)
		switch {
		case err == nil:
			return fmt.Errorf("%s %w%s", name, ErrExists, hint)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// undo removes what has been made. It goes on where something cannot be
// removed.
func (b *newDir) undo() error {
	var errs []error
	for _, name := range b.files {
		errs = append(errs, b.dir.RemoveAll(name))
	}
	for i := len(b.dirs) - 1; i >= 0; i-- {
		errs = append(errs, os.Remove(b.dirs[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

func (b *newDir) close() {
	if b.dir != nil {
		b.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
}

func (b *newDir) unpack(ctx context.Context, from layout.Path, img *stack.Stack, opt UnpackOptions) error {
	if err := b.dir.Chmod(".", 0o700); err != nil {
		return err
	}
	if err := b.dir.Mkdir(rootfsName, 0o700); err != nil {
		return err
	}
	b.files = append(b.files, rootfsName)
	rootfs, err := b.dir.OpenDir(rootfsName)
	if err != nil {
		return err
	}
	defer rootfs.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	digests, err := applyForDigests(ctx, img, rootfs, opt)
	if err != nil {
		return err
	}
	if digests.Len() > manyEntries {
		runtime.GC() // the merged tree is gone, and was as large as what comes now
	}
	if err := b.create(configName, 0o644, func(w io.Writer) error {
		return WriteRuntimeConfig(w, &img.Config, RuntimeOptions{Map: opt.Map, Rootfs: rootfs, Warn: opt.Warn})
	}); err != nil {
		return err
	}
	if err := b.writeFacts(ctx, rootfs, digests, opt); err != nil {
		return err
	}
	return b.writeMeta(&Meta{From: from, Map: opt.Map})
}

// writeMeta says that the bundle is whole: umoci.json appears last, and complete.
func (b *newDir) writeMeta(m *Meta) error {
	if err := b.create(metaTemp, 0o644, m.writeTo); err != nil {
		return err
	}
	b.files = append(b.files, metaName)
	return b.dir.Rename(metaTemp, b.dir, metaName)
}

// applyForDigests writes the image's tree below rootfs, and keeps of it only what
// is needed afterwards.
func applyForDigests(ctx context.Context, img *stack.Stack, rootfs *rooted.Dir, opt UnpackOptions) (*layer.Digests, error) {
	tree, err := applyLayers(ctx, img, rootfs, opt)
	if err != nil {
		return nil, err
	}
	return tree.Digests(), nil
}

// manyEntries is how large a tree must be for its memory to be given back at
// once: below that, nobody notices.
const manyEntries = 200_000

// writeFacts writes the mtree manifest and the stat cache. No file is read for
// that: the digests are known from writing.
func (b *newDir) writeFacts(ctx context.Context, rootfs *rooted.Dir, digests *layer.Digests, opt UnpackOptions) error {
	stamp, err := mtree.TakeStamp(b.dir)
	if err != nil {
		return err
	}
	now, err := mtree.Walk(ctx, rootfs, mtree.WalkOptions{
		Digest: func(path string, st rooted.Stat) ([32]byte, bool) {
			return digests.Lookup(path, st.Size)
		},
		Entries:  digests.Len(),
		Rootless: opt.Map.Rootless,
		Progress: opt.Progress,
	})
	if err != nil {
		return fmt.Errorf("list rootfs: %w", err)
	}
	f := facts{image: b.image, path: filepath.Join(b.path, rootfsName), tree: now, stamp: stamp}
	return f.write(b.create)
}

// create makes the file called name, which must not exist.
func (b *newDir) create(name string, perm uint32, write func(io.Writer) error) error {
	err := createFile(b.dir, name, perm, write)
	if !errors.Is(err, fs.ErrExist) {
		b.files = append(b.files, name)
	}
	return err
}

func createFile(dir *rooted.Dir, name string, perm uint32, write func(io.Writer) error) (err error) {
	f, err := dir.Create(name, perm)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	bw := bufio.NewWriterSize(f, 256<<10)
	if err := write(bw); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
