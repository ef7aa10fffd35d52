// SPDX-License-Identifier: Apache-2.0

package split

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// isulaSample makes what isula-build v0.9 writes for two apps on a lib on a base:
// the names, members and manifest are those of files that it has written, the layers'
// directories are not called by their chainIDs.
func isulaSample(t *testing.T, list bool) string {
	t.Helper()
	dir := t.TempDir()
	id := func(s string) string { return digest.FromString("id of " + s).Encoded() }
	plain := map[string][]byte{}
	for _, n := range []string{"sh", "x.so", "run", "run2"} {
		plain[n] = ocitest.Layer(ocitest.File(n, n, 0o755))
	}
	layerOf := func(n, parent string) []member {
		return []member{
			{tar.Header{Typeflag: tar.TypeDir, Name: id(n) + "/"}, nil},
			{tar.Header{Typeflag: tar.TypeReg, Name: id(n) + "/VERSION"}, []byte("1.0")},
			{tar.Header{Typeflag: tar.TypeReg, Name: id(n) + "/json"}, []byte(`{"id":"` + id(n) + `","parent":"` + parent + `"}`)},
			{tar.Header{Typeflag: tar.TypeReg, Name: id(n) + "/layer.tar"}, plain[n]},
		}
	}
	images := map[string]map[string]any{}
	base := archiveOf(t, dir, "app1_v1_base_image.tar.gz", layerOf("sh", ""))
	lib := archiveOf(t, dir, "app1_v1_lib_image.tar.gz", layerOf("x.so", id("sh")))
	for app, top := range map[string]string{"app1": "run", "app2": "run2"} {
		config, err := json.Marshal(ispec.Image{
			Platform: ispec.Platform{OS: "linux", Architecture: "amd64"},
			RootFS: ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{
				digest.FromBytes(plain["sh"]), digest.FromBytes(plain["x.so"]), digest.FromBytes(plain[top]),
			}},
		})
		must(t, err)
		name := digest.FromBytes(config).Encoded() + ".json"
		docker, err := json.Marshal([]dockerManifest{{
			Config: name, RepoTags: []string{"docker.io/library/" + app + ":v1"},
			Layers: []string{id("sh") + "/layer.tar", id("x.so") + "/layer.tar", id(top) + "/layer.tar"},
		}})
		must(t, err)
		members := append([]member{{tar.Header{Typeflag: tar.TypeReg, Name: name}, config}}, layerOf(top, id("x.so"))...)
		members = append(members,
			member{tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json"}, docker},
			member{tar.Header{Typeflag: tar.TypeReg, Name: "repositories"}, []byte("{}")})
		file := app + "_v1_app_image.tar.gz"
		img := map[string]any{
			"app": file, "appHash": archiveOf(t, dir, file, members), "appLayers": []string{id(top)},
			"lib": "app1_v1_lib_image.tar.gz", "libHash": lib, "libImageName": "docker.io/library/lib:v1", "libLayers": []string{id("x.so")},
			"base": "app1_v1_base_image.tar.gz", "baseHash": base, "baseImageName": "docker.io/library/base:v1", "baseLayer": id("sh"),
		}
		if list {
			img["baseLayer"] = []string{id("sh")}
		}
		images["docker.io/library/"+app+":v1"] = img
	}
	data, err := json.Marshal(images)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "manifest"), data, 0o644))
	return dir
}

type member struct {
	h    tar.Header
	body []byte
}

// archiveOf writes a compressed tar and returns its checksum.
func archiveOf(t testing.TB, dir, name string, members []member) string {
	t.Helper()
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	must(t, err)
	tw := tar.NewWriter(zw)
	for _, m := range members {
		m.h.Size, m.h.Mode = int64(len(m.body)), 0o444
		must(t, tw.WriteHeader(&m.h))
		_, err := tw.Write(m.body)
		must(t, err)
	}
	must(t, tw.Close())
	must(t, zw.Close())
	must(t, os.WriteFile(filepath.Join(dir, name), buf.Bytes(), 0o644))
	sum := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(sum[:])
}

func TestIsulaSample(t *testing.T) {
	for _, list := range []bool{false, true} {
		dir := isulaSample(t, list)
		to := newLayout(t)
		result, err := joinFrom(t.Context(), to, dir)
		must(t, err)
		if len(result.Images) != 2 {
			t.Errorf("got %+v", result)
		}
		for _, app := range []string{"app1", "app2"} {
			root := lookup(t, to, "docker.io/library/"+app+":v1")
			whole(t, to, root)
			want := map[string]string{"app1": "run", "app2": "run2"}[app]
			if names := treeNames(t, to, root); names != "sh x.so "+want && names != want+" sh x.so" {
				t.Errorf("%s: files %s", app, names)
			}
		}
		// One of them, under another name, is not possible: which one would it be?
		_, err = Join(t.Context(), newLayout(t), JoinOptions{From: dir, Ref: "other"})
		oneLine(t, err, "other")
		one := newLayout(t)
		_, err = Join(t.Context(), one, JoinOptions{From: dir, Ref: "docker.io/library/app2:v1"})
		must(t, err)
		if refs, _ := one.Refs(t.Context()); len(refs) != 1 {
			t.Errorf("refs: %v", refs)
		}
	}
}

// treeNames returns the names of all files of an image.
func treeNames(t *testing.T, l *layout.Layout, root ispec.Descriptor) string {
	t.Helper()
	m, err := l.Manifest(t.Context(), root)
	must(t, err)
	tree := layer.NewTree()
	for _, d := range m.Layers {
		r, err := l.OpenBlob(t.Context(), d)
		must(t, err)
		must(t, tree.Apply(t.Context(), r, layer.Discard, layer.ApplyOptions{}))
		must(t, r.Close())
	}
	var names []string
	for _, n := range tree.Root().Children() {
		names = append(names, n.Name())
	}
	return strings.Join(names, " ")
}

func TestIsulaRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "L")
	layers := [][]byte{tarOf("a"), tarOf("b"), tarOf("c"), tarOf("a"), tarOf("d")}
	for _, tc := range []struct{ base, lib int }{{1, 2}, {2, 3}, {1, -1}, {5, 5}, {0, 1}, {3, 4}} {
		write(t, dir, "base", ocitest.Image{Layers: layers[:tc.base]}, []string{"gzip", "zstd", "none", "gzip", "gzip"}[:tc.base]...)
		write(t, dir, "app", ocitest.Image{Layers: layers}, "gzip", "zstd", "none", "gzip9", "gzip")
		l := openLayout(t, dir)
		opt := Options{Images: []Image{{l, "app"}}, Tiers: []Tier{{"base", Image{l, "base"}}}, Format: FormatIsula}
		if tc.lib >= 0 {
			write(t, dir, "lib", ocitest.Image{Layers: layers[:tc.lib]})
			opt.Tiers = append(opt.Tiers, Tier{"lib", Image{l, "lib"}})
		}
		opt.Rename = map[string]string{"app_latest_app_image.tar.gz": "the app.tgz"}
		path := splitTo(t, opt)
		if !exists(filepath.Join(path, "the app.tgz")) {
			t.Errorf("files: %v", files(t, path))
		}
		to := newLayout(t)
		_, err := Join(t.Context(), to, JoinOptions{From: path, Ref: "back"})
		must(t, err)
		whole(t, to, lookup(t, to, "back"))
		want, err := l.Manifest(t.Context(), lookup(t, l, "app"))
		must(t, err)
		got, err := to.Manifest(t.Context(), lookup(t, to, "back"))
		must(t, err)
		if got.Config.Digest != want.Config.Digest || len(got.Layers) != len(layers) {
			t.Errorf("%+v: got %+v", tc, got)
		}
		if tc.base > 0 {
			skopeoReads(t, path)
		}
	}
}

// TestIsulaLimits: an image keeps to the limits where it is uncompressed, all of its layers
// together.
func TestIsulaLimits(t *testing.T) {
	const size = 1 << 20
	dir := filepath.Join(t.TempDir(), "L")
	layers := [][]byte{make([]byte, size), make([]byte, size+512), make([]byte, size+1024)}
	write(t, dir, "base", ocitest.Image{Layers: layers[:1]})
	write(t, dir, "app", ocitest.Image{Layers: layers}, "gzip", "zstd", "none")
	l := openLayout(t, dir)
	opt := Options{Images: []Image{{l, "app"}}, Tiers: []Tier{{"base", Image{l, "base"}}}, Format: FormatIsula}
	path := splitTo(t, opt)
	for limit, want := range map[int64]bool{3 * size: false, 3*size + 1536: true, layer.Unlimited: true} {
		opt.Limits = layer.Limits{Bytes: limit}
		_, err := Split(t.Context(), out(t), opt)
		var over *layer.LimitError
		if want != (err == nil) || !want && (!errors.As(err, &over) || over.Limit != limit) {
			t.Errorf("split with %d: %v", limit, err)
		}
	}
	// There is a little more in the files than layers.
	for limit, want := range map[int64]bool{3 * size: false, 3*size + 100_000: true, layer.Unlimited: true} {
		_, err := Join(t.Context(), newLayout(t), JoinOptions{From: path, Limits: layer.Limits{Bytes: limit}})
		var over *layer.LimitError
		if want != (err == nil) || !want && (!errors.As(err, &over) || over.Limit != limit || errors.Is(err, ErrDamaged)) {
			t.Errorf("join with %d: %v", limit, err)
		}
	}
}

// TestIsulaDocuments: documents that compress well do not fill the memory.
func TestIsulaDocuments(t *testing.T) {
	dir := isulaSample(t, false)
	var members []member
	doc := bytes.Repeat([]byte(" "), maxIsulaDocument)
	for i := range 17 {
		name := digest.FromString(string(rune('a'+i))).Encoded() + ".json"
		members = append(members, member{tar.Header{Typeflag: tar.TypeReg, Name: name}, doc})
	}
	sum := archiveOf(t, dir, "app1_v1_base_image.tar.gz", members)
	rewrite(t, dir, func(img map[string]any) { img["baseHash"] = sum })
	_, err := joinFrom(t.Context(), newLayout(t), dir)
	oneLine(t, err, "more than 134217728 bytes together")
}

// skopeoReads has skopeo read the archive that the files make together.
func skopeoReads(t *testing.T, path string) {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Log("skopeo is not installed")
		return
	}
	dir := t.TempDir()
	script := `mkdir x && for f in "$1"/*gz; do tar --extract --file="$f" --directory=x; done && tar --create --file=x.tar --directory=x . &&
		skopeo --insecure-policy copy --quiet docker-archive:x.tar dir:copied`
	cmd := exec.Command("sh", "-ec", script, "sh", path)
	cmd.Dir = dir
	if o, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("skopeo: %v: %s", err, o)
	}
}

func TestIsulaIsNotTrusted(t *testing.T) {
	id := strings.Repeat("a", 64)
	other := strings.Repeat("b", 64)
	reg := func(name, body string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name}, []byte(body)}
	}
	link := func(kind byte, name, target string) member {
		return member{tar.Header{Typeflag: kind, Name: name, Linkname: target}, nil}
	}
	for name, bad := range map[string]member{
		"leaves":            reg("../../x", "x"),
		"absolute":          reg("/etc/passwd", "x"),
		"unknown":           reg("some/file", "x"),
		"escape":            reg("\x1b[2J", "x"),
		"link out":          link(tar.TypeSymlink, other+"/layer.tar", "/etc/passwd"),
		"link up":           link(tar.TypeSymlink, other+"/layer.tar", "../../layer.tar"),
		"hard link out":     link(tar.TypeLink, other+"/layer.tar", "../etc/passwd"),
		"link as config":    link(tar.TypeSymlink, "manifest.json", "/etc/passwd"),
		"link as directory": link(tar.TypeSymlink, other, "/etc"),
		"device":            link(tar.TypeChar, other+"/layer.tar", ""),
		"FIFO":              link(tar.TypeFifo, other+"/json", ""),
		"twice":             reg(id+"/layer.tar", "x"),
		"huge document":     reg(strings.Repeat("c", 64)+".json", strings.Repeat(" ", maxIsulaDocument+1)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := isulaSample(t, false)
			hash := archiveOf(t, dir, "app1_v1_base_image.tar.gz", []member{reg(id+"/layer.tar", "y"), bad})
			rewrite(t, dir, func(img map[string]any) { img["baseHash"], img["baseLayer"] = hash, id })
			to := newLayout(t)
			_, err := joinFrom(t.Context(), to, dir)
			oneLine(t, err, "entry")
			if !errors.Is(err, ErrInvalid) || len(files(t, to.Path())) != 2 {
				t.Errorf("got %v, %v", err, files(t, to.Path()))
			}
		})
	}
	for name, change := range map[string]func(map[string]any){
		"path":        func(m map[string]any) { m["base"] = "../x" },
		"itself":      func(m map[string]any) { m["base"] = "manifest" },
		"no checksum": func(m map[string]any) { m["baseHash"] = "" },
		"bad ID":      func(m map[string]any) { m["baseLayer"] = "../" + id },
		"other ID":    func(m map[string]any) { m["baseLayer"] = other },
		"number":      func(m map[string]any) { m["baseLayer"] = 7 },
		"swapped":     func(m map[string]any) { m["base"], m["lib"] = m["lib"], m["base"] },
		"no base":     func(m map[string]any) { delete(m, "base") },
		"missing":     func(m map[string]any) { m["lib"] = "gone.tar.gz" },
		"order":       func(m map[string]any) { m["libLayers"], m["appLayers"] = m["appLayers"], m["libLayers"] },
		"few":         func(m map[string]any) { m["appLayers"] = []string{} },
	} {
		dir := isulaSample(t, false)
		rewrite(t, dir, change)
		to := newLayout(t)
		_, err := joinFrom(t.Context(), to, dir)
		oneLine(t, err)
		if len(files(t, to.Path())) != 2 {
			t.Errorf("%s: got %v, %v", name, err, files(t, to.Path()))
		}
	}
}

// rewrite changes all images in the manifest.
func rewrite(t *testing.T, dir string, change func(map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, "manifest")
	data, err := os.ReadFile(path)
	must(t, err)
	var images map[string]map[string]any
	must(t, json.Unmarshal(data, &images))
	for img := range maps.Values(images) {
		change(img)
	}
	data, err = json.Marshal(images)
	must(t, err)
	must(t, os.WriteFile(path, data, 0o644))
}

// TestIsulaLinkedLayer has a layer that is a link to another one, as docker save
// writes a layer that occurs twice.
func TestIsulaLinkedLayer(t *testing.T) {
	for _, kind := range []byte{tar.TypeSymlink, tar.TypeLink} {
		dir := t.TempDir()
		one, two := strings.Repeat("1", 64), strings.Repeat("2", 64)
		plain := tarOf("a")
		config, err := json.Marshal(ispec.Image{RootFS: ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain), digest.FromBytes(plain)}}})
		must(t, err)
		name := digest.FromBytes(config).Encoded() + ".json"
		docker, err := json.Marshal([]dockerManifest{{Config: name, Layers: []string{one + "/layer.tar", two + "/layer.tar"}}})
		must(t, err)
		target := "../" + one + "/layer.tar"
		if kind == tar.TypeLink {
			target = one + "/layer.tar"
		}
		img := isulaImage{Base: "b", App: "a", BaseLayer: isulaLayer{one}, AppLayers: []string{two}}
		img.BaseHash = archiveOf(t, dir, "b", []member{{tar.Header{Typeflag: tar.TypeReg, Name: one + "/layer.tar"}, plain}})
		img.AppHash = archiveOf(t, dir, "a", []member{
			{tar.Header{Typeflag: kind, Name: two + "/layer.tar", Linkname: target}, nil},
			{tar.Header{Typeflag: tar.TypeReg, Name: name}, config},
			{tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json"}, docker},
		})
		data, err := json.Marshal(map[string]isulaImage{"x:1": img})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "manifest"), data, 0o644))
		to := newLayout(t)
		_, err = joinFrom(t.Context(), to, dir)
		must(t, err)
		whole(t, to, lookup(t, to, "x:1"))
	}
}

func FuzzIsulaManifest(f *testing.F) {
	f.Add([]byte(`{"a":{"app":"a","appHash":"","appLayers":[],"base":"b","baseHash":"","baseLayer":"x"}}`))
	f.Add([]byte(`{"a":{"baseLayer":["x","y"]}}`))
	f.Add([]byte(`{"a":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var images map[string]isulaImage
		var err error
		ocitest.AssertPureAllocates(t, 1<<20+200*uint64(len(data)), func() { images, err = parseIsula(data) })
		if err != nil {
			oneLine(t, err)
			return
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "manifest"), data, 0o644))
		l, err := layout.Create(context.Background(), filepath.Join(dir, "to"))
		must(t, err)
		defer l.Close()
		_, err = joinFrom(context.Background(), l, dir)
		oneLine(t, err) // there are no files
		for _, img := range images {
			for _, p := range img.parts() {
				if filepath.Base(p.file) != p.file {
					t.Errorf("file %q", p.file)
				}
			}
		}
	})
}
