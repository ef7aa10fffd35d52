// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"reflect"
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// TestOnDisk says of each kind of file what a layer would.
func TestOnDisk(t *testing.T) {
	owner, _ := OwnerXattr(7, 8)
	device := DeviceMark(&Inode{Type: BlockDevice, Major: 8, Minor: 1, Mode: 0o660})
	maps := []rspec.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	mapped := MapOptions{UIDMappings: maps, GIDMappings: maps}
	rootless := MapOptions{Rootless: true, UIDMappings: maps, GIDMappings: maps}
	at := rooted.Timespec{Sec: 1, Nsec: 2}
	stat := func(mode uint32) rooted.Stat {
		return rooted.Stat{Mode: mode, UID: 1003, GID: 1004, Nlink: 2, Mtime: at}
	}
	inode := func(i Inode) *Inode {
		i.Nlink, i.Layer, i.Entry, i.Mtime = 2, -1, -1, at
		return &i
	}
	file := stat(unix.S_IFREG | 0o4755)
	file.Size = 5
	tty := stat(unix.S_IFCHR | 0o620)
	tty.Rdev = unix.Mkdev(5, 1)
	mount := []Xattr{{"user.b", "2"}, {"security.selinux", "host"}, {"user.a", "1"}}
	tests := map[string]struct {
		f    OnDisk
		m    MapOptions
		want *Inode // nil for an error
	}{
		"file":     {OnDisk{Stat: file, Xattrs: mount}, mapped, inode(Inode{Type: Regular, Size: 5, Mode: 0o4755, UID: 3, GID: 4, Xattrs: []Xattr{{"user.a", "1"}, {"user.b", "2"}}})},
		"link":     {OnDisk{Stat: stat(unix.S_IFLNK | 0o777), Target: "x"}, mapped, inode(Inode{Type: Symlink, Target: "x", Mode: 0o777, UID: 3, GID: 4})},
		"device":   {OnDisk{Stat: tty}, mapped, inode(Inode{Type: CharDevice, Major: 5, Minor: 1, Mode: 0o620, UID: 3, GID: 4})},
		"socket":   {OnDisk{Stat: stat(unix.S_IFSOCK | 0o600)}, mapped, inode(Inode{Mode: 0o600, UID: 3, GID: 4})},
		"rootless": {OnDisk{Stat: stat(unix.S_IFDIR | 0o700), Xattrs: []Xattr{owner}}, rootless, inode(Inode{Type: Directory, Mode: 0o700, UID: 7, GID: 8})},
		"of root":  {OnDisk{Stat: stat(unix.S_IFIFO | 0o700)}, rootless, inode(Inode{Type: Fifo, Mode: 0o700})},
		"foreign owner": {OnDisk{Stat: stat(unix.S_IFDIR | 0o700), Xattrs: []Xattr{owner}}, mapped,
			inode(Inode{Type: Directory, Mode: 0o700, UID: 3, GID: 4, Xattrs: []Xattr{owner}})},
		"placeholder": {OnDisk{Stat: stat(unix.S_IFREG), Xattrs: []Xattr{device}}, rootless,
			inode(Inode{Type: BlockDevice, Major: 8, Minor: 1, Mode: 0o660})},
		"placeholder with a mode": {OnDisk{Stat: stat(unix.S_IFREG | 0o600), Xattrs: []Xattr{device}}, rootless,
			inode(Inode{Type: BlockDevice, Major: 8, Minor: 1, Mode: 0o600})},
		"written to":    {OnDisk{Stat: file, Xattrs: []Xattr{device}}, rootless, inode(Inode{Type: Regular, Size: 5, Mode: 0o4755})},
		"broken owner":  {OnDisk{Stat: file, Xattrs: []Xattr{{RootlessXattr, "x"}}}, rootless, nil},
		"broken device": {OnDisk{Stat: stat(unix.S_IFREG), Xattrs: []Xattr{{DeviceXattr, "x"}}}, rootless, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.f.Inode(&tt.m)
			if (err != nil) != (tt.want == nil) || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	far := OnDisk{Stat: rooted.Stat{UID: 1}}
	if _, err := far.Inode(&mapped); !errors.Is(err, ErrUnmapped) {
		t.Errorf("got %v", err)
	}
}
