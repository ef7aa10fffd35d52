// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

// Snapshot is one state of a tree. Exactly one of Dir, Upper and Tar says how to reach
// its content.
type Snapshot struct {
	// Name is what errors, progress and the parents of others call the snapshot. If
	// empty, it is the key, or else the path.
	Name string
	// Key promises that all snapshots with this key, of this kind and with the same
	// parents, are the same: layers are shared by it. Without a key, or if a parent has
	// none, the layer is made anew each time.
	Key string
	// Parent is the name of the snapshot that this one is based on. If empty, that is
	// the base image, or nothing.
	Parent string

	// Dir is a directory with the whole tree.
	Dir string
	// Upper is a directory with what overlayfs has changed.
	Upper string
	// Tar opens a tar archive with what is added, plain or compressed by gzip or zstd.
	Tar func(ctx context.Context) (io.ReadCloser, error)

	// History is the entry for the layer. Without a time, it gets the one at which the
	// layer was made. If nil, it only says that this package was at work.
	History *ispec.History
}

// kind names the form of the content.
func (s *Snapshot) kind() string {
	switch {
	case s.Upper != "":
		return "upper"
	case s.Tar != nil:
		return "tar"
	}
	return "dir"
}

func (s *Snapshot) name() string {
	for _, name := range []string{s.Name, s.Key, s.Dir, s.Upper} {
		if name != "" {
			return name
		}
	}
	return "tar archive"
}

// Options say what the image is. The zero value is one of gzip layers for this machine,
// without a time and without a ref.
type Options struct {
	// Base leads to the image that the lowest snapshot is based on, whose layers are
	// below the new ones. None if empty.
	Base layout.Path
	// Refs are made to lead to the image at last, in one step. With Index they come one
	// after the other.
	Refs []string
	// Index makes the refs lead to an index: the one that they lead to, in which the
	// image takes the place of that for the same platform, or a new one.
	Index bool

	// Platform is what the image is for. If nil, that of the base, or of this machine.
	// What it leaves open beside the operating system and the architecture stays as in
	// a base, or a Config, for the same two.
	Platform *ispec.Platform
	// Config is the JSON of an image config to begin with. Its rootfs and its history do
	// not count. None if nil.
	Config []byte
	// Edit, if not nil, changes the image when all of its layers are there.
	Edit func(*mutate.Image) error
	// MediaTypes are those of the image. If empty, those of the base, or OCI's.
	MediaTypes mutate.MediaTypes
	// IndexAnnotations are set in the index that Index asks for, or else in the entries
	// of index.json.
	IndexAnnotations map[string]string

	// Compression of the new layers. If empty, that of the base's topmost compressed
	// layer, or gzip.
	Compression layer.Compression
	// Level is that of the compression, as layer.NewWriter has it; 0 for the default.
	Level int
	// Map relates the owners on the disk to those in the image.
	Map layer.MapOptions
	// Owner, if not nil, owns everything in the new layers.
	Owner *layer.Owner
	// Masks are paths that are left out, with all that is below them.
	Masks []string
	// Clamp, if not nil, is the latest modification time that an entry of a new layer
	// gets, as seconds since the Unix epoch.
	Clamp *int64
	// Created is the time that new layers, and with them the image, are said to be made
	// at. A layer from the cache keeps its own. Nil leaves it out.
	Created *time.Time
	// NoHistory leaves the new layers without entries in the history.
	NoHistory bool

	// Limits bound what the layers of the base, and tar archives, may cost.
	Limits layer.Limits

	// Cache remembers layers between calls. May be nil.
	Cache *Cache
	// Parallel is how many layers are made at once. 0 means as many as there are CPUs.
	Parallel int
	// Warn receives what was left out or looks wrong. It may be called from several
	// goroutines at once. May be nil.
	Warn func(msg string)
	// Progress receives the stages "exporting layers", "exporting config", "exporting
	// manifest" and "naming to", with the times at which they began and ended, and for
	// each snapshot "checking", "comparing" and "compressing". May be nil.
	Progress progress.Func
}

// Result is what came out.
type Result struct {
	// Descriptor is that of the image's manifest.
	Descriptor ispec.Descriptor `json:"manifest"`
	// Root is what the refs lead to: the manifest, or the index.
	Root ispec.Descriptor `json:"root"`
	// Layers are those of the snapshots, the lowest first.
	Layers []Layer `json:"layers"`
	// Refs are the names that the image got.
	Refs []string `json:"refs"`
}

// Layer is what has become of one snapshot.
type Layer struct {
	Snapshot string `json:"snapshot"` // its name
	// Descriptor is nil if the snapshot differs in nothing from its parent: then there
	// is no layer.
	Descriptor *ispec.Descriptor `json:"descriptor,omitempty"`
	DiffID     digest.Digest     `json:"diff_id,omitempty"`
	// Reused says that the layer was not made by this call, but by another one or
	// before.
	Reused bool `json:"reused"`
}

// SnapshotError says which snapshot could not become a layer.
type SnapshotError struct {
	Snapshot string // its name
	Err      error
}

// Error names the snapshot, with control characters escaped.
func (e *SnapshotError) Error() string {
	return fmt.Sprintf("snapshot %s: %v", quote.Name(e.Snapshot), e.Err)
}

// Unwrap returns the cause.
func (e *SnapshotError) Unwrap() error { return e.Err }

// Errors of snapshots.
var (
	ErrChain    = errors.New("not a chain of snapshots")
	ErrOverlay  = errors.New("the lower directories of the overlay are needed")
	ErrAsItIs   = errors.New("a tar archive is taken as it is")
	ErrNoTar    = errors.New("not a tar archive")
	ErrWhiteout = errors.New("not a whiteout")
	ErrInside   = errors.New("the layout itself is in the tree, where it changes: mask it, or put it elsewhere")
)

// Image makes an image in l of the last of the snapshots and of those that it is based
// on; what is not among them is not looked at. All of them must be given, whether or not
// an image was made of them before; their order does not matter otherwise.
//
// First come the layers, then config and manifest, and at last the refs. If anything fails,
// or ctx is done, no ref has moved, and what remains are whole blobs that the next gc of
// the layout removes. Only with Index, whose refs come one after the other, those before
// the one that failed have moved. An error about a snapshot is a [SnapshotError].
func Image(ctx context.Context, l *layout.Layout, snapshots []Snapshot, opt Options) (Result, error) {
	e, err := newExporter(ctx, l, snapshots, opt)
	if err == nil {
		defer e.session.leave()
		var res Result
		if res, err = e.run(ctx); err == nil {
			return res, nil
		}
	}
	return Result{}, fmt.Errorf("pack image: %w", err)
}
