// SPDX-License-Identifier: Apache-2.0

// Package faults disturbs shale while it works: it is killed at each of its
// system calls, calls fail, disks are full, others write at the same time. What
// must hold afterwards is in judge.
//
// The faults are those of the letter S in the list of cases that test/hostile has.
// As there, commands are run as root, as root of a user namespace, and as an ordinary
// user.
//
// All of them are run with SHALE_FAULTS=all, as make faults does; without it a
// sample is, which is another one each time, and told with its seed. SHALE_SEED
// draws the same one again.
package faults

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// shale is the program.
var shale string

// modes are those in which it can be run here.
var modes []*ocitest.Mode

// all says that everything is to be run.
var all = os.Getenv("SHALE_FAULTS") == "all"

// seed draws the sample.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SHALE_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shale-faults-")
	if err == nil {
		defer os.RemoveAll(dir) // only the program
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var left []string
	modes, left = ocitest.PossibleModes(shale, "--version")
	for _, line := range left {
		fmt.Println(line)
	}
	if len(modes) == 0 {
		return 1
	}
	if !all {
		fmt.Printf("a sample of all faults, drawn with SHALE_SEED=%d; make faults runs all\n", seed)
	}
	return m.Run()
}

func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "github.com/shale-oci/shale/cmd/shale")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	shale = filepath.Join(dir, "shale")
	return nil
}

// sample returns the numbers from 1 to n, or some of them.
func sample(name string, n, some int) []int {
	rng := rand.New(rand.NewPCG(seed, uint64(len(name))+uint64(n)<<8))
	numbers := rng.Perm(n)
	if !all && n > some {
		numbers = numbers[:some]
	}
	for i := range numbers {
		numbers[i]++
	}
	slices.Sort(numbers)
	return numbers
}

// atLeastOnce runs fn, and fails the test with the text if fn, and the tests that it
// starts, never call the function that they get: then nothing has been shown.
func atLeastOnce(t *testing.T, text string, fn func(happened func())) {
	t.Helper()
	var happened atomic.Bool
	t.Cleanup(func() {
		if !happened.Load() && !t.Failed() && !t.Skipped() {
			t.Error(text)
		}
	})
	fn(func() { happened.Store(true) })
}

// pick returns the larger number if all is to be run.
func pick(some, whole int) int {
	if all {
		return whole
	}
	return some
}

// inTurn returns all modes, or for a sample one: another one for the next number, and
// with another seed, so that whatever is done for many numbers is done in each mode.
func inTurn(number int) []*ocitest.Mode {
	if all {
		return modes
	}
	n := len(modes)
	i := (number + int(seed%uint64(n))) % n
	return modes[i : i+1]
}

// inModes runs fn in all modes.
func inModes(t *testing.T, fn func(t *testing.T, m *ocitest.Mode)) {
	for _, m := range modes {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			fn(t, m)
		})
	}
}

// scratch returns a directory, in memory where there is one.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-faults-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { remove(t, dir) })
	return dir
}

// remove removes a tree in which there may be directories without permissions.
func remove(t testing.TB, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	must(t, os.RemoveAll(dir))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stage is a directory in which commands are run in a mode.
type stage struct {
	dir  string
	mode *ocitest.Mode
}

// empty returns a stage on which there is nothing.
func empty(t testing.TB, m *ocitest.Mode) stage {
	t.Helper()
	s := stage{scratch(t), m}
	s.give(t)
	return s
}

// place returns a stage with
//
//	layout   with the tags base, other and spare, garbage, and a stale temporary directory
//	bundle   of base, with changes
//	out      what split has made of base
//	site     a layout with the tag other
func place(t testing.TB, m *ocitest.Mode) stage {
	t.Helper()
	s := stage{scratch(t), m}
	s.fill(t)
	return s
}

// fill copies the template to the stage.
func (s stage) fill(t testing.TB) {
	t.Helper()
	from, err := template(s.mode)
	must(t, err)
	if out, err := exec.Command("cp", "-a", from+"/.", s.dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the template: %v: %s", err, out)
	}
}

// give makes whoever runs the commands the owner of what the test has made.
func (s stage) give(t testing.TB) {
	t.Helper()
	must(t, s.mode.Give(s.dir))
}

func (s stage) path(name string) string { return filepath.Join(s.dir, name) }

// command returns shale with the words of the line.
func (s stage) command(line string) *exec.Cmd {
	cmd := exec.Command(shale, s.args(line)...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.dir, s.environment(), s.mode.Attr()
	return cmd
}

func (s stage) args(line string) []string {
	words := strings.Fields(line)
	if s.mode.Rootless && (slices.Contains(words, "unpack") || words[0] == "pack") {
		words = append(words, "--rootless")
	}
	return words
}

func (s stage) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir, "SOURCE_DATE_EPOCH=1600000000"}
}

// attr returns what starts a process on the stage.
func (s stage) attr() *os.ProcAttr {
	return &os.ProcAttr{Dir: s.dir, Env: s.environment(), Sys: s.mode.Attr()}
}

// victim is a command that is disturbed, on a stage that place has made.
type victim struct {
	name string
	line string
	// target is the layout that it changes; makes is a directory that it makes, or
	// what it writes besides.
	target, makes string
	// adds is the tag that it adds to the target, and removes one that it removes.
	adds, removes string
}

// does reports whether one can see afterwards if the victim has done anything.
func (v victim) does() bool { return v.adds != "" || v.removes != "" || v.makes != "" }

// victims are the commands that write.
var victims = []victim{
	{name: "tag", line: "tag --image layout:base new", target: "layout", adds: "new"},
	{name: "rm", line: "rm --image layout:spare", target: "layout", removes: "spare"},
	{name: "new", line: "new --image layout:new", target: "layout", adds: "new"},
	{name: "config", line: "config --image layout:base --tag new --author me", target: "layout", adds: "new"},
	{name: "insert", line: "insert --image layout:base --tag new file /file", target: "layout", adds: "new"},
	{name: "repack", line: "repack --image layout:new bundle", target: "layout", adds: "new"},
	{name: "gc", line: "gc --layout layout", target: "layout"},
	{name: "split", line: "split --image layout:base --base layout:other made", target: "layout", makes: "made"},
	{name: "join", line: "join out --image site:new", target: "site", adds: "new"},
	{name: "copy", line: "copy layout:base site:new", target: "site", adds: "new"},
	{name: "squash", line: "squash --image layout:base --tag new", target: "layout", adds: "new"},
	{name: "rebase", line: "rebase --image layout:base --tag new --old-base layout:other --new-base layout:spare", target: "layout", adds: "new"},
	{name: "pack", line: "pack --image layout:new bundle/rootfs", target: "layout", adds: "new"},
	{name: "archive", line: "copy layout:base oci-archive:made", target: "layout", makes: "made"},
	{name: "export", line: "export --image layout:base made", target: "layout", makes: "made"},
	{name: "init", line: "init --layout made", target: "layout", makes: "made"},
	{name: "unpack", line: "unpack --image layout:base made", target: "layout", makes: "made"},
}

// templates are what template has made, by the name of the mode.
var templates sync.Map

// template returns the directory that the stages of a mode are copies of, made once.
func template(m *ocitest.Mode) (string, error) {
	once, _ := templates.LoadOrStore(m.Name, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp(filepath.Dir(shale), "template-")
		if err != nil {
			return "", err
		}
		return dir, stage{dir, m}.furnish()
	}))
	return once.(func() (string, error))()
}

// furnish makes what place tells of.
func (s stage) furnish() error {
	low := ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644))
	high := ocitest.Layer(ocitest.Dir("d", 0o755), ocitest.File("d/f", strings.Repeat("f", 300_000), 0o644), ocitest.Symlink("l", "d/f"), ocitest.Hardlink("d/h", "d/f"))
	for _, put := range []struct {
		where, tag string
		image      ocitest.Image
	}{
		{"layout", "base", ocitest.Image{Layers: [][]byte{low, high}}},
		{"layout", "other", ocitest.Image{Layers: [][]byte{low}}},
		{"layout", "spare", ocitest.Image{Layers: [][]byte{low}, Author: "spare"}},
		{"layout", "garbage", ocitest.Image{Layers: [][]byte{low, high, high}, Author: "nobody"}},
		{"site", "other", ocitest.Image{Layers: [][]byte{low}}},
	} {
		if _, err := ocitest.Put(s.path(put.where), put.tag, put.image); err != nil {
			return err
		}
	}
	if err := s.mode.Give(s.dir); err != nil {
		return err
	}
	for _, line := range []string{
		"rm --image layout:garbage", "unpack --image layout:base bundle",
		"split --image layout:base --base layout:other out",
	} {
		if out, err := s.command(line).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return errorsOf(
		os.WriteFile(s.path("bundle/rootfs/new"), []byte(strings.Repeat("new\n", 50_000)), 0o644),
		os.Remove(s.path("bundle/rootfs/etc/passwd")),
		os.WriteFile(s.path("file"), []byte("inserted\n"), 0o644),
		os.Mkdir(s.path("layout/.shale-stale"), 0o755),
		os.WriteFile(s.path("layout/.shale-stale/blob"), []byte("half a blob"), 0o600),
		s.mode.Give(s.dir),
	)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// trace runs the victim with a fault.
func (v victim) trace(t testing.TB, s stage, tr *tracer) *traced {
	t.Helper()
	got, err := tr.run(shale, s.args(v.line), s.attr())
	must(t, err)
	if strings.Contains(got.stderr, "goroutine ") {
		t.Errorf("%s: after %s: a crash\n%s", v.name, got.hit, got.stderr)
	}
	return got
}

// state is what a layout lists: digests by tag.
type state map[string]digest.Digest

func look(t testing.TB, path string) state {
	t.Helper()
	l, err := layout.Open(t.Context(), path, nil)
	must(t, err)
	defer l.Close()
	index, err := l.Index(t.Context())
	must(t, err)
	listed := state{}
	for _, d := range index.Manifests {
		listed[d.Annotations[ispec.AnnotationRefName]] = d.Digest
	}
	return listed
}

// committed reports whether the victim has done what it is for, and fails the test
// if it has done half of it.
func (v victim) committed(t testing.TB, s stage, after string) bool {
	t.Helper()
	path := s.path(v.target)
	ocitest.AssertWhole(t, path)
	now := look(t, path)
	_, added := now[v.adds]
	delete(now, v.adds)
	_, spared := now[v.removes]
	delete(now, v.removes)
	want := state{"other": now["other"]}
	if v.target == "layout" {
		want["base"], want["spare"] = now["base"], now["spare"]
	}
	delete(want, v.removes)
	for tag, d := range want {
		if d == "" || len(now) != len(want) {
			t.Errorf("%s: after %s: tag %s is %q of %v", v.name, after, tag, d, now)
		}
	}
	switch {
	case v.adds != "":
		return added
	case v.removes != "":
		return !spared
	}
	return v.made(t, s, after)
}

// made reports whether the directory that the victim makes is there, whole.
func (v victim) made(t testing.TB, s stage, after string) bool {
	t.Helper()
	path := s.path(v.makes)
	done := false
	switch v.name {
	case "init":
		if done = exists(path); done {
			ocitest.AssertWhole(t, path)
		}
	case "split":
		return exists(path) && v.arrives(t, s, after, "join made --image site:joined")
	case "archive":
		return exists(path) && v.arrives(t, s, after, "copy oci-archive:made site:joined")
	case "export":
		return exists(path) && v.arrives(t, s, after, "pack --image site:joined made")
	case "unpack":
		// The last thing that is written says that the bundle is whole.
		data, err := os.ReadFile(filepath.Join(path, "umoci.json"))
		if done = err == nil; done && !json.Valid(data) {
			t.Errorf("unpack: after %s: umoci.json holds %q", after, data)
		}
	}
	return done
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// arrives checks that what the victim has made is whole, by the command that makes of
// it what it was made of. It returns true.
func (v victim) arrives(t testing.TB, s stage, after, line string) bool {
	t.Helper()
	if out, err := s.command(line).CombinedOutput(); err != nil {
		t.Errorf("%s: after %s: %s: %v: %s", v.name, after, line, err, out)
		return true
	}
	got, want := look(t, s.path("site"))["joined"], look(t, s.path("layout"))["base"]
	if got != want && v.name != "export" { // which forgets the layers
		t.Errorf("%s: after %s: %s makes %s of it, not %s", v.name, after, line, got, want)
	}
	return true
}

// judge checks what must hold after a fault, whatever it was: that the victim has
// done all or nothing, that it can be run again, and that gc leaves no trace.
func (v victim) judge(t testing.TB, s stage, after string) {
	t.Helper()
	done := v.committed(t, s, after)
	if v.name == "unpack" && !done {
		v.again(t, s, after)
	}
	if v.makes != "" && done {
		remove(t, s.path(v.makes))
	}
	if out, err := s.command(v.line).CombinedOutput(); err != nil {
		t.Errorf("%s: after %s: the next run: %v: %s", v.name, after, err, out)
	}
	if v.does() {
		if !v.committed(t, s, after) {
			t.Errorf("%s: after %s: the next run did nothing", v.name, after)
		}
	}
	if out, err := s.command("gc --layout " + v.target).CombinedOutput(); err != nil {
		t.Errorf("%s: after %s: gc: %v: %s", v.name, after, err, out)
	}
	v.committed(t, s, after)
	v.tidy(t, s, after)
}

// again checks that what a killed unpack has left is told of, and removes it.
func (v victim) again(t testing.TB, s stage, after string) {
	t.Helper()
	path := s.path(v.makes)
	entries, err := os.ReadDir(path)
	if len(entries) > 0 {
		out, err := s.command(v.line).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "interrupted") {
			t.Errorf("unpack: after %s: the next run: %v: %s", after, err, out)
		}
	}
	if err == nil {
		remove(t, path)
	}
}

// tidy checks that there is nothing in the directory that does not belong there.
func (v victim) tidy(t testing.TB, s stage, after string) {
	t.Helper()
	for _, where := range []string{"", "layout", "site"} {
		if where != "" && v.target != where {
			continue // which had no gc
		}
		names, err := filepath.Glob(s.path(where + "/.*"))
		must(t, err)
		for _, name := range names {
			if v.name != "unpack" || where != "" {
				t.Errorf("%s: after %s: %s was left", v.name, after, name)
			}
		}
	}
}
