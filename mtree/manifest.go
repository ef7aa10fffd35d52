// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Header is what the comments at the top of an mtree manifest say. Empty fields
// are left out.
type Header struct {
	User    string    // who made it
	Machine string    // the name of the host
	Tree    string    // the path of the root
	Date    time.Time // in whose time zone it is written
}

// NewHeader returns the header that go-mtree writes for a tree at root: with the
// present user, host and time, as far as they can be found out.
func NewHeader(root string) Header {
	h := Header{Date: time.Now()}
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	}
	if name, err := os.Hostname(); err == nil {
		h.Machine = name
	}
	if abs, err := filepath.Abs(root); err == nil {
		h.Tree = abs
	} else {
		h.Tree = filepath.Clean(root)
	}
	return h
}

// WriteManifest writes t as an mtree manifest and returns its SHA-256 digest.
// Apart from comments it is byte for byte what umoci v0.6.0 writes with
// go-mtree v0.7.0. There, a name with a newline in it tears the comment above
// its directory apart; here, names with control characters are encoded in
// comments as they are in entries.
func (t *Tree) WriteManifest(w io.Writer, h Header) (sum [sha256.Size]byte, err error) {
	e := manifestEncoder{tree: t, w: w, sha: sha256.New()}
	e.header(h)
	t.manifestOrder(e.enter, e.leave)
	e.flush()
	if e.err != nil {
		return sum, fmt.Errorf("write mtree manifest: %w", e.err)
	}
	e.sha.Sum(sum[:0])
	return sum, nil
}

// The defaults that /set declares besides the owner of a directory. Entries do
// not repeat them.
const (
	setKeywords = "type=file nlink=1 mode=0664"
	setMode     = 0o664
	setNlink    = 1
)

type manifestEncoder struct {
	tree *Tree
	w    io.Writer
	sha  hash.Hash
	buf  []byte
	err  error

	dirs     []int  // lengths of path, one per directory that it is in
	path     []byte // of the present directory
	set      bool   // there was a /set
	uid, gid uint32 // as in the last /set
}

func (e *manifestEncoder) flush() {
	e.sha.Write(e.buf)
	if e.err == nil {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

func (e *manifestEncoder) header(h Header) {
	comment := func(key, value string) {
		if value != "" {
			e.buf = fmt.Appendf(e.buf, "#%16s", key+": ")
			e.comment([]byte(value))
		}
	}
	comment("user", h.User)
	comment("machine", h.Machine)
	comment("tree", h.Tree)
	if !h.Date.IsZero() {
		comment("date", h.Date.Format("Mon Jan 2 15:04:05 2006"))
	}
	comment("keywords", strings.Join(keywordNames[:manifestKeywords], ","))
}

// comment ends a comment with text.
func (e *manifestEncoder) comment(text []byte) {
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			e.buf = append(appendVis(e.buf, text), '\n')
			return
		}
	}
	e.buf = append(append(e.buf, text...), '\n')
}

// enter writes one entry, and if it is a directory what goes before it.
func (e *manifestEncoder) enter(i int32) bool {
	n := &e.tree.nodes[i]
	name := e.tree.nameBytes(i)
	if i == 0 {
		name = []byte(".")
	}
	if n.isDir() {
		e.dirs = append(e.dirs, len(e.path))
		if i != 0 {
			if len(e.path) > 0 {
				e.path = append(e.path, '/')
			}
			e.path = append(e.path, name...)
		}
		e.directory(n)
	} else {
		e.buf = append(e.buf, "    "...)
	}
	e.buf = appendVis(e.buf, name)
	e.keywords(n, &e.tree.extras[n.extra])
	e.buf = append(e.buf, '\n')
	if len(e.buf) > 64<<10 {
		e.flush()
	}
	return e.err == nil
}

// directory writes what goes before the entry of a directory.
func (e *manifestEncoder) directory(n *node) {
	e.buf = append(e.buf, "\n# "...)
	if len(e.path) == 0 {
		e.buf = append(e.buf, ".\n"...)
	} else {
		e.comment(e.path)
	}
	if !e.set || n.uid != e.uid || n.gid != e.gid {
		e.set, e.uid, e.gid = true, n.uid, n.gid
		e.buf = append(e.buf, "/set "+setKeywords...)
		e.number(" uid=", int64(n.uid))
		e.number(" gid=", int64(n.gid))
		e.buf = append(e.buf, '\n')
	}
}

func (e *manifestEncoder) leave(int32) bool {
	e.path = e.path[:e.dirs[len(e.dirs)-1]]
	e.dirs = e.dirs[:len(e.dirs)-1]
	e.buf = append(e.buf, "..\n"...)
	return true
}

func (e *manifestEncoder) number(key string, v int64) {
	e.buf = strconv.AppendInt(append(e.buf, key...), v, 10)
}

func (e *manifestEncoder) keywords(n *node, more *extra) {
	e.number(" size=", n.size)
	if name := typeName(n.mode); name != "" && !n.isRegular() {
		e.buf = append(append(e.buf, " type="...), name...)
	}
	if n.uid != e.uid {
		e.number(" uid=", int64(n.uid))
	}
	if n.gid != e.gid {
		e.number(" gid=", int64(n.gid))
	}
	if perm := n.mode & 0o7777; perm == 0 {
		e.buf = append(e.buf, " mode=0"...)
	} else if perm != setMode {
		e.buf = strconv.AppendUint(append(e.buf, " mode=0"...), uint64(perm), 8)
	}
	if n.known&keyLink != 0 {
		e.buf = appendVis(append(e.buf, " link="...), []byte(more.link))
	}
	if n.nlink != setNlink {
		e.number(" nlink=", int64(n.nlink))
	}
	e.number(" tar_time=", n.mtime)
	e.buf = append(e.buf, ".000000000"...)
	if n.known&keyDigest != 0 {
		e.buf = hex.AppendEncode(append(e.buf, " sha256digest="...), n.digest[:])
	}
	for _, x := range more.xattrs {
		e.buf = append(appendVis(append(e.buf, " xattr."...), []byte(x.Name)), '=')
		e.buf = base64.StdEncoding.AppendEncode(e.buf, x.Value)
	}
}
