// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
)

// The names by which fuse-overlayfs, like AUFS before it, deletes and hides where it can
// make no devices and set no xattrs.
const (
	whiteoutPrefix = ".wh."
	reservedPrefix = ".wh..wh."
	opaqueMarker   = ".wh..wh..opq"
)

// overlayPrefixes begin the names of the attributes that overlayfs and fuse-overlayfs keep
// for themselves.
var overlayPrefixes = []string{"trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."}

// overlayXattr reports whether an attribute belongs to overlayfs.
func overlayXattr(name string) bool {
	_, ok := cutOverlay(name)
	return ok
}

// cutOverlay returns what an attribute of overlayfs is called below its prefix.
func cutOverlay(name string) (string, bool) {
	for _, prefix := range overlayPrefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// overlayValue returns the value of an attribute of overlayfs.
func overlayValue(e mtree.Entry, name string) (string, bool) {
	for _, x := range e.Xattrs() {
		if rest, ok := cutOverlay(x.Name); ok && rest == name {
			return string(x.Value), true
		}
	}
	return "", false
}

// checkOverlay refuses what is not the whole of it: a directory whose content lies elsewhere
// under another name, a file without its content, and a file without its owner and mode.
func checkOverlay(e mtree.Entry) error {
	for _, x := range e.Xattrs() {
		switch rest, _ := cutOverlay(x.Name); rest {
		case "redirect", "metacopy":
			return fmt.Errorf("%w: it has the xattr %s", ErrOverlay, quote.Name(x.Name))
		}
		if slices.Contains(overrideXattrs, x.Name) {
			return overrideError(x.Name)
		}
	}
	return nil
}

// overrideXattrs are those in which fuse-overlayfs keeps the owner and the mode that a
// file is to have, in place of giving them to it.
var overrideXattrs = []string{
	"user.fuseoverlayfs.override_stat", "security.fuseoverlayfs.override_stat", "user.containers.override_stat",
}

// overrideError is the name of such an attribute that is there.
type overrideError string

func (e overrideError) Error() string {
	return "its owner and mode are only in the xattr " + string(e) + ": pack what fuse-overlayfs shows when it is mounted"
}

func (e overrideError) Unwrap() error { return ErrOverlay }

// upper is what an upper directory says about its entries, by their numbers.
type upper struct {
	opaque  map[int]bool // directories whose lower content is hidden
	covered map[int]bool // those, and the directories below them
	reserve map[int]bool // directories with reserved names, and what is below them
	marked  map[int]bool // directories in which files with an xattr are whiteouts
}

// uppers turns the tree of an upper directory into what goes into the layer.
func (e *exporter) uppers(tree *mtree.Tree) ([]layer.Change, error) {
	u := readUpper(tree)
	var changes []layer.Change
	for entry := range tree.All() {
		c, ok, err := u.change(entry)
		if err != nil {
			return nil, &layer.EntryError{Entry: entry.Path(), Layer: -1, Err: err}
		}
		name := c.Path
		if c.Name != "" {
			name = c.Name
		}
		if !ok || e.masked(name) {
			continue
		}
		if isSocket(entry) && !c.Deleted {
			e.warn(fmt.Sprintf("leaving out the socket %s: a layer cannot hold one", quote.Name(c.Path)))
			if u.covered[entry.Parent().Index()] {
				continue
			}
			c = layer.Change{Path: c.Path, Deleted: true}
		}
		changes = append(changes, c)
		if u.opaque[entry.Index()] {
			changes = append(changes, layer.Change{Path: c.Path, Opaque: true})
		}
	}
	return changes, nil
}

// readUpper finds out which directories are special, parents first.
func readUpper(tree *mtree.Tree) *upper {
	u := &upper{opaque: map[int]bool{}, covered: map[int]bool{}, reserve: map[int]bool{}, marked: map[int]bool{}}
	for e := range tree.All() {
		i, parent := e.Index(), e.Parent().Index()
		if strings.HasPrefix(e.Name(), reservedPrefix) && !u.reserve[parent] {
			if e.Name() == opaqueMarker {
				u.opaque[parent] = true
			}
			u.reserve[i] = true
			continue
		}
		if i != parent && u.reserve[parent] {
			u.reserve[i] = true
		}
		if !e.IsDir() {
			continue
		}
		switch value, _ := overlayValue(e, "opaque"); value {
		case "y":
			u.opaque[i] = true
		case "x":
			u.marked[i] = true
		}
	}
	// The marker file of a directory comes after the directory.
	for e := range tree.All() {
		i := e.Index()
		if u.opaque[i] || i != 0 && u.covered[e.Parent().Index()] {
			u.covered[i] = true
		}
	}
	return u
}

// change returns what an entry of the upper directory means for the layer, if anything.
func (u *upper) change(e mtree.Entry) (c layer.Change, ok bool, err error) {
	st, parent := e.Stat(), e.Parent().Index()
	c = layer.Change{Path: e.Path(), Stat: st}
	if e.Index() == 0 {
		return c, true, nil
	}
	if u.reserve[e.Index()] {
		return c, false, nil
	}
	device := isWhiteout(e)
	if target, ok := strings.CutPrefix(e.Name(), whiteoutPrefix); ok {
		switch {
		case target == "" || target == "." || target == "..":
			return c, false, layer.ErrWhiteoutName
		case !device && (!e.IsRegular() || st.Size > 0):
			return c, false, fmt.Errorf("%w: only an empty file of such a name is one", ErrWhiteout)
		}
		return layer.Change{Path: c.Path, Name: path.Join(e.Parent().Path(), target), Deleted: true}, !u.covered[parent], nil
	}
	if !device && u.marked[parent] && e.IsRegular() && st.Size == 0 {
		_, device = overlayValue(e, "whiteout")
	}
	if device {
		// Where all of the lower content is hidden, there is nothing to delete.
		return layer.Change{Path: c.Path, Deleted: true}, !u.covered[parent], nil
	}
	return c, true, nil
}

// isWhiteout reports whether an entry is the device that deletes in an upper directory.
func isWhiteout(e mtree.Entry) bool {
	st := e.Stat()
	return st.Type() == unix.S_IFCHR && st.Rdev == 0
}

// masked reports whether a path is left out, as mtree.Mask does.
func (e *exporter) masked(name string) bool {
	for _, m := range e.opt.Masks {
		m = strings.TrimPrefix(path.Join("/", m), "/")
		if m != "" && (name == m || strings.HasPrefix(name, m+"/")) {
			return true
		}
	}
	return false
}
