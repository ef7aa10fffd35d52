// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/test/ocitest"
)

// wantNothing checks that there is neither an error nor a warning.
func wantNothing(t *testing.T, dir string) *inspect.VerifyReport {
	t.Helper()
	r, err := inspect.Verify(t.Context(), dir, inspect.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors+r.Warnings > 0 || r.Images == 0 {
		t.Errorf("%s: %d images: %+v", dir, r.Images, r.Findings)
	}
	checkReport(t, r)
	return r
}

// TestVerifyFindsNothingInRandomImages: whatever layers there are, and however they are
// shared.
func TestVerifyFindsNothingInRandomImages(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 5))
		layers := ocitest.RandomStack(rng, 4, ocitest.StackOptions{}).Layers()
		dir := filepath.Join(t.TempDir(), "l")
		compression := []string{"gzip", "zstd", "none"}[seed%3]
		var nodes []ocitest.Node
		for n := range layers {
			nodes = append(nodes, ocitest.Image{Layers: layers[:n+1], Compression: compression, Docker: seed%2 == 1, Author: fmt.Sprint(n)})
		}
		ocitest.Index{Nodes: nodes, Docker: seed%2 == 1}.Write(t, dir, "all")
		ocitest.Image{Layers: layers[:1], Compression: "zstd"}.Write(t, dir, "other")
		r := wantNothing(t, dir)
		if entries, err := os.ReadDir(filepath.Join(dir, "blobs/sha256")); err != nil || r.Blobs != len(entries) {
			t.Errorf("%d of %d blobs", r.Blobs, len(entries))
		}
	}
}

// peer returns the path of another program, or skips the test where it is missing.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = filepath.Abs("../bin/peers/" + name); err == nil {
			_, err = os.Stat(path)
		}
	}
	if err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	return path
}

// tool runs another program in dir.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peer(t, name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func TestVerifyFindsNothingInUmocisLayouts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	umoci := func(args ...string) { tool(t, dir, "umoci", args...) }
	umoci("init", "--layout", "l")
	umoci("new", "--image", "l:a")
	wantNothing(t, filepath.Join(dir, "l"))
	umoci("insert", "--rootless", "--image", "l:a", "file", "/file")
	umoci("config", "--image", "l:a", "--tag", "b", "--config.label", "a=b")
	umoci("unpack", "--rootless", "--image", "l:b", "bundle")
	if err := os.WriteFile(filepath.Join(dir, "bundle/rootfs/new"), []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	umoci("repack", "--image", "l:c", "bundle")
	umoci("insert", "--rootless", "--whiteout", "--image", "l:c", "/file")
	wantNothing(t, filepath.Join(dir, "l"))
}

func TestVerifyFindsNothingInSkopeosLayouts(t *testing.T) {
	dir := t.TempDir()
	ocitest.Index{Nodes: []ocitest.Node{
		ocitest.Image{Layers: goodLayers()},
		ocitest.Image{Layers: goodLayers()[:1], Platform: arm64},
	}}.Write(t, filepath.Join(dir, "in"), "multi")
	skopeo := func(args ...string) { tool(t, dir, "skopeo", append([]string{"--insecure-policy"}, args...)...) }
	skopeo("copy", "--all", "oci:in:multi", "oci:out:multi")
	skopeo("copy", "--override-os", "linux", "--override-arch", "arm64", "oci:in:multi", "oci:out:arm")
	skopeo("copy", "--dest-compress-format", "zstd", "--override-arch", "amd64", "oci:in:multi", "oci:zstd:x")
	wantNothing(t, filepath.Join(dir, "out"))
	wantNothing(t, filepath.Join(dir, "zstd"))
}

func TestVerifyFindsNothingInCranesLayouts(t *testing.T) {
	dir := t.TempDir()
	for i, l := range goodLayers() {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.tar", i)), l, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	crane := func(args ...string) { tool(t, dir, "crane", args...) }
	crane("append", "--oci-empty-base", "-f", "0.tar", "-t", "example.com/x:1", "-o", "image.tar")
	image := serveRegistry(t, dir) + "/x:1"
	crane("push", "image.tar", image)
	crane("append", "-b", image, "-f", "1.tar", "-f", "2.tar", "-t", image)
	crane("mutate", image, "--set-platform", "linux/arm64", "-l", "a=b", "-t", image)
	crane("pull", "--format", "oci", "--annotate-ref", image, "l")
	wantNothing(t, filepath.Join(dir, "l"))
}

// serveRegistry lets crane serve a registry until the test is over, and returns where.
func serveRegistry(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peer(t, "crane"), "registry", "serve", "--address", "127.0.0.1:0")
	cmd.Dir = dir
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may be gone with the test's context
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, port, ok := strings.Cut(lines.Text(), "serving on port "); ok {
			go io.Copy(io.Discard, out) //nolint:errcheck // nobody reads it
			return "127.0.0.1:" + strings.TrimSpace(port)
		}
	}
	t.Fatal("crane serves no registry")
	return ""
}

func TestVerifyFindsNothingInBuildahsLayouts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can use buildah without a user namespace")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM scratch\nCOPY file /file\nENV A=1\nLABEL b=c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	buildah := func(args ...string) {
		tool(t, dir, "buildah", append([]string{"--storage-driver", "vfs", "--root", dir + "/storage", "--runroot", dir + "/run"}, args...)...)
	}
	buildah("build", "--isolation", "chroot", "--layers", "-t", "x", ".")
	buildah("push", "x", "oci:"+dir+"/l:x")
	wantNothing(t, filepath.Join(dir, "l"))
}

// FuzzVerify turns one byte of a layout into another, or cuts it off. That is noticed, and nothing
// worse happens.
func FuzzVerify(f *testing.F) {
	for i := range 40 {
		f.Add(uint8(i), uint32(i*37), byte(1<<(i%8)), i%5 == 0)
	}
	f.Fuzz(func(t *testing.T, file uint8, at uint32, flip byte, cut bool) {
		dir := filepath.Join(t.TempDir(), "l")
		ocitest.Index{Nodes: []ocitest.Node{ocitest.Image{Layers: goodLayers()}}}.Write(t, dir, "app")
		files := []string{"index.json", "oci-layout"}
		entries, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files = append(files, "blobs/sha256/"+e.Name())
		}
		name := filepath.Join(dir, files[int(file)%len(files)])
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		old := bytes.Clone(data)
		pos := int(at) % len(data)
		data[pos] ^= flip
		if cut {
			data = data[:pos]
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := inspect.Verify(t.Context(), dir, inspect.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, r)
		if blob := int(file)%len(files) >= 2; blob && r.Errors == 0 && !bytes.Equal(old, data) {
			t.Errorf("%s: byte %d is another, and nothing is found", quote.Name(name), pos)
		}
	})
}

// TestVerifyLimits: what is large when it is uncompressed is a finding, too.
func TestVerifyLimits(t *testing.T) {
	p := newPatient(t)
	for _, limits := range []layer.Limits{{Bytes: 2000}, {Entries: 3}} {
		if got := codes(p.verify(inspect.VerifyOptions{Limits: limits, Ref: "app"})); got != "too-large" {
			t.Errorf("%+v: %s", limits, got)
		}
	}
}
