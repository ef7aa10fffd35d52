// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// TestMemory holds the budget: two trees in memory, at most 300 bytes per entry
// plus the names.
func TestMemory(t *testing.T) {
	const dirs, files = 1000, 20
	var text bytes.Buffer
	text.WriteString("/set type=file uid=0 gid=0 mode=0644 nlink=1\n. type=dir\n")
	names := 0
	for i := range dirs {
		n, _ := fmt.Fprintf(&text, "directory-%d", i)
		text.WriteString(" type=dir mode=0755\n")
		names += n
		for j := range files {
			n, _ := fmt.Fprintf(&text, "file-%d.txt", j)
			fmt.Fprintf(&text, " size=%d tar_time=5.000000000 sha256digest=%064x\n", i, j)
			names += n
		}
		text.WriteString("..\n")
	}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	old, now := parse(t, text.Bytes()), parse(t, text.Bytes())
	entries := old.Len()
	if entries != dirs*(files+1)+1 {
		t.Fatalf("%d entries", entries)
	}
	perEntry := (heap() - before - 2*names) / entries
	t.Logf("%d bytes per entry of two trees", perEntry)
	if perEntry > 300 {
		t.Errorf("%d bytes per entry, want at most 300", perEntry)
	}
	runtime.KeepAlive(text)
	runtime.KeepAlive(old)
	runtime.KeepAlive(now)
}
