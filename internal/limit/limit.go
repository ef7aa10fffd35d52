// SPDX-License-Identifier: Apache-2.0

// Package limit is how the packages of shale say that something is larger than
// they were told to take.
package limit

import "fmt"

// Name names a limit. The command line calls the flag that changes it the same,
// with "max-" in front.
type Name string

// The limits that there are.
const (
	Bytes    Name = "bytes"
	Entries  Name = "entries"
	Ratio    Name = "ratio"
	Xattr    Name = "xattr-size"
	Header   Name = "header-size"
	Metadata Name = "metadata-size"
	Index    Name = "index-size"
	Document Name = "document-size"
	Depth    Name = "depth"
)

// Error says that a limit was exceeded.
type Error struct {
	// Name is the limit; empty for one that nothing changes.
	Name Name
	// What was counted, as in "uncompressed bytes".
	What string
	// Found is what was found, or how much of it when counting ended.
	Found int64
	// Limit is what there may be.
	Limit int64
}

// Error names what was counted, the number found and the limit.
func (e *Error) Error() string {
	return fmt.Sprintf("%d %s, and the limit is %d", e.Found, e.What, e.Limit)
}

// Check returns an [Error] if found is more than limit.
func Check(name Name, what string, found, limit int64) error {
	if found <= limit {
		return nil
	}
	return &Error{Name: name, What: what, Found: found, Limit: limit}
}
