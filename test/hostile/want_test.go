// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shale-oci/shale/test/ocitest"
)

// want is what must come out of a case.
type want struct {
	refused bool
	says    []string        // of a refusal: all of them are in its line
	warns   []string        // each is in a warning of its own
	checks  []check         // of what was accepted
	within  time.Duration   // what each command may take of the processors; no limit if 0
	in      map[string]want // what holds in place of all this in a mode
	mode    string          // the only mode in which the case can be made; any if empty
	resumes bool            // what was verified before the refusal may stay, for the next try
}

// check looks at what shale has made.
type check func(w *world)

// refused is R: each command ends with status 1 and one line that says all of
// that. Nothing is left of what it did.
func refused(says ...string) want { return want{refused: true, says: says} }

// accepted is A: each command succeeds, and then the checks hold.
func accepted(checks ...check) want { return want{checks: checks} }

// warning adds warnings that must be given. Without them there must be none. A
// refusal may have some before its line.
func (x want) warning(says ...string) want {
	x.warns = append(slices.Clip(x.warns), says...)
	return x
}

// resumable says that a new layout may stay with the blobs that were verified before
// the refusal, and without a tag.
func (x want) resumable() want {
	x.resumes = true
	return x
}

// but makes the expectation another one in one mode.
func (x want) but(mode string, other want) want {
	in := map[string]want{mode: other}
	maps.Copy(in, x.in)
	x.in = in
	return x
}

// only says that the case can be made in one mode alone.
func (x want) only(mode string) want {
	x.mode = mode
	return x
}

// fast limits what each command may take of the processors' time.
func (x want) fast(d time.Duration) want {
	x.within = d
	return x
}

// code is how the list of cases calls the expectation.
func (x want) code() string {
	if x.refused {
		return "R"
	}
	return "A"
}

// Limits of memory, in KiB.
const (
	peakLimit            = 64 << 10
	peakLimitCompressing = 128 << 10
)

// judge runs the commands of a case and holds what they do against x.
func (w *world) judge(x want, commands []string) {
	w.Helper()
	if len(commands) == 0 {
		w.Fatal("the case runs no command")
	}
	w.give()
	before := state{w.outside(), w.snapshot(w.layout), w.snapshot(w.bundle)}
	tags := w.shale(ls)
	for _, line := range commands {
		if x.refused {
			before.layout = w.refuses(x, line, before)
		} else {
			before.layout = w.accepts(x, line, before.layout)
		}
		w.same("the outside", before.outside, w.outside())
	}
	if x.refused {
		if after := w.shale(ls); after.status != tags.status || after.stdout != tags.stdout {
			w.Errorf("%s said %q before, and %q after", after.line, tags.stdout, after.stdout)
		}
	} else {
		w.warned(x.warns)
	}
	for _, c := range x.checks {
		c(w)
	}
	w.verifies(x, commands, before.layout)
	w.exports(x, commands, before.layout)
	w.same("the outside", before.outside, w.outside())
}

// verifies runs verify on the layout, which has to stand whatever is in there. What it
// says has to fit the verdict: it finds something in a layout that is refused, unless
// the reason is elsewhere.
func (w *world) verifies(x want, commands []string, layout ocitest.Tree) {
	w.Helper()
	if layout == nil {
		return
	}
	r := w.run(want{}, "verify --layout @LAYOUT")
	w.same("the layout", layout, w.snapshot(w.layout))
	clean := r.status == 0
	if !clean && (r.status != 1 || strings.Count(r.stderr, "\n") != 1) {
		w.Errorf("%s: status %d, %q", r.line, r.status, r.stderr)
	}
	id := strings.Split(w.Name()+"//", "/")[2]
	_, fine := notWrong[id]
	_, family := notWrong[id[:min(len(id), 1)]]
	if clean && x.refused && slices.Contains(commands, unpack) && !fine && !family {
		w.Errorf("%s finds nothing wrong with a layout that cannot be unpacked", r.line)
	}
}

// exports runs export on what was unpacked: it stands whatever is in there, has what
// can be unpacked, and leaves nothing of what it had to give up.
func (w *world) exports(x want, commands []string, layout ocitest.Tree) {
	w.Helper()
	if layout == nil || !slices.Contains(commands, unpack) {
		return
	}
	tmp, err := os.Stat(w.tmp)
	w.ok(err)
	r := w.run(want{}, "export --image @LAYOUT:v @BUNDLE.tar")
	w.ok(os.Chtimes(w.tmp, time.Time{}, tmp.ModTime())) // temporary files may have come and gone
	w.same("the layout", layout, w.snapshot(w.layout))
	_, err = os.Lstat(w.bundle + ".tar")
	switch {
	case r.status == 0 && err == nil:
		w.ok(os.Remove(w.bundle + ".tar"))
	case r.status != 1 || err == nil || !strings.HasSuffix(r.stderr, "\n"):
		w.Errorf("%s: status %d, %q, and the archive is there: %v", r.line, r.status, r.stderr, err == nil)
	case !x.refused:
		w.Errorf("%s: what can be unpacked is refused: %q", r.line, r.stderr)
	}
}

// notWrong are the cases, or all of a family, in which an image cannot be unpacked and
// verify finds no fault with the layout, and why that is so.
var notWrong = map[string]string{
	"J":           "the fault is in what the image says about its process, or in the bundle",
	"D11.userns":  "it depends on who unpacks",
	"E1":          "only the kernel knows what a capability is",
	"E7.name":     "only the kernel knows what an attribute may be called",
	"G13":         "it is an artifact of a type that only others know",
	"G13.suffix":  "it is an artifact of a type that only others know",
	"H16":         "it is an artifact of a type that only others know",
	"H6":          "it is a digest of an algorithm that only others know",
	"X2.repeated": "the ratio is a matter of who unpacks it",
}

// state is what there was before a command.
type state struct{ outside, layout, bundle ocitest.Tree }

// run runs one command and checks what holds for every one.
func (w *world) run(x want, line string) result {
	w.Helper()
	r := w.shale(line)
	w.stderr += r.stderr
	w.peak = max(w.peak, r.peak)
	limit := int64(peakLimit)
	if !reads(line) {
		limit = peakLimitCompressing
	}
	if r.peak > limit {
		w.Errorf("%s: %d KiB of memory, and the limit is %d", r.line, r.peak, limit)
	}
	if x.within > 0 && r.took > x.within {
		w.Errorf("%s: took %v, and the limit is %v", r.line, r.took, x.within)
	}
	if r.signal != 0 || strings.Contains(r.stderr, "goroutine ") {
		w.Fatalf("%s: died of signal %d\n%s", r.line, r.signal, r.stderr)
	}
	for name, text := range map[string]string{"output": r.stdout, "errors": r.stderr} {
		if i := strings.IndexFunc(text, raw); i >= 0 || !utf8.ValidString(text) {
			w.Errorf("%s: control bytes in its %s: %q", r.line, name, text)
		}
	}
	return r
}

// raw says whether a terminal might take r for more than a character to show.
func raw(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }

// reads reports whether a command only reads the layout.
func reads(line string) bool {
	return slices.Contains([]string{"unpack", "stat", "ls", "verify", "export"}, strings.Fields(line)[0]) || strings.HasPrefix(line, "raw unpack")
}

// refuses runs a command that must not succeed and must leave no trace. It
// returns the layout.
func (w *world) refuses(x want, line string, before state) ocitest.Tree {
	w.Helper()
	r := w.run(x, line)
	if x.resumes && before.bundle == nil {
		w.dropUntagged()
	}
	w.same("the bundle", before.bundle, w.snapshot(w.bundle))
	var ignore []string
	if !reads(line) {
		ignore = []string{"mtime"} // a temporary directory may have come and gone
	}
	layout := w.snapshot(w.layout)
	w.same("the layout", before.layout, layout, ignore...)
	if r.status != 1 {
		w.Errorf("%s: status %d, not 1\n%s", r.line, r.status, r.stderr)
	}
	lines := strings.SplitAfter(r.stderr, "\n")
	if len(lines) != len(x.warns)+2 || lines[len(x.warns)+1] != "" {
		w.Errorf("%s: not one line: %q", r.line, r.stderr)
		return layout
	}
	for i, s := range x.warns {
		if !strings.Contains(lines[i], s) {
			w.Errorf("%s: no %q in %q", r.line, s, lines[i])
		}
	}
	for _, s := range slices.Concat(x.says, w.blame) {
		if s = w.expand(s); !strings.Contains(lines[len(x.warns)], s) {
			w.Errorf("%s: no %q in %q", r.line, s, r.stderr)
		}
	}
	return layout
}

// dropUntagged removes the layout in the place of the bundle, which must be whole and
// have no tag.
func (w *world) dropUntagged() {
	w.Helper()
	if _, err := os.Lstat(w.bundle + "/index.json"); err != nil {
		return
	}
	ocitest.AssertWhole(w, w.bundle)
	if all := w.read(w.bundle + "/index.json")["manifests"].([]any); len(all) > 0 {
		w.Errorf("the layout that was made has %d entries", len(all))
	}
	w.ok(os.RemoveAll(w.bundle))
}

// accepts runs a command that must succeed. It returns the layout.
func (w *world) accepts(x want, line string, before ocitest.Tree) ocitest.Tree {
	w.Helper()
	r := w.run(x, line)
	if r.status != 0 {
		w.Fatalf("%s: status %d\n%s", r.line, r.status, r.stderr)
	}
	if strings.HasPrefix(line, "unpack") {
		w.onlyBundle()
	}
	layout := w.snapshot(w.layout)
	if reads(line) {
		w.same("the layout", before, layout)
	} else {
		w.verify(layout)
	}
	return layout
}

// warned checks that there were just those warnings.
func (w *world) warned(says []string) {
	w.Helper()
	for _, s := range says {
		if !strings.Contains(w.stderr, s) {
			w.Errorf("no warning has %q: %q", s, w.stderr)
		}
	}
	if n := strings.Count(w.stderr, "\n"); n != len(says) {
		w.Errorf("%d warnings, not %d: %q", n, len(says), w.stderr)
	}
}
