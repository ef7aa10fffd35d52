// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// multiLayout makes a layout "l" whose tag "latest" is that of an index with images
// for four platforms, two of them in an index within, and returns its parent.
func multiLayout(t *testing.T) string {
	t.Helper()
	image := func(arch string) ocitest.Image {
		return ocitest.Image{
			Layers:   [][]byte{ocitest.Layer(ocitest.File("arch", arch, 0o644))},
			Platform: ispec.Platform{OS: "linux", Architecture: arch},
			Author:   "author of " + arch,
		}
	}
	dir := t.TempDir()
	ocitest.Index{
		Nodes: []ocitest.Node{
			image("amd64"), image("arm64"),
			ocitest.Index{Nodes: []ocitest.Node{image("riscv64"), image("s390x")}},
		},
		Annotations: map[string]string{"of": "multi"},
	}.Write(t, filepath.Join(dir, "l"), "latest")
	return dir
}

var allPlatforms = []string{"linux/amd64", "linux/arm64", "linux/riscv64", "linux/s390x"}

// images returns the digests of what a tag leads to, by platform.
func images(t *testing.T, dir, ref string) map[string]string {
	t.Helper()
	var s inspect.IndexStat
	if err := json.Unmarshal([]byte(must(t, dir, "stat", "--json", "--image", "l:"+ref)), &s); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range s.Platforms {
		out[layout.PlatformString(p.Platform)] = p.Descriptor.Digest.String()
	}
	return out
}

// changed lists the platforms whose images differ.
func changed(before, after map[string]string) string {
	var list []string
	for _, p := range allPlatforms {
		if before[p] != after[p] {
			list = append(list, strings.TrimPrefix(p, "linux/"))
		}
	}
	return strings.Join(list, " ")
}

// TestChangesOfOnePlatform checks that every command which changes an image changes
// the one that is meant, in place, and no other.
func TestChangesOfOnePlatform(t *testing.T) {
	for _, platform := range allPlatforms {
		arch := strings.TrimPrefix(platform, "linux/")
		for name, args := range map[string][]string{
			"config":    {"config", "--config.user", "x"},
			"insert":    {"insert", "new", "/new"},
			"add-layer": {"raw", "add-layer", "layer.tar"},
			"repack":    {"repack", "bundle"},
			"annotate":  {"config", "--no-history", "--manifest.annotation", "a=b"},
		} {
			t.Run(arch+" "+name, func(t *testing.T) {
				dir := multiLayout(t)
				if name == "repack" {
					must(t, dir, "unpack", "--rootless", "--image", "l", "--platform", platform, "bundle")
				}
				for file, data := range map[string]string{
					"new": "new", "bundle/rootfs/new": "new", "layer.tar": string(ocitest.Layer(ocitest.File("new", "new", 0o644))),
				} {
					if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o644); err != nil && name == "repack" {
						t.Fatal(err)
					}
				}
				before := images(t, dir, "latest")
				for _, tag := range []string{"other", "latest"} {
					call := slices.Concat(args, []string{"--image", "l", "--platform", platform})
					switch {
					case name == "repack":
						call[slices.Index(call, "l")] = "l:" + tag
					case tag == "other":
						call = append(call, "--tag", tag)
					}
					must(t, dir, call...)
					after := images(t, dir, tag)
					if got := changed(before, after); got != arch {
						t.Errorf("%s: changed %q, want %q", tag, got, arch)
					}
					if tag == "other" && changed(before, images(t, dir, "latest")) != "" {
						t.Error("the old tag has changed too")
					}
				}
				if got := open(t, dir, "latest", platform); name != "annotate" {
					history := got.Config().History
					if h := history[len(history)-1]; name != "insert" && h.Author != "author of "+arch || name == "insert" && h.Author != "" {
						t.Errorf("the author in the history is %q", h.Author)
					}
				}
				if out := must(t, dir, "stat", "--image", "l"); !strings.Contains(out, "of: multi\n") {
					t.Errorf("the index is\n%s", out)
				}
			})
		}
	}
}

func TestAllPlatforms(t *testing.T) {
	dir := multiLayout(t)
	before := images(t, dir, "latest")
	must(t, dir, "config", "--image", "l", "--all-platforms", "--config.user", "x", "--index.annotation", "a=b")
	after := images(t, dir, "latest")
	if got := changed(before, after); got != "amd64 arm64 riscv64 s390x" {
		t.Errorf("changed %q", got)
	}
	for _, p := range allPlatforms {
		i := open(t, dir, "latest", p)
		h := i.Config().History
		if i.Settings().Config.User != "x" || i.DescriptorAnnotations()["a"] != "b" ||
			h[len(h)-1].Author != "author of "+strings.TrimPrefix(p, "linux/") {
			t.Errorf("%s: %+v, %v, %+v", p, i.Settings(), i.DescriptorAnnotations(), h)
		}
	}
	// All that is left over is the old documents: four configs and manifests, and two
	// indexes.
	if got := strings.Count(must(t, dir, "gc", "--dry-run", "--layout", "l"), "sha256:"); got != 10 {
		t.Errorf("%d blobs are garbage, want 10", got)
	}
	// A single image is all there is.
	must(t, dir, "tag", "--image", "l", "--platform", "linux/arm64", "one")
	must(t, dir, "config", "--image", "l:one", "--all-platforms", "--config.user", "y")
	if got := open(t, dir, "one", "").Settings().Config.User; got != "y" {
		t.Errorf("the user is %q", got)
	}
	if got := open(t, dir, "latest", "linux/arm64").Settings().Config.User; got != "x" {
		t.Errorf("the user in the index is %q", got)
	}
	ocitest.Index{}.Write(t, filepath.Join(dir, "l"), "empty")
	if got := runShale(t, dir, "config", "--image", "l:empty", "--all-platforms"); got.code != exitError || !strings.Contains(got.stderr, "no image") {
		t.Errorf("got %+v", got)
	}
}

// TestReadingOnePlatform checks that commands which read an image read the one that is
// meant.
func TestReadingOnePlatform(t *testing.T) {
	dir := multiLayout(t)
	for _, platform := range allPlatforms {
		arch := strings.TrimPrefix(platform, "linux/")
		for _, args := range []string{"unpack --rootless", "raw unpack --rootless"} {
			to := strings.ReplaceAll(arch+args, " ", "")
			must(t, dir, append(strings.Fields(args), "--image", "l", "--platform", platform, to)...)
			sub := map[bool]string{true: "rootfs"}[strings.HasPrefix(args, "unpack")]
			data, err := os.ReadFile(filepath.Join(dir, to, sub, "arch"))
			if err != nil || string(data) != arch {
				t.Errorf("%s: %q, %v", args, data, err)
			}
		}
		must(t, dir, "raw", "runtime-config", "--image", "l", "--platform", platform, "config.json")
		annotations := readJSON(t, filepath.Join(dir, "config.json"))["annotations"].(map[string]any)
		if got := annotations["org.opencontainers.image.architecture"]; got != arch {
			t.Errorf("runtime-config: %v, want %s", got, arch)
		}
		if out := must(t, dir, "stat", "--image", "l", "--platform", platform); !strings.Contains(out, "Author: \"author of "+arch+`"`) {
			t.Errorf("stat: %s", out)
		}
	}
	for _, args := range []string{"unpack --rootless b", "raw unpack --rootless b", "stat", "config", "raw config c", "insert l x", "tag x"} {
		got := runShale(t, dir, append(strings.Fields(args), "--image", "l", "--platform", "linux/mips")...)
		if args == "config" {
			got = runShale(t, dir, "config", "--image", "l", "--platform", "linux/mips")
		}
		if got.code != exitError || !strings.Contains(got.stderr, "no image for linux/mips, only for linux/amd64, linux/arm64") {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestRepackOfAnotherPlatform(t *testing.T) {
	dir := multiLayout(t)
	must(t, dir, "unpack", "--rootless", "--image", "l", "--platform", "linux/arm64", "bundle")
	before := files(t, filepath.Join(dir, "l"))
	got := runShale(t, dir, "repack", "--image", "l", "--platform", "linux/amd64", "--history.comment", "x", "bundle")
	if got.code != exitError || !strings.Contains(got.stderr, "the bundle is of an image for linux/arm64, not for linux/amd64") {
		t.Errorf("got %+v", got)
	}
	if after := files(t, filepath.Join(dir, "l")); after != before {
		t.Errorf("files were left:\n%s\nbefore:\n%s", after, before)
	}
}

func TestTagAndRemoveOnePlatform(t *testing.T) {
	dir := multiLayout(t)
	all := images(t, dir, "latest")
	must(t, dir, "tag", "--image", "l", "copy")
	if got := changed(all, images(t, dir, "copy")); got != "" {
		t.Errorf("the copy differs in %s", got)
	}
	must(t, dir, "tag", "--image", "l", "--platform", "linux/riscv64", "one")
	if out := must(t, dir, "stat", "--image", "l:one"); !strings.Contains(out, all["linux/riscv64"]) || !strings.Contains(out, "== MANIFEST ==") {
		t.Errorf("got %s", out)
	}
	for _, step := range []struct{ remove, gone string }{
		{"linux/mips", ""},
		{"linux/arm", ""}, // an arm64 is none
		{"linux/arm64/v8", "arm64"},
		{"linux/arm64", "arm64"},
		{"linux/riscv64", "arm64 riscv64"},
		{"linux/s390x", "arm64 riscv64 s390x"},
	} {
		must(t, dir, "rm", "--image", "l", "--platform", step.remove)
		// A single entry is shown as an image.
		left := map[string]string{"linux/amd64": all["linux/amd64"]}
		if step.remove != "linux/s390x" {
			left = images(t, dir, "latest")
		}
		if got := changed(all, left); got != step.gone {
			t.Errorf("without %s there is no %s, want no %s", step.remove, got, step.gone)
		}
	}
	if out := must(t, dir, "stat", "--image", "l"); !strings.Contains(out, all["linux/amd64"]) || !strings.Contains(out, "== MANIFEST ==") {
		t.Errorf("got %s", out)
	}
	must(t, dir, "rm", "--image", "l:one", "--platform", "linux/amd64")
	must(t, dir, "rm", "--image", "l", "--platform", "linux/amd64")
	must(t, dir, "rm", "--image", "l", "--platform", "linux/amd64")
	if got := must(t, dir, "ls", "--layout", "l"); got != "copy\none\n" {
		t.Errorf("the tags are %q", got)
	}
	must(t, dir, "rm", "--image", "l:one", "--platform", "linux/riscv64")
	must(t, dir, "gc", "--layout", "l")
	if got := changed(all, images(t, dir, "copy")); got != "" {
		t.Errorf("the copy differs in %s", got)
	}
	// What is broken is not the same as not there.
	if err := os.Remove(filepath.Join(dir, "l", "blobs", "sha256", rootOf(t, dir, "copy"))); err != nil {
		t.Fatal(err)
	}
	if got := runShale(t, dir, "rm", "--image", "l:copy", "--platform", "linux/amd64"); got.code != exitError {
		t.Errorf("got %+v", got)
	}
}

// rootOf returns the hex digits of what a tag leads to.
func rootOf(t *testing.T, dir, ref string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "l", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if d.Annotations[ispec.AnnotationRefName] == ref {
			return d.Digest.Encoded()
		}
	}
	t.Fatalf("there is no tag %s", ref)
	return ""
}

func TestNewForPlatform(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "init", "--layout", "l")
	must(t, dir, "new", "--image", "l", "--platform", "linux/armhf")
	if got := layout.PlatformString(open(t, dir, "latest", "").Settings().Platform); got != "linux/arm/v7" {
		t.Errorf("got %s", got)
	}
}

func TestStatOfIndex(t *testing.T) {
	dir := multiLayout(t)
	out := must(t, dir, "stat", "--image", "l")
	all := images(t, dir, "latest")
	_, table, ok := strings.Cut(out, "\n== PLATFORMS ==\n")
	if !ok || !strings.HasPrefix(out, "== INDEX ==\nSchema Version: 2\nMedia Type: application/vnd.oci.image.index.v1+json\nManifests:\n\tDescriptor:\n") {
		t.Fatalf("got\n%s", out)
	}
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if len(lines) != 5 || strings.Join(strings.Fields(lines[0]), " ") != "PLATFORM MANIFEST LAYERS SIZE" {
		t.Fatalf("got\n%s", table)
	}
	for n, p := range allPlatforms {
		fields := strings.Fields(lines[n+1])
		if len(fields) != 4 || fields[0] != p || fields[1] != all[p] || fields[2] != "1" || !strings.HasSuffix(fields[3], "B") {
			t.Errorf("the line of %s is %q", p, lines[n+1])
		}
	}
	if got := must(t, dir, "stat", "--json", "--image", "l"); strings.Count(got, "\n") != 1 {
		t.Errorf("the JSON is not one line: %q", got)
	}
	// umoci shows the image where there is only one.
	one := ocitest.Image{Author: "the one"}
	ocitest.Index{Nodes: []ocitest.Node{one}}.Write(t, filepath.Join(dir, "l"), "single")
	if out := must(t, dir, "stat", "--image", "l:single"); !strings.Contains(out, "== MANIFEST ==") || !strings.Contains(out, `Author: "the one"`) {
		t.Errorf("got\n%s", out)
	}
	ocitest.Index{}.Write(t, filepath.Join(dir, "l"), "none")
	if out := must(t, dir, "stat", "--image", "l:none"); !strings.HasSuffix(out, "LAYERS SIZE\n") {
		t.Errorf("got\n%s", out)
	}
	// Names of foreign origin are never printed as they are.
	hostile := ocitest.Image{Platform: ispec.Platform{OS: "linux\x1b[31m", Architecture: "a\nb"}}
	ocitest.Index{Nodes: []ocitest.Node{hostile, one}, Annotations: map[string]string{"\x1b[2J": "\x07"}}.Write(t, filepath.Join(dir, "l"), "hostile")
	for _, flag := range []string{"--json=false", "--json"} {
		if out := must(t, dir, "stat", "--image", "l:hostile", flag); bytes.ContainsAny([]byte(out), "\x1b\x07") || strings.Contains(out, "a\nb") {
			t.Errorf("got %q", out)
		}
	}
}
