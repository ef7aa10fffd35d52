// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"runtime/metrics"
	"testing"
)

// AssertAllocates fails the test if fn allocates more bytes than most, those that it
// frees again among them. What other goroutines allocate meanwhile counts too.
func AssertAllocates(t testing.TB, most uint64, fn func()) {
	t.Helper()
	if got := allocates(fn); got > most {
		t.Errorf("%d bytes were allocated, and the limit is %d", got, most)
	}
}

// AssertPureAllocates is AssertAllocates for an fn that does the same whenever it is
// called. If it seems to take too much it is called again: the fuzzing engine, or a
// test beside this one, may have allocated as much meanwhile, but not each time.
func AssertPureAllocates(t testing.TB, most uint64, fn func()) {
	t.Helper()
	for range 4 {
		if allocates(fn) <= most {
			return
		}
	}
	AssertAllocates(t, most, fn)
}

func allocates(fn func()) uint64 {
	before := allocated()
	fn()
	return allocated() - before
}

// allocated returns the bytes that the process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
