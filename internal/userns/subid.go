// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// Range is a run of IDs: Count of them from First on.
type Range struct{ First, Count uint32 }

// Subordinates are the IDs that a plain user may give to files from inside a
// user namespace, next to his own.
type Subordinates struct {
	User string
	UIDs []Range
	GIDs []Range
	uid  int
	gid  int
}

// ErrNone is returned where a user cannot have more than one ID.
var ErrNone = errors.New("no subordinate IDs")

// Find returns the subordinate IDs of the present user as /etc/subuid and
// /etc/subgid give them. The error is [ErrNone] if there are none, or if the
// tools that hand them out are missing.
func Find() (*Subordinates, error) {
	s := &Subordinates{uid: os.Getuid(), gid: os.Getgid()}
	id := strconv.Itoa(s.uid)
	s.User = id
	if u, err := user.LookupId(id); err == nil {
		s.User = u.Username
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
	}
	var err error
	if s.UIDs, err = readRanges("/etc/subuid", s.User, id); err != nil {
		return nil, err
	}
	if s.GIDs, err = readRanges("/etc/subgid", s.User, id); err != nil {
		return nil, err
	}
	return s, nil
}

func readRanges(path, name, id string) ([]Range, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w for %s: there is no %s", ErrNone, name, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	ranges, err := parseRanges(f, name, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("%w for %s in %s", ErrNone, name, path)
	}
	return ranges, nil
}

// parseRanges reads the lines of subuid(5) that are for the user called name
// with the given ID.
func parseRanges(r io.Reader, name, id string) ([]Range, error) {
	var ranges []Range
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] != name && f[0] != id {
			continue
		}
		first, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		count, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if count > 0 && first+count <= 1<<32-1 {
			ranges = append(ranges, Range{uint32(first), uint32(count)})
		}
	}
	return ranges, lines.Err()
}

// mapping returns the arguments of newuidmap(1) after the process ID: the user
// becomes root, and the subordinate IDs follow from 1 on.
func mapping(own int, ranges []Range) []string {
	args := []string{"0", strconv.Itoa(own), "1"}
	next := uint64(1)
	for _, r := range ranges {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.First), 10),
			strconv.FormatUint(uint64(r.Count), 10))
		next += uint64(r.Count)
	}
	return args
}
