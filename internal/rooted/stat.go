// SPDX-License-Identifier: Apache-2.0

package rooted

import "golang.org/x/sys/unix"

// Timespec is a point in time as file systems keep it: seconds since the Unix
// epoch, which may be negative, and nanoseconds from 0 to 999,999,999.
type Timespec struct {
	Sec  int64
	Nsec int32
}

// Before reports whether t is earlier than u.
func (t Timespec) Before(u Timespec) bool {
	return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec
}

// Stat is what lstat(2) tells about one entry.
type Stat struct {
	Dev, Ino     uint64
	Mode         uint32 // st_mode: type and permission bits
	UID, GID     uint32
	Nlink        uint64
	Rdev         uint64
	Size         int64 // bytes
	Mtime, Ctime Timespec
}

// Type returns the S_IFMT part of the mode.
func (s *Stat) Type() uint32 { return s.Mode & unix.S_IFMT }

// Perm returns the permission bits with setuid, setgid and sticky.
func (s *Stat) Perm() uint32 { return s.Mode & 0o7777 }

// IsDir reports whether the entry is a directory.
func (s *Stat) IsDir() bool { return s.Type() == unix.S_IFDIR }

// IsRegular reports whether the entry is a regular file.
func (s *Stat) IsRegular() bool { return s.Type() == unix.S_IFREG }

// FromFd returns the facts about an open descriptor.
func FromFd(fd int) (Stat, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return Stat{}, err
	}
	return toStat(&st), nil
}

//nolint:unconvert // the fields' types differ between architectures
func toStat(st *unix.Stat_t) Stat {
	return Stat{
		Dev: uint64(st.Dev), Ino: st.Ino, Mode: st.Mode,
		UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), Rdev: uint64(st.Rdev), Size: st.Size,
		Mtime: Timespec{Sec: int64(st.Mtim.Sec), Nsec: int32(st.Mtim.Nsec)},
		Ctime: Timespec{Sec: int64(st.Ctim.Sec), Nsec: int32(st.Ctim.Nsec)},
	}
}

// typeName names the type in mode for messages.
func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR:
		return "a character device"
	case unix.S_IFBLK:
		return "a block device"
	}
	return "of an unknown type"
}
