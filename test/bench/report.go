// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

func (b *bench) printf(format string, args ...any) {
	fmt.Fprintf(b.stdout, format, args...) //nolint:errcheck // nobody is left to tell
}

// describe says what is measured where.
func (b *bench) describe() {
	b.printf(`# Benchmarks

What `+"`make bench`"+` printed last. shale and each peer run in turn, %d times, on %s;
times are medians of wall clock time, a ratio is the median of the ratios of the
pairs, memory is the largest resident set of any run.

- Machine: %s, %d CPUs, %s, %s
- Image: %d layers, %s compressed, %s and %d entries unpacked
- Tools: %s
`, b.n, filepath.Dir(b.work),
		field("/proc/cpuinfo", "model name"), runtime.NumCPU(), field("/proc/meminfo", "MemTotal"), firstLine("uname", "-sr"),
		len(b.layers), megabytes(b.compressed), megabytes(b.unpacked), b.entries, strings.Join(b.tools(), "; "))
}

// tools names the versions of all that is run here.
func (b *bench) tools() []string {
	list := []string{firstLine(b.shale, "--version"), firstLine(b.umoci, "--version")}
	for _, name := range []string{debianUmoci, "skopeo", "buildah", "tar", "igzip", "gzip"} {
		if path, err := exec.LookPath(name); err == nil {
			list = append(list, firstLine(path, "--version"))
		}
	}
	if path, err := filepath.Abs("bin/peers/crane"); err == nil {
		list = append(list, "crane "+firstLine(path, "version"))
	}
	return list
}

// head begins a table of comparisons.
func (b *bench) head() {
	b.printf("\n| %-46s | %9s | %9s | %6s | %9s | %8s | %s |\n", "work, against what", "shale", "peer", "ratio", "shale MiB", "peer MiB", "goal")
	b.printf("| %s | --: | --: | --: | --: | --: | --- |\n", strings.Repeat("-", 46))
}

// skip says what is not measured, and why.
func (b *bench) skip(work, why string) {
	b.printf("| %-46s | SKIPPED: %s | | | | | |\n", work, why)
}

func (b *bench) verdict() {
	b.printf("\n## Verdict\n\n")
	b.printf("Peak memory of shale on this image: %d MiB; at most %d MiB: %s.\n", b.peak>>20, goalMemory>>20, b.judge("memory", b.peak <= goalMemory))
	if len(b.failed) > 0 {
		b.printf("Goals missed: %s.\n", strings.Join(b.failed, ", "))
	} else {
		b.printf("All goals are met.\n")
	}
}

func (b *bench) judge(work string, ok bool) string {
	if ok {
		return "PASS"
	}
	b.failed = append(b.failed, work)
	return "FAIL"
}

func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return fmt.Sprintf("%s (%v)", name, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// field returns the value of the first line "name: value" of a file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close() //nolint:errcheck // only read from
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
