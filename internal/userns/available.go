// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// IDs are the IDs that files can have in the process's user namespace.
type IDs struct {
	UIDs []Range
	GIDs []Range
	host string // the user who is root here
}

// Available returns the IDs of the process's user namespace.
func Available() (*IDs, error) {
	ids := &IDs{}
	for _, m := range []struct {
		path string
		to   *[]Range
	}{{"/proc/self/uid_map", &ids.UIDs}, {"/proc/self/gid_map", &ids.GIDs}} {
		data, err := os.ReadFile(m.path)
		if err != nil {
			return nil, err
		}
		ranges, outside, err := parseMap(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		*m.to = ranges
		if ids.host == "" {
			ids.host = outside
		}
	}
	if u, err := user.LookupId(ids.host); err == nil {
		ids.host = u.Username
	}
	return ids, nil
}

// parseMap reads the lines of a uid_map (user_namespaces(7)): the IDs inside,
// and the ID outside of the first of them.
func parseMap(data []byte) (inside []Range, outside string, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 {
			return nil, "", fmt.Errorf("unexpected line %q", lines.Text())
		}
		first, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, "", err
		}
		n, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return nil, "", err
		}
		if inside == nil {
			outside = f[1]
		}
		inside = append(inside, Range{uint32(first), uint32(n)})
	}
	return inside, outside, lines.Err()
}

// CheckUID returns an error that says what to do if no file can belong to the
// user ID here.
func (ids *IDs) CheckUID(id uint32) error { return ids.check("uid", id, ids.UIDs, "/etc/subuid") }

// CheckGID is CheckUID for a group ID.
func (ids *IDs) CheckGID(id uint32) error { return ids.check("gid", id, ids.GIDs, "/etc/subgid") }

func (ids *IDs) check(kind string, id uint32, have []Range, path string) error {
	total := uint64(0)
	for _, r := range have {
		if id >= r.First && uint64(id) < uint64(r.First)+uint64(r.Count) {
			return nil
		}
		total += uint64(r.Count)
	}
	return fmt.Errorf("%s %d is needed, but the user namespace has only %d IDs: add the line %q to %s, or use --rootless",
		kind, id, total, ids.line(uint64(id)+1-min(total, uint64(id)), path), path)
}

// line is what to add to a subuid(5) file to get more IDs: a range behind all
// that are given away already.
func (ids *IDs) line(more uint64, path string) string {
	next := uint64(100000)
	if f, err := os.Open(path); err == nil {
		defer f.Close() //nolint:errcheck // only read from
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Split(lines.Text(), ":")
			if len(fields) != 3 {
				continue
			}
			first, err1 := strconv.ParseUint(fields[1], 10, 32)
			n, err2 := strconv.ParseUint(strings.TrimSpace(fields[2]), 10, 32)
			if err1 == nil && err2 == nil {
				next = max(next, first+n)
			}
		}
	}
	return fmt.Sprintf("%s:%d:%d", ids.host, next, more)
}
