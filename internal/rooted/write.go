// SPDX-License-Identifier: Apache-2.0

package rooted

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Create makes the regular file called name, which must not exist in any form,
// with the given permission bits less the umask, and opens it for writing.
func (d *Dir) Create(name string, perm uint32) (*os.File, error) {
	fd, err := d.CreateFd(name, perm)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CreateFd is Create for callers that make very many files: it returns the bare
// descriptor, which the caller closes.
func (d *Dir) CreateFd(name string, perm uint32) (int, error) {
	if err := check("create", name); err != nil {
		return -1, err
	}
	fd, err := openRetry(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return -1, pathError("create", name, err)
	}
	return fd, nil
}

// Mkdir makes the directory called name.
func (d *Dir) Mkdir(name string, perm uint32) error {
	if err := check("make directory", name); err != nil {
		return err
	}
	return wrap("make directory", name, unix.Mkdirat(d.fd, name, perm))
}

// Symlink makes the symbolic link called name, which holds target as it is.
func (d *Dir) Symlink(target, name string) error {
	if err := check("make symlink", name); err != nil {
		return err
	}
	return wrap("make symlink", name, unix.Symlinkat(target, d.fd, name))
}

// Link gives the entry oldname of olddir the second name newname in d. A
// symbolic link is linked itself.
func (d *Dir) Link(olddir *Dir, oldname, newname string) error {
	if err := check("link", oldname); err != nil {
		return err
	}
	if err := check("link", newname); err != nil {
		return err
	}
	return wrap("link", newname, unix.Linkat(olddir.fd, oldname, d.fd, newname, 0))
}

// Mknod makes the FIFO or device called name; mode includes the type.
func (d *Dir) Mknod(name string, mode uint32, dev uint64) error {
	if err := check("make node", name); err != nil {
		return err
	}
	return wrap("make node", name, unix.Mknodat(d.fd, name, mode, int(dev)))
}

// Remove removes the entry called name, which must not be a directory.
func (d *Dir) Remove(name string) error {
	if err := check("remove", name); err != nil {
		return err
	}
	return wrap("remove", name, unix.Unlinkat(d.fd, name, 0))
}

// Rmdir removes the empty directory called name.
func (d *Dir) Rmdir(name string) error {
	if err := check("remove directory", name); err != nil {
		return err
	}
	return wrap("remove directory", name, unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR))
}

// Rename gives the entry oldname of d the name newname in newdir, replacing
// what was there.
func (d *Dir) Rename(oldname string, newdir *Dir, newname string) error {
	if err := check("rename", oldname); err != nil {
		return err
	}
	if err := check("rename", newname); err != nil {
		return err
	}
	return wrap("rename", oldname, unix.Renameat(d.fd, oldname, newdir.fd, newname))
}

// Chown sets the owner of name; a symbolic link's own. "." stands for d itself.
func (d *Dir) Chown(name string, uid, gid uint32) error {
	if name == "." {
		return wrap("change owner", name, unix.Fchown(d.fd, int(uid), int(gid)))
	}
	if err := check("change owner", name); err != nil {
		return err
	}
	return wrap("change owner", name, unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW))
}

// Chmod sets the permission bits of name, which must not be a symbolic link.
// "." stands for d itself.
func (d *Dir) Chmod(name string, perm uint32) error {
	if name == "." {
		return wrap("change mode", name, unix.Fchmod(d.fd, perm))
	}
	if err := check("change mode", name); err != nil {
		return err
	}
	err := unix.Fchmodat(d.fd, name, perm, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = d.chmodByProc(name, perm)
	}
	return wrap("change mode", name, err)
}

// chmodByProc is Chmod for kernels before 6.6, which have no fchmodat2: the
// entry is pinned by an O_PATH descriptor and changed through it.
func (d *Dir) chmodByProc(name string, perm uint32) error {
	fd, err := openRetry(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // an O_PATH descriptor has nothing to lose
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), perm)
}

// Utimes sets the modification time of name, and the access time to the same;
// a symbolic link's own. "." stands for d itself.
func (d *Dir) Utimes(name string, mtime Timespec) error {
	if name != "." {
		if err := check("set times", name); err != nil {
			return err
		}
	}
	ts, err := timespecs(mtime)
	if err != nil {
		return pathError("set times", name, err)
	}
	return wrap("set times", name, unix.UtimesNanoAt(d.fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW))
}

// Futimes is Utimes for an open descriptor.
func Futimes(fd int, mtime Timespec) error {
	ts, err := timespecs(mtime)
	if err != nil {
		return err
	}
	return futimens(fd, &ts)
}

// futimens calls utimensat(2) with a descriptor and no name, which package unix
// has no wrapper for.
func futimens(fd int, ts *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func timespecs(t Timespec) ([2]unix.Timespec, error) {
	ts, err := unix.TimeToTimespec(time.Unix(t.Sec, int64(t.Nsec)))
	return [2]unix.Timespec{ts, ts}, err
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return pathError(op, name, err)
}
