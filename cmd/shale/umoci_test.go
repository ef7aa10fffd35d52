// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shale-oci/shale/test/ocitest"
)

// umociCommand returns what runs umoci in dir.
func umociCommand(t *testing.T) func(dir string, args ...string) *exec.Cmd {
	t.Helper()
	umoci := os.Getenv("SHALE_UMOCI")
	if umoci == "" {
		t.Skip("NOT COMPARED WITH UMOCI: set SHALE_UMOCI to the path of umoci 0.6.0")
	}
	return func(dir string, args ...string) *exec.Cmd {
		cmd := exec.Command(umoci, args...)
		cmd.Dir = dir
		return cmd
	}
}

// umociSteps are command lines that both are given one after the other, each in
// a directory of its own. A word in angle brackets is replaced: see there.
const umociSteps = `
init --layout l
init --layout l
init --layout ./l/
init
init --layout=
init --layout a:b
init --layout x y
init -layout deep/er
ls --layout l
list -layout=l
ls --layout nope
ls l
new --image l:one
new --image l
new --image l:one
new --image nope:one
new --image l:
new --image :x
new --image l:a..b
new --image l:-a
new --image l:a--b
new --image l:a/b@c+d
ls -layout l
tag --image l:one two
tag two --image l
tag --image l:one -- three
tag --image l:nope four
tag --image l:one
tag --image l:one a b
tag --image l:one <empty>
tag --image l:one a//b
tag --image l:one help
tag --image l:one h
tag --image=l:one --image l:two five
ls --layout l
rm --image l:five
rm --image l:five
remove -image l:nope
rm --image l:one extra
rm
ls --layout l
stat --image l:one
stat --image l:one --json
stat -json=true -image=l:one
stat --image l:one --json=maybe
stat --image l:five
stat --image l:one extra
raw add-layer --image l:one --compress none --history.created_by x layer.tar
raw add-layer layer.tar -image l:one -tag six -compress=none -history.created_by=x -history.author=me -history.comment=why
raw add-layer --image l:six --compress none --history.created 2020-02-29T01:02:03.4Z --history.created_by - layer.tar
raw add-layer --image l:six --compress none --no-history --tag seven layer.tar
raw add-layer --image l:six --compress none --no-history --history.author=me layer.tar
raw add-layer --image l:six --compress none --history.created yesterday layer.tar
raw add-layer --image l:six --compress lzma layer.tar
raw add-layer --image l:six --tag=. layer.tar
raw add-layer --image l:six --tag= layer.tar
raw add-layer --image l:six nope.tar
raw add-layer --image l:six l
raw add-layer --image l:nope layer.tar
raw add-layer --image l:six
ls --layout l
stat --image l:six
stat --image l:seven
stat --image l:six --json
rm --image l:seven
gc --layout l
gc
gc --layout l extra
gc --layout nope
unpack --image l:one
unpack --image l:one a b
unpack --image l:one <empty>
unpack --image l:nope bundle
unpack --image l:one --uid-map 0 bundle
unpack --image l:one --uid-map 0:x bundle
unpack --image l:one --gid-map 0:1:4294967296 bundle
unpack --image l:one --uid-map 0:0:1,1:1:1 bundle
repack --image l:one
repack --image l:one nope
repack --image l:one --no-history --history.comment=x nope
bogus
bogus --image x
--log=debug bogus
raw bogus
--bogus
stat --bogus
raw add-layer --bogus
stat --image
--log=loud ls --layout l
--log= ls --layout l
--log=info --verbose ls --layout l
--log=error ls --layout l
-log fatal ls --layout l
-verbose ls --layout l
help bogus
raw help bogus
`

// TestLikeUmoci checks that shale exits as umoci does, prints the same on
// standard output, and leaves the same files with the same content.
func TestLikeUmoci(t *testing.T) { likeUmoci(t, umociSteps) }

// likeUmoci gives both the command lines in steps. In each of the two directories
// there are a layer, layer.tar, and a tree, src.
func likeUmoci(t *testing.T, steps string) {
	t.Helper()
	umoci := umociCommand(t)
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	ours, theirs := t.TempDir(), t.TempDir()
	for _, dir := range []string{ours, theirs} {
		layer := ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/hostname", "here\n", 0o644))
		for name, content := range map[string]string{
			"layer.tar": string(layer), "src/file": "file", "src/dir/tool": "tool", "src/dir/.hidden": "", "wh/.wh.x": "",
		} {
			name = filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("file", filepath.Join(dir, "src/link")); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(steps), "\n") {
		env, args := os.Environ(), strings.Fields(line)
		for i, arg := range args {
			args[i] = strings.NewReplacer("<empty>", "", "<space>", " ").Replace(arg)
		}
		if name, _, ok := strings.Cut(args[0], "="); ok && !strings.HasPrefix(name, "-") {
			env, args = append(env, args[0]), args[1:]
		}
		us, them := shaleCommand(t, ours, args...), umoci(theirs, args...)
		us.Env, them.Env = append(env, us.Env[len(os.Environ()):]...), env
		got, want := runCommand(t, us), runCommand(t, them)
		if got.code != want.code {
			t.Errorf("%s: exit code %d (%q), want %d (%q)", line, got.code, got.stderr, want.code, want.stderr)
		}
		// A wrong flag prints the usage, which differs.
		if !strings.Contains(want.stdout, "USAGE:") && got.stdout != want.stdout {
			t.Errorf("%s: got\n%s\nwant\n%s", line, got.stdout, want.stdout)
		}
		compareDirs(t, line, ours, theirs)
		if t.Failed() {
			return // what follows builds on this
		}
	}
}

// compareDirs compares the names and the content of files.
func compareDirs(t *testing.T, after, ours, theirs string) {
	t.Helper()
	got, want := contents(t, ours), contents(t, theirs)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch content, ok := got[name]; {
		case !ok:
			t.Errorf("after %s: there is no %s", after, name)
		case !bytes.Equal(content, want[name]):
			t.Errorf("after %s: %s is\n%s\nwant\n%s", after, name, content, want[name])
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("after %s: there is a %s", after, name)
	}
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path+"/"] = nil
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(filepath.Join(dir, path))
			out[path+"@"] = []byte(target)
			return err
		}
		out[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
