// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/test/ocitest"
)

func rootManual() *manual {
	a := &app{stdout: newOutput(io.Discard), stderr: &console{w: io.Discard}}
	return manualOf(a.root())
}

// TestDocsAreCurrent compares what is made of the commands with what is in the
// repository.
func TestDocsAreCurrent(t *testing.T) {
	for dir, want := range map[string]map[string]string{
		"../../docs/man":    manPages(rootManual()),
		"../../completions": completions(rootManual()),
	} {
		for name, content := range want {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(got) != content {
				t.Errorf("%s is not current: run go generate ./cmd/shale (%v)", filepath.Join(dir, name), err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if _, ok := want[e.Name()]; !ok {
				t.Errorf("%s belongs to no command", filepath.Join(dir, e.Name()))
			}
		}
	}
}

// TestDocsCommands checks that the commands write what the test above compares.
func TestDocsCommands(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "docs", "man", "a/man")
	must(t, dir, "docs", "completions", "completions")
	for sub, files := range map[string]map[string]string{"a/man": manPages(rootManual()), "completions": completions(rootManual())} {
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(dir, sub, name)); err != nil || string(got) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for shell, name := range completionFiles {
		if got := must(t, dir, "completion", shell); got != completions(rootManual())[name] {
			t.Errorf("completion %s differs from %s", shell, name)
		}
	}
	if got := runShale(t, dir, "completion", "csh"); got.code != exitError || !strings.Contains(got.stderr, "csh is none of bash, fish, zsh") {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(must(t, dir, "help"), "docs ") {
		t.Error("docs is not hidden")
	}
}

// TestManPages checks that every command and flag that is not hidden has its place, and
// that nothing is taken for a macro.
func TestManPages(t *testing.T) {
	pages := manPages(rootManual())
	for _, m := range rootManual().all() {
		page := pages[m.name("-")+".1"]
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"} {
			if !strings.Contains(page, "\n.SH "+section+"\n") {
				t.Errorf("%s has no section %s", m.name("-"), section)
			}
		}
		if (len(m.examples) > 0) != strings.Contains(page, "\n.SH EXAMPLES\n") {
			t.Errorf("%s: the examples are %q", m.name("-"), m.examples)
		}
		for _, f := range m.flags {
			if !strings.Contains(page, `\fB`+roff(dashed(f.names[0]))+`\fR`) {
				t.Errorf("%s has no flag %s", m.name("-"), f.names[0])
			}
		}
		for _, line := range strings.Split(page, "\n") {
			if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !knownMacro(line) {
				t.Errorf("%s: a line that is no macro: %q", m.name("-"), line)
			}
		}
	}
	if _, ok := pages["shale-raw-mtree-validate.1"]; ok {
		t.Error("a hidden command has a page")
	}
}

func knownMacro(line string) bool {
	macro, _, _ := strings.Cut(line, " ")
	switch macro {
	case `.\"`, ".TH", ".SH", ".PP", ".TP", ".B", ".BR", ".EX", ".EE":
		return true
	}
	return false
}

// TestChoices checks that the values which completions offer are those of flags that
// there are, and right.
func TestChoices(t *testing.T) {
	flags := map[string]bool{}
	told := map[string]bool{}
	for _, m := range rootManual().all() {
		for _, f := range m.flags {
			flags[f.names[0]] = true
			list := choicesOf(f)
			if len(choices[f.names[0]]) > 0 && len(list) < 2 {
				t.Errorf("the help of %s --%s tells of no choice: %v", m.name(" "), f.names[0], list)
			}
			for _, choice := range list {
				told[f.names[0]+"="+choice] = true
			}
		}
	}
	for name, list := range choices {
		for _, choice := range list {
			if !told[name+"="+choice] {
				t.Errorf("no help tells of --%s=%s", name, choice)
			}
		}
	}
	for name := range choices {
		if !flags[name] {
			t.Errorf("there is no flag %s", name)
		}
	}
}

// TestBashCompletion completes lines with bash.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	image := ocitest.Image{}
	image.Write(t, filepath.Join(dir, "layout"), "one")
	image.Write(t, filepath.Join(dir, "layout"), "other:1")
	// A tag that a shell would do something with is never completed.
	image.Write(t, filepath.Join(dir, "layout"), "o$(touch gotcha)")
	image.Write(t, filepath.Join(dir, "layout"), "o`touch gotcha`")
	write(t, filepath.Join(dir, "layer.tar"), "")
	script := filepath.Join(dir, ".completion")
	write(t, script, bashCompletion(rootManual()))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"shale un":                                 "unpack",
		"shale r":                                  "remove rm repack rebase raw",
		"shale raw ru":                             "runtime-config",
		"shale raw config --rootfs l":              "layout",
		"shale raw add-layer l":                    "layer.tar layout",
		"shale gc --dry":                           "--dry-run",
		"shale --log ":                             "debug info warn error fatal",
		"shale --log=e":                            "error",
		"shale --verbose config --clear manif":     "manifest.annotations",
		"shale config --clear=manif":               "manifest.annotations",
		"shale stat --image lay":                   "layout",
		"shale stat --image layout:o":              "one other:1",
		"shale stat --image=layout:on":             "one",
		"shale stat --image layout:other:":         "1",
		"shale diff lay":                           "layout",
		"shale diff --content layout:one layout:o": "one other:1",
		"shale diff --ignore hard":                 "hardlinks",
		"shale stat --image nope:":                 "",
		"shale config --config.user ":              "",
		"shale config --config.env l":              "",
		"shale completion ":                        "bash fish zsh",
		"shale insert --opaque --image layout:o l": "layer.tar layout",
	} {
		cmd := exec.Command(bash, "--norc", "-c", `shale() { "$SELF" "$@"; }
			source .completion
			COMP_WORDBREAKS=$' \t\n"\x27><=;|&(:' COMP_LINE=$1 COMP_POINT=${#1}
			_shale
			echo "${COMPREPLY[*]}"`, "bash", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asShale+"=1", "SELF="+self, "GORACE=atexit_sleep_ms=0")
		if got := runCommand(t, cmd); got.code != 0 || sortedWords(got.stdout) != sortedWords(want) {
			t.Errorf("%s: got %+v, want %s", line, got, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "gotcha")); err == nil {
		t.Error("a tag was executed")
	}
}

func sortedWords(s string) string {
	return sortedLines(strings.Join(strings.Fields(s), "\n"))
}

// TestCompletionsParse lets the shells look at the scripts, as far as they are there.
func TestCompletionsParse(t *testing.T) {
	dir := t.TempDir()
	for shell, name := range completionFiles {
		path := filepath.Join(dir, name)
		write(t, path, completions(rootManual())[name])
		if _, err := exec.LookPath(shell); err != nil {
			t.Log(err)
			continue
		}
		if out, err := exec.Command(shell, "-n", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
