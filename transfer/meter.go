// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
)

// stageCopying is what progress is called.
const stageCopying = "copying"

// meter reports how far each blob is, and all of them together. What is read again
// after a fault counts once.
type meter struct {
	report progress.Func
	total  int64

	mu    sync.Mutex
	sum   int64
	blobs map[digest.Digest]*gauge
}

// gauge is how far one blob is.
type gauge struct {
	now  int64 // where it is read
	best int64 // what was reported
}

func newMeter(report progress.Func, total int64) *meter {
	return &meter{report: report, total: total, blobs: map[digest.Digest]*gauge{}}
}

// at says that reading begins at an offset.
func (m *meter) at(d ispec.Descriptor, offset int64) {
	m.move(d, func(int64) int64 { return offset }, false)
}

// add says that n more bytes were read.
func (m *meter) add(d ispec.Descriptor, n int) {
	m.move(d, func(now int64) int64 { return now + int64(n) }, false)
}

// done says that the blob is there.
func (m *meter) done(d ispec.Descriptor) { m.move(d, func(int64) int64 { return d.Size }, true) }

func (m *meter) move(d ispec.Descriptor, to func(int64) int64, end bool) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.blobs[d.Digest]
	if g == nil {
		g = &gauge{}
		m.blobs[d.Digest] = g
	}
	g.now = min(to(g.now), d.Size)
	if g.now > g.best {
		m.sum += g.now - g.best
		g.best = g.now
	} else if !end {
		return
	}
	// The sum comes first: where there is room for one line only, that is the one.
	m.report(progress.Event{Stage: stageCopying, Done: m.sum, Total: m.total, Unit: progress.Bytes})
	m.report(progress.Event{
		Stage: stageCopying, Name: d.Digest.String(), Done: g.best, Total: d.Size, Unit: progress.Bytes, End: end,
	})
}

// end reports the sum for the last time.
func (m *meter) end() {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report(progress.Event{Stage: stageCopying, Done: m.sum, Total: m.total, Unit: progress.Bytes, End: true})
}

// meteredReader says how much was read.
type meteredReader struct {
	io.ReadCloser
	read func(n int)
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.read(n)
	}
	return n, err
}

// File returns the file below, if there is one.
func (r *meteredReader) File() *os.File { return fileOf(r.ReadCloser) }

// sent says how much of the file was read by the kernel.
func (r *meteredReader) sent(n int) { r.read(n) }
