// SPDX-License-Identifier: Apache-2.0

// Command bench measures shale and umoci side by side on a large image and
// prints medians, ratios, and whether the goals are met. `make bench` runs it.
//
// Runs alternate, A B A B, so that what slows the machine down slows both. The
// ratio is the median of the ratios of the pairs. All is on tmpfs.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	n := flag.Int("n", 5, "pairs of runs of each measurement")
	image := flag.String("image", "", "a layout whose tag \"bench\" is measured with; by default test/images/bench.sh makes one")
	dir := flag.String("dir", "/dev/shm", "where to work; should be on tmpfs")
	flag.Parse()
	if err := run(*n, *image, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(n int, image, dir string) (err error) {
	if n < 1 {
		return errors.New("-n must be at least 1")
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
	work, err := os.MkdirTemp(dir, "shale-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(work)) }()
	b := &bench{n: n, work: work}
	if b.shale, err = filepath.Abs("bin/shale"); err != nil {
		return err
	}
	if b.umoci, err = filepath.Abs("bin/peers/umoci"); err != nil {
		return err
	}
	if err := b.copyImage(image); err != nil {
		return err
	}
	b.describe()
	for _, measure := range []func() error{b.unpack, b.floor, b.repack, b.repackForeign, b.split} {
		if err := measure(); err != nil {
			return err
		}
	}
	return b.verdict()
}

// room is what the image and two unpacked copies of it take, in bytes.
const room = 5 << 30

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

// describe says what is measured where.
func (b *bench) describe() {
	fmt.Printf("machine: %s, %d CPUs, %s, %s\n", cpu(), runtime.NumCPU(), memory(), firstLine("uname", "-sr"))
	fmt.Printf("tools: %s; %s\n", firstLine(b.shale, "--version"), firstLine(b.umoci, "--version"))
	fmt.Printf("image: %d layers, %s compressed, %s and %d entries unpacked\n",
		len(b.layers), megabytes(b.compressed), megabytes(b.unpacked), b.entries)
	fmt.Printf("%d pairs of runs each, on %s\n\n", b.n, filepath.Dir(b.work))
	fmt.Printf("%-34s %9s %9s %7s %9s %9s  %s\n", "work", "shale", "peer", "ratio", "shale MB", "peer MB", "goal")
}

func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return fmt.Sprintf("%s (%v)", name, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func cpu() string { return field("/proc/cpuinfo", "model name") }

func memory() string { return field("/proc/meminfo", "MemTotal") }

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

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return ": " + strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}
