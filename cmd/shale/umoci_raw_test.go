// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// umociRawSteps are for raw unpack and the errors of the other raw commands. Not among
// them is what shale does in its own way: raw unpack refuses a directory that is not
// empty, and raw runtime-config a --rootfs that does not exist.
const umociRawSteps = `
init --layout l
new --image l:one
raw add-layer --image l:one --compress none --history.created_by x layer.tar
insert --image l:one --compress none --history.created_by x src /srv
raw unpack --rootless --image l:one root
raw unpack root2 --rootless --keep-dirlinks --image l:one
raw unpack --image l:one
raw unpack --image l:one a b
raw unpack --image l:one <empty>
raw unpack --image l:nope a
raw unpack --image nope a
raw unpack a
raw unpack --image l:one --uid-map x a
raw runtime-config --image l:one
raw config --image l:one a b
raw config --image l:one <empty>
raw config --image l:nope a
raw runtime-config --image nope a
raw runtime-config a
raw config --image l:one --gid-map x a
raw config --image l:one no/such/dir
raw config --image l:one src
raw mtree-validate
raw mtree-validate -f layer.tar
raw mtree-validate -p root
raw mtree-validate -f= -p root
raw mtree-validate -f layer.tar -p=
raw mtree-validate -f nope -p root
raw mtree-validate -f layer.tar -p nope
raw mtree-validate --bogus
gc --layout l
`

// umociRootSteps are for root, since others get a user namespace that umoci has not.
const umociRootSteps = `
raw unpack --image l:one root3
raw unpack root4 --keep-dirlinks --uid-map 0:0 --gid-map 0:0 --image l:one
`

func TestRawLikeUmoci(t *testing.T) {
	steps := umociRawSteps
	if os.Geteuid() == 0 {
		steps += strings.TrimPrefix(umociRootSteps, "\n")
	}
	likeUmoci(t, steps)
}

// TestRawUnpackLikeUmoci compares all that there is to a tree.
func TestRawUnpackLikeUmoci(t *testing.T) {
	umoci := umociCommand(t)
	dir := t.TempDir()
	layers := [][]byte{
		ocitest.Layer(ocitest.Dir("a", 0o750), ocitest.File("a/f", "f", 0o640), ocitest.Symlink("l", "a"), ocitest.Fifo("p", 0o600)),
		ocitest.Layer(ocitest.Hardlink("h", "a/f"), ocitest.Whiteout("p"), ocitest.Dir("l", 0o700), ocitest.File("l/g", "g", 0o600)),
	}
	ocitest.Image{Layers: layers}.Write(t, filepath.Join(dir, "l"), "latest")
	for _, flags := range []string{"", "--keep-dirlinks", "--rootless", "--rootless --keep-dirlinks"} {
		if os.Geteuid() != 0 && !strings.Contains(flags, "rootless") {
			continue
		}
		args := slices.Concat([]string{"raw", "unpack", "--image", "l"}, strings.Fields(flags))
		name := strings.ReplaceAll(flags, " ", "")
		if got := runShale(t, dir, append(args, "ours"+name)...); got.code != 0 {
			t.Fatalf("%s: %+v", flags, got)
		}
		if got := runCommand(t, umoci(dir, append(args, "theirs"+name)...)); got.code != 0 {
			t.Fatalf("%s: umoci: %+v", flags, got)
		}
		ocitest.AssertSame(t, ocitest.Snapshot(t, filepath.Join(dir, "theirs"+name)), ocitest.Snapshot(t, filepath.Join(dir, "ours"+name)))
	}
}

// TestRuntimeConfigLikeUmoci compares config.json, apart from the version of the
// runtime-spec, and the name of the root filesystem where none is given.
func TestRuntimeConfigLikeUmoci(t *testing.T) {
	umoci := umociCommand(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\napp:x:7:8::/srv/app:/bin/sh\n",
		"group":  "root:x:0:\napp:x:8:\nextra:x:9:app\nmore:x:10:app\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "root", "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "root", "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := ocitest.Image{
		Author: "somebody",
		Config: ispec.ImageConfig{
			Env:          []string{"PATH=/bin", "A=1"},
			Entrypoint:   []string{"/bin/app"},
			Cmd:          []string{"-x"},
			WorkingDir:   "/srv",
			Volumes:      map[string]struct{}{"/data": {}},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
			Labels:       map[string]string{"l": "v"},
			StopSignal:   "SIGQUIT",
		},
	}
	for _, user := range []string{"", "app", "0", "7", "7:9", "app:extra", "4711", "1:2", "root"} {
		image.Config.User = user
		image.Write(t, filepath.Join(dir, "l"), "latest")
		for _, flags := range []string{"", "--rootfs root", "--rootless", "--rootless --rootfs ./root/", "--uid-map 0:1000:10 --gid-map 0:2000:10"} {
			args := slices.Concat([]string{"raw", "runtime-config", "--image", "l"}, strings.Fields(flags))
			got, want := runShale(t, dir, append(args, "ours.json")...), runCommand(t, umoci(dir, append(args, "theirs.json")...))
			if got.code != want.code || got.stdout != want.stdout {
				t.Errorf("%q %s: got %+v, want %+v", user, flags, got, want)
				continue
			}
			ours, theirs := readJSON(t, filepath.Join(dir, "ours.json")), readJSON(t, filepath.Join(dir, "theirs.json"))
			delete(ours, "ociVersion")
			delete(theirs, "ociVersion")
			if !strings.Contains(flags, "rootfs") {
				delete(ours, "root")
				delete(theirs, "root")
			}
			for key := range theirs {
				if !reflect.DeepEqual(ours[key], theirs[key]) {
					t.Errorf("%q %s: %s is\n%v\nwant\n%v", user, flags, key, ours[key], theirs[key])
				}
			}
			if len(ours) != len(theirs) {
				t.Errorf("%q %s: %d members, want %d", user, flags, len(ours), len(theirs))
			}
		}
	}
}

func readJSON(t *testing.T, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// TestMtreeValidateLikeUmoci compares lines, but not their order: umoci's is random.
// For the same reason no path differs in more than one of the keywords.
func TestMtreeValidateLikeUmoci(t *testing.T) {
	umoci := umociCommand(t)
	dir := t.TempDir()
	layer := ocitest.Layer(ocitest.Dir("a", 0o755), ocitest.File("a/f", "f", 0o644), ocitest.File("b c", "b", 0o644), ocitest.File("d", "d", 0o644))
	ocitest.Image{Layers: [][]byte{layer}}.Write(t, filepath.Join(dir, "l"), "latest")
	if got := runShale(t, dir, "unpack", "--rootless", "--image", "l", "bundle"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	manifests, err := filepath.Glob(filepath.Join(dir, "bundle", "*.mtree"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%v, %v", manifests, err)
	}
	compare := func(more ...string) {
		t.Helper()
		for _, flags := range append(more,
			"", "--rootless", "--umoci-keywords", "-k size,mode", "-k sha256", "-k type -K mode,size", "-k uid,gid",
			"-k=", "--use-keywords mode --umoci-keywords", "-k colour",
		) {
			args := slices.Concat([]string{"raw", "mtree-validate", "-f", manifests[0], "--path", "bundle/rootfs"}, strings.Fields(flags))
			got, want := runShale(t, dir, args...), runCommand(t, umoci(dir, args...))
			if got.code != want.code || sortedLines(got.stdout) != sortedLines(want.stdout) {
				t.Errorf("%s: got %+v, want %+v", flags, got, want)
			}
		}
	}
	compare("-K sha1", "-k sha1digest -K mode")
	rootfs := filepath.Join(dir, "bundle", "rootfs")
	if err := os.Chmod(filepath.Join(rootfs, "b c"), 0o600); err != nil {
		t.Fatal(err)
	}
	compare()
	for _, name := range []string{"n\new", "\xff"} {
		if err := os.WriteFile(filepath.Join(rootfs, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(rootfs, ocitest.Epoch, ocitest.Epoch); err != nil {
		t.Fatal(err)
	}
	compare()
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
