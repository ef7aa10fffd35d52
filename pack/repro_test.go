// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
)

// thing is one entry of a tree that is the same everywhere.
type thing struct {
	path, content string // a directory has no content, a link has its target
	mode          os.FileMode
}

// program is a tree as two machines would both have it, after a build or a checkout.
var program = func() []thing {
	var all []thing
	for _, dir := range []string{"bin", "etc", "lib", "lib/deep", "lib/deep/er", "share"} {
		all = append(all, thing{dir, "", os.ModeDir | 0o755})
		for n := range 8 {
			all = append(all, thing{dir + "/f" + string(rune('a'+n)), strings.Repeat(dir, 100*n), 0o644})
		}
	}
	return append(all, thing{"bin/tool", "#!", 0o755}, thing{"bin/link", "tool", os.ModeSymlink}, thing{"lib/ünïcode", "x", 0o600})
}()

// plant makes the tree in an order of its own, with directories of their own times.
func plant(t *testing.T, dir string, rng *rand.Rand, things []thing) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o777))
	must(t, os.Chmod(dir, 0o755))
	dirs := slices.DeleteFunc(slices.Clone(things), func(x thing) bool { return !x.mode.IsDir() })
	files := slices.DeleteFunc(slices.Clone(things), func(x thing) bool { return x.mode.IsDir() })
	rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for _, x := range dirs {
		must(t, os.Mkdir(filepath.Join(dir, x.path), 0o777))
		must(t, os.Chmod(filepath.Join(dir, x.path), x.mode.Perm()))
	}
	for _, x := range files {
		path := filepath.Join(dir, x.path)
		if x.mode&os.ModeSymlink != 0 {
			must(t, os.Symlink(x.content, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(x.content), 0o666))
		must(t, os.Chmod(path, x.mode.Perm()))
	}
	for _, x := range append(dirs, thing{path: "."}) {
		at := time.Unix(1_700_000_000+rng.Int64N(1e6), 0)
		must(t, os.Chtimes(filepath.Join(dir, x.path), at, at))
	}
}

// reproEnv tells a process that TestReproducible starts where to work and the seed.
const reproEnv = "SHALE_PACK_TEST_REPRO"

// TestReproducibleChild packs the program, in two snapshots, and prints the digest.
func TestReproducibleChild(t *testing.T) {
	root, seed, ok := strings.Cut(os.Getenv(reproEnv), " ")
	if !ok {
		t.Skip("this is for the processes that TestReproducible starts")
	}
	rng := rand.New(rand.NewPCG(uint64(len(seed)), 9))
	unix.Umask(int(rng.IntN(0o100)) &^ 0o700)
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	plant(t, a, rng, program)
	changed := slices.Clone(program)
	changed[3].content = "changed"
	changed = slices.Delete(changed, 5, 7)
	plant(t, b, rng, append(changed, thing{"share/new", "new", 0o640}))
	l, err := layout.Create(t.Context(), filepath.Join(root, "layout"))
	must(t, err)
	defer l.Close()
	clamp := int64(1_600_000_000)
	res, err := pack.Image(t.Context(), l, []pack.Snapshot{{Name: "a", Dir: a}, {Name: "b", Dir: b, Parent: "a"}}, pack.Options{
		Owner: &layer.Owner{}, Clamp: &clamp, Refs: []string{"v1"},
	})
	must(t, err)
	names := entriesOf(t, l, res)
	t.Logf("RESULT %s %s %s", res.Layers[0].Descriptor.Digest, res.Descriptor.Digest, strings.Join(names, ","))
}

// TestReproducible packs the same on machines that differ in all that must not matter.
func TestReproducible(t *testing.T) {
	type machine struct {
		env  []string
		user uint32
	}
	machines := []machine{
		{env: []string{"TZ=UTC", "LC_ALL=C"}},
		{env: []string{"TZ=Asia/Kathmandu", "LC_ALL=tr_TR.UTF-8", "LANG=de_DE.UTF-8"}},
		{env: []string{"TZ=America/St_Johns", "GOMAXPROCS=1"}},
		{env: []string{"GOMAXPROCS=7"}},
	}
	if os.Geteuid() == 0 {
		machines = append(machines, machine{user: 65534}, machine{user: 4711})
	} else {
		t.Log("only root can be two users")
	}
	var first string
	for i, m := range machines {
		root := tempRoot(t)
		must(t, os.Chmod(root, 0o777))
		binary := filepath.Join(root, "test") // the test's own may not be for others to run
		data, err := os.ReadFile(os.Args[0])
		must(t, err)
		must(t, os.WriteFile(binary, data, 0o755))
		cmd := exec.Command(binary, "-test.run=^TestReproducibleChild$", "-test.v")
		cmd.Dir = root
		cmd.Env = append(append(os.Environ(), "TMPDIR="+root, "HOME="+root), m.env...)
		cmd.Env = append(cmd.Env, reproEnv+"="+root+" "+strings.Repeat("x", i+1))
		if m.user != 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: m.user, Gid: m.user}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("machine %d: %v\n%s", i, err, out)
		}
		_, result, ok := strings.Cut(string(out), "RESULT ")
		result, _, _ = strings.Cut(result, "\n")
		if !ok {
			t.Fatalf("machine %d: %s", i, out)
		}
		if first == "" {
			first = result
		}
		if result != first {
			t.Errorf("machine %d: got  %s\nwant %s", i, result, first)
		}
	}
	// Directories whose times alone differ are not in the second layer.
	if _, names, _ := strings.Cut(first, " "); strings.Contains(names, "deep") {
		t.Errorf("there is too much in the layer: %s", names)
	}
}
