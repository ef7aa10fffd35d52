// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"
)

// Epoch is the modification time of entries that were given no other.
var Epoch = time.Unix(1_500_000_000, 0)

// Entry is one member of a layer. Make one with Dir, File and the like and
// change it with its methods, each of which returns a changed copy.
type Entry struct {
	Header tar.Header
	Body   []byte

	// Raw, if not nil, is written as it is in place of Header and Body. It
	// should be a multiple of 512 bytes long, unless that is the point.
	Raw []byte
}

func entry(name string, typeflag byte, mode int64) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: typeflag, Mode: mode, ModTime: Epoch}}
}

// Dir is a directory.
func Dir(name string, mode int64) Entry {
	return entry(strings.TrimSuffix(name, "/")+"/", tar.TypeDir, mode)
}

// File is a regular file.
func File(name, content string, mode int64) Entry {
	e := entry(name, tar.TypeReg, mode)
	e.Header.Size = int64(len(content))
	e.Body = []byte(content)
	return e
}

// Symlink is a symbolic link called name that holds target.
func Symlink(name, target string) Entry {
	e := entry(name, tar.TypeSymlink, 0o777)
	e.Header.Linkname = target
	return e
}

// Hardlink is a further name for the file that target names, counted from
// the root of the tree.
func Hardlink(name, target string) Entry {
	e := entry(name, tar.TypeLink, 0o644)
	e.Header.Linkname = target
	return e
}

// Whiteout removes name from the layers below.
func Whiteout(name string) Entry {
	dir, base := path.Split(name)
	return entry(dir+".wh."+base, tar.TypeReg, 0)
}

// Opaque hides what the layers below have in the directory dir.
func Opaque(dir string) Entry {
	return entry(path.Join(dir, ".wh..wh..opq"), tar.TypeReg, 0)
}

// Fifo is a named pipe.
func Fifo(name string, mode int64) Entry {
	return entry(name, tar.TypeFifo, mode)
}

// Char is a character device.
func Char(name string, mode, major, minor int64) Entry {
	e := entry(name, tar.TypeChar, mode)
	e.Header.Devmajor, e.Header.Devminor = major, minor
	return e
}

// Block is a block device.
func Block(name string, mode, major, minor int64) Entry {
	e := Char(name, mode, major, minor)
	e.Header.Typeflag = tar.TypeBlock
	return e
}

// Raw is a stretch of bytes that is no member at all, or a broken one: see
// RawHeader for such headers.
func Raw(b []byte) Entry {
	return Entry{Raw: b}
}

// Owner sets the numeric owner and group.
func (e Entry) Owner(uid, gid int) Entry {
	e.Header.Uid, e.Header.Gid = uid, gid
	return e
}

// Mode sets the mode, setuid, setgid and sticky bits included.
func (e Entry) Mode(mode int64) Entry {
	e.Header.Mode = mode
	return e
}

// Mtime sets the modification time. One with a fraction of a second is
// written as a PAX record.
func (e Entry) Mtime(t time.Time) Entry {
	e.Header.ModTime = t
	return e
}

// Xattr sets one extended attribute, as a SCHILY.xattr PAX record.
func (e Entry) Xattr(name, value string) Entry {
	return e.PAX("SCHILY.xattr."+name, value)
}

// PAX sets one PAX record.
func (e Entry) PAX(key, value string) Entry {
	records := maps.Clone(e.Header.PAXRecords)
	if records == nil {
		records = map[string]string{}
	}
	records[key] = value
	e.Header.PAXRecords = records
	return e
}

// String says in one line what e is, for messages.
func (e Entry) String() string {
	h := e.Header
	if e.Raw != nil {
		return fmt.Sprintf("raw %d bytes", len(e.Raw))
	}
	s := fmt.Sprintf("%c %q mode=%o owner=%d:%d mtime=%s", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format(time.RFC3339Nano))
	switch h.Typeflag {
	case tar.TypeReg:
		s += fmt.Sprintf(" size=%d", h.Size)
	case tar.TypeSymlink, tar.TypeLink:
		s += fmt.Sprintf(" link=%q", h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		s += fmt.Sprintf(" dev=%d:%d", h.Devmajor, h.Devminor)
	}
	if len(h.PAXRecords) > 0 {
		s += fmt.Sprintf(" pax=%q", h.PAXRecords)
	}
	return s
}

// Layer returns the entries as an uncompressed tar stream, in their order. It
// panics on an entry that archive/tar refuses, since fixtures are literals:
// write such an entry with RawHeader.
func Layer(entries ...Entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := writeEntry(w, &buf, e); err != nil {
			panic(fmt.Sprintf("ocitest: write %v: %v", e, err))
		}
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("ocitest: close layer: %v", err))
	}
	return buf.Bytes()
}

func writeEntry(w *tar.Writer, buf *bytes.Buffer, e Entry) error {
	if err := w.Flush(); err != nil {
		return err
	}
	if e.Raw != nil {
		_, err := buf.Write(e.Raw)
		return err
	}
	h := e.Header
	if h.ModTime.Nanosecond() != 0 {
		h.Format = tar.FormatPAX // the other formats would round
	}
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := w.Write(e.Body)
	return err
}
