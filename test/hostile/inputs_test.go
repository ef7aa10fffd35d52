// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"crypto/sha256"
	_ "crypto/sha512" // go-digest uses what is linked in
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// input makes what a case begins with: the image called v in the layout, mostly.
type input func(w *world)

// all makes one input after the other.
func all(inputs ...input) input {
	return func(w *world) {
		for _, in := range inputs {
			in(w)
		}
	}
}

type (
	entry   = ocitest.Entry
	entries = []ocitest.Entry
)

// base is the lowest layer of most images.
var base = entries{
	ocitest.Dir("etc", 0o755),
	ocitest.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
	ocitest.Dir("d", 0o755),
	ocitest.File("d/f", "d/f of the base\n", 0o644),
	ocitest.File("f", "f of the base\n", 0o644),
}

// stack is an image of these layers. A refusal has to name the last of them.
func stack(layers ...entries) input {
	return func(w *world) { w.image(ocitest.Image{Layers: w.tars(layers), Compression: "none"}) }
}

// top is an image of the base layer and one of these entries.
func top(es ...entry) input { return stack(base, es) }

// configured is an image of the base layer and one more, with a config.
func configured(c ispec.ImageConfig, es ...entry) input {
	return func(w *world) {
		w.image(ocitest.Image{Layers: w.tars([]entries{base, es}), Compression: "none", Config: c})
		w.blame = nil
	}
}

// image writes the image called v.
func (w *world) image(img ocitest.Image) {
	w.Helper()
	edit := img.Edit
	img.Edit = func(config *ispec.Image, manifest *ispec.Manifest) {
		if edit != nil {
			edit(config, manifest)
		}
		w.blame = []string{manifest.Layers[len(manifest.Layers)-1].Digest.String()}
	}
	img.Write(w, w.layout, "v")
}

// tars writes layers in which @HOST stands for a real path.
func (w *world) tars(layers []entries) [][]byte {
	var tars [][]byte
	for _, es := range layers {
		expanded := make(entries, len(es))
		for i, e := range es {
			e.Header.Name, e.Header.Linkname = w.expand(e.Header.Name), w.expand(e.Header.Linkname)
			expanded[i] = e
		}
		tars = append(tars, ocitest.Layer(expanded...))
	}
	return tars
}

// blob is an image of one layer whose blob and media type are as given, and
// which is said to hold content.
func blob(mediaType string, blob, content []byte) input {
	return func(w *world) {
		w.image(ocitest.Image{
			Layers:      [][]byte{content},
			Compression: "none",
			Edit: func(_ *ispec.Image, manifest *ispec.Manifest) {
				manifest.Layers[0] = w.put(mediaType, blob)
			},
		})
	}
}

// byRoot is an input that takes a root to prepare, or to look at afterwards.
func byRoot(in input) input {
	return func(w *world) {
		if os.Geteuid() != 0 {
			w.Skip("the tests are not run by root")
		}
		in(w)
	}
}

// put writes a blob and returns its descriptor.
func (w *world) put(mediaType string, data []byte) ispec.Descriptor {
	w.Helper()
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	w.ok(os.MkdirAll(w.layout+"/blobs/sha256", 0o755))
	w.ok(os.WriteFile(w.blob(d.Digest), data, 0o644))
	return d
}

// blob returns the path of a blob.
func (w *world) blob(d digest.Digest) string {
	return filepath.Join(w.layout, "blobs", d.Algorithm().String(), d.Encoded())
}

// document is a JSON object as it is, with what no Go type would have.
type document = map[string]any

func (w *world) read(path string) document {
	w.Helper()
	data, err := os.ReadFile(path)
	w.ok(err)
	var doc document
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	w.ok(dec.Decode(&doc))
	return doc
}

func (w *world) index() document { return w.read(w.layout + "/index.json") }

func (w *world) writeIndex(doc document) {
	w.Helper()
	data, err := json.Marshal(doc)
	w.ok(err)
	w.ok(os.WriteFile(w.layout+"/index.json", data, 0o644))
}

// editIndex changes index.json.
func editIndex(edit func(w *world, index document)) input {
	return func(w *world) {
		index := w.index()
		edit(w, index)
		w.writeIndex(index)
	}
}

// editManifest changes the manifest of v, whose digest index.json gets.
func editManifest(edit func(w *world, manifest document)) input {
	return editIndex(func(w *world, index document) {
		w.editBlob(index["manifests"].([]any)[0].(document), edit)
	})
}

// editConfig changes the config of v, whose digest the manifest gets.
func editConfig(edit func(w *world, config document)) input {
	return editManifest(func(w *world, manifest document) {
		w.editBlob(manifest["config"].(document), edit)
	})
}

// editBlob changes the document that a descriptor describes, and the descriptor.
func (w *world) editBlob(descriptor document, edit func(w *world, doc document)) {
	w.Helper()
	old := w.blob(digest.Digest(descriptor["digest"].(string)))
	doc := w.read(old)
	edit(w, doc)
	data, err := json.Marshal(doc)
	w.ok(err)
	d := w.put(descriptor["mediaType"].(string), data)
	if w.blob(d.Digest) != old {
		w.ok(os.Remove(old))
	}
	descriptor["digest"], descriptor["size"] = d.Digest, d.Size
	w.blame = []string{d.Digest.String()}
}

// layer0 returns the descriptor of the lowest layer in a manifest.
func layer0(manifest document) document { return manifest["layers"].([]any)[0].(document) }

// set is an edit that sets one member of a document.
func set(name string, value any) func(*world, document) {
	return func(_ *world, doc document) { doc[name] = value }
}

// entry0 is an edit of an index that sets one member of its first descriptor.
func entry0(name string, value any) func(*world, document) {
	return func(_ *world, doc document) { doc["manifests"].([]any)[0].(document)[name] = value }
}

// good is an image with nothing wrong in it.
var good = all(stack(base, entries{ocitest.File("new", "new\n", 0o644)}), blameNothing)

func blameNothing(w *world) { w.blame = nil }

// unpacked is the bundle of what in makes, changed by edit.
func unpacked(in input, edit func(w *world)) input {
	return func(w *world) {
		in(w)
		w.blame = nil
		w.must(unpack)
		edit(w)
	}
}

// write makes a file in the unpacked tree.
func (w *world) write(name, content string) {
	w.Helper()
	w.ok(os.WriteFile(w.rootfs(name), []byte(content), 0o644))
}

// reading returns what a file holds, and what is wrong if it cannot be read.
func reading(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "nothing"
		}
		return err.Error()
	}
	if !info.Mode().IsRegular() {
		return fmt.Sprintf("something of mode %v", info.Mode())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// imageOf is image for one layer that is too large to hold in memory. It is
// compressed with gzip.
func (w *world) imageOf(write func(out io.Writer)) {
	w.Helper()
	w.image(ocitest.Image{
		Layers: [][]byte{ocitest.Layer()},
		Edit: func(config *ispec.Image, manifest *ispec.Manifest) {
			f, err := os.CreateTemp(w.layout+"/blobs/sha256", "large-")
			w.ok(err)
			blob, content := sha256.New(), sha256.New()
			z, err := gzip.NewWriterLevel(io.MultiWriter(f, blob), gzip.BestSpeed)
			w.ok(err)
			write(io.MultiWriter(z, content))
			w.ok(z.Close())
			info, err := f.Stat()
			w.ok(err)
			d := ispec.Descriptor{MediaType: gz, Digest: digest.NewDigest(digest.SHA256, blob), Size: info.Size()}
			w.ok(f.Close())
			w.ok(os.Rename(f.Name(), w.blob(d.Digest)))
			manifest.Layers[0] = d
			config.RootFS.DiffIDs[0] = digest.NewDigest(digest.SHA256, content)
		},
	})
}

// say writes data.
func (w *world) say(out io.Writer, data []byte) {
	w.Helper()
	_, err := out.Write(data)
	w.ok(err)
}

// fill writes n times the byte c.
func (w *world) fill(out io.Writer, c byte, n int) {
	w.Helper()
	buf := bytes.Repeat([]byte{c}, 1<<20)
	for ; n > 0; n -= len(buf) {
		w.say(out, buf[:min(n, len(buf))])
	}
}
