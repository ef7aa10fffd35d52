// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// diffLayout makes a layout called "l" with images to be compared and returns its parent
// directory.
func diffLayout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(ref string, image ocitest.Image) { image.Write(t, filepath.Join(dir, "l"), ref) }
	base := ocitest.Layer(
		ocitest.Dir("etc", 0o755), ocitest.File("etc/motd", "one\ntwo\n", 0o644), ocitest.File("etc/shadow", "x", 0o640).Owner(0, 42),
		ocitest.Symlink("link", "etc"), ocitest.Char("tty", 0o620, 5, 0), ocitest.File("time", "", 0o644), ocitest.File("gone", "12345", 0o600))
	write("old", ocitest.Image{Layers: [][]byte{base}, Config: ispec.ImageConfig{Env: []string{"A=1"}, Cmd: []string{"sh"}}})
	upper := ocitest.Layer(
		ocitest.File("etc/motd", "one\n\x1b[2Jt\twö\n", 0o644), ocitest.File("etc/shadow", "y", 0o640).Owner(1, 42).Xattr("user.a", "\x00\xff"),
		ocitest.Symlink("link", "/a b"), ocitest.Char("tty", 0o620, 5, 1), ocitest.File("time", "", 0o644).Mtime(ocitest.Epoch.Add(time.Second)),
		ocitest.Whiteout("gone"), ocitest.Hardlink("etc/\x1b\xff", "etc/motd"), ocitest.Symlink("new", "\xfe"))
	write("new", ocitest.Image{Layers: [][]byte{base, upper}, Config: ispec.ImageConfig{Env: []string{"A=\x1b"}, Labels: map[string]string{"l": "1, 2"}}})
	return dir
}

const diffText = `C env A: 1 -> "\x1b"
C cmd: [sh] -> <none>
C labels l: <none> -> "1, 2"
C history: 1 -> 2
A "/etc/\x1b\xff": file 0644 0:0 14B
M /etc/motd: size 8 -> 14, content, hardlinks
M /etc/shadow: uid 0 -> 1, content, xattrs user.a
D /gone: file 0600 0:0 5B
M /link: target etc -> /a b
A /new: symlink 0777 0:0 -> "\xfe"
M /tty: device 5:0 -> 5:1
2 added (14B), 1 deleted (5B), 4 changed (15B), 4 in the config, 1 in time alone (not listed without --times)
`

// diffJSON is what docs/diff-json.md describes.
const diffJSON = `{"schemaVersion":1,"old":{"name":"l:old","kind":"image","digest":"OLD","platform":"linux/amd64"},` +
	`"new":{"name":"l:new","kind":"image","digest":"NEW","platform":"linux/amd64"},` +
	`"summary":{"added":{"paths":2,"bytes":14},"deleted":{"paths":1,"bytes":5},"changed":{"paths":4,"bytes":15},"timeOnly":1},` +
	`"config":[{"field":"env","key":"A","old":"1","new":"\u001b"},{"field":"cmd","old":["sh"]},{"field":"labels","key":"l","new":"1, 2"},{"field":"history","old":1,"new":2}],` +
	`"entries":[` +
	`{"path":"/etc/\u001b\ufffd","pathBytes":"L2V0Yy8b/w==","kind":"added","new":{"type":"file","mode":"0644","uid":0,"gid":0,"size":14,"mtime":"2017-07-14T02:40:00Z","links":["/etc/\u001b\ufffd","/etc/motd"]}},` +
	`{"path":"/etc/motd","kind":"changed","fields":["size","content","hardlinks"],"old":{"type":"file","mode":"0644","uid":0,"gid":0,"size":8,"mtime":"2017-07-14T02:40:00Z"},"new":{"type":"file","mode":"0644","uid":0,"gid":0,"size":14,"mtime":"2017-07-14T02:40:00Z","links":["/etc/\u001b\ufffd","/etc/motd"]}},` +
	`{"path":"/etc/shadow","kind":"changed","fields":["uid","content","xattrs"],"old":{"type":"file","mode":"0640","uid":0,"gid":42,"size":1,"digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","mtime":"2017-07-14T02:40:00Z"},"new":{"type":"file","mode":"0640","uid":1,"gid":42,"size":1,"digest":"sha256:a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa","xattrs":{"user.a":"AP8="},"mtime":"2017-07-14T02:40:00Z"}},` +
	`{"path":"/gone","kind":"deleted","old":{"type":"file","mode":"0600","uid":0,"gid":0,"size":5,"mtime":"2017-07-14T02:40:00Z"}},` +
	`{"path":"/link","kind":"changed","fields":["target"],"old":{"type":"symlink","mode":"0777","uid":0,"gid":0,"size":0,"target":"etc","mtime":"2017-07-14T02:40:00Z"},"new":{"type":"symlink","mode":"0777","uid":0,"gid":0,"size":0,"target":"/a b","mtime":"2017-07-14T02:40:00Z"}},` +
	`{"path":"/new","kind":"added","new":{"type":"symlink","mode":"0777","uid":0,"gid":0,"size":0,"target":"\ufffd","targetBytes":"/g==","mtime":"2017-07-14T02:40:00Z"}},` +
	`{"path":"/tty","kind":"changed","fields":["device"],"old":{"type":"char","mode":"0620","uid":0,"gid":0,"size":0,"device":"5:0","mtime":"2017-07-14T02:40:00Z"},"new":{"type":"char","mode":"0620","uid":0,"gid":0,"size":0,"device":"5:1","mtime":"2017-07-14T02:40:00Z"}}` +
	"]}\n"

// TestDiffOutput prints the same images in all forms.
func TestDiffOutput(t *testing.T) {
	dir := diffLayout(t)
	var index ispec.Index
	data, err := os.ReadFile(filepath.Join(dir, "l", "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := strings.NewReplacer("OLD", index.Manifests[0].Digest.String(), "NEW", index.Manifests[1].Digest.String()).Replace(diffJSON)
	head, _, _ := strings.Cut(wantJSON, `"config"`)
	for args, want := range map[string]result{
		"l:old l:new":                                            {0, diffText, ""},
		"--exit-code l:old l:new":                                {1, diffText, ""},
		"--json l:old l:new":                                     {0, wantJSON, ""},
		"--format=json --exit-code l:old l:new":                  {1, wantJSON, ""},
		"--exit-code --include time l:old l:new --ignore config": {0, "1 in time alone (not listed without --times)\n", ""},
		"--times --include time l:old l:new --ignore config --exit-code": {1,
			"M /time: mtime 2017-07-14T02:40:00Z -> 2017-07-14T02:40:01Z\n1 in time alone\n", ""},
		"--content --include motd --ignore config,size,hardlinks l:old l:new": {0,
			"M /etc/motd: content\n--- /etc/motd\n+++ /etc/motd\n@@ -1,2 +1,2 @@\n one\n-two\n+\\x1b[2Jt\twö\n1 changed (14B)\n", ""},
		"l:old l:old":                 {0, "", ""},
		"--exit-code oci:l:old l:old": {0, "", ""},
		"--summary l:old l:new":       {0, `{"summary":[{"image1":"l:old","image2":"l:new","add_files":2,"add_sizes":15,"del_files":1,"del_sizes":5,"change_files":4,"change_sizes":19}]}` + "\n", ""},
		"--format luet l:old l:new --exclude '/e*'": {0, `[{"Image1":"l:old","Image2":"l:new","DiffType":"File","Diff":{"Adds":[{"Name":"/new","Size":1}],` +
			`"Dels":[{"Name":"/gone","Size":5}],"Mods":[{"Name":"/link","Size":4},{"Name":"/tty","Size":0}]}}]` + "\n", ""},
		"--json --include nothing --ignore config l:old l:new": {0, strings.NewReplacer(
			`"added":{"paths":2,"bytes":14},"deleted":{"paths":1,"bytes":5},"changed":{"paths":4,"bytes":15},"timeOnly":1`,
			`"added":{"paths":0,"bytes":0},"deleted":{"paths":0,"bytes":0},"changed":{"paths":0,"bytes":0},"timeOnly":0`,
		).Replace(head) + `"config":[],"entries":[]}` + "\n", ""},
	} {
		words := append([]string{"diff"}, strings.Fields(strings.ReplaceAll(args, "'", ""))...)
		if got := runShale(t, dir, words...); got != want {
			t.Errorf("%s: got %d\n%s%s\nwant %d\n%s", args, got.code, got.stdout, got.stderr, want.code, want.stdout)
		}
	}
}

// TestDiffOperands: what an argument names depends on what is there, unless it says so.
func TestDiffOperands(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"tree", "layout", "bundle", "both", "dir/oci", "a:b"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"layout/oci-layout", "both/oci-layout", "both/umoci.json", "bundle/umoci.json", "file"} {
		write(t, file, "{}")
	}
	check := func(arg, path string, image bool) {
		t.Helper()
		if p, is := diffOperand(arg); p != path || is != image {
			t.Errorf("%s: got %s, %t", arg, p, is)
		}
	}
	check("tree", "tree", false)
	check("./tree/", "./tree/", false)
	check("bundle", "bundle", false)
	check("both", "both", false)
	check("a:b", "a:b", false)
	check("layout", "layout", true)
	check("layout:tag", "layout:tag", true)
	check("file", "file", true)
	check("nowhere", "nowhere", true)
	check("oci:tree", "tree", true)
	check("oci:a:b", "a:b", true)
	check("dir:layout", "layout", false)
	check("dir:nowhere", "nowhere", false)
	check("dir/oci", "dir/oci", false)
	for _, name := range []string{"oci", "dir"} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, name+"/oci-layout", "{}")
		check(name+":tag", name+":tag", true) // of the layout that has this name
		check("./"+name+":tag", "./"+name+":tag", true)
	}
}

// TestDiffFullDisk: an answer that cannot be written is none.
func TestDiffFullDisk(t *testing.T) {
	dir := diffLayout(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no full disk: %v", err)
	}
	defer full.Close()
	for _, form := range []string{"--format=text", "--json", "--summary", "--format=luet"} {
		cmd := shaleCommand(t, dir, "diff", "--exit-code", form, "l:old", "l:new")
		cmd.Stdout = full
		if got := runCommand(t, cmd); got.code != exitDiffError || !strings.Contains(got.stderr, "write to standard output") {
			t.Errorf("%s: got %+v", form, got)
		}
	}
}
