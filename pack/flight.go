// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"sync"
	"time"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"

	"github.com/shale-oci/shale/internal/rooted"
)

// made is what has become of a snapshot.
type made struct {
	layer   mutate.Layer
	empty   bool // it differs in nothing from its parent: there is no layer
	created *time.Time
	reused  bool
}

// session is what the calls of Image share that work on one layout at once: the layers
// that are being made, and those that were made since the first of the calls began.
type session struct {
	id    layoutID
	users int // guarded by sessions

	mu      sync.Mutex
	flights map[string]*flight // by the identities of the layers
}

// flight is a layer on its way.
type flight struct {
	done chan struct{} // closed when the rest is there
	made made
	err  error
}

// layoutID tells layouts apart, whatever paths lead to them.
type layoutID struct{ dev, ino uint64 }

var sessions = struct {
	sync.Mutex
	of map[layoutID]*session
}{of: map[layoutID]*session{}}

// enter joins the session for a layout, which must be left again.
func enter(l *layout.Layout) (*session, error) {
	dir, err := rooted.Open(l.Path() + "/.")
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	st, err := dir.Lstat(".")
	if err != nil {
		return nil, err
	}
	id := layoutID{st.Dev, st.Ino}
	sessions.Lock()
	defer sessions.Unlock()
	s := sessions.of[id]
	if s == nil {
		s = &session{id: id, flights: map[string]*flight{}}
		sessions.of[id] = s
	}
	s.users++
	return s, nil
}

func (s *session) leave() {
	sessions.Lock()
	defer sessions.Unlock()
	if s.users--; s.users == 0 {
		delete(sessions.of, s.id)
	}
}

// do returns what fn makes for the identity. If somebody else is making it or has made it,
// that is waited for and returned as reused. What another call could not make is begun anew:
// its limits, its callbacks and its context are its own.
func (s *session) do(ctx context.Context, identity string, fn func() (made, error)) (made, error) {
	for {
		s.mu.Lock()
		f := s.flights[identity]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			s.flights[identity] = f
			s.mu.Unlock()
			f.made, f.err = fn()
			if f.err != nil {
				s.forget(identity, f)
			}
			close(f.done)
			return f.made, f.err
		}
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return made{}, ctx.Err()
		}
		if f.err == nil {
			m := f.made
			m.reused = true
			return m, nil
		}
		if err := ctx.Err(); err != nil {
			return made{}, err
		}
	}
}

// forget lets the next who wants the layer make it anew. A nil f stands for any flight.
func (s *session) forget(identity string, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil || s.flights[identity] == f {
		delete(s.flights, identity)
	}
}
