// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/stack"
)

// FilesVersion is the version of the form of [File] and [FilesSummary]. Members may be
// added without a new version.
const FilesVersion = 1

// FilesOptions say what [Files] lists. The zero value means what the image contains,
// which is all layers together.
type FilesOptions struct {
	// Layer, if not empty, is the one layer whose entries are listed: its number,
	// counted from 1, which is the lowest; or its digest or diffID. The layers above it
	// are not read then.
	Layer string
	// Limits are what the layers may cost.
	Limits layer.Limits
	// Warn receives what was left out or looks wrong. May be nil.
	Warn func(msg string)
	// Progress receives the stage "applying", in bytes of layer blobs. May be nil.
	Progress progress.Func
}

// File is one name in an image, or in a layer.
type File struct {
	Path      string `json:"path"`               // with a leading slash
	PathBytes []byte `json:"pathBytes,omitzero"` // the same, if it is not UTF-8

	// Type is one of "file", "directory", "symlink", "char", "block", "fifo" and, for
	// what a layer deletes, "whiteout", which has nothing of what follows but Layer and
	// Shadows.
	Type  string `json:"type"`
	Mode  string `json:"mode,omitzero"` // permissions with setuid, setgid and sticky, four octal digits
	UID   uint32 `json:"uid"`           // inside the container
	GID   uint32 `json:"gid"`
	Size  int64  `json:"size"`           // of a regular file, in bytes
	Mtime string `json:"mtime,omitzero"` // as in RFC 3339, in UTC

	Target      string `json:"target,omitzero"`      // of a symbolic link
	TargetBytes []byte `json:"targetBytes,omitzero"` // the same, if it is not UTF-8
	Device      string `json:"device,omitzero"`      // major:minor
	// Hardlink is, for the second and further names of a file, the path of the first
	// one that was listed.
	Hardlink string   `json:"hardlink,omitzero"`
	Xattrs   []string `json:"xattrs,omitzero"` // names of extended attributes, sorted

	// Layer is the layer that the file comes from, counted from 1, which is the lowest;
	// 0 for a root directory that no layer mentions.
	Layer int `json:"layer"`
	// Shadows is how many bytes of files of lower layers the name hides: they are in
	// the image, and nobody sees them. A file that still has another name is not
	// hidden.
	Shadows int64 `json:"shadows"`
}

// FilesSummary says what the files take in the layers that [Files] has read.
type FilesSummary struct {
	Manifest digest.Digest `json:"manifest"`
	Layers   []LayerUsage  `json:"layers"` // the lowest first

	// Bytes is how much content of files is in all layers together, uncompressed, and
	// Wasted how much of that nobody sees. A file with several names counts once.
	Bytes  int64 `json:"bytes"`
	Wasted int64 `json:"wasted"`
	// Efficiency is the part of Bytes that is not wasted, from 0 to 1; 1 if there are
	// none.
	Efficiency float64 `json:"efficiency"`
}

// LayerUsage says what the files of one layer take.
type LayerUsage struct {
	Digest digest.Digest `json:"digest"`
	DiffID digest.Digest `json:"diffID"`
	Size   int64         `json:"size"` // of the blob
	Files  int           `json:"files"`
	Bytes  int64         `json:"bytes"` // content of the files
	// Wasted is how much of Bytes is hidden by layers above, or by later entries of
	// the layer itself.
	Wasted int64 `json:"wasted"`
	// Shadows is how many bytes of the layers below the layer hides. It is the sum of
	// File.Shadows in a listing of the layer.
	Shadows int64 `json:"shadows"`
}

// Files calls fn for everything that the image contains to which from leads, or for
// all that one of its layers has: parents first, the names of a directory sorted
// bytewise, and before them what the layer deletes from it. Nothing is called before
// all layers have been read and checked. An error of fn is returned as it is, and that of
// a layer that there is not is [layout.ErrNotFound].
func Files(ctx context.Context, l *layout.Layout, from layout.Path, opt FilesOptions, fn func(File) error) (*FilesSummary, error) {
	s, err := stack.Open(ctx, l, from)
	if err != nil {
		return nil, err
	}
	in, only := s.All(), -1
	if opt.Layer != "" {
		if only, err = findLayer(s, opt.Layer); err != nil {
			return nil, err
		}
		in.To = only + 1
	}
	u := newUsage(s, in.To, only)
	err = s.Apply(ctx, u.tree, in, u, stack.Options{Limits: opt.Limits, Warn: opt.Warn, Progress: opt.Progress})
	if err != nil {
		return nil, err
	}
	u.now() // the last layer may have done nothing
	lister := &fileLister{u: u, fn: fn, first: map[*layer.Inode]*layer.Node{}}
	if err := u.tree.Walk(func(n *layer.Node) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return lister.node(n)
	}); err != nil {
		return nil, err
	}
	return u.summary(s), nil
}

// findLayer returns the number of a layer, counted from 0.
func findLayer(s *stack.Stack, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > len(s.Layers) {
			return 0, fmt.Errorf("find layer %d: %w: the image has %d layers, counted from 1", n, layout.ErrNotFound, len(s.Layers))
		}
		return n - 1, nil
	}
	i := slices.IndexFunc(s.Layers, func(l stack.Layer) bool {
		return name == string(l.Descriptor.Digest) || name == string(l.DiffID)
	})
	if i < 0 {
		return 0, fmt.Errorf("find layer %s: %w: no layer of the image has this number, digest or diffID",
			quote.Name(name), layout.ErrNotFound)
	}
	return i, nil
}

// fileLister turns nodes into files.
type fileLister struct {
	u     *usage
	fn    func(File) error
	first map[*layer.Inode]*layer.Node // of inodes with several names
}

// node lists a name, and what has been removed from it if it is a directory.
func (l *fileLister) node(n *layer.Node) error {
	if l.u.listed(n) {
		if err := l.fn(l.file(n)); err != nil {
			return err
		}
	}
	return l.whiteouts(n)
}

// whiteouts lists what the layer has removed from a directory. The names in it that
// are still there come after them.
func (l *fileLister) whiteouts(dir *layer.Node) error {
	if l.u.only < 0 {
		return nil
	}
	names := make([]string, 0, len(l.u.gone[dir]))
	for name := range l.u.gone[dir] {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := strings.TrimSuffix(slashed(dir.Path()), "/") + "/" + name
		err := l.fn(File{
			Path: path, PathBytes: notUTF8(path), Type: "whiteout",
			Layer: l.u.only + 1, Shadows: l.u.gone[dir][name],
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *fileLister) file(n *layer.Node) File {
	ino, path := n.Inode(), slashed(n.Path())
	f := File{
		Path: path, PathBytes: notUTF8(path),
		Type: diffTypes[ino.Type], Mode: fmt.Sprintf("%04o", ino.Mode), UID: ino.UID, GID: ino.GID, Size: ino.Size,
		Mtime:  time.Unix(ino.Mtime.Sec, int64(ino.Mtime.Nsec)).UTC().Format(time.RFC3339Nano),
		Target: ino.Target, TargetBytes: notUTF8(ino.Target),
		Layer: int(ino.Layer) + 1, Shadows: l.u.hiddenBy(n),
	}
	if ino.Type == layer.CharDevice || ino.Type == layer.BlockDevice {
		f.Device = fmt.Sprintf("%d:%d", ino.Major, ino.Minor)
	}
	if ino.Nlink > 1 && ino.Type != layer.Directory {
		if first := l.first[ino]; first != nil {
			f.Hardlink = slashed(first.Path())
		} else {
			l.first[ino] = n
		}
	}
	for _, x := range ino.Xattrs {
		f.Xattrs = append(f.Xattrs, x.Name)
	}
	return f
}
