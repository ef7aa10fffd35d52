// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// OnDisk is what a file system says of a name.
type OnDisk struct {
	Stat   rooted.Stat
	Target string  // of a symbolic link
	Xattrs []Xattr // in any order
}

// Inode returns what it is inside the container, by the rules of [Generate]: with its
// owner mapped back, and a placeholder as the device that it stands for. It is from no
// layer. A socket, which no layer can hold, has Type 0. The error is [ErrUnmapped], or
// says which extended attribute of shale's own is broken.
func (f *OnDisk) Inode(m *MapOptions) (*Inode, error) {
	st := &f.Stat
	ino := &Inode{
		Mtime: st.Mtime, Mode: st.Perm(), Layer: -1, Entry: -1,
		Nlink: int32(min(st.Nlink, 1<<31-1)),
	}
	switch st.Type() {
	case unix.S_IFREG:
		ino.Type, ino.Size = Regular, st.Size
	case unix.S_IFDIR:
		ino.Type = Directory
	case unix.S_IFLNK:
		ino.Type, ino.Target = Symlink, f.Target
	case unix.S_IFCHR:
		ino.Type = CharDevice
	case unix.S_IFBLK:
		ino.Type = BlockDevice
	case unix.S_IFIFO:
		ino.Type = Fifo
	}
	if ino.Type == CharDevice || ino.Type == BlockDevice {
		ino.Major, ino.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	var err error
	if !m.Rootless {
		if ino.UID, ino.GID, err = m.toContainer(st.UID, st.GID); err != nil {
			return nil, err
		}
	}
	for _, x := range f.Xattrs {
		switch {
		case hostXattr(x.Name):
		case x.Name == RootlessXattr && m.Rootless:
			if ino.UID, ino.GID, err = decodeOwner(x.Value); err != nil {
				return nil, err
			}
		case x.Name == DeviceXattr:
			if err := ino.placeholder(st, x.Value); err != nil {
				return nil, err
			}
		default:
			ino.Xattrs = append(ino.Xattrs, x)
		}
	}
	slices.SortFunc(ino.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return ino, nil
}

// placeholder makes ino the device that mark tells of, unless somebody has made
// something else of the placeholder.
func (ino *Inode) placeholder(st *rooted.Stat, mark string) error {
	if !st.IsRegular() || st.Size > 0 {
		return nil
	}
	d, err := decodeDevice(mark)
	if err != nil {
		return err
	}
	ino.Type, ino.Major, ino.Minor = d.Type, d.Major, d.Minor
	if ino.Mode == 0 {
		ino.Mode = d.Mode
	}
	return nil
}
