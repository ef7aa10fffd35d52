// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/shale-oci/shale/test/ocitest"
)

// L. What goes from one place to another. What registries do is in the tests of
// package transfer and in bats/registry.bats.
var copies = []hostileCase{
	{"L1", "the tag is there already: it leads to the new image", all(good, existingImage), do("copy @LAYOUT:v @BUNDLE:v"), accepted(func(w *world) {
		if r := w.shale("stat --json --image @BUNDLE:v"); !strings.Contains(r.stdout, w.manifest("v").String()) {
			w.Errorf("the tag leads to something else: %s", r.stdout)
		}
	})},
	{"L1.join", "the tag is there already, and images are joined: it stays", all(good, existingImage, func(w *world) {
		w.must("split --image @LAYOUT:v --base @LAYOUT:v @BUNDLE-out")
	}), do("join @BUNDLE-out --image @BUNDLE:v"), refused("the tag v is there already")},
	{"L2", "one flipped byte in a layer that is copied", all(good, flip(aLayer, 50)), do(leaving...), refused("digest").resumable()},
	{"L2.manifest", "one flipped byte in the manifest", all(good, flip(aManifest, 50)), do(leaving...), refused("digest").resumable()},
	{"L2.size", "a layer that is one byte longer", resize(aLayer, -1), do(leaving...), refused("size").resumable()},
	{"L2.squash", "one flipped byte in a layer that is merged", all(good, flip(aLayer, 50)), do("squash --image @LAYOUT:v --tag new", "export --image @LAYOUT:v @BUNDLE"), refused("digest")},
}

// leaving are the ways in which an image leaves the layout.
var leaving = []string{"copy @LAYOUT:v @BUNDLE:v", "copy @LAYOUT:v oci-archive:@BUNDLE:v", "copy @LAYOUT:v docker-archive:@BUNDLE:a:v", "copy --compress zstd @LAYOUT:v @BUNDLE:v"}

// existingImage is another image with the same tag, where the bundle would be.
func existingImage(w *world) {
	oci.Image{Layers: [][]byte{oci.Layer()}, Author: "another"}.Write(w, w.bundle, "v")
}

// X. Limits: input that is small, and becomes large for who reads it. The message
// says what was found, and how to change the limit where that can be.
var limits = []hostileCase{
	{"X1", "more bytes than --max-bytes allows", bomb(1 << 30), do(unpack+" --max-bytes 100MiB", rawUnpack+" --max-bytes 100MiB"),
		refused("1073741824 bytes in files", "104857600", "--max-bytes").fast(5 * time.Second)},
	{"X1.stream", "more bytes than --max-bytes allows, behind the end of the archive", blob(gz, gzipped(append(oci.Layer(), make([]byte, 8<<20)...)), append(oci.Layer(), make([]byte, 8<<20)...)),
		do(unpack + " --max-bytes 1MiB"), refused("uncompressed bytes", "1048576", "--max-bytes")},
	{"X1.files", "more bytes in files than there are", top(sparseFile("x", 3<<30)...), do(unpack + " --max-bytes 1GiB"),
		refused("x", "bytes in files", "1073741824", "--max-bytes")},
	{"X1.hole", "a hole of 2^60 bytes", top(sparseFile("x", 1<<60)...), do(unpack), refused("x", "bytes in files", "--max-bytes")},
	{"X2", "1.25 GiB out of next to nothing", bomb(5 << 28), do(unpack), refused("for each compressed one", "1100", "--max-ratio").fast(10 * time.Second)},
	{"X2.repeated", "a layer that is there 20 times", repeated(20), do(unpack), refused("for each compressed one", "--max-ratio").fast(10 * time.Second)},
	{"X3", "more entries than --max-entries allows", top(files(1000)...), do(unpack+" --max-entries 500", rawUnpack+" --max-entries 500"),
		refused("501 entries", "500", "--max-entries")},
	{"X3.implied", "an entry whose name has more directories than there may be entries", top(oci.File(strings.Repeat("d/", 3000)+"f", "", 0o644), oci.File("g", "", 0o644)),
		do(unpack + " --max-entries 500"), refused("entry g", "entries", "--max-entries")},
	{"X4", "an attribute longer than --max-xattr-size", top(oci.File("x", "", 0o644).Xattr("user.x", strings.Repeat("v", 2000))), do(unpack + " --max-xattr-size 1KiB"),
		refused("entry x:", "user.x", "2000 bytes", "1024", "--max-xattr-size")},
	{"X5", "an extended header longer than --max-header-size", top(oci.RawPAX(oci.PAXRecord("comment", strings.Repeat("c", 5000))), oci.File("x", "", 0o644)),
		do(unpack + " --max-header-size 4KiB"), refused("entry x:", "5007 bytes", "4096", "--max-header-size")},
	{"X6", "attributes that fill the memory", manyXattrs, do(unpack), refused("names, links and attributes", "--max-metadata-size")},
	{"X6.targets", "links that fill the memory", manyTargets, do(unpack), refused("names, links and attributes", "--max-metadata-size")},
	{"X7", "5,000 directories in each other", top(oci.File(strings.Repeat("d/", 5000)+"f", "", 0o644)), do(unpack), refused("directories in each other", "4096")},
	{"X7.wide", "a name of 500,000 components", top(oci.File(strings.Repeat("d/", 500_000)+"f", "", 0o644)), do(unpack), refused("directories in each other", "4096")},
	{"X7.target", "a hardlink to a name of 500,000 components", top(oci.Hardlink("h", strings.Repeat("d/", 500_000)+"f")), do(unpack), refused("entry h:", "4096")},
	{"X7.symlink", "a symlink that holds 500,000 components", top(oci.Symlink("s", strings.Repeat("d/", 500_000)), oci.File("s/f", "", 0o644)), do(unpack), refused("entry s:", "4095")},
	{"X7.steps", "6,000 directories in each other, in steps through links", steps, do(unpack), refused("directories in each other", "4096")},
	{"X8", "an index of 30 MB of tiny entries", all(good, editIndex(list("manifests", tinyEntry, 750_000))), do(ls, unpack, tag, gc),
		refused("index.json", "values in one document")},
	{"X8.entries", "an index of 200,001 entries", all(good, editIndex(list("manifests", tinyEntry, 200_001))), do(ls, unpack, tag, gc),
		refused("index.json", "manifests: 200001 elements", "200000")},
	{"X8.annotations", "an index of a million tiny annotations", all(good, editIndex(func(_ *world, index document) {
		index["annotations"] = json.RawMessage("{" + strings.Repeat(`"":"",`, 1_100_000) + `"":""}`)
	})), do(ls, unpack, tag, gc), refused("index.json", "values in one document")},
	{"X9", "a config of 7 MB of tiny history", all(good, editConfig(list("history", "{}", 2_000_000)), blameNothing), do(unpack, stat), refused("values in one document")},
	{"X9.history", "a config with a history of 20,000", all(good, editConfig(list("history", "{}", 20_000)), blameNothing), do(unpack, stat),
		refused("history: 20000 elements", "16384")},
	{"X10", "50,000 layers", all(good, editManifest(list("layers", tinyLayer, 50_000)), blameManifest),
		do(unpack, stat, gc), refused("layers: 50000 elements", "4096").fast(2 * time.Second)},
	{"X11", "300,000 URLs of one layer", all(good, editManifest(func(_ *world, m document) {
		list("urls", `""`, 300_000)(nil, layer0(m))
	}), blameManifest), do(unpack, stat, gc), refused("values in one document")},
	{"X12", "an index larger than --max-index-size", good, do("--max-index-size 100B ls --layout @LAYOUT", "--max-index-size 100B "+gc), refused("index.json", "100", "--max-index-size")},
	{"X12.document", "a config larger than --max-document-size", all(good, blameNothing), do("--max-document-size 100B "+unpack, "--max-document-size 100B "+stat),
		refused("sha256:", "100", "--max-document-size")},
	{"X12.depth", "indexes deeper than --max-depth", all(good, chain(3, 1), blameNothing), do("--max-depth 3 "+unpack, "--max-depth 3 "+gc), refused("4 documents", "3", "--max-depth")},
	{"X13", "lists in lists, 100,000 deep", all(good, content("index.json", func(old []byte) []byte {
		deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
		return []byte(strings.Replace(string(old), "{", `{"x":`+deep+",", 1))
	})), do(ls, unpack, gc), refused("index.json", "levels")},
	{"X14", "as many refs as there may be with room to spare", all(good, editIndex(func(_ *world, index document) {
		d := index["manifests"].([]any)[0].(document)
		for i := range 10_000 {
			index["manifests"] = append(index["manifests"].([]any), document{
				"mediaType": d["mediaType"], "digest": d["digest"], "size": d["size"],
				"annotations": document{"org.opencontainers.image.ref.name": fmt.Sprintf("tag%d", i)},
			})
		}
	})), do(ls, unpack, tag, gc), accepted(holds("f", "f of the base\n"))},
}

// list is an edit that makes a list of n elements.
func list(name, elem string, n int) func(*world, document) {
	return func(_ *world, doc document) {
		doc[name] = json.RawMessage("[" + strings.Repeat(elem+",", n-1) + elem + "]")
	}
}

const (
	tinyEntry = `{"mediaType":"","digest":"a:b","size":0}`
	tinyLayer = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","size":1}`
)

// bomb is an image of one layer that is compressed with zstd: a file of size bytes,
// all zero, so that it takes no room on the disk of who unpacks it.
func bomb(size int64) input {
	made := sync.OnceValues(func() ([]byte, digest.Digest) {
		var blob bytes.Buffer
		content := digest.SHA256.Digester()
		z, err := zstd.NewWriter(&blob, zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err)
		}
		out := io.MultiWriter(z, content.Hash())
		header := oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '0', Size: fmt.Sprintf("%011o", size)}, nil).Raw
		for _, part := range []io.Reader{bytes.NewReader(header), io.LimitReader(zeros{}, size), bytes.NewReader(oci.Layer())} {
			if _, err := io.Copy(out, part); err != nil {
				panic(err)
			}
		}
		if err := z.Close(); err != nil {
			panic(err)
		}
		return blob.Bytes(), content.Digest()
	})
	return func(w *world) {
		blob, diffID := made()
		w.image(oci.Image{Layers: [][]byte{oci.Layer()}, Compression: "none", Edit: func(c *ispec.Image, m *ispec.Manifest) {
			m.Layers[0], c.RootFS.DiffIDs[0] = w.put(ispec.MediaTypeImageLayerZstd, blob), diffID
		}})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// files are n small files.
func files(n int) entries {
	var es entries
	for i := range n {
		es = append(es, oci.File(fmt.Sprintf("file%d", i), "", 0o644))
	}
	return es
}

// manyXattrs is an image with attributes of 60 MB, all different, in 1,000 files.
func manyXattrs(w *world) {
	w.imageOf(func(out io.Writer) {
		for i := range 1000 {
			w.say(out, oci.RawPAX(oci.PAXRecord("SCHILY.xattr.user.x", strings.Repeat(fmt.Sprintf("%08d", i), 7500))).Raw)
			w.say(out, oci.RawMember(oci.RawHeader{Name: fmt.Sprintf("f%d", i), Typeflag: '0'}, nil).Raw)
		}
		w.say(out, oci.Layer())
	})
}

// manyTargets is an image with symlinks of 4,000 bytes.
func manyTargets(w *world) {
	w.imageOf(func(out io.Writer) {
		for i := range 20_000 {
			w.say(out, oci.RawPAX(oci.PAXRecord("linkpath", strings.Repeat(fmt.Sprintf("%07d/", i), 500))).Raw)
			w.say(out, oci.RawMember(oci.RawHeader{Name: fmt.Sprintf("l%d", i), Typeflag: '2', Linkname: "x"}, nil).Raw)
		}
		w.say(out, oci.Layer())
	})
}

// steps makes directories deep in each other by names that are short.
func steps(w *world) {
	var es entries
	at := ""
	for i := range 6 {
		es = append(es, oci.Dir(at+strings.Repeat("d/", 1000), 0o755))
		link := fmt.Sprintf("l%d", i)
		es = append(es, oci.Symlink(link, at+strings.Repeat("d/", 1000)))
		at = link + "/"
	}
	top(es...)(w)
}

// repeated is an image with a layer of 64 MiB that compresses well, n times.
func repeated(n int) input {
	return func(w *world) {
		layer := oci.Layer(oci.File("x", strings.Repeat("\x00", 64<<20), 0o644))
		var data bytes.Buffer
		enc, err := zstd.NewWriter(&data, zstd.WithWindowSize(1<<20))
		w.ok(err)
		_, err = enc.Write(layer)
		w.ok(err)
		w.ok(enc.Close())
		w.image(oci.Image{Layers: [][]byte{layer}, Compression: "none", Edit: func(c *ispec.Image, m *ispec.Manifest) {
			d := w.put(ispec.MediaTypeImageLayerZstd, data.Bytes())
			m.Layers, c.RootFS.DiffIDs = nil, nil
			for range n {
				m.Layers = append(m.Layers, d)
				c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(layer))
			}
		}})
	}
}
