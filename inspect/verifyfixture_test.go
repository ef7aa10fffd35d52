// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/test/ocitest"
)

// object is a JSON object.
type object = map[string]any

// patient is a layout to be damaged. In it are an image of three layers, app, and an
// index of two platforms, multi.
type patient struct {
	t   *testing.T
	dir string
}

// goodLayers is the layers of the image app: all that layers can have.
func goodLayers() [][]byte {
	return [][]byte{
		ocitest.Layer(
			ocitest.Dir("etc", 0o755),
			ocitest.File("etc/name", "base", 0o644),
			ocitest.Hardlink("etc/name2", "etc/name"),
			ocitest.Symlink("link", "etc"),
			ocitest.Fifo("fifo", 0o600),
			ocitest.File("gone", "x", 0o644),
		),
		ocitest.Layer(ocitest.Whiteout("gone"), ocitest.File("link/through", "y", 0o600)),
		ocitest.Layer(ocitest.Hardlink("again", "etc/name"), ocitest.Opaque("etc"), ocitest.File("etc/new", "z", 0o644)),
	}
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t, filepath.Join(t.TempDir(), "l")}
	ocitest.Image{Layers: goodLayers()}.Write(t, p.dir, "app")

	ocitest.Index{Nodes: []ocitest.Node{
		ocitest.Image{Layers: goodLayers()[:2]},
		ocitest.Image{Layers: goodLayers()[:1], Platform: arm64, Compression: "zstd"},
	}}.Write(t, p.dir, "multi")
	return p
}

func (p *patient) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) path(name string) string { return filepath.Join(p.dir, name) }

// blob returns the path of a blob.
func (p *patient) blob(d string) string {
	return filepath.Join(p.dir, "blobs", strings.Replace(d, ":", "/", 1))
}

func (p *patient) read(path string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(path)
	p.must(err)
	return data
}

func (p *patient) write(path string, data []byte) {
	p.t.Helper()
	p.must(os.WriteFile(path, data, 0o644))
}

// put adds a blob and returns its digest.
func (p *patient) put(data []byte) string {
	p.t.Helper()
	d := string(digest.FromBytes(data))
	p.write(p.blob(d), data)
	return d
}

func (p *patient) object(data []byte) object {
	p.t.Helper()
	var o object
	p.must(json.Unmarshal(data, &o))
	return o
}

func (p *patient) json(v any) []byte {
	p.t.Helper()
	data, err := json.Marshal(v)
	p.must(err)
	return data
}

// index changes index.json.
func (p *patient) index(change func(object)) {
	p.t.Helper()
	o := p.object(p.read(p.path("index.json")))
	change(o)
	p.write(p.path("index.json"), p.json(o))
}

func list(v any) []object {
	var out []object
	for _, e := range v.([]any) {
		out = append(out, e.(object))
	}
	return out
}

// entry changes the entry of index.json with the ref.
func (p *patient) entry(ref string, change func(object)) {
	p.t.Helper()
	p.index(func(index object) {
		for _, e := range list(index["manifests"]) {
			if e["annotations"].(object)[ispec.AnnotationRefName] == ref {
				change(e)
			}
		}
	})
}

// target returns the digest that a ref leads to.
func (p *patient) target(ref string) (d string) {
	p.entry(ref, func(e object) { d = e["digest"].(string) })
	return d
}

// document changes the bytes of the document that a ref leads to, and the entry with
// it.
func (p *patient) document(ref string, change func([]byte) []byte) {
	p.t.Helper()
	data := change(p.read(p.blob(p.target(ref))))
	d := p.put(data)
	p.entry(ref, func(e object) { e["digest"], e["size"] = d, len(data) })
}

// manifest changes the document that a ref leads to.
func (p *patient) manifest(ref string, change func(object)) {
	p.t.Helper()
	p.document(ref, func(data []byte) []byte {
		o := p.object(data)
		change(o)
		return p.json(o)
	})
}

// configBytes changes the config of the image app.
func (p *patient) configBytes(change func([]byte) []byte) {
	p.t.Helper()
	p.manifest("app", func(m object) {
		c := m["config"].(object)
		data := change(p.read(p.blob(c["digest"].(string))))
		c["digest"], c["size"] = p.put(data), len(data)
	})
}

func (p *patient) config(change func(object)) {
	p.t.Helper()
	p.configBytes(func(data []byte) []byte {
		o := p.object(data)
		change(o)
		return p.json(o)
	})
}

// layerDescriptor changes the descriptor of a layer of the image app.
func (p *patient) layerDescriptor(i int, change func(object)) {
	p.t.Helper()
	p.manifest("app", func(m object) { change(list(m["layers"])[i]) })
}

// layerBlob changes a layer as it is compressed, with a digest and size that are right.
func (p *patient) layerBlob(i int, change func([]byte) []byte) {
	p.t.Helper()
	p.layerDescriptor(i, func(d object) {
		data := change(p.read(p.blob(d["digest"].(string))))
		d["digest"], d["size"] = p.put(data), len(data)
	})
}

// layer replaces a layer, with everything right about it.
func (p *patient) layer(i int, tar []byte) {
	p.t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := z.Write(tar)
	p.must(err)
	p.must(z.Close())
	p.layerBlob(i, func([]byte) []byte { return buf.Bytes() })
	p.config(func(c object) { c["rootfs"].(object)["diff_ids"].([]any)[i] = string(digest.FromBytes(tar)) })
}

func (p *patient) layerDigest(i int) (d string) {
	p.t.Helper()
	return list(p.object(p.read(p.blob(p.target("app"))))["layers"])[i]["digest"].(string)
}

func (p *patient) configDigest() string {
	return p.object(p.read(p.blob(p.target("app"))))["config"].(object)["digest"].(string)
}

// flip changes one byte in the middle of a file.
func (p *patient) flip(path string) {
	p.t.Helper()
	data := p.read(path)
	data[len(data)/2] ^= 0x20
	p.write(path, data)
}

func (p *patient) verify(opt inspect.VerifyOptions) *inspect.VerifyReport {
	p.t.Helper()
	report, err := inspect.Verify(p.t.Context(), p.dir, opt)
	p.must(err)
	return report
}

// codes lists the codes of all findings that are no information, sorted, each once.
func codes(r *inspect.VerifyReport) string {
	var words []string
	for _, f := range r.Findings {
		if f.Severity != inspect.SeverityInfo {
			words = append(words, string(f.Code))
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " ")
}

// allCodes lists the codes of all findings.
func allCodes(r *inspect.VerifyReport) string {
	var words []string
	for _, f := range r.Findings {
		words = append(words, string(f.Code))
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " ")
}

// gunzip returns what a layer holds.
func (p *patient) gunzip(data []byte) []byte {
	p.t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	p.must(err)
	plain, err := io.ReadAll(z)
	p.must(err)
	return plain
}

var arm64 = ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
