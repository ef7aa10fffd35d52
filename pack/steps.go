// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"sync"
	"time"

	"github.com/shale-oci/shale/internal/progress"
)

// steps reports what an export does, one event at a time.
type steps struct {
	mu     sync.Mutex
	report progress.Func
}

func (s *steps) send(e progress.Event) {
	if s.report != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.report(e)
	}
}

// step is one of the named steps of an export.
type step struct {
	all *steps
	mu  sync.Mutex
	e   progress.Event
}

// start reports the beginning of a step that goes through so many of the unit.
func (s *steps) start(stage, name string, total int64, unit progress.Unit) *step {
	st := &step{all: s, e: progress.Event{
		Stage: stage, Name: name, Total: total, Unit: unit, Started: time.Now(),
	}}
	s.send(st.e)
	return st
}

func (st *step) add(n int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.e.Done += n
	st.all.send(st.e)
}

func (st *step) end() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.e.Done, st.e.End, st.e.Ended = st.e.Total, true, time.Now()
	st.all.send(st.e)
}

// of returns the callback for work on one snapshot, whose name its events get.
func (s *steps) of(n *node) progress.Func {
	if s.report == nil {
		return nil
	}
	return func(e progress.Event) {
		e.Name = n.name()
		s.send(e)
	}
}
