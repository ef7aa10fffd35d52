// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The garbage collector's usual rule is that it runs when the heap has doubled.
// That is too often while the heap is small, and takes hundreds of megabytes where
// it is large. So the room that it gets is a fixed amount, or a part of the heap if
// that is more.
const (
	garbageRoom    = 32 << 20 // bytes
	garbagePercent = 20
	smallestHeap   = 4 << 20 // bytes; the collector takes it for that, at least
)

// boundGarbage sets the collector's room after each of its runs, unless the
// environment says what is wanted.
func boundGarbage() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		afterCollection(nil)
	}
}

// garbage is what is left for the collector to find. It has a pointer, since small
// objects without one are kept together with others.
type garbage struct{ _ *garbage }

// afterCollection is called by each run of the collector, which finds the one
// object that has been left for it.
func afterCollection(*garbage) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := garbagePercent
	if live[0].Value.Kind() == metrics.KindUint64 {
		percent = max(percent, int(100*garbageRoom/max(live[0].Value.Uint64(), smallestHeap)))
	}
	debug.SetGCPercent(percent)
	runtime.SetFinalizer(&garbage{}, afterCollection)
}
