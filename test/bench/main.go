// SPDX-License-Identifier: Apache-2.0

// Command bench measures shale and its peers side by side and prints medians,
// ratios, and whether the goals are met. `make bench` runs it, and keeps what it
// prints in docs/benchmarks.md.
//
// Runs alternate, A B A B, so that what slows the machine down slows both. The
// ratio is the median of the ratios of the pairs. All is on tmpfs. The output is
// Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// section is one part of the run, which may be asked for by name.
type section struct {
	name  string
	title string
	run   func(*bench) error
}

var sections = []section{
	{"unpack", "Unpack", (*bench).unpack},
	{"repack", "Repack", (*bench).repack},
	{"pack", "Pack", (*bench).pack},
	{"diff", "Diff", (*bench).diff},
	{"split", "Split and join", (*bench).split},
	{"copy", "Copy to a registry and back", (*bench).copy},
	{"images", "Other images", (*bench).images},
	{"scale", "How cost grows", (*bench).scale},
	{"account", "Where an unpack spends its time", (*bench).account},
}

func main() {
	b := &bench{ctx: context.Background(), stdout: os.Stdout}
	flag.IntVar(&b.n, "n", 5, "pairs of runs of each measurement")
	image := flag.String("image", "", "a layout whose tag \"bench\" is measured with; by default test/images/bench.sh makes one")
	dir := flag.String("dir", "/dev/shm", "where to work; should be on tmpfs")
	only := flag.String("only", "", "the sections to run, with commas between them: "+names())
	out := flag.String("out", "", "a file to keep the results in")
	flag.Parse()
	if err := run(b, *image, *dir, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names() string {
	list := make([]string, len(sections))
	for i, s := range sections {
		list[i] = s.name
	}
	return strings.Join(list, ",")
}

func run(b *bench, image, dir, only, out string) (err error) {
	if b.n < 1 {
		return errors.New("-n must be at least 1")
	}
	todo, err := choose(only)
	if err != nil {
		return err
	}
	if image == "" {
		out, err := exec.Command("test/images/bench.sh").Output()
		if err != nil {
			return fmt.Errorf("make the image: %w%s", err, stderrOf(err))
		}
		image = strings.TrimSpace(string(out))
	}
	if err := checkRoom(dir); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(dir, "shale-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(b.work)) }()
	if b.shale, err = filepath.Abs("bin/shale"); err != nil {
		return err
	}
	if b.umoci, err = filepath.Abs("bin/peers/umoci"); err != nil {
		return err
	}
	if err := buildMeasurer(b.work); err != nil {
		return err
	}
	var kept strings.Builder
	b.stdout = io.MultiWriter(b.stdout, &kept)
	if err := b.copyImage(image); err != nil {
		return err
	}
	b.describe()
	for _, s := range todo {
		b.printf("\n## %s\n", s.title)
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.verdict()
	if out != "" {
		if err := os.WriteFile(out, []byte(kept.String()), 0o644); err != nil {
			return err
		}
	}
	if len(b.failed) > 0 {
		return fmt.Errorf("goals missed: %s", strings.Join(b.failed, ", "))
	}
	return nil
}

// choose returns the sections of a list, or all.
func choose(only string) ([]section, error) {
	if only == "" {
		return sections, nil
	}
	var list []section
	for _, name := range strings.Split(only, ",") {
		i := slices.IndexFunc(sections, func(s section) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no section %q, only %s", name, names())
		}
		list = append(list, sections[i])
	}
	return list, nil
}

// room is what the largest image and two unpacked copies of it take, in bytes.
const room = 10 << 30

// checkRoom refuses a directory that would fill up half-way, and says so of one
// that would measure a disk.
func checkRoom(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < room {
		return fmt.Errorf("%s has only %s free, and %s are needed: name another tmpfs with -dir", dir, megabytes(free), megabytes(room))
	}
	if fs.Type != unix.TMPFS_MAGIC {
		fmt.Fprintf(os.Stderr, "bench: %s is not a tmpfs: this measures its disk too\n", dir)
	}
	return nil
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return ": " + strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}
