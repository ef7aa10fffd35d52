// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shale-oci/shale/test/ocitest"
)

// recorder is a test of which only the failures are of interest.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// TestJudge puts programs with all kinds of bad manners in the place of shale, to
// see that each is noticed. They run in the working directory of a world.
func TestJudge(t *testing.T) {
	const bad = "echo 'shale: x is bad' >&2; exit 1"
	for _, tc := range []struct {
		name, line, script string
		want               want
		says               string // what must be complained about; nothing if empty
	}{
		{"a good refusal", unpack, bad, refused("x"), ""},
		{"a good success", unpack, "mkdir -p ../work/bundle && cd ../work/bundle && touch config.json rootfs sha256_1.mtree sha256_1.statcache umoci.json", accepted(), ""},
		{"a new file", unpack, "touch ../host/new; " + bad, refused("x"), "/host/new"},
		{"a new file above", unpack, "touch ../new; " + bad, refused("x"), "/new"},
		{"a new file next to the bundle", unpack, "touch ../work/new; " + bad, refused("x"), "/work/new"},
		{"a removed file", unpack, "rm ../host/f; " + bad, refused("x"), "/host/f"},
		{"a mode", unpack, "chmod 4755 ../host/su; " + bad, refused("x"), "mode 0755 -> 4755"},
		{"a time", unpack, "touch -m ../host/dir/f; " + bad, refused("x"), "mtime"},
		{"a content", unpack, "printf x | dd of=../host/f conv=notrunc 2>/dev/null; touch -m -r ../host/su ../host/f; " + bad, refused("x"), "sha256"},
		{"a temporary file", unpack, "touch $TMPDIR/new; " + bad, refused("x"), "/tmp/new"},
		{"a file in the working directory", unpack, "touch new; " + bad, refused("x"), "/cwd/new"},
		{"a bundle left", unpack, "mkdir ../work/bundle; " + bad, refused("x"), "the bundle: there before: false"},
		{"a layout touched", unpack, "touch ../work/layout; " + bad, refused("x"), "the layout has changed"},
		{"an index changed", gc, "echo >> ../work/layout/index.json; " + bad, refused("x"), "the layout has changed"},
		{"a file left in the layout", gc, "touch ../work/layout/.shale-1; " + bad, refused("x"), "the layout has changed"},
		{"status 2", unpack, "echo 'shale: x is bad' >&2; exit 2", refused("x"), "status 2"},
		{"success", unpack, "echo 'shale: x is bad' >&2", refused("x"), "status 0"},
		{"a signal", unpack, "kill -SEGV $$", refused("x"), "died of signal 11"},
		{"a panic", unpack, "printf 'panic: x\n\ngoroutine 1 [running]:\n' >&2; exit 2", refused("x"), "died"},
		{"silence", unpack, "exit 1", refused("x"), "not one line"},
		{"two lines", unpack, "printf 'x\ny\n' >&2; exit 1", refused("x"), "not one line"},
		{"half a line", unpack, "printf x >&2; exit 1", refused("x"), "not one line"},
		{"a verify that finds nothing", unpack, "[ $1 != verify ] || exit 0; " + bad, refused("x"), "finds nothing wrong"},
		{"nothing named", unpack, "echo bad >&2; exit 1", refused("x"), `no "x" in "bad\n"`},
		{"control bytes in errors", unpack, `printf 'x\033[2J\n' >&2; exit 1`, refused("x"), "control bytes in its errors"},
		{"control bytes in output", ls, `printf '\303\033\n'`, accepted(), "control bytes in its output"},
		{"a long run", unpack, "sleep 60", refused("x"), "still running"},
		{"a slow run", ls, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", accepted().fast(time.Second / 50), "the limit is 20ms"},
		{"much memory", unpack, "head -c 80m /dev/zero | tail -c 80m >/dev/null; " + bad, refused("x"), "KiB of memory"},
		{"failure", ls, bad, accepted(), "status 1"},
		{"a warning that nobody expects", ls, "echo warning >&2", accepted(), "1 warnings, not 0"},
		{"another warning", ls, "echo warning >&2", accepted().warning("x"), `no warning has "x"`},
		{"no warning", ls, "", accepted().warning("x"), `no warning has "x"`},
		{"a bad blob", gc, "cd ../work/layout/blobs/sha256; for b in *; do echo >> $b; done", accepted(), "has the digest"},
		{"a temporary directory left", gc, "mkdir ../work/layout/.shale-1", accepted(), "was left"},
		{"a file left in the bundle", unpack, "mkdir ../work/bundle; touch ../work/bundle/passwd", accepted(), "the bundle holds"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			said := judge(t, tc.line, tc.script, tc.want)
			switch all := strings.Join(said, "\n"); {
			case tc.says == "" && all != "":
				t.Errorf("complains about %s", all)
			case !strings.Contains(all, tc.says):
				t.Errorf("no complaint about %q: %s", tc.says, all)
			}
		})
	}
}

// judge runs a script that is taken for shale, and returns the complaints.
func judge(t *testing.T, line, script string, x want) []string {
	t.Helper()
	ordinary := ocitest.AllModes()[2]
	w := newWorld(t, ordinary)
	good(w)
	w.program = w.dir + "/script"
	text := "#!/bin/sh\n"
	if line != ls { // which lists the tags before and after
		text += "case $1 in ls) exit ;; export) >\"$4\"; exit ;; esac\n"
		if !x.refused { // or else verify has to find something, too
			text += "[ $1 != verify ] || exit 0\n"
		}
	}
	text += script + "\n"
	w.ok(os.WriteFile(w.program, []byte(text), 0o755))
	w.timeout = 3 * time.Second
	r := &recorder{TB: t}
	w.TB = r
	var running sync.WaitGroup
	running.Go(func() { w.judge(x, []string{line}) })
	running.Wait()
	return r.said
}
