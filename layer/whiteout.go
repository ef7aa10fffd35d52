// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"strings"
)

// Names of whiteouts, as in the layer chapter of the OCI image-spec.
const (
	whiteoutPrefix = ".wh."
	// metaPrefix begins the names that AUFS kept for itself. The only one with a
	// meaning in a layer is the opaque whiteout.
	metaPrefix   = whiteoutPrefix + whiteoutPrefix
	opaqueMarker = metaPrefix + ".opq"
)

// ErrWhiteoutName is returned for an entry whose name begins like a whiteout
// and cannot be one.
var ErrWhiteoutName = errors.New("not a valid whiteout name")

// whiteoutKind is what a name means by its whiteout prefix alone: the type of
// the entry does not count.
type whiteoutKind int

const (
	notWhiteout whiteoutKind = iota
	plainWhiteout
	opaqueWhiteout
	reservedName // deletes nothing and is not created
)

// classify says what the cleaned path means.
func classify(path string) (whiteoutKind, error) {
	if !strings.Contains(path, whiteoutPrefix) {
		return notWhiteout, nil
	}
	dir, base := splitBase(path)
	for _, name := range splitPath(dir) {
		if strings.HasPrefix(name, metaPrefix) {
			return reservedName, nil
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			return notWhiteout, ErrWhiteoutName
		}
	}
	target, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return notWhiteout, nil
	case base == opaqueMarker:
		return opaqueWhiteout, nil
	case strings.HasPrefix(base, metaPrefix):
		return reservedName, nil
	case target == "", target == ".", target == "..":
		return notWhiteout, ErrWhiteoutName
	}
	return plainWhiteout, nil
}

// whiteout applies the whiteout at path. What the same layer has put there
// stays, whichever entry came first. A whiteout of something that is not there
// is none.
func (t *Tree) whiteout(path string, kind whiteoutKind, sink Sink) error {
	dir, base := splitBase(path)
	at, err := t.resolve(dir)
	if err != nil || len(at.missing) > 0 {
		return err
	}
	if kind == opaqueWhiteout {
		return t.removeLower(at.dir, sink)
	}
	n := at.dir.child(strings.TrimPrefix(base, whiteoutPrefix))
	if n == nil {
		return nil
	}
	return t.removeUnlessUpper(n, sink)
}

// removeLower removes what lower layers have put into the directory n.
func (t *Tree) removeLower(n *Node, sink Sink) error {
	for _, c := range n.Children() {
		if err := t.removeUnlessUpper(c, sink); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) removeUnlessUpper(n *Node, sink Sink) error {
	if n.upper != t.layer {
		return t.remove(n, sink)
	}
	if n.IsDir() {
		return t.removeLower(n, sink)
	}
	return nil
}
