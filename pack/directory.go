// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/mutate"
)

// directory makes the layer of a snapshot that is a directory: the whole tree, or an upper
// directory.
func (e *exporter) directory(ctx context.Context, n *node) (l mutate.Layer, empty bool, err error) {
	// What is below comes first, since somebody else may be at work on it.
	var lower *lower
	if n.Dir != "" {
		if lower, err = e.lower(ctx, n); err != nil {
			return l, false, err
		}
		defer lower.close()
	}
	done, err := e.slot(ctx)
	if err != nil {
		return l, false, err
	}
	defer done()
	path := n.Dir
	if n.Upper != "" {
		path = n.Upper
	}
	root, err := openDir(path)
	if err != nil {
		return l, false, err
	}
	defer root.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	tree, err := e.list(ctx, n, root)
	if err != nil {
		return l, false, err
	}
	var changes []layer.Change
	if n.Upper != "" {
		changes, err = e.uppers(tree)
	} else {
		changes, err = e.differences(ctx, n, lower, root, tree)
	}
	if err != nil || len(changes) == 0 && e.hasLower(n) {
		return l, true, err
	}
	l, err = mutate.PutLayer(ctx, e.layout, mutate.PutLayerOptions{
		Compression: e.opt.Compression,
		Level:       e.opt.Level,
		Replace:     n.damaged,
		Write: func(w io.Writer) error {
			return layer.Generate(ctx, w, root, changes, layer.GenerateOptions{
				Map: e.opt.Map, Clamp: e.opt.Clamp, Owner: e.opt.Owner, SkipXattr: overlayXattr,
				Warn: e.opt.Warn, Progress: e.steps.of(n),
			})
		},
	})
	return l, false, err
}

// openDir opens a directory that the caller has named. Its last component must not be a
// symbolic link.
func openDir(path string) (*rooted.Dir, error) {
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		path = trimmed
	}
	return rooted.Open(path)
}

// hasLower reports whether there is anything below a snapshot.
func (e *exporter) hasLower(n *node) bool { return n.parent != nil || e.base != nil }

// list lists the tree of a snapshot, once for each call of Image. No file is opened.
func (e *exporter) list(ctx context.Context, n *node, root *rooted.Dir) (*mtree.Tree, error) {
	n.treeMu.Lock()
	defer n.treeMu.Unlock()
	if n.tree != nil {
		return n.tree, nil
	}
	tree, err := mtree.Walk(ctx, root, mtree.WalkOptions{
		Digest:   unread,
		Rootless: e.opt.Map.Rootless,
		Progress: e.steps.of(n),
	})
	if err != nil {
		return nil, err
	}
	whiteouts := 0
	for entry := range tree.All() {
		if err := e.checkEntry(entry); err != nil {
			return nil, &layer.EntryError{Entry: entry.Path(), Layer: -1, Err: err}
		}
		if isWhiteout(entry) {
			whiteouts++
		}
	}
	if whiteouts > 0 && n.Dir != "" {
		e.warn(fmt.Sprintf("%s has %d devices 0:0, which delete in an upper directory of overlayfs, and here are devices",
			quote.Name(n.name()), whiteouts))
	}
	n.tree = tree
	return tree, nil
}

// checkEntry refuses what cannot be packed, or not all of it.
func (e *exporter) checkEntry(entry mtree.Entry) error {
	st := entry.Stat()
	if st.IsDir() && (layoutID{st.Dev, st.Ino}) == e.session.id && !e.masked(entry.Path()) {
		return ErrInside
	}
	return checkOverlay(entry)
}

// unread says that the digest of a file is known, so that it is not read.
func unread(string, rooted.Stat) (none [sha256.Size]byte, ok bool) { return none, true }

// differences lists what makes a tree differ from what is below it.
func (e *exporter) differences(
	ctx context.Context, n *node, below *lower, root *rooted.Dir, tree *mtree.Tree,
) ([]layer.Change, error) {
	opt := mtree.CompareOptions{
		Clamp:       e.opt.Clamp,
		IgnoreOwner: e.opt.Owner != nil || e.opt.Map.Rootless,
		IgnoreXattr: e.ignoredXattr,
		CountNames:  true,
	}
	old, err := below.facts(tree)
	if err != nil {
		return nil, err
	}
	if old.Len() > 0 {
		differ, err := e.compareContents(ctx, n, &contents{
			old: old, now: tree, below: below, root: root, clamp: opt.Clamp, owner: !opt.IgnoreOwner,
			ignore: e.ignoredXattr,
		})
		if err != nil {
			return nil, err
		}
		opt.SameContent = func(_, now mtree.Entry) bool { return !differ[now.Index()] }
	}
	deltas := mtree.Simplify(mtree.Mask(mtree.CompareWith(old, tree, opt), e.opt.Masks))
	changes := make([]layer.Change, 0, len(deltas))
	for _, d := range deltas {
		if c, ok := e.change(&d); ok {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// ignoredXattr reports whether an attribute is left out of account, since no layer has it.
func (e *exporter) ignoredXattr(name string) bool {
	return layer.IsHostXattr(name) || overlayXattr(name) || e.opt.Owner != nil && name == layer.RootlessXattr
}

// change turns a difference into what goes into the layer, if anything does. A socket is
// nothing that a layer can hold: where it has taken the place of something, that is gone.
func (e *exporter) change(d *mtree.Delta) (layer.Change, bool) {
	was, is := d.Old.Exists() && !isSocket(d.Old), d.New.Exists() && !isSocket(d.New)
	if d.New.Exists() && !is {
		e.warn(fmt.Sprintf("leaving out the socket %s: a layer cannot hold one", quote.Name(d.Path)))
	}
	if is {
		return layer.Change{Path: d.Path, Stat: d.New.Stat()}, true
	}
	return layer.Change{Path: d.Path, Deleted: true}, was
}

func isSocket(e mtree.Entry) bool {
	st := e.Stat()
	return st.Type() == unix.S_IFSOCK
}
