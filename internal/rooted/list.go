// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"bytes"
	"encoding/binary"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dirent is one entry of a directory. Type is a DT_ constant of readdir(3),
// which may be DT_UNKNOWN.
type Dirent struct {
	Name string
	Type uint8
}

// direntBufs keeps the buffers of getdents64: 64 KiB is two thousand entries in
// one system call.
var direntBufs = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// Names returns the entries of d in no particular order, without "." and "..".
// It reads the directory from its start, so that no other goroutine may list
// the same Dir at the same time.
func (d *Dir) Names() ([]Dirent, error) {
	if _, err := unix.Seek(d.fd, 0, 0); err != nil {
		return nil, pathError("rewind directory", ".", err)
	}
	bp := direntBufs.Get().(*[]byte)
	defer direntBufs.Put(bp)
	var entries []Dirent
	for {
		var n int
		err := ignoringEINTR(func() (err error) {
			n, err = unix.Getdents(d.fd, *bp)
			return err
		})
		if err != nil {
			return nil, pathError("read directory", ".", err)
		}
		if n <= 0 {
			return entries, nil
		}
		entries = appendDirents(entries, (*bp)[:n])
	}
}

// appendDirents parses what getdents64(2) filled in.
func appendDirents(entries []Dirent, buf []byte) []Dirent {
	const (
		offReclen = unsafe.Offsetof(unix.Dirent{}.Reclen)
		offType   = unsafe.Offsetof(unix.Dirent{}.Type)
		offName   = unsafe.Offsetof(unix.Dirent{}.Name)
	)
	for len(buf) > int(offName) {
		reclen := int(binary.NativeEndian.Uint16(buf[offReclen:]))
		if reclen <= int(offName) || reclen > len(buf) {
			break
		}
		rec := buf[:reclen]
		buf = buf[reclen:]
		name := rec[offName:]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if string(name) == "." || string(name) == ".." {
			continue
		}
		entries = append(entries, Dirent{Name: string(name), Type: rec[offType]})
	}
	return entries
}
