// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// isText reports whether data can be shown line by line.
func isText(data []byte) bool { return utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 }

// contextLines is how many unchanged lines a unified diff shows around a change.
const contextLines = 3

// unifiedDiff returns how to get from a to b in the form of diff -u, without the two
// lines that name the files. The lines are as they are, control characters included.
func unifiedDiff(a, b string) string {
	x, y := splitLines(a), splitLines(b)
	deleted, inserted := shortestEdit(x, y)
	w := unifiedWriter{a: x, b: y, deleted: deleted, inserted: inserted}
	for w.next() {
		w.hunk()
	}
	return w.out.String()
}

// splitLines cuts s behind each newline.
func splitLines(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// unifiedWriter writes hunk by hunk. i and j are the next lines of a and b.
type unifiedWriter struct {
	a, b              []string
	deleted, inserted []bool
	i, j              int
	out               strings.Builder
}

func (w *unifiedWriter) changed() bool {
	return w.i < len(w.a) && w.deleted[w.i] || w.j < len(w.b) && w.inserted[w.j]
}

// next goes to the next change, and reports whether there is one.
func (w *unifiedWriter) next() bool {
	for w.i < len(w.a) && w.j < len(w.b) && !w.changed() {
		w.i++
		w.j++
	}
	return w.changed()
}

// hunk writes changes until no other follows soon, with the context.
func (w *unifiedWriter) hunk() {
	before := min(contextLines, w.i, w.j)
	var body strings.Builder
	startA, startB := w.i-before, w.j-before
	for _, line := range w.a[startA:w.i] {
		writeLine(&body, ' ', line)
	}
	endA, endB, end := w.i, w.j, 0
	for same := 0; ; {
		switch {
		case w.i < len(w.a) && w.deleted[w.i]:
			writeLine(&body, '-', w.a[w.i])
			w.i++
			same = 0
		case w.j < len(w.b) && w.inserted[w.j]:
			writeLine(&body, '+', w.b[w.j])
			w.j++
			same = 0
		case w.i < len(w.a) && w.j < len(w.b) && same < 2*contextLines:
			writeLine(&body, ' ', w.a[w.i])
			w.i++
			w.j++
			same++
		default:
			fmt.Fprintf(&w.out, "@@ -%s +%s @@\n", span(startA, endA), span(startB, endB))
			w.out.WriteString(body.String()[:end])
			return
		}
		if same <= contextLines {
			endA, endB, end = w.i, w.j, body.Len()
		}
	}
}

// span is the lines from start on and before end as hunks name them.
func span(start, end int) string {
	switch n := end - start; n {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	default:
		return fmt.Sprintf("%d,%d", start+1, n)
	}
}

func writeLine(b *strings.Builder, mark byte, line string) {
	b.WriteByte(mark)
	b.WriteString(line)
	if !strings.HasSuffix(line, "\n") {
		b.WriteString("\n\\ No newline at end of file\n")
	}
}

// maxEdits bounds the search for the shortest script: the time it takes grows with the
// square of that, as does the memory, here 4 MiB. Beyond, all lines are replaced.
const maxEdits = 1000

// shortestEdit returns which lines of a are deleted and which of b are inserted by the
// shortest script that turns a into b: the greedy algorithm of E. Myers, "An O(ND)
// Difference Algorithm and Its Variations" (1986).
func shortestEdit(a, b []string) (deleted, inserted []bool) {
	deleted, inserted = make([]bool, len(a)), make([]bool, len(b))
	skip := 0
	for skip < len(a) && skip < len(b) && a[skip] == b[skip] {
		skip++
	}
	n, m := len(a), len(b)
	for n > skip && m > skip && a[n-1] == b[m-1] {
		n--
		m--
	}
	trace := search(a[skip:n], b[skip:m])
	if trace == nil {
		for i := skip; i < n; i++ {
			deleted[i] = true
		}
		for j := skip; j < m; j++ {
			inserted[j] = true
		}
		return deleted, inserted
	}
	x, y := n-skip, m-skip
	for edits := len(trace) - 1; edits > 0; edits-- {
		k := x - y
		var insert bool
		if x, insert = lastEdit(trace[edits-1], edits, k); insert {
			y = x - (k + 1)
			inserted[skip+y] = true
		} else {
			y = x - (k - 1)
			deleted[skip+x] = true
		}
	}
	return deleted, inserted
}

// lastEdit returns where in a the last of so many edits that lead to diagonal k begins,
// and whether it inserts a line or deletes one, given how far one fewer get.
func lastEdit(reach []int32, edits, k int) (x int, insert bool) {
	at := func(k int) int { return int(reach[k+edits-1]) }
	if k == -edits || k != edits && at(k-1) < at(k+1) {
		return at(k + 1), true
	}
	return at(k - 1), false
}

// search returns for each number of edits, up to the one that leads from a to b, how far
// in a one gets with it on each diagonal: element k+edits is that of diagonal k, the
// lines of a less those of b. Diagonals that that number cannot reach hold what the
// number before reached. It is nil if more than maxEdits are needed.
func search(a, b []string) [][]int32 {
	var trace [][]int32
	for edits := 0; edits <= maxEdits; edits++ {
		reach := make([]int32, 2*edits+1)
		for k := -edits; k <= edits; k += 2 {
			x := 0
			if edits > 0 {
				var insert bool
				if x, insert = lastEdit(trace[edits-1], edits, k); !insert {
					x++
				}
			}
			y := x - k
			for x < len(a) && y < len(b) && a[x] == b[y] {
				x++
				y++
			}
			reach[k+edits] = int32(x)
			if x >= len(a) && y >= len(b) {
				return append(trace, reach)
			}
		}
		trace = append(trace, reach)
	}
	return nil
}
