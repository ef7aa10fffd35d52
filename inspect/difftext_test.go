// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// patch applies a unified diff.
func patch(a, diff string) (string, error) {
	lines := splitLines(a)
	var b strings.Builder
	next := 0
	hunks := splitLines(diff)
	for i := 0; i < len(hunks); {
		var at, n, to, m int
		head := strings.Fields(hunks[i])
		if len(head) != 4 || head[0] != "@@" || head[3] != "@@" {
			return "", fmt.Errorf("not the head of a hunk: %q", hunks[i])
		}
		at, n = parseSpan(head[1][1:])
		to, m = parseSpan(head[2][1:])
		if n > 0 {
			at--
		}
		for ; next < at; next++ {
			b.WriteString(lines[next])
		}
		if made := len(splitLines(b.String())); m > 0 && made != to-1 || m == 0 && made != to {
			return "", fmt.Errorf("%q comes after %d lines", hunks[i], made)
		}
		for i++; i < len(hunks) && !strings.HasPrefix(hunks[i], "@@"); i++ {
			line := hunks[i][1:]
			if i+1 < len(hunks) && strings.HasPrefix(hunks[i+1], `\`) {
				line = strings.TrimSuffix(line, "\n")
			}
			mark := hunks[i][0]
			if mark != '+' && mark != '\\' {
				if next >= len(lines) || lines[next] != line {
					return "", fmt.Errorf("line %d is not %q", next, line)
				}
				next++
				n--
			}
			if mark == '+' || mark == ' ' {
				b.WriteString(line)
				m--
			}
		}
		if n != 0 || m != 0 {
			return "", fmt.Errorf("a hunk has %d and %d lines too few", n, m)
		}
	}
	for ; next < len(lines); next++ {
		b.WriteString(lines[next])
	}
	return b.String(), nil
}

func parseSpan(s string) (start, n int) {
	first, count, ok := strings.Cut(s, ",")
	start, _ = strconv.Atoi(first)
	if n = 1; ok {
		n, _ = strconv.Atoi(count)
	}
	return start, n
}

// longest returns the length of the longest common subsequence.
func longest(a, b []string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

func randomText(rng *rand.Rand, lines, words int) string {
	var b strings.Builder
	for range rng.IntN(lines + 1) {
		fmt.Fprintf(&b, "line %d\n", rng.IntN(words))
	}
	if rng.IntN(3) == 0 {
		b.WriteString("end")
	}
	return b.String()
}

// TestUnifiedDiff applies the diffs of random texts, and compares their size with that of
// the shortest there is.
func TestUnifiedDiff(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 9))
		words := 1 + rng.IntN(20)
		a := randomText(rng, 40, words)
		b := randomText(rng, 40, words)
		if rng.IntN(2) == 0 {
			lines := splitLines(a)
			for range min(rng.IntN(4), len(lines)) {
				lines[rng.IntN(len(lines))] = "edited\n"
			}
			b = strings.Join(lines, "")
		}
		diff := unifiedDiff(a, b)
		got, err := patch(a, diff)
		if err != nil || got != b {
			t.Fatalf("seed %d: %v\n%q\n%q\ngives %q\n%s", seed, err, a, b, got, diff)
		}
		x, y := splitLines(a), splitLines(b)
		edits := 0
		for _, line := range splitLines(diff) {
			if line[0] == '+' || line[0] == '-' {
				edits++
			}
		}
		if want := len(x) + len(y) - 2*longest(x, y); edits != want {
			t.Fatalf("seed %d: %d edits, want %d\n%s", seed, edits, want, diff)
		}
	}
}

// TestUnifiedDiffForm is what diff -u prints.
func TestUnifiedDiffForm(t *testing.T) {
	var a []string
	for i := range 20 {
		a = append(a, fmt.Sprintf("%d\n", i+1))
	}
	b := strings.Join(a, "")
	b = strings.Replace(b, "\n5\n", "\nfive\n", 1)
	b = strings.Replace(b, "14\n", "", 1) + "end"
	want := "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n" +
		"@@ -11,10 +11,10 @@\n 11\n 12\n 13\n-14\n 15\n 16\n 17\n 18\n 19\n 20\n+end\n\\ No newline at end of file\n"
	if got := unifiedDiff(strings.Join(a, ""), b); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := unifiedDiff("", "x\n"); got != "@@ -0,0 +1 @@\n+x\n" {
		t.Errorf("got %q", got)
	}
}

// TestUnifiedDiffGivesUp replaces everything where the search would take too long.
func TestUnifiedDiffGivesUp(t *testing.T) {
	var a, b strings.Builder
	for i := range 2 * maxEdits {
		fmt.Fprintf(&a, "a %d\n", i)
		fmt.Fprintf(&b, "b %d\n", i)
	}
	diff := unifiedDiff("same\n"+a.String(), "same\n"+b.String())
	if got, err := patch("same\n"+a.String(), diff); err != nil || got != "same\n"+b.String() {
		t.Errorf("%v", err)
	}
}
