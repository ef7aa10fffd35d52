// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
)

// meter shows progress.
type meter interface {
	report(progress.Event)
	stop() // takes away what would be in the way of a prompt
}

// newMeter returns the meter that --progress asks for.
func newMeter(how string, c *console) (meter, error) {
	switch how {
	case "none":
		return noMeter{}, nil
	case "plain":
		return newLineMeter(c, plainLine, 2*time.Second), nil
	case "json":
		return newLineMeter(c, jsonLine, 200*time.Millisecond), nil
	case "auto":
		if t := terminal(c.w); t != nil {
			return newBarMeter(c, t), nil
		}
		return noMeter{}, nil
	}
	return nil, fmt.Errorf("invalid --progress: %s is none of auto, plain, json and none", quote.Name(how))
}

type noMeter struct{}

func (noMeter) report(progress.Event) {}
func (noMeter) stop()                 {}

// task is what events are about.
type task struct{ stage, name string }

// lineMeter writes events as lines: for each task no more often than every so
// often, but always the last.
type lineMeter struct {
	console  *console
	format   func(progress.Event) string // into one line, safe to print
	interval time.Duration
	now      func() time.Time

	mu   sync.Mutex
	last map[task]time.Time
}

func newLineMeter(c *console, format func(progress.Event) string, interval time.Duration) *lineMeter {
	return &lineMeter{console: c, format: format, interval: interval, now: time.Now, last: map[task]time.Time{}}
}

func (m *lineMeter) report(e progress.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, key := m.now(), task{e.Stage, e.Name}
	last, seen := m.last[key]
	if !seen {
		last = now
		m.last[key] = now
	}
	if !e.End && now.Sub(last) < m.interval {
		return
	}
	m.last[key] = now
	fmt.Fprintln(m.console, m.format(e)) //nolint:errcheck // see console
}

func (m *lineMeter) stop() {}

func plainLine(e progress.Event) string {
	line := "shale: " + label(e) + ": " + amount(e)
	if p, ok := percent(e); ok {
		line += fmt.Sprintf(" (%d%%)", p)
	}
	if e.End {
		line += ", done"
	}
	return line
}

// jsonLine is the form of --progress=json, which other programs read.
func jsonLine(e progress.Event) string {
	b, err := json.Marshal(struct {
		Stage string        `json:"stage"`
		Name  string        `json:"name,omitempty"`
		Done  int64         `json:"done"`
		Total int64         `json:"total,omitempty"`
		Unit  progress.Unit `json:"unit"`
		End   bool          `json:"end"`

		Started time.Time `json:"started,omitzero"`
		Ended   time.Time `json:"ended,omitzero"`
	}(e))
	if err != nil {
		panic(err) // strings and numbers cannot fail
	}
	return string(escapeControls(b))
}

// barMeter shows the task that was heard of last as one line of a terminal,
// which is redrawn in place.
type barMeter struct {
	console *console
	width   func() int
	now     func() time.Time

	mu      sync.Mutex
	started map[task]time.Time
	drawn   time.Time
}

// barRest is how many columns are kept for what is around and after the bar, as
// in "  [====]  100%  999.9MB/999.9MB  999.9MB/s".
const barRest = 42

// redrawInterval is the least time between two states of the bar.
const redrawInterval = 100 * time.Millisecond

func newBarMeter(c *console, t *os.File) *barMeter {
	return &barMeter{
		console: c,
		width:   func() int { return width(t) },
		now:     time.Now,
		started: map[task]time.Time{},
	}
}

func (m *barMeter) report(e progress.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, key := m.now(), task{e.Stage, e.Name}
	if _, ok := m.started[key]; !ok {
		m.started[key] = now
	}
	if now.Sub(m.drawn) < redrawInterval {
		return
	}
	m.drawn = now
	// The last column stays free: some terminals wrap when it is filled.
	m.console.draw(barLine(e, now.Sub(m.started[key]), m.width()-1))
}

func (m *barMeter) stop() { m.console.draw("") }

// barLine returns the state e of a task that has taken so long yet, in at most
// the given number of columns.
func barLine(e progress.Event, took time.Duration, columns int) string {
	left, right := label(e), amount(e)
	if s := took.Seconds(); e.Unit == progress.Bytes && s >= 1 {
		right += "  " + humanSize(int64(float64(e.Done)/s)) + "/s"
	}
	line := left + "  " + right
	if p, ok := percent(e); ok {
		right = fmt.Sprintf("%3d%%  %s", p, right)
		line = left + "  " + right
		// The bar keeps its length while the numbers on the right get longer.
		if room := min(30, columns-utf8.RuneCountInString(left)-barRest); room >= 10 {
			full := room * p / 100
			line = fmt.Sprintf("%s  [%s%s]  %s", left, strings.Repeat("=", full), strings.Repeat(" ", room-full), right)
		}
	}
	if r := []rune(line); len(r) > columns {
		return string(r[:max(columns, 0)])
	}
	return line
}

// label says what is being done to what.
func label(e progress.Event) string {
	if e.Name == "" {
		return e.Stage
	}
	name := quote.Name(e.Name)
	if alg, hex, ok := strings.Cut(name, ":"); ok && alg == "sha256" && len(hex) == 64 {
		name = alg + ":" + hex[:12]
	}
	return e.Stage + " " + name
}

// amount says how far it is.
func amount(e progress.Event) string {
	count := func(n int64) string {
		if e.Unit == progress.Bytes {
			return humanSize(n)
		}
		return fmt.Sprint(n)
	}
	s := count(e.Done)
	if e.Total > 0 {
		s += "/" + count(e.Total)
	}
	if e.Unit != progress.Bytes {
		s += " " + string(e.Unit)
	}
	return s
}

func percent(e progress.Event) (int, bool) {
	if e.Total <= 0 {
		return 0, false
	}
	return int(100 * min(1, float64(e.Done)/float64(e.Total))), true
}
