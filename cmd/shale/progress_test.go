// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apex/log"

	"github.com/shale-oci/shale/internal/progress"
)

// clock is a time that passes when it is told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func applying(done int64) progress.Event {
	return progress.Event{Stage: "applying", Name: "a", Done: done, Total: 200e6, Unit: progress.Bytes, End: done == 200e6}
}

func TestLineMeter(t *testing.T) {
	var out bytes.Buffer
	c := clock{time.Unix(0, 0)}
	m := newLineMeter(&console{w: &out}, plainLine, 2*time.Second)
	m.now = c.now
	for done := int64(0); done <= 200e6; done += 10e6 {
		m.report(applying(done))
		c.advance(300 * time.Millisecond)
	}
	m.report(progress.Event{Stage: "checking", Done: 12, Unit: progress.Files, End: true})
	m.stop()
	want := `shale: applying a: 70MB/200MB (35%)
shale: applying a: 140MB/200MB (70%)
shale: applying a: 200MB/200MB (100%), done
shale: checking: 12 files, done
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestJSONMeter(t *testing.T) {
	var out bytes.Buffer
	m, err := newMeter("json", &console{w: &out})
	if err != nil {
		t.Fatal(err)
	}
	end := progress.Event{Stage: "checking", Name: "x\x1b\n\x7f\u009b\U000e0001", Done: 2, Unit: progress.Files, End: true}
	m.report(progress.Event{Stage: "checking", Name: "y", Unit: progress.Files})
	m.report(end)
	m.stop()
	want := `{"stage":"checking","name":"x\u001b\n\u007f\u009b` + "\U000e0001" + `","done":2,"unit":"files","end":true}` + "\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	var back progress.Event
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != end {
		t.Errorf("got %+v, %v, want %+v", back, err, end)
	}
}

func TestBarMeter(t *testing.T) {
	var out bytes.Buffer
	c := clock{time.Unix(0, 0)}
	con := &console{w: &out}
	m := newBarMeter(con, nil)
	m.now, m.width = c.now, func() int { return 70 }
	c.advance(time.Hour)
	for done := int64(0); done <= 200e6; done += 1e6 {
		m.report(applying(done))
		c.advance(10 * time.Millisecond)
	}
	states := strings.Split(out.String(), eraseLine)[1:]
	if len(states) != 21 {
		t.Errorf("drawn %d times in 2 seconds, want 21", len(states))
	}
	if want := "applying a  [===              ]   20%  40MB/200MB"; states[4] != want {
		t.Errorf("after 400 ms it is %q, want %q", states[4], want)
	}
	if want := "100MB/s"; !strings.HasSuffix(states[20], want) {
		t.Errorf("at the end it is %q, which does not end in %q", states[20], want)
	}

	out.Reset()
	logger := &log.Logger{Handler: &logHandler{con}, Level: log.WarnLevel}
	logger.Warn("something")
	if want := eraseLine + "shale: warning: something\n"; out.String() != want {
		t.Errorf("a warning in between is written as %q, want %q", out.String(), want)
	}
	c.advance(time.Second)
	m.report(applying(1e6))
	out.Reset()
	m.stop()
	m.stop()
	if out.String() != eraseLine {
		t.Errorf("at the end %q is written, want %q", out.String(), eraseLine)
	}
}

func TestBarLine(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		e       progress.Event
		took    time.Duration
		columns int
		want    string
	}{
		{progress.Event{Stage: "checking", Done: 5, Unit: progress.Files}, 0, 79, "checking  5 files"},
		{progress.Event{Stage: "checking", Done: 5, Total: 10, Unit: progress.Files}, time.Minute, 30, "checking   50%  5/10 files"},
		{progress.Event{Stage: "applying", Name: digest, Done: 1e6, Total: 4e6, Unit: progress.Bytes}, time.Second, 89,
			"applying sha256:0123456789ab  [====               ]   25%  1MB/4MB  1MB/s"},
		{progress.Event{Stage: "applying", Name: "a\nb", Done: 3, Total: 2, Unit: progress.Bytes}, 0, 40,
			`applying "a\nb"  100%  3B/2B`},
		{progress.Event{Stage: "applying", Name: "größer", Done: 1, Unit: progress.Bytes}, 0, 12, "applying grö"},
		{progress.Event{Stage: "applying"}, 0, 0, ""},
		{progress.Event{Stage: "applying"}, 0, -1, ""},
	}
	for _, tt := range tests {
		got := barLine(tt.e, tt.took, tt.columns)
		if got != tt.want {
			t.Errorf("%+v in %d columns: got %q, want %q", tt.e, tt.columns, got, tt.want)
		}
		if n := utf8.RuneCountInString(got); n > max(tt.columns, 0) {
			t.Errorf("%+v: %d columns, want at most %d", tt.e, n, tt.columns)
		}
	}
}

func TestMeterConcurrently(t *testing.T) {
	con := &console{w: &bytes.Buffer{}}
	for _, m := range []meter{newBarMeter(con, nil), newLineMeter(con, jsonLine, 0), noMeter{}} {
		if bar, ok := m.(*barMeter); ok {
			bar.width = func() int { return 80 }
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for done := range int64(100) {
					m.report(progress.Event{Stage: "applying", Name: string(rune('a' + i)), Done: done})
				}
			})
		}
		wg.Wait()
		m.stop()
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"plain 'text' \"ü\"":  "plain 'text' \"ü\"",
		"a\nb\r\tc":           `a\nb\r\tc`,
		"\x1b[31m\x00\x7f":    `\x1b[31m\x00\x7f`,
		"\u0085\u009b\u202e":  `\u0085\u009b\u202e`,
		"\xff\xc3":            `\xff\xc3`,
		"back\\slash \ufffd.": "back\\slash \ufffd.",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\x1b\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s)
		for _, r := range got {
			if r < ' ' || 0x7f <= r && r <= 0x9f {
				t.Errorf("%q: there is a %q in %q", s, r, got)
			}
		}
		if !utf8.ValidString(got) || oneLine(got) != got {
			t.Errorf("%q: got %q, which is not clean", s, got)
		}
	})
}

func TestEscapeControls(t *testing.T) {
	in := map[string]string{"k\u009b": "\u0085 \x7f <ü> \x1b"}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(in); err != nil {
		t.Fatal(err)
	}
	got := escapeControls(b.Bytes())
	for _, r := range string(got) {
		if r < ' ' && r != '\n' || 0x7f <= r && r <= 0x9f {
			t.Errorf("there is a %q in %q", r, got)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(got, &back); err != nil || back["k\u009b"] != in["k\u009b"] {
		t.Errorf("got %q, which means %q, %v", got, back, err)
	}
	if got := string(escapeControls([]byte("\"\xff\""))); got != `"\ufffd"` {
		t.Errorf("got %q for a byte that is not UTF-8", got)
	}
}
