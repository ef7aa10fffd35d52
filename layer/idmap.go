// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// ErrUnmapped is returned for an ID that the given mappings do not cover.
var ErrUnmapped = errors.New("no mapping")

// MapOptions says how owners in a layer relate to owners on the disk. The zero
// value maps every ID to itself. It has the form that bundles keep it in.
type MapOptions struct {
	// UIDMappings and GIDMappings map container IDs to host IDs. None means that
	// all IDs stay as they are.
	UIDMappings []rspec.LinuxIDMapping `json:"uid_mappings"`
	GIDMappings []rspec.LinuxIDMapping `json:"gid_mappings"`
	// Rootless keeps owners in [RootlessXattr] and makes placeholders for
	// devices: nothing that an unprivileged user may not do.
	Rootless bool `json:"rootless"`
}

// toHost maps the owner uid:gid of a layer to the disk.
func (m *MapOptions) toHost(uid, gid uint32) (hostUID, hostGID uint32, err error) {
	hostUID, ok := mapID(uid, m.UIDMappings, true)
	if !ok {
		return 0, 0, fmt.Errorf("map uid %d to the host: %w", uid, ErrUnmapped)
	}
	hostGID, ok = mapID(gid, m.GIDMappings, true)
	if !ok {
		return 0, 0, fmt.Errorf("map gid %d to the host: %w", gid, ErrUnmapped)
	}
	return hostUID, hostGID, nil
}

// toContainer maps the owner uid:gid on the disk to a layer.
func (m *MapOptions) toContainer(uid, gid uint32) (ctrUID, ctrGID uint32, err error) {
	ctrUID, ok := mapID(uid, m.UIDMappings, false)
	if !ok {
		return 0, 0, fmt.Errorf("map uid %d into the container: %w", uid, ErrUnmapped)
	}
	ctrGID, ok = mapID(gid, m.GIDMappings, false)
	if !ok {
		return 0, 0, fmt.Errorf("map gid %d into the container: %w", gid, ErrUnmapped)
	}
	return ctrUID, ctrGID, nil
}

func mapID(id uint32, maps []rspec.LinuxIDMapping, toHost bool) (uint32, bool) {
	if len(maps) == 0 {
		return id, true
	}
	for _, m := range maps {
		from, to := m.HostID, m.ContainerID
		if toHost {
			from, to = to, from
		}
		if id >= from && uint64(id) < uint64(from)+uint64(m.Size) {
			// Sizes are checked when mappings are parsed; a sum that wraps all the
			// same must not become somebody else's ID.
			if sum := uint64(id-from) + uint64(to); sum < noopID {
				return uint32(sum), true
			}
		}
	}
	return 0, false
}
