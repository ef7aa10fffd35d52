// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
)

// proc is the path of name in d through /proc, for the calls that have no
// variant with a directory descriptor. Its first part is a magic link to d
// itself, and the calls do not follow a link in the last.
func (d *Dir) proc(name string) string {
	base := "/proc/self/fd/" + strconv.Itoa(d.fd)
	if name == "." {
		return base + "/."
	}
	return base + "/" + name
}

// Listxattr returns the names of name's extended attributes, which may be none;
// "." stands for d itself.
func (d *Dir) Listxattr(name string) ([]string, error) {
	if name != "." {
		if err := check("list xattrs", name); err != nil {
			return nil, err
		}
	}
	buf, err := readGrowing(func(b []byte) (int, error) { return d.listxattr(name, b) })
	if err != nil {
		return nil, pathError("list xattrs", name, err)
	}
	return splitNames(buf), nil
}

// noListxattrat is set once the kernel (or a seccomp filter) has refused
// listxattrat, which Linux has since 6.13.
var noListxattrat atomic.Bool

// listxattr fills in b. Trees are listed file by file, most of them without an
// attribute, so that the way through /proc would be felt.
func (d *Dir) listxattr(name string, b []byte) (int, error) {
	if !noListxattrat.Load() {
		n, err := listxattrat(d.fd, name, b)
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return n, err
		}
		noListxattrat.Store(true)
	}
	return unix.Llistxattr(d.proc(name), b)
}

func listxattrat(dirfd int, name string, b []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Getxattr returns the value of name's extended attribute attr; "." stands for
// d itself.
func (d *Dir) Getxattr(name, attr string) ([]byte, error) {
	if name != "." {
		if err := check("read xattr", name); err != nil {
			return nil, err
		}
	}
	path := d.proc(name)
	buf, err := readGrowing(func(b []byte) (int, error) { return unix.Lgetxattr(path, attr, b) })
	if err != nil {
		return nil, pathError("read xattr "+quote.Name(attr), name, err)
	}
	return buf, nil
}

// Setxattr sets the extended attribute attr of name; "." stands for d itself.
func (d *Dir) Setxattr(name, attr string, value []byte) error {
	if name != "." {
		if err := check("set xattr", name); err != nil {
			return err
		}
	}
	if err := unix.Lsetxattr(d.proc(name), attr, value, 0); err != nil {
		return pathError("set xattr "+quote.Name(attr), name, err)
	}
	return nil
}

// Removexattr removes the extended attribute attr of name; "." stands for d
// itself.
func (d *Dir) Removexattr(name, attr string) error {
	if name != "." {
		if err := check("remove xattr", name); err != nil {
			return err
		}
	}
	if err := unix.Lremovexattr(d.proc(name), attr); err != nil {
		return pathError("remove xattr "+quote.Name(attr), name, err)
	}
	return nil
}

// readGrowing calls read with a small buffer on the stack of the common case,
// and with the size that the kernel asks for where that does not do.
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	n, err := read(small[:])
	if err == nil {
		return append([]byte(nil), small[:n]...), nil
	}
	for errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINTR) {
		if n, err = read(nil); err != nil {
			continue
		}
		buf := make([]byte, n+64)
		if n, err = read(buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}

func splitNames(buf []byte) []string {
	s := strings.TrimRight(string(buf), "\x00")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}
