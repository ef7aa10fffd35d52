// SPDX-License-Identifier: Apache-2.0

package layer

// ToHost returns the owner on the disk of what is owned by uid:gid in a layer. The error
// is [ErrUnmapped].
func (m *MapOptions) ToHost(uid, gid uint32) (hostUID, hostGID uint32, err error) {
	return m.toHost(uid, gid)
}

// OwnerXattr returns the attribute that keeps an owner where [MapOptions].Rootless is
// set; false if it is 0:0, which has none.
func OwnerXattr(uid, gid uint32) (Xattr, bool) {
	value, ok := encodeOwner(uid, gid)
	return Xattr{Name: RootlessXattr, Value: value}, ok
}

// DeviceMark returns the attribute of the placeholder that stands for a device.
func DeviceMark(ino *Inode) Xattr {
	return Xattr{Name: DeviceXattr, Value: device{ino.Type, ino.Major, ino.Minor, ino.Mode}.encode()}
}
