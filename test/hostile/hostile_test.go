// SPDX-License-Identifier: Apache-2.0

// Package hostile runs shale on input that wants to do harm: layers that reach
// for files of the host, layouts that contradict themselves, bundles that were
// tampered with.
//
// The cases are data: see table_test.go and the tables that it lists. Each is run
// with the real binary as root, as root of a user namespace, and as an ordinary
// user with --rootless. What must hold for all of them is in judge: nothing
// outside changes, nothing half done is left, memory is bounded, one line says
// what is wrong and where.
//
// The letters and numbers of the cases are kept for good; what a case is about
// may come with several variants, told apart by what follows a point.
package hostile

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// hostileCase is one row of a table.
type hostileCase struct {
	id   string
	what string
	in   input
	run  []string // command lines without the name of the program
	want want
}

// do lists the command lines of a case.
func do(lines ...string) []string { return lines }

// outcome is what became of one case in one mode.
type outcome struct {
	hostileCase
	order   int
	mode    string
	failed  bool
	skipped bool
	peak    int64
	took    time.Duration
}

func TestHostile(t *testing.T) {
	var (
		mu       sync.Mutex
		outcomes []outcome
		expected int
	)
	can, skipped := ocitest.PossibleModes(shale, "--version")
	start := time.Now()
	t.Run("case", func(t *testing.T) {
		for i, c := range table() {
			for _, m := range can {
				if c.want.mode != "" && c.want.mode != m.Name {
					continue
				}
				expected++
				t.Run(c.id+"/"+m.Name, func(t *testing.T) {
					t.Parallel()
					o := outcome{hostileCase: c, order: i, mode: m.Name}
					defer func() {
						o.failed, o.skipped = t.Failed(), t.Skipped()
						mu.Lock()
						defer mu.Unlock()
						outcomes = append(outcomes, o)
					}()
					o.test(t, m)
				})
			}
		}
	})
	report(outcomes, skipped, time.Since(start))
	if len(outcomes) != expected && !filtered() {
		t.Errorf("%d cases and modes, of which %d came to an end", expected, len(outcomes))
	}
}

// test runs the case in the mode m.
func (o *outcome) test(t *testing.T, m *ocitest.Mode) {
	start := time.Now()
	w := newWorld(t, m)
	defer func() { o.peak, o.took = w.peak, time.Since(start) }()
	o.in(w)
	w.judge(o.expected(), o.run)
}

// expected is what must come out in the mode.
func (o *outcome) expected() want {
	if other, ok := o.want.in[o.mode]; ok {
		return other
	}
	return o.want
}

// report prints one line for each case and mode, and totals.
func report(outcomes []outcome, skipped []string, took time.Duration) {
	slices.SortFunc(outcomes, func(a, b outcome) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.mode, b.mode)) })
	failed, left, ids := 0, 0, map[string]bool{}
	var peak outcome
	for _, o := range outcomes {
		verdict := "ok  "
		switch {
		case o.failed:
			verdict = "FAIL"
			failed++
		case o.skipped:
			verdict = "skip"
			left++
		}
		ids[strings.SplitN(o.id, ".", 2)[0]] = true
		if o.peak > peak.peak {
			peak = o
		}
		if testing.Verbose() {
			fmt.Printf("%-14s %-6s %s %s %4d MiB %5d ms  %s\n",
				o.id, o.mode, o.expected().code(), verdict, o.peak>>10, o.took.Milliseconds(), o.what)
		}
	}
	for _, s := range skipped {
		fmt.Println(s)
	}
	fmt.Printf("%d cases, %d runs, %d failed, %d skipped, at most %d MiB (%s in mode %s), %v\n",
		len(ids), len(outcomes), failed, left, peak.peak>>10, peak.id, peak.mode, took.Round(time.Second/10))
}

// filtered reports whether the tests were asked to run only a part.
func filtered() bool {
	return strings.Contains(flag.Lookup("test.run").Value.String(), "/") || flag.Lookup("test.skip").Value.String() != ""
}

// covered are the cases that there must be, so that none gets lost.
const covered = `
	A1 A2 A3 A5 A7 A8 A10 A12
	B1 B2 B3 B4 B5 B6 B8 B9 B10 B11 B12 B13
	C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C13
	D1 D2 D3 D5 D6 D7 D8 D9 D11 D12 D13 D15
	E1 E2 E3 E5 E6 E7
	F1 F2 F3 F4 F5 F6 F7 F8 F10 F12 F13
	G1 G2 G3 G4 G5 G6 G7 G8 G9 G11 G13
	H1 H2 H3 H4 H5 H6 H7 H9 H10 H11 H13 H15 H16 H17 H18 H19 H21 H22
	I1 I2 I3 I5 I6 I9 I10 I11 I12 I14 I15 I16 I17 I19 I20 I21
	J1 J2 J3 J4 J5 J6 J7 J9 J10
	K1 K2 K3 K4 K5 K6 K7 K9 K13 K15
	L1 L2
	X1 X2 X3 X4 X5 X6 X7 X8 X9 X10 X11 X12 X13 X14`

func TestTableIsWhole(t *testing.T) {
	found, seen := map[string]bool{}, map[string]bool{}
	for _, c := range table() {
		if seen[c.id] {
			t.Errorf("%s is there twice", c.id)
		}
		seen[c.id] = true
		number, _, _ := strings.Cut(c.id, ".")
		found[number] = true
		if c.what == "" || c.in == nil || len(c.run) == 0 {
			t.Errorf("%s is incomplete", c.id)
		}
	}
	for _, number := range strings.Fields(covered) {
		if !found[number] {
			t.Errorf("%s has no row", number)
		}
		delete(found, number)
	}
	for number := range found {
		t.Errorf("%s is not in the list of cases that there must be", number)
	}
}
