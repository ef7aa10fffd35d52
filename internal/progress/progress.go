// SPDX-License-Identifier: Apache-2.0

// Package progress is the one shape in which long work reports how far it is.
// Libraries send events to a callback that their caller gave them; only the
// command decides whether and how a person sees them.
package progress

import "time"

// Unit says what Done and Total of an Event count.
type Unit string

// The units in use.
const (
	Bytes  Unit = "bytes"
	Files  Unit = "files"
	Layers Unit = "layers"
	Refs   Unit = "refs"
)

// Event is one report. Done only grows for the same Stage and Name.
type Event struct {
	Stage string // what is done, as a gerund: "applying", "checking", "compressing"
	Name  string // the object it is done to: a digest or a path; may be empty
	Done  int64  // units finished so far
	Total int64  // units in all; 0 if not known
	Unit  Unit
	End   bool // the last event of this Stage and Name

	// Started and Ended are when the work on this Stage and Name began and was over;
	// zero if that is not told. Only the last event has Ended.
	Started, Ended time.Time
}

// Func receives events. It may be called from several goroutines, one at a
// time for the same Stage and Name. A nil Func is valid: see Report.
type Func func(Event)

// Report sends e unless f is nil.
func (f Func) Report(e Event) {
	if f != nil {
		f(e)
	}
}
