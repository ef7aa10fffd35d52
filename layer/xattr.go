// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// IsHostXattr reports whether layers never have the extended attribute, since it
// belongs to the host that a file lies on.
func IsHostXattr(name string) bool { return hostXattr(name) }

// hostXattr reports whether the extended attribute belongs to the host that a
// file lies on and is therefore neither taken from a layer nor put into one.
func hostXattr(name string) bool {
	return name == "security.selinux" || name == "system.nfs4_acl"
}

// RootlessXattr holds the owner that a file has inside the container where an
// unprivileged user may not give it that owner. Its value is a protobuf message
// of two varints, the ID 2^32-1 meaning "none". Other rootless tools read and
// write it too.
const RootlessXattr = "user.rootlesscontainers"

// noopID in a [RootlessXattr] leaves the ID at 0.
const noopID = 1<<32 - 1

// encodeOwner returns the value of [RootlessXattr] for an owner, and false if
// the owner is the default, 0:0.
func encodeOwner(uid, gid uint32) (string, bool) {
	if uid == 0 && gid == 0 {
		return "", false
	}
	var b []byte
	for field, id := range []uint32{uid, gid} {
		if id == 0 {
			id = noopID
		}
		b = append(b, byte((field+1)<<3)) // wire type 0: varint
		b = binary.AppendUvarint(b, uint64(id))
	}
	return string(b), true
}

// decodeOwner reads the value of a [RootlessXattr].
func decodeOwner(value string) (uid, gid uint32, err error) {
	b := []byte(value)
	ids := [2]uint64{}
	for len(b) > 0 {
		tag := b[0]
		field := int(tag >> 3)
		if tag&7 != 0 || field < 1 || field > 2 {
			return 0, 0, fmt.Errorf("%s: unknown field %#x", RootlessXattr, tag)
		}
		id, n := binary.Uvarint(b[1:])
		if n <= 0 || id > noopID {
			return 0, 0, fmt.Errorf("%s: ID out of range", RootlessXattr)
		}
		if id != noopID {
			ids[field-1] = id
		} else {
			ids[field-1] = 0
		}
		b = b[1+n:]
	}
	return uint32(ids[0]), uint32(ids[1]), nil
}

// DeviceXattr marks the placeholder of a device and holds what it stands for:
// "c" or "b", major, minor and the octal mode, separated by blanks.
const DeviceXattr = "user.shale.device"

// device is what a placeholder stands for.
type device struct {
	Type         Type
	Major, Minor uint32
	Mode         uint32
}

func (d device) encode() string {
	kind := "c"
	if d.Type == BlockDevice {
		kind = "b"
	}
	return fmt.Sprintf("%s %d %d %04o", kind, d.Major, d.Minor, d.Mode)
}

var errDevice = errors.New(DeviceXattr + ": not a device")

func decodeDevice(value string) (device, error) {
	f := strings.Fields(value)
	if len(f) != 4 {
		return device{}, errDevice
	}
	d := device{Type: CharDevice}
	switch f[0] {
	case "c":
	case "b":
		d.Type = BlockDevice
	default:
		return device{}, errDevice
	}
	for i, to := range []*uint32{&d.Major, &d.Minor, &d.Mode} {
		base := 10
		if to == &d.Mode {
			base = 8
		}
		n, err := strconv.ParseUint(f[i+1], base, 32)
		if err != nil {
			return device{}, errDevice
		}
		*to = uint32(n)
	}
	d.Mode &= 0o7777
	return d, nil
}
