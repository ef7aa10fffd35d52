// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

func mapping(container, host, size uint32) []rspec.LinuxIDMapping {
	return []rspec.LinuxIDMapping{{ContainerID: container, HostID: host, Size: size}}
}

func TestMapID(t *testing.T) {
	maps := append(mapping(0, 1000, 1), mapping(1, 100000, 65536)...)
	for ctr, host := range map[uint32]uint32{0: 1000, 1: 100000, 65536: 165535} {
		if got, ok := mapID(ctr, maps, true); !ok || got != host {
			t.Errorf("container %d: host %d, %v", ctr, got, ok)
		}
		if got, ok := mapID(host, maps, false); !ok || got != ctr {
			t.Errorf("host %d: container %d, %v", host, got, ok)
		}
	}
	for _, id := range []uint32{65537, 1 << 31, noopID} {
		if got, ok := mapID(id, maps, true); ok {
			t.Errorf("container %d: host %d", id, got)
		}
	}
	if got, ok := mapID(1<<32-10, mapping(1<<32-10, 1<<32-5, 20), true); ok && got < 1<<31 {
		t.Errorf("a mapping wrapped around to %d", got)
	}
	if got, ok := mapID(7, nil, true); !ok || got != 7 {
		t.Errorf("no mapping: %d, %v", got, ok)
	}
}

func TestOwnerXattr(t *testing.T) {
	for _, ids := range [][2]uint32{{1, 0}, {0, 1}, {1000, 65534}, {1<<32 - 2, 5}} {
		value, ok := encodeOwner(ids[0], ids[1])
		uid, gid, err := decodeOwner(value)
		if !ok || err != nil || uid != ids[0] || gid != ids[1] {
			t.Errorf("%v became %d:%d (%v, %v)", ids, uid, gid, ok, err)
		}
	}
	if _, ok := encodeOwner(0, 0); ok {
		t.Error("0:0 needs no xattr")
	}
	for _, bad := range []string{"\x08", "\x1a\x01", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x0d\x01"} {
		if _, _, err := decodeOwner(bad); err == nil {
			t.Errorf("decodeOwner(%q) succeeded", bad)
		}
	}
}

func TestDeviceXattr(t *testing.T) {
	for _, want := range []device{{CharDevice, 1, 3, 0o666}, {BlockDevice, 259, 1 << 20, 0o4660}} {
		if got, err := decodeDevice(want.encode()); err != nil || got != want {
			t.Errorf("%v became %v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "c 1 3", "x 1 3 0666", "c -1 3 0666", "c 1 3 0999", "c 1 99999999999 0666"} {
		if _, err := decodeDevice(bad); err == nil {
			t.Errorf("decodeDevice(%q) succeeded", bad)
		}
	}
}
