// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAuthorInHistory tries what each command says about the author of a change, when
// it is told nothing, somebody, and nobody.
func TestAuthorInHistory(t *testing.T) {
	for _, tt := range []struct{ args, silent string }{
		{"config", "somebody"},
		{"insert new x", ""},
		{"raw add-layer layer.tar", "somebody"},
		{"repack bundle", "somebody"},
	} {
		dir := newLayout(t)
		write(t, filepath.Join(dir, "new"), "new")
		write(t, filepath.Join(dir, "layer.tar"), string(ocitest.Layer(ocitest.File("x", "x", 0o644))))
		must(t, dir, "unpack", "--rootless", "--image", "l", "bundle")
		write(t, filepath.Join(dir, "bundle", "rootfs", "x"), "x")
		for _, author := range []struct{ flag, want string }{
			{"", tt.silent}, {"--history.author=me", "me"}, {"--history.author=", ""},
		} {
			args := append([]string{}, strings.Fields(tt.args)[:1]...)
			if args[0] == "raw" {
				args = append(args, "add-layer")
			}
			args = append(args, "--image", "l")
			if author.flag != "" {
				args = append(args, author.flag)
			}
			args = append(args, strings.Fields(tt.args)[len(args)-2-len(strings.Fields(author.flag)):]...)
			must(t, dir, args...)
			h := open(t, dir, "latest", "").Config().History
			if got := h[len(h)-1]; got.Author != author.want || !strings.HasPrefix(got.CreatedBy, "shale "+args[0]) {
				t.Errorf("%q: got %+v, want the author %q", args, got, author.want)
			}
		}
	}
}

func TestInsert(t *testing.T) {
	dir := t.TempDir()
	base := ocitest.Layer(ocitest.Dir("d", 0o755), ocitest.File("d/old", "old", 0o644), ocitest.File("f", "f", 0o644))
	ocitest.Image{Layers: [][]byte{base}}.Write(t, filepath.Join(dir, "l"), "latest")
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "src", "new"), "new")
	for _, step := range []struct{ args, want string }{
		{"src /d", ". d d/new d/old f"},
		{"--opaque src d", ". d d/new f"},
		{"src/new deep/er/file", ". d d/new deep deep/er deep/er/file f"},
		{"--whiteout /f", ". d d/new deep deep/er deep/er/file"},
		{"--whiteout --opaque /deep", ". d d/new"},
	} {
		must(t, dir, append([]string{"insert", "--image", "l", "--rootless"}, strings.Fields(step.args)...)...)
		root := t.TempDir()
		must(t, dir, "raw", "unpack", "--rootless", "--image", "l", filepath.Join(root, "r"))
		var names []string
		for _, line := range ocitest.Snapshot(t, filepath.Join(root, "r")).Lines() {
			names = append(names, strings.Trim(strings.Fields(line)[0], `"`))
		}
		if got := strings.Join(names, " "); got != step.want {
			t.Errorf("%s: got %s, want %s", step.args, got, step.want)
		}
	}
	got := runShale(t, dir, "insert", "--image", "l", "--no-history", "--rootless", "src", "x")
	if got.code != 0 || !strings.Contains(got.stderr, "no history entry") {
		t.Errorf("got %+v", got)
	}
	for args, want := range map[string]string{
		"src":                  "expected <source> <target>, got 1",
		"src a b":              "expected <source> <target>, got 3",
		"--whiteout src a":     "expected <target>, got 2",
		"nope a":               "nope",
		"src/new /":            "the root can only be a directory",
		"--whiteout /":         "the root can only be a directory",
		"src .wh.a":            ".wh.a",
		"--compress lz4 src a": "invalid --compress: lz4",
		"--tag . src a":        "invalid --tag: . is not a valid tag",
	} {
		got := runShale(t, dir, append([]string{"insert", "--image", "l"}, strings.Fields(args)...)...)
		if got.code != exitError || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s: got %+v, want %q", args, got, want)
		}
	}
}

func TestRawUnpack(t *testing.T) {
	dir := t.TempDir()
	layer := ocitest.Layer(ocitest.File("f", "f", 0o644))
	ocitest.Image{Layers: [][]byte{layer}}.Write(t, filepath.Join(dir, "l"), "latest")
	must(t, dir, "raw", "unpack", "--rootless", "--image", "l", "far/down/root")
	if entries, err := os.ReadDir(filepath.Join(dir, "far/down/root")); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v", entries, err)
	}
	write(t, filepath.Join(dir, "far/down/root/f"), "mine")
	got := runShale(t, dir, "raw", "unpack", "--rootless", "--image", "l", "far/down/root")
	if got.code != exitError || !strings.Contains(got.stderr, "not empty") {
		t.Errorf("got %+v", got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "far/down/root/f")); err != nil || string(data) != "mine" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestRuntimeConfigFile(t *testing.T) {
	dir := t.TempDir()
	ocitest.Image{Config: ispec.ImageConfig{User: "app"}}.Write(t, filepath.Join(dir, "l"), "latest")
	config := func(args ...string) result {
		return runShale(t, dir, append([]string{"raw", "config", "--image", "l"}, args...)...)
	}
	got := config("new.json")
	if got.code != 0 || !strings.Contains(got.stderr, "warning: user app cannot be looked up without a root filesystem") {
		t.Errorf("got %+v", got)
	}
	want := readJSON(t, filepath.Join(dir, "new.json"))
	if root := want["root"].(map[string]any); root["path"] != "rootfs" {
		t.Errorf("the root is %v", root)
	}
	// An existing file keeps its mode, and a link to one stays a link.
	write(t, filepath.Join(dir, "old.json"), strings.Repeat("x", 1<<16))
	if err := os.Chmod(filepath.Join(dir, "old.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("old.json", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old.json", "link"} {
		if got := config(name); got.code != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		readJSON(t, filepath.Join(dir, name))
	}
	if info, err := os.Lstat(filepath.Join(dir, "old.json")); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "link")); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("got %v, %v", info, err)
	}
	if got := config("/dev/stdout"); got.code != 0 || !strings.HasPrefix(got.stdout, "{\n\t\"ociVersion\"") {
		t.Errorf("got %+v", got)
	}
	before := files(t, dir)
	for name, want := range map[string]string{"no/such": "no such file", "l": "is a directory", "/dev/full": "no space left"} {
		if got := config(name); got.code != exitError || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for rootfs, want := range map[string]string{"nope": "no such file", "new.json": "not a directory"} {
		if got := config("--rootfs", rootfs, "x.json"); got.code != exitError || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", rootfs, got)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := config("--rootfs", "empty", "x.json"); got.code != exitError || !strings.Contains(got.stderr, "user app") {
		t.Errorf("got %+v", got)
	}
	if err := os.Remove(filepath.Join(dir, "empty")); err != nil {
		t.Fatal(err)
	}
	if after := files(t, dir); after != before {
		t.Errorf("files were left:\n%s\nbefore:\n%s", after, before)
	}
}

func TestMtreeValidate(t *testing.T) {
	dir := t.TempDir()
	ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("f", "f", 0o644))}}.Write(t, filepath.Join(dir, "l"), "latest")
	must(t, dir, "unpack", "--rootless", "--image", "l", "bundle")
	manifests, err := filepath.Glob(filepath.Join(dir, "bundle", "*.mtree"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%v, %v", manifests, err)
	}
	if out := must(t, dir, "raw", "mtree-validate", "--file", manifests[0], "-p", "bundle/rootfs"); out != "" {
		t.Errorf("got %q", out)
	}
	if err := os.Chmod(filepath.Join(dir, "bundle", "rootfs", "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runShale(t, dir, "raw", "mtree-validate", "-f", manifests[0], "-p", "bundle/rootfs", "-k", "mode uid,gid")
	want := "shale raw mtree-validate: validation failed: 1 differences found\n"
	if got.code != exitError || got.stdout != `"f": keyword "mode": expected 0644; got 0600`+"\n" || got.stderr != want {
		t.Errorf("got %+v", got)
	}
	must(t, dir, "raw", "mtree-validate", "-f", manifests[0], "-p", "bundle/rootfs", "-k", "uid,gid")
	if strings.Contains(must(t, dir, "raw"), "mtree-validate") {
		t.Error("the command is not hidden")
	}
}
