// SPDX-License-Identifier: Apache-2.0

// Package userns tells whether the process is root of the machine or only of a
// user namespace.
package userns

import (
	"bytes"
	"os"
	"sync"
)

// Inside reports whether the process runs in a user namespace other than the
// initial one. Where /proc does not tell, it does not.
var Inside = sync.OnceValue(func() bool {
	maps, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	return !initial(maps)
})

// initial reports whether maps is that of the initial namespace: all IDs as
// they are, in one line.
func initial(maps []byte) bool {
	f := bytes.Fields(maps)
	return len(f) == 3 && string(f[0]) == "0" && string(f[1]) == "0" && string(f[2]) == "4294967295"
}
