// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	oci "github.com/shale-oci/shale/test/ocitest"
)

// H. Descriptors.
var descriptors = []hostileCase{
	{"H1.manifest", "one flipped byte in the manifest", all(good, flip(aManifest, 50)), do(unpack, stat, gc, addLayer), refused("digest")},
	{"H1.config", "one flipped byte in the config", all(good, flip(aConfig, 50)), do(unpack, stat), refused("digest")},
	{"H1.layer", "one flipped byte in the middle of the lowest layer", all(good, flip(aLayer, 50)), do(unpack), refused("digest")},
	{"H1.top", "one flipped byte in the topmost layer", all(good, flip(topLayer, 50)), do(unpack), refused("digest")},
	{"H1.magic", "one flipped bit in the magic number of a layer", all(zipped, flip(aLayer, 0)), do(unpack), refused("wrong digest")},
	{"H1.last", "one flipped bit in the last byte of a layer", all(zipped, flip(aLayer, 99)), do(unpack), refused("wrong digest")},
	{"H2.index.less", "the manifest's size is one less", all(good, editIndex(grow(-1)), blameManifest), do(unpack, stat, gc), refused("size")},
	{"H2.index.more", "the manifest's size is one more", all(good, editIndex(grow(1)), blameManifest), do(unpack, stat, gc), refused("size")},
	{"H2.config.less", "the config's size is one less", resize(aConfig, -1), do(unpack), refused("size")},
	{"H2.config.more", "the config's size is one more", resize(aConfig, 1), do(unpack), refused("size")},
	{"H2.layer.less", "the layer's size is one less", resize(aLayer, -1), do(unpack), refused("size")},
	{"H2.layer.more", "the layer's size is one more", resize(aLayer, 1), do(unpack), refused("size")},
	{"H3.index", "a negative size in the index", all(good, editIndex(entry0("size", -1))), do(ls, stat, unpack, tag, gc), refused("size -1")},
	{"H3.layer", "a negative size in the manifest", inManifest(aLayer, "size", -1), do(unpack, stat, gc), refused("size -1")},
	{"H4.index", "the greatest size there is, in the index", all(good, editIndex(entry0("size", math.MaxInt64)), blameManifest), do(stat, unpack, gc),
		refused("9223372036854775807")},
	{"H4.config", "the greatest size there is, for the config", inManifest(aConfig, "size", math.MaxInt64), do(unpack), refused("9223372036854775807")},
	{"H4.layer", "the greatest size there is, for a layer", inManifest(aLayer, "size", math.MaxInt64), do(unpack), refused("9223372036854775807")},
	{"H4.over", "a size that no integer holds", all(inManifest(aLayer, "size", json.Number("92233720368547758070")), blameManifest), do(unpack, gc), refused("92233720368547758070")},
	{"H5", "a digest without a colon, with data", embedded("sha256"), do(unpack, stat, gc), refused("malformed digest sha256")},
	{"H6", "a digest of an unknown algorithm, with data", embedded("foo:bar"), do(unpack, stat, gc), refused("foo")},
	{"H7", "a digest that is a path out of blobs", inManifest(aLayer, "digest", "sha256:../../x"), do(unpack, stat, gc), refused("sha256:../../x")},
	{"H7.index", "the same in the index", all(good, editIndex(entry0("digest", "sha256:../../../cwd/x"))), do(ls, stat, unpack, tag, rm, gc),
		refused("sha256:../../../cwd/x")},
	{"H7.algorithm", "the same in the algorithm", inManifest(aLayer, "digest", "../../x:"+strings.Repeat("a", 64)), do(unpack, stat, gc), refused("../../x:")},
	{"H9", "sha512 that is right", all(good, sha512Layer(false)), do(unpack, gc), accepted(holds("f", "f of the base\n"), kept512)},
	{"H10", "sha512 that is wrong", all(good, sha512Layer(true), blameNothing), do(unpack), refused("layer sha512:", "wrong digest")},
	{"H11", "data that is not what the digest says", inManifest(aConfig, "data", []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`)), do(unpack, stat, gc),
		refused("data")},
	{"H11.size", "data of the right size that is not what the digest says", all(good, editManifest(func(_ *world, m document) {
		m["config"].(document)["data"] = make([]byte, number(m["config"].(document)["size"]))
	})), do(unpack, stat, gc), refused("data", "digest")},
	{"H13", "fewer diff_ids than layers", diffIDs(func(ids []any) []any { return ids[:1] }), do(unpack), refused("1 diff_ids for 2 layers")},
	{"H13.more", "more diff_ids than layers", diffIDs(func(ids []any) []any { return append(ids, ids[0]) }), do(unpack), refused("3 diff_ids for 2 layers")},
	{"H15", "a diff_id that is not the layer's", diffIDs(func(ids []any) []any { return []any{ids[0], ids[0]} }), do(unpack), refused("diffID mismatch")},
	{"H15.form", "a diff_id that is no digest", diffIDs(func(ids []any) []any { return []any{ids[0], "sha256:../../x"} }), do(unpack), refused("sha256:../../x")},
	{"H16", "a config of another media type", inManifest(aConfig, "mediaType", "application/vnd.evil+json"), do(unpack), refused("application/vnd.evil+json")},
	{"H17", "a manifest with manifests", all(good, editManifest(set("manifests", []any{}))), do(unpack, stat, gc), refused("manifests")},
	{"H17.case", "a manifest with Manifests", all(good, editManifest(set("Manifests", []any{}))), do(unpack, stat, gc), refused("Manifests")},
	{"H18.layers", "an index with layers", all(good, editIndex(set("layers", []any{}))), do(ls, unpack, tag, gc), refused("index.json", "layers")},
	{"H18.config", "an index with config", all(good, editIndex(set("config", document{}))), do(ls, unpack, tag, gc), refused("index.json", "config")},
	{"H19", "a manifest that calls itself an index", all(good, editManifest(set("mediaType", ispec.MediaTypeImageIndex))), do(unpack, stat, gc),
		refused(ispec.MediaTypeImageIndex)},
	{"H19.index", "an index.json that calls itself a manifest", all(good, editIndex(set("mediaType", ispec.MediaTypeImageManifest))), do(ls, unpack, gc),
		refused("index.json", ispec.MediaTypeImageManifest)},
	{"H19.entry", "a manifest that the index calls an index", all(good, editIndex(entry0("mediaType", ispec.MediaTypeImageIndex))), do(unpack, stat, gc),
		refused("config")},
	{"H21", "indexes that name the next one twice, 30 deep", all(good, chain(30, 2)), do(ls, stat, unpack, gc),
		accepted(holds("f", "f of the base\n")).fast(time.Second)},
	{"H22", "a chain of 20,000 indexes", all(good, chain(20_000, 1)), do(unpack, gc), refused("64")},
}

// zipped is an image of two layers compressed with gzip.
func zipped(w *world) {
	w.image(oci.Image{Layers: w.tars([]entries{base, {oci.File("x", "in\n", 0o644)}})})
}

// part is a descriptor in a manifest.
type part func(manifest document) document

func aConfig(manifest document) document { return manifest["config"].(document) }
func aLayer(manifest document) document  { return layer0(manifest) }
func topLayer(manifest document) document {
	layers := manifest["layers"].([]any)
	return layers[len(layers)-1].(document)
}

// aManifest stands for the manifest itself.
var aManifest part

// flip changes one bit of a blob, percent of the way through it.
func flip(of part, percent int) input {
	return func(w *world) {
		d := w.manifest("v")
		if of != nil {
			d = digest.Digest(of(w.read(w.blob(d)))["digest"].(string))
		}
		data, err := os.ReadFile(w.blob(d))
		w.ok(err)
		data[(len(data)-1)*percent/99] ^= 1
		w.ok(os.WriteFile(w.blob(d), data, 0o644))
		w.blame = []string{d.String()}
	}
}

func blameManifest(w *world) { w.blame = []string{w.manifest("v").String()} }

func number(v any) int64 {
	n, err := v.(json.Number).Int64()
	if err != nil {
		panic(err)
	}
	return n
}

// grow is an edit of an index that changes the size of its first descriptor.
func grow(by int64) func(*world, document) {
	return func(w *world, index document) {
		d := index["manifests"].([]any)[0].(document)
		d["size"] = number(d["size"]) + by
	}
}

// inManifest sets a member of a descriptor in the manifest. A refusal names the
// descriptor's digest, or where that is not one the manifest's.
func inManifest(of part, name string, value any) input {
	return all(good, editManifest(func(_ *world, m document) { of(m)[name] = value }), func(w *world) {
		d := digest.Digest(of(w.read(w.blob(w.manifest("v"))))["digest"].(string))
		if d.Validate() == nil && name != "data" {
			w.blame = []string{d.String()}
		}
	})
}

// resize changes the size in a descriptor in the manifest.
func resize(of part, by int64) input {
	var d digest.Digest
	return all(good, editManifest(func(_ *world, m document) {
		of(m)["size"] = number(of(m)["size"]) + by
		d = digest.Digest(of(m)["digest"].(string))
	}), func(w *world) { w.blame = []string{d.String()} })
}

// embedded makes the config one that is embedded in the manifest, with a digest
// that is none.
func embedded(as string) input {
	return all(good, editManifest(func(w *world, m document) {
		config := m["config"].(document)
		data, err := os.ReadFile(w.blob(digest.Digest(config["digest"].(string))))
		w.ok(err)
		config["digest"], config["data"] = as, data
	}))
}

// sha512Layer puts the lowest layer under its sha512 digest, or under another
// layer's.
func sha512Layer(wrong bool) input {
	return editManifest(func(w *world, m document) {
		old := w.blob(digest.Digest(layer0(m)["digest"].(string)))
		data, err := os.ReadFile(old)
		w.ok(err)
		d := digest.SHA512.FromBytes(data)
		if wrong {
			d = digest.SHA512.FromBytes(data[1:])
		}
		w.ok(os.MkdirAll(w.layout+"/blobs/sha512", 0o755))
		w.ok(os.Rename(old, w.blob(d)))
		layer0(m)["digest"] = d
	})
}

// kept512 checks that gc has not taken the blob of H9.
func kept512(w *world) {
	entries, err := os.ReadDir(w.layout + "/blobs/sha512")
	w.ok(err)
	if len(entries) != 1 {
		w.Errorf("gc has left %d sha512 blobs, not 1", len(entries))
	}
}

func diffIDs(edit func([]any) []any) input {
	return all(good, editConfig(func(_ *world, config document) {
		rootfs := config["rootfs"].(document)
		rootfs["diff_ids"] = edit(rootfs["diff_ids"].([]any))
	}), blameNothing)
}

// chain puts depth indexes between index.json and the manifest, each naming the
// one below it width times.
func chain(depth, width int) input {
	return editIndex(func(w *world, index document) {
		d := index["manifests"].([]any)[0].(document)
		annotations := d["annotations"]
		delete(d, "annotations")
		for range depth {
			var ds []any
			for range width {
				ds = append(ds, d)
			}
			data, err := json.Marshal(document{"schemaVersion": 2, "mediaType": ispec.MediaTypeImageIndex, "manifests": ds})
			w.ok(err)
			put := w.put(ispec.MediaTypeImageIndex, data)
			d = document{"mediaType": put.MediaType, "digest": put.Digest, "size": put.Size}
		}
		d["annotations"] = annotations
		index["manifests"] = []any{d}
	})
}

// I. Files of the layout.
var layoutFiles = []hostileCase{
	{"I1", "no list of manifests", all(good, editIndex(set("manifests", nil))), do(ls, rm), accepted(func(w *world) {
		if n := w.index()["manifests"]; n != nil {
			w.Errorf("an index that nothing changed became %v", n)
		}
	})},
	{"I1.tag", "no list of manifests, for who asks for one", all(good, editIndex(set("manifests", nil))), do(unpack, stat, tag), refused("v", "no such ref")},
	{"I2", "no index", all(good, remove("index.json")), do(every...), refused("@LAYOUT", "index.json")},
	{"I3", "an index of 150 MB", all(good, large("index.json")), do(ls, unpack, tag, gc), refused("index.json", "limit")},
	{"I3.header", "an oci-layout of 150 MB", all(good, large("oci-layout")), do(ls, unpack, tag, gc), refused("oci-layout", "limit")},
	{"I5", "MANIFESTS", all(good, editIndex(renamed("manifests", "MANIFESTS"))), do(every...), refused("index.json", "MANIFESTS")},
	{"I5.both", "manifests and Manifests", all(good, editIndex(set("Manifests", []any{}))), do(every...), refused("index.json", "Manifests")},
	{"I5.twice", "manifests twice", all(good, content("index.json", func(old []byte) []byte {
		return bytes.Replace(old, []byte("{"), []byte(`{"manifests":[],`), 1)
	})), do(every...), refused("index.json", "manifests")},
	{"I6", "a second document after the first", all(good, content("index.json", func(old []byte) []byte { return append(old, old...) })), do(every...),
		refused("index.json")},
	{"I9", "the index is a FIFO", all(good, fifo("index.json")), do(every...), refused("@LAYOUT", "index.json")},
	{"I9.header", "oci-layout is a FIFO", all(good, fifo("oci-layout")), do(every...), refused("@LAYOUT", "oci-layout")},
	{"I10", "the index is a symlink to the outside", all(good, moved("index.json")), do(every...), refused("@LAYOUT", "index.json")},
	{"I11", "a blob is a FIFO", all(good, func(w *world) { fifo(w.layer0("blobs"))(w) }), do(unpack), refused("FIFO")},
	{"I11.manifest", "the manifest is a FIFO", all(good, func(w *world) { fifo(w.manifestFile())(w); blameManifest(w) }), do(unpack, stat, gc), refused("FIFO")},
	{"I12", "a blob is a symlink to the outside", all(good, func(w *world) { moved(w.layer0("blobs"))(w) }), do(unpack), refused()},
	{"I12.manifest", "the manifest is a symlink to the outside", all(good, func(w *world) { moved(w.manifestFile())(w); blameManifest(w) }), do(unpack, stat, gc),
		refused()},
	{"I14", "blobs is a symlink to the outside", all(good, moved("blobs")), do(every...), refused("@LAYOUT", "blobs")},
	{"I14.sha256", "blobs/sha256 is a symlink to the outside", all(good, moved("blobs/sha256")), do(every...), refused("@LAYOUT", "blobs/sha256")},
	{"I15", "layout version 2", all(good, content("oci-layout", func([]byte) []byte { return []byte(`{"imageLayoutVersion":"2.0.0"}`) })), do(every...),
		refused("@LAYOUT", "2.0.0")},
	{"I16", "junk under blobs", all(good, junk), do(gc), accepted(func(w *world) {
		for _, name := range junkNames {
			if _, err := os.Lstat(w.layout + "/blobs/" + name); err != nil {
				w.Errorf("gc removed junk: %v", err)
			}
		}
	})},
	{"I17", "temporary names that are symlinks", all(good, func(w *world) {
		w.ok(os.Symlink(w.host+"/dir", w.layout+"/.shale-evil"))
		w.ok(os.Symlink(w.host+"/dir", w.layout+"/.umoci-evil"))
		w.ok(os.Mkdir(w.layout+"/.umoci-stale", 0o755))
		w.ok(os.Symlink(w.host, w.layout+"/.umoci-stale/link"))
	}), do(gc, tag), accepted(func(w *world) {
		if _, err := os.Lstat(w.layout + "/.umoci-stale"); err == nil {
			w.Error("gc left a stale temporary directory")
		}
	})},
	{"I17.bundle", "temporary names in a bundle that are symlinks", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		for _, name := range []string{".umoci.json.new", ".umoci.json", "umoci.json.new"} {
			w.ok(os.Symlink(w.host+"/f", w.bundle+"/"+name))
		}
	}), do(repack + " --refresh-bundle"), accepted()},
	{"I19", "ESC in a ref", all(good, editIndex(ref("evil\x1b[2J\nv2"))), do(ls, gc), accepted()},
	{"I19.stat", "ESC in annotations, labels and history", all(good, editIndex(entry0("annotations", document{"org.opencontainers.image.ref.name": "v", "\x1b[2J": "\x1b[2J"})),
		editConfig(func(_ *world, config document) {
			config["author"] = "\x1b]0;evil\a"
			config["config"] = document{"Labels": document{"\x1b[2J": "\u009b2J"}, "Env": []string{"A=\x1b[2J"}}
			config["history"].([]any)[0].(document)["created_by"] = "\x1b[2J\nevil"
		})), do(stat, stat+" --json", unpack), accepted()},
	{"I20", "a ref that is a path", all(good, editIndex(ref("../../x"))), do(ls, gc), accepted()},
	{"I20.asked", "a ref that is a path, asked for", all(good, editIndex(ref("../../x"))),
		do("unpack --image @LAYOUT:../../x @BUNDLE", "tag --image @LAYOUT:../../x new", "rm --image @LAYOUT:../../x"), refused("../../x")},
	{"I20.made", "a new tag that is a path", good, do("tag --image @LAYOUT:v ../../x", "new --image @LAYOUT:../../x"), refused("../../x")},
	{"I21", "the same tag twice", all(good, func(w *world) {
		twin := ocitestTwin(w)
		w.blame = []string{w.manifest("v").String(), twin.String()}
	}), do(unpack, stat, tag), refused("v")},
}

// every are commands that have to read index.json.
var every = []string{ls, stat, unpack, tag, rm, gc}

func remove(name string) input {
	return func(w *world) { w.ok(os.RemoveAll(w.layout + "/" + name)) }
}

func fifo(name string) input {
	return func(w *world) {
		remove(name)(w)
		w.ok(unix.Mkfifo(w.layout+"/"+name, 0o644))
	}
}

// moved puts a file or directory of the layout among what belongs to the host,
// and a symlink in its place.
func moved(name string) input {
	return func(w *world) {
		to := w.host + "/moved"
		w.ok(os.Rename(w.layout+"/"+name, to))
		w.ok(os.Symlink(to, w.layout+"/"+name))
	}
}

func content(name string, edit func(old []byte) []byte) input {
	return func(w *world) {
		old, err := os.ReadFile(w.layout + "/" + name)
		w.ok(err)
		w.ok(os.WriteFile(w.layout+"/"+name, edit(old), 0o644))
	}
}

// large appends very much white space to a file of the layout.
func large(name string) input {
	return func(w *world) {
		f, err := os.OpenFile(w.layout+"/"+name, os.O_WRONLY|os.O_APPEND, 0)
		w.ok(err)
		w.fill(f, ' ', 150_000_000)
		w.ok(f.Close())
	}
}

func renamed(from, to string) func(*world, document) {
	return func(_ *world, doc document) {
		doc[to] = doc[from]
		delete(doc, from)
	}
}

// ref is an edit of index.json that renames its first entry.
func ref(name string) func(*world, document) {
	return entry0("annotations", document{ispec.AnnotationRefName: name})
}

// layer0 returns the path of the lowest layer, and has refusals name it.
func (w *world) layer0(dir string) string {
	d := digest.Digest(layer0(w.read(w.blob(w.manifest("v"))))["digest"].(string))
	w.blame = []string{d.String()}
	return dir + "/sha256/" + d.Encoded()
}

func (w *world) manifestFile() string { return "blobs/sha256/" + w.manifest("v").Encoded() }

// junkNames are not the names of blobs.
var junkNames = []string{"junk", "sha256/junk", "sha256/" + strings.Repeat("a", 63), "sha256/" + strings.Repeat("A", 64), "sha256/dir", "sha256/link", "md5",
	"sha256/" + strings.Repeat("b", 64), // the name of a blob, but a symlink
}

func junk(w *world) {
	for _, name := range junkNames {
		path := w.layout + "/blobs/" + name
		switch {
		case strings.HasSuffix(name, "dir"), name == "md5":
			w.ok(os.Mkdir(path, 0o755))
		case strings.HasSuffix(name, "link"), strings.HasSuffix(name, "bb"):
			w.ok(os.Symlink(w.host+"/f", path))
		default:
			w.ok(os.WriteFile(path, []byte(name), 0o644))
		}
	}
}

// ocitestTwin adds a second image with the tag v.
func ocitestTwin(w *world) digest.Digest {
	d, err := oci.Put(w.layout, "", oci.Image{Layers: w.tars([]entries{base})})
	w.ok(err)
	editIndex(func(_ *world, index document) {
		all := index["manifests"].([]any)
		all[len(all)-1].(document)["annotations"] = document{ispec.AnnotationRefName: "v"}
	})(w)
	return d.Digest
}
