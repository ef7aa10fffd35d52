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
	before := allocated()
	fn()
	if got := allocated() - before; got > most {
		t.Errorf("%d bytes were allocated, and the limit is %d", got, most)
	}
}

// allocated returns the bytes that the process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
