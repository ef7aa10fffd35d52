// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// damages are things to do to a good layout, and the codes of all errors and warnings
// that must be found afterwards.
var damages = []struct {
	name string
	do   func(p *patient)
	want inspect.Code
	also string // further codes, which follow from the damage
}{
	// The files of the layout.
	{"no oci-layout", func(p *patient) { p.must(os.Remove(p.path("oci-layout"))) }, inspect.LayoutFile, ""},
	{"oci-layout is not JSON", func(p *patient) { p.write(p.path("oci-layout"), []byte("{")) }, inspect.LayoutFile, ""},
	{"layout version 2", func(p *patient) { p.write(p.path("oci-layout"), []byte(`{"imageLayoutVersion":"2.0.0"}`)) }, inspect.LayoutVersion, ""},
	{"no index.json", func(p *patient) { p.must(os.Remove(p.path("index.json"))) }, inspect.IndexFile, ""},
	{"index.json is a FIFO", func(p *patient) { p.replace("index.json", mkfifo) }, inspect.IndexFile, ""},
	{"index.json is a symlink", func(p *patient) { p.replace("index.json", linkAway) }, inspect.IndexFile, ""},
	{"no blobs", func(p *patient) { p.must(os.RemoveAll(p.path("blobs"))) }, inspect.BlobsDirectory, ""},
	{"blobs/sha256 is a symlink", func(p *patient) { p.replace("blobs/sha256", linkAway) }, inspect.BlobsDirectory, ""},

	// JSON.
	{"index.json with manifests null", func(p *patient) { p.index(func(o object) { o["manifests"] = nil }) }, inspect.InvalidDocument, ""},
	{"index.json without manifests", func(p *patient) { p.index(func(o object) { delete(o, "manifests") }) }, inspect.InvalidDocument, ""},
	{"index.json of two documents", func(p *patient) { p.append("index.json", "{}") }, inspect.InvalidJSON, ""},
	{"index.json is truncated", func(p *patient) { p.truncate(p.path("index.json")) }, inspect.InvalidJSON, ""},
	{"manifest of two documents", func(p *patient) { p.document("app", appended("{}")) }, inspect.InvalidJSON, ""},
	{"config of two documents", func(p *patient) { p.configBytes(appended(" null")) }, inspect.InvalidJSON, ""},
	{"index.json in another case", func(p *patient) { p.index(rename("manifests", "MANIFESTS")) }, inspect.InvalidDocument, ""},
	{"manifest with a key in another case", func(p *patient) { p.manifest("app", rename("layers", "Layers")) }, inspect.InvalidDocument, ""},
	{"config with a key in another case", func(p *patient) { p.config(rename("rootfs", "rootFS")) }, inspect.InvalidDocument, ""},
	{"manifest with a key twice", func(p *patient) { p.document("app", replaced("{", `{"layers":[],`)) }, inspect.InvalidDocument, ""},
	{"manifest without config", func(p *patient) { p.manifest("app", rename("config", "x")) }, inspect.InvalidDocument, ""},
	{"manifest without layers", func(p *patient) { p.manifest("app", rename("layers", "x")) }, inspect.InvalidDocument, "layer-count"},
	{"size is a string", func(p *patient) { p.layerDescriptor(0, func(d object) { d["size"] = "1" }) }, inspect.InvalidDocument, ""},
	{"descriptor without a digest", func(p *patient) { p.layerDescriptor(0, rename("digest", "x")) }, inspect.InvalidDocument, ""},
	{"config is a list", func(p *patient) { p.configBytes(func([]byte) []byte { return []byte("[]") }) }, inspect.InvalidDocument, ""},
	{"created is not a time", func(p *patient) { p.config(func(o object) { o["created"] = "yesterday" }) }, inspect.InvalidDocument, ""},
	{"manifest with manifests", func(p *patient) { p.manifest("app", func(o object) { o["manifests"] = []any{} }) }, inspect.AmbiguousDocument, ""},
	{"index with layers", func(p *patient) { p.manifest("multi", func(o object) { o["layers"] = []any{} }) }, inspect.AmbiguousDocument, ""},
	{"index.json with a config", func(p *patient) { p.index(func(o object) { o["config"] = object{} }) }, inspect.AmbiguousDocument, ""},
	{"schema version 1", func(p *patient) { p.manifest("app", func(o object) { o["schemaVersion"] = 1 }) }, inspect.SchemaVersion, ""},
	{"no schema version", func(p *patient) { p.index(func(o object) { delete(o, "schemaVersion") }) }, inspect.SchemaVersion, ""},
	{"manifest that calls itself an index", func(p *patient) {
		p.manifest("app", func(o object) { o["mediaType"] = ispec.MediaTypeImageIndex })
	}, inspect.MediaTypeMismatch, ""},
	{"manifest too large", func(p *patient) { p.document("app", appended(strings.Repeat(" ", 9<<20))) }, inspect.TooLarge, ""},
	{"documents too deep", func(p *patient) {
		for range 70 {
			p.document("multi", func(data []byte) []byte {
				return p.json(object{"schemaVersion": 2, "manifests": []any{
					object{"mediaType": ispec.MediaTypeImageIndex, "digest": p.put(data), "size": len(data)},
				}})
			})
		}
	}, inspect.TooDeep, ""},

	// Refs and annotations.
	{"duplicate ref", func(p *patient) {
		p.entry("multi", func(e object) { e["annotations"].(object)[ispec.AnnotationRefName] = "app" })
	}, inspect.DuplicateRef, ""},
	{"dangling ref", func(p *patient) { p.must(os.Remove(p.blob(p.target("app")))) }, inspect.DanglingRef, ""},
	{"invalid ref", func(p *patient) {
		p.entry("app", func(e object) { e["annotations"].(object)[ispec.AnnotationRefName] = "../../x" })
	}, inspect.InvalidRef, ""},
	{"referrer of something else", func(p *patient) { p.referrers("sha256:" + strings.Repeat("0", 64)) }, inspect.WrongReferrer, ""},
	{"created in an annotation is not a time", func(p *patient) {
		p.manifest("app", func(o object) { o["annotations"] = object{ispec.AnnotationCreated: "today"} })
	}, inspect.InvalidAnnotation, ""},

	// Blobs and descriptors.
	{"flipped byte in a manifest", func(p *patient) { p.flip(p.blob(p.target("app"))) }, inspect.WrongDigest, ""},
	{"flipped byte in an index", func(p *patient) { p.flip(p.blob(p.target("multi"))) }, inspect.WrongDigest, ""},
	{"flipped byte in a config", func(p *patient) { p.flip(p.blob(p.configDigest())) }, inspect.WrongDigest, ""},
	{"flipped byte in a layer", func(p *patient) { p.flip(p.blob(p.layerDigest(0))) }, inspect.WrongDigest, ""},
	{"truncated layer", func(p *patient) { p.truncate(p.blob(p.layerDigest(1))) }, inspect.WrongSize, ""},
	{"missing layer", func(p *patient) { p.must(os.Remove(p.blob(p.layerDigest(2)))) }, inspect.MissingBlob, ""},
	{"missing config", func(p *patient) { p.must(os.Remove(p.blob(p.configDigest()))) }, inspect.MissingBlob, ""},
	{"missing platform", func(p *patient) {
		p.must(os.Remove(p.blob(list(p.object(p.read(p.blob(p.target("multi"))))["manifests"])[1]["digest"].(string))))
	}, inspect.MissingBlob, ""},
	{"size one too large", func(p *patient) { p.layerDescriptor(1, addToSize(1)) }, inspect.WrongSize, ""},
	{"size one too small", func(p *patient) { p.layerDescriptor(1, addToSize(-1)) }, inspect.WrongSize, ""},
	{"wrong size of the entry", func(p *patient) { p.entry("app", addToSize(1)) }, inspect.WrongSize, ""},
	{"negative size", func(p *patient) { p.layerDescriptor(1, func(d object) { d["size"] = -1 }) }, inspect.InvalidSize, ""},
	{"malformed digest", func(p *patient) { p.layerDescriptor(1, func(d object) { d["digest"] = "sha256:../../x" }) }, inspect.InvalidDigest, ""},
	{"digest of an unknown algorithm", func(p *patient) { p.layerDescriptor(1, func(d object) { d["digest"] = "foo:bar" }) }, inspect.UnsupportedDigest, ""},
	{"a layer is a symlink", func(p *patient) { p.replace(p.rel(p.layerDigest(1)), linkAway) }, inspect.IrregularBlob, ""},
	{"a layer is a FIFO", func(p *patient) { p.replace(p.rel(p.layerDigest(1)), mkfifo) }, inspect.IrregularBlob, ""},
	{"a manifest is a directory", func(p *patient) {
		p.replace(p.rel(p.target("app")), func(path, _ string) error { return os.Mkdir(path, 0o755) })
	}, inspect.IrregularBlob, ""},
	{"embedded data of another blob", func(p *patient) {
		p.manifest("app", func(m object) { m["config"].(object)["data"] = []byte("other") })
	}, inspect.WrongData, ""},
	{"config of a layer's type", func(p *patient) {
		p.manifest("app", func(m object) { m["config"].(object)["mediaType"] = ispec.MediaTypeImageLayerGzip })
	}, inspect.UnexpectedMediaType, ""},
	{"config of an unknown type", func(p *patient) {
		p.manifest("app", func(m object) { m["config"].(object)["mediaType"] = "application/json" })
	}, inspect.DisguisedConfig, ""},
	{"all layers of unknown types", func(p *patient) {
		for i := range 3 {
			p.layerDescriptor(i, func(d object) { d["mediaType"] = ispec.MediaTypeImageLayer + "+xz" })
		}
	}, inspect.UnsupportedLayer, ""},
	{"layer of a manifest's type", func(p *patient) {
		p.layerDescriptor(1, func(d object) { d["mediaType"] = ispec.MediaTypeImageManifest })
	}, inspect.UnexpectedMediaType, ""},
	{"layer in an index", func(p *patient) {
		p.manifest("multi", func(o object) { list(o["manifests"])[0]["mediaType"] = ispec.MediaTypeImageLayerGzip })
	}, inspect.UnexpectedMediaType, ""},
	{"layer of an unknown type", func(p *patient) {
		p.layerDescriptor(1, func(d object) { d["mediaType"] = ispec.MediaTypeImageLayer + "+xz" })
	}, inspect.UnsupportedLayer, ""},
	{"artifact without a type", func(p *patient) {
		p.manifest("app", func(m object) {
			m["config"] = object{"mediaType": ispec.MediaTypeEmptyJSON, "digest": p.put([]byte("{}")), "size": 2}
		})
	}, inspect.MissingArtifactType, ""},
	{"empty config that is not empty", func(p *patient) {
		p.manifest("app", func(m object) {
			m["artifactType"] = "text/x"
			m["config"] = object{"mediaType": ispec.MediaTypeEmptyJSON, "digest": p.put([]byte("[]")), "size": 2}
		})
	}, inspect.InvalidDocument, ""},

	// Platforms.
	{"another architecture", func(p *patient) { p.platform(0, object{"os": "linux", "architecture": "s390x"}) }, inspect.PlatformMismatch, ""},
	{"another system", func(p *patient) { p.platform(1, object{"os": "windows", "architecture": "arm64", "variant": "v8"}) }, inspect.PlatformMismatch, ""},
	{"another variant", func(p *patient) { p.platform(1, object{"os": "linux", "architecture": "arm64", "variant": "v9"}) }, inspect.VariantMismatch, ""},
	{"no architecture", func(p *patient) { p.config(func(c object) { delete(c, "architecture") }) }, inspect.MissingPlatform, ""},

	// Configs.
	{"no rootfs", func(p *patient) { p.config(func(c object) { delete(c, "rootfs") }) }, inspect.InvalidDocument, ""},
	{"rootfs of another type", func(p *patient) { p.config(func(c object) { c["rootfs"].(object)["type"] = "tree" }) }, inspect.RootFSType, ""},
	{"diffID missing", func(p *patient) {
		p.config(func(c object) { r := c["rootfs"].(object); r["diff_ids"] = r["diff_ids"].([]any)[:2] })
	}, inspect.LayerCount, ""},
	{"layer missing from the manifest", func(p *patient) {
		p.manifest("app", func(m object) { m["layers"] = m["layers"].([]any)[:2] })
	}, inspect.LayerCount, ""},
	{"wrong diffID", func(p *patient) {
		p.config(func(c object) {
			c["rootfs"].(object)["diff_ids"].([]any)[1] = string(digest.FromString("other"))
		})
	}, inspect.WrongDiffID, ""},
	{"malformed diffID", func(p *patient) {
		p.config(func(c object) { c["rootfs"].(object)["diff_ids"].([]any)[1] = "sha256:1" })
	}, inspect.InvalidDiffID, ""},
	{"diffIDs in another order", func(p *patient) {
		p.config(func(c object) { ids := c["rootfs"].(object)["diff_ids"].([]any); ids[0], ids[1] = ids[1], ids[0] })
	}, inspect.WrongDiffID, ""},
	{"history too short", func(p *patient) {
		p.config(func(c object) { c["history"] = c["history"].([]any)[:2] })
	}, inspect.HistoryTooShort, ""},
	{"history too long", func(p *patient) {
		p.config(func(c object) { c["history"] = append(c["history"].([]any), object{"created_by": "x"}) })
	}, inspect.HistoryTooLong, ""},

	// Layers.
	{"plain tar called gzip", func(p *patient) { p.layerBlob(1, p.gunzip) }, inspect.WrongCompression, ""},
	{"gzip called plain tar", func(p *patient) {
		p.layerDescriptor(1, func(d object) { d["mediaType"] = ispec.MediaTypeImageLayer })
	}, inspect.WrongCompression, ""},
	{"gzip called zstd", func(p *patient) {
		p.layerDescriptor(1, func(d object) { d["mediaType"] = ispec.MediaTypeImageLayerZstd })
	}, inspect.WrongCompression, ""},
	{"layer truncated before it was put", func(p *patient) { p.layerBlob(1, func(b []byte) []byte { return b[:len(b)-20] }) }, inspect.CorruptLayer, ""},
	{"wrong checksum in gzip", func(p *patient) { p.layerBlob(1, func(b []byte) []byte { b[len(b)-6] ^= 1; return b }) }, inspect.CorruptLayer, ""},
	{"junk after gzip", func(p *patient) { p.layerBlob(1, appended("junk")) }, inspect.TrailingBytes, ""},
	{"zeros after gzip", func(p *patient) { p.layerBlob(1, appended("\x00\x00\x00")) }, inspect.PaddedLayer, ""},
	{"layer is not a tar", func(p *patient) { p.layer(1, bytes.Repeat([]byte("no tar "), 200)) }, inspect.InvalidTar, ""},
	{"tar ends within a file", func(p *patient) {
		p.layer(1, ocitest.Layer(ocitest.File("f", strings.Repeat("x", 2000), 0o644))[:1024])
	}, inspect.InvalidTar, ""},
	{"whiteout without a name", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.File(".wh.", "", 0))) }, inspect.InvalidWhiteout, ""},
	{"whiteout of the parent", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.File("etc/.wh...", "", 0))) }, inspect.InvalidWhiteout, ""},
	{"hardlink to nothing", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.Hardlink("l", "nothing"))) }, inspect.MissingLinkTarget, ""},
	{"hardlink to what a layer removed", func(p *patient) { p.layer(2, ocitest.Layer(ocitest.Hardlink("l", "gone"))) }, inspect.MissingLinkTarget, ""},
	{"hardlink to itself", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.File("l", "", 0), ocitest.Hardlink("l", "l"))) }, inspect.MissingLinkTarget, ""},
	{"hardlink to a directory", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.Hardlink("l", "etc"))) }, inspect.MissingLinkTarget, ""},
	{"entry of an unknown type", func(p *patient) {
		p.layer(1, ocitest.Layer(ocitest.RawMember(ocitest.RawHeader{Name: "z", Typeflag: 'Z'}, nil)))
	}, inspect.InvalidEntry, ""},
	{"entry with a long name", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.File(strings.Repeat("n", 256), "", 0o644))) }, inspect.InvalidEntry, ""},
	{"root is a file", func(p *patient) { p.layer(1, ocitest.Layer(ocitest.File(".", "x", 0o644))) }, inspect.InvalidEntry, ""},
	{"symlink loop on the way", func(p *patient) {
		p.layer(1, ocitest.Layer(ocitest.Symlink("a", "b"), ocitest.Symlink("b", "a"), ocitest.File("a/f", "", 0o644)))
	}, inspect.InvalidEntry, ""},
}

// referrers adds an artifact about the subject, in an index under the tag of the image
// app.
func (p *patient) referrers(subject string) {
	empty := object{"mediaType": ispec.MediaTypeEmptyJSON, "digest": p.put([]byte("{}")), "size": 2}
	about := object{"mediaType": ispec.MediaTypeImageManifest, "digest": subject, "size": 1}
	if subject == p.target("app") {
		about["size"] = p.size(subject)
	}
	manifest := p.json(object{
		"schemaVersion": 2, "mediaType": ispec.MediaTypeImageManifest, "artifactType": "text/x",
		"config": empty, "layers": []any{empty}, "subject": about,
	})
	index := p.json(object{"schemaVersion": 2, "mediaType": ispec.MediaTypeImageIndex, "manifests": []any{
		object{"mediaType": ispec.MediaTypeImageManifest, "digest": p.put(manifest), "size": len(manifest), "artifactType": "text/x"},
	}})
	p.index(func(o object) {
		o["manifests"] = append(o["manifests"].([]any), object{
			"mediaType": ispec.MediaTypeImageIndex, "digest": p.put(index), "size": len(index),
			"annotations": object{ispec.AnnotationRefName: strings.Replace(p.target("app"), ":", "-", 1)},
		})
	})
}

func (p *patient) size(d string) int64 { return int64(len(p.read(p.blob(d)))) }

func (p *patient) append(name, more string) {
	p.write(p.path(name), append(p.read(p.path(name)), more...))
}

func (p *patient) truncate(path string) {
	info, err := os.Stat(path)
	p.must(err)
	p.must(os.Truncate(path, info.Size()-3))
}

// rel returns the path of a blob in the layout.
func (p *patient) rel(d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }

// replace moves something out of the layout and lets with make something in its place.
func (p *patient) replace(name string, with func(path, moved string) error) {
	p.t.Helper()
	moved := filepath.Join(filepath.Dir(p.dir), "moved")
	p.must(os.Rename(p.path(name), moved))
	p.must(with(p.path(name), moved))
}

func mkfifo(path, _ string) error       { return unix.Mkfifo(path, 0o644) }
func linkAway(path, moved string) error { return os.Symlink(moved, path) }

func appended(more string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, more...) }
}

func replaced(old, by string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(by), 1) }
}

func rename(from, to string) func(object) {
	return func(o object) {
		o[to] = o[from]
		delete(o, from)
	}
}

func addToSize(n float64) func(object) {
	return func(o object) { o["size"] = o["size"].(float64) + n }
}

// platform changes the platform of an entry of the index.
func (p *patient) platform(i int, to object) {
	p.manifest("multi", func(o object) { list(o["manifests"])[i]["platform"] = to })
}

func TestVerifyFindsEachDamage(t *testing.T) {
	seen := map[inspect.Code]bool{}
	for _, tt := range damages {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatient(t)
			if got := p.verify(inspect.VerifyOptions{}); got.Errors+got.Warnings+got.Infos > 0 {
				t.Fatalf("before: %+v", got.Findings)
			}
			tt.do(p)
			r := p.verify(inspect.VerifyOptions{})
			want := strings.TrimSpace(string(tt.want) + " " + tt.also)
			if tt.also != "" && tt.also < string(tt.want) {
				want = tt.also + " " + string(tt.want)
			}
			if got := codes(r); got != want {
				t.Errorf("got %q, want %q: %+v", got, want, r.Findings)
			}
			checkReport(t, r)
			again := p.verify(inspect.VerifyOptions{})
			if !reflect.DeepEqual(again, r) {
				t.Errorf("the second time it finds %+v", again)
			}
		})
		seen[tt.want] = true
	}
	for _, c := range inspect.Codes() {
		if !seen[c.Code] && c.Severity != inspect.SeverityInfo && c.Code != inspect.UnreadableBlob {
			t.Errorf("no damage gives %s", c.Code)
		}
	}
}

// checkReport checks what holds for every report.
func checkReport(t *testing.T, r *inspect.VerifyReport) {
	t.Helper()
	severity := map[inspect.Code]inspect.Severity{}
	for _, c := range inspect.Codes() {
		severity[c.Code] = c.Severity
	}
	count := map[inspect.Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		if f.Severity == "" || f.Severity != severity[f.Code] {
			t.Errorf("%s has the severity %q", f.Code, f.Severity)
		}
		if f.Object.Kind == "" || f.Message == "" || strings.ContainsAny(f.Message, "\n\x1b\x00") || strings.HasSuffix(f.Message, ".") {
			t.Errorf("a finding is not well told: %+v", f)
		}
	}
	if r.Omitted == 0 && (count[inspect.SeverityError] != r.Errors || count[inspect.SeverityWarning] != r.Warnings || count[inspect.SeverityInfo] != r.Infos) {
		t.Errorf("the counts are wrong: %+v", r)
	}
}

// FuzzVerifyDocuments puts other bytes into documents whose digests are right. What the
// other packages refuse then, Verify finds an error in.
func FuzzVerifyDocuments(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"", "{", "}", "0", "null", "-1", `"`, "x", `"layers":[],`, `"config":{},`, `"manifests":null,`, "[]", "M", "2,"}
	for i := range 80 {
		f.Add(uint8(i), rng.Uint32(), uint8(rng.IntN(12)), pieces[rng.IntN(len(pieces))])
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, cut uint8, piece string) {
		p := newPatient(t)
		other := func(data []byte) []byte {
			from := int(at) % len(data)
			to := min(from+int(cut), len(data))
			return slices.Concat(data[:from], []byte(piece), data[to:])
		}
		switch which % 4 {
		case 0:
			p.write(p.path("index.json"), other(p.read(p.path("index.json"))))
		case 1:
			p.document("app", other)
		case 2:
			p.document("multi", other)
		case 3:
			p.configBytes(other)
		}
		r := p.verify(inspect.VerifyOptions{})
		checkReport(t, r)
		if err := readAll(t.Context(), p.dir); err != nil && r.Errors == 0 && !onlyUnsupported(r) {
			t.Errorf("no error, but package layout says: %v", err)
		}
	})
}

// onlyUnsupported reports whether there is a digest that the others refuse to read and
// Verify only warns of.
func onlyUnsupported(r *inspect.VerifyReport) bool {
	return strings.Contains(codes(r), string(inspect.UnsupportedDigest))
}

// readAll reads all documents of a layout as the other packages do.
func readAll(ctx context.Context, dir string) error {
	l, err := layout.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	index, err := l.Index(ctx)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if err := l.Walk(ctx, d, func(p layout.Path) error {
			if !layout.IsConfig(p.Target().MediaType) {
				return nil
			}
			_, err := l.Config(ctx, p.Target())
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func TestVerifyCountsEachBlobOnce(t *testing.T) {
	p := newPatient(t)
	var last progress.Event
	r := p.verify(inspect.VerifyOptions{Progress: func(e progress.Event) { last = e }})
	// app: manifest, config, 3 layers; multi: index, 2 manifests, 2 configs, and the
	// two layers of the first are those of app.
	if r.Images != 3 || r.Blobs != 5+5+1 {
		t.Errorf("%d images, %d blobs", r.Images, r.Blobs)
	}
	var bytes int64
	blobs, err := os.ReadDir(p.path("blobs/sha256"))
	p.must(err)
	for _, b := range blobs {
		info, err := b.Info()
		p.must(err)
		bytes += info.Size()
	}
	var layers int64
	for i := range 3 {
		layers += p.size(p.layerDigest(i))
	}
	other := list(p.object(p.read(p.blob(list(p.object(p.read(p.blob(p.target("multi"))))["manifests"])[1]["digest"].(string))))["layers"])
	layers += p.size(other[0]["digest"].(string))
	if !last.End || last.Done != layers || last.Total != layers {
		t.Errorf("the layers have %d bytes, and it has read %+v", layers, last)
	}
	if r.Bytes != bytes || r.Blobs != len(blobs) {
		t.Errorf("%d bytes in %d blobs, and there are %d in %d", r.Bytes, r.Blobs, bytes, len(blobs))
	}
}

func TestVerifyGoesOn(t *testing.T) {
	p := newPatient(t)
	p.layer(1, ocitest.Layer(ocitest.Hardlink("l", "nothing"), ocitest.File(".wh.", "", 0), ocitest.Hardlink("m", "nowhere")))
	p.layerDescriptor(2, addToSize(1))
	p.platform(0, object{"os": "linux", "architecture": "s390x"})
	p.entry("multi", func(e object) { e["annotations"].(object)[ispec.AnnotationRefName] = "a b" })
	p.append("oci-layout", "x")
	p.must(os.Mkdir(p.path(".shale-abc"), 0o755))
	r := p.verify(inspect.VerifyOptions{})
	if got, want := allCodes(r), "invalid-ref invalid-whiteout layout-file missing-link-target platform-mismatch temp-directory unreachable-blob wrong-size"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	links := 0
	for _, f := range r.Findings {
		if f.Code == inspect.MissingLinkTarget {
			links++
		}
	}
	if links != 2 {
		t.Errorf("%d of 2 links are reported", links)
	}
	few := p.verify(inspect.VerifyOptions{MaxFindings: 3})
	if len(few.Findings) != 3 || few.Omitted != len(r.Findings)-3 || few.Errors != r.Errors || few.Infos != r.Infos {
		t.Errorf("with a limit of 3: %+v", few)
	}
}

func TestVerifyRefAndPlatform(t *testing.T) {
	p := newPatient(t)
	p.must(os.Remove(p.blob(p.layerDigest(2)))) // which only app has
	arm := list(p.object(p.read(p.blob(p.target("multi"))))["manifests"])[1]["digest"].(string)
	for _, tt := range []struct {
		ref, platform string
		images        int
		want          string
	}{
		{"app", "", 1, "missing-blob"},
		{"multi", "", 2, ""},
		{"", "linux/arm64", 1, ""},
		{"", "linux/amd64", 2, "missing-blob"},
		{"multi", "linux/amd64", 1, ""},
		{"", "", 3, "missing-blob"},
	} {
		opt := inspect.VerifyOptions{Ref: tt.ref}
		if tt.platform != "" {
			f, err := layout.ParsePlatform(tt.platform)
			p.must(err)
			opt.Platform = &f
		}
		if r := p.verify(opt); r.Images != tt.images || codes(r) != tt.want {
			t.Errorf("%s %s: %d images, %s", tt.ref, tt.platform, r.Images, codes(r))
		}
	}
	p.must(os.Remove(p.blob(arm)))
	if r := p.verify(inspect.VerifyOptions{Ref: "multi", Platform: &ispec.Platform{OS: "linux", Architecture: "amd64"}}); r.Errors != 1 {
		t.Errorf("a manifest is missing: %+v", r.Findings)
	}
	for _, opt := range []inspect.VerifyOptions{
		{Ref: "nosuch"}, {Ref: "app", Platform: &ispec.Platform{OS: "plan9", Architecture: "arm"}},
	} {
		if _, err := inspect.Verify(t.Context(), p.dir, opt); !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
	if _, err := inspect.Verify(t.Context(), p.dir, inspect.VerifyOptions{Ref: "-"}); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("an invalid ref: %v", err)
	}
	if _, err := inspect.Verify(t.Context(), p.path("nosuch"), inspect.VerifyOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := inspect.Verify(ctx, p.dir, inspect.VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestVerifyBlameIsNotInherited: what a broken layer may have held is not missed in
// those above it.
func TestVerifyBlameIsNotInherited(t *testing.T) {
	p := newPatient(t)
	p.must(os.Remove(p.blob(p.layerDigest(0)))) // layer 2 links to a file in it
	if got := codes(p.verify(inspect.VerifyOptions{})); got != "missing-blob" {
		t.Errorf("got %s", got)
	}
}

func TestVerifyInformation(t *testing.T) {
	tests := []struct {
		name string
		do   func(p *patient)
		want string
	}{
		{"unreachable", func(p *patient) { p.put([]byte("x")) }, "unreachable-blob"},
		{"temporary", func(p *patient) { p.must(os.Mkdir(p.path(".umoci-1"), 0o700)) }, "temp-directory"},
		{"junk", func(p *patient) { p.write(p.path("blobs/sha256/junk"), nil) }, "unknown-file"},
		{"another directory", func(p *patient) { p.must(os.Mkdir(p.path("blobs/md5"), 0o700)) }, "unknown-file"},
		{"subject that is not there", func(p *patient) {
			p.manifest("app", func(m object) {
				m["subject"] = object{"mediaType": ispec.MediaTypeImageManifest, "digest": string(digest.FromString("x")), "size": 1}
			})
		}, "missing-subject unreachable-blob"},
		{"foreign layer", func(p *patient) {
			p.layerDescriptor(2, func(d object) {
				p.must(os.Remove(p.blob(d["digest"].(string))))
				d["urls"] = []string{"https://example.com/"}
			})
		}, "foreign-layer unreachable-blob"},
		{"entry of an unknown type", func(p *patient) {
			p.entry("app", func(e object) { e["mediaType"] = "application/xml" })
		}, "unknown-media-type unreachable-blob"},
		{"empty platform", func(p *patient) {
			p.config(func(c object) { c["os"], c["architecture"] = "", "" })
		}, "empty-platform unreachable-blob"},
		{"misplaced ref", func(p *patient) {
			p.manifest("multi", func(o object) {
				list(o["manifests"])[0]["annotations"] = object{ispec.AnnotationRefName: "x"}
			})
		}, "misplaced-ref unreachable-blob"},
		{"host's xattr", func(p *patient) {
			p.layer(1, ocitest.Layer(ocitest.File("f", "", 0o644).Xattr("security.selinux", "x")))
		}, "ignored-xattr unreachable-blob"},
		{"embedded manifest", func(p *patient) {
			p.entry("app", func(e object) {
				e["data"] = p.read(p.blob(e["digest"].(string)))
				p.must(os.Remove(p.blob(e["digest"].(string))))
			})
		}, ""},
		{"embedded layer", func(p *patient) {
			p.layerDescriptor(2, func(d object) {
				d["data"] = p.read(p.blob(d["digest"].(string)))
				p.must(os.Remove(p.blob(d["digest"].(string))))
			})
		}, "unreachable-blob"},
		{"embedded layer with a fault", func(p *patient) {
			p.layer(2, ocitest.Layer(ocitest.Hardlink("l", "nothing")))
			p.layerDescriptor(2, func(d object) {
				d["data"] = p.read(p.blob(d["digest"].(string)))
				p.must(os.Remove(p.blob(d["digest"].(string))))
			})
		}, "missing-link-target unreachable-blob"},
		{"referrer", func(p *patient) { p.referrers(p.target("app")) }, ""},
		{"artifact", func(p *patient) {
			p.manifest("app", func(m object) {
				m["artifactType"] = "text/x"
				m["config"] = object{"mediaType": ispec.MediaTypeEmptyJSON, "digest": p.put([]byte("{}")), "size": 2}
			})
		}, "unreachable-blob"},
		{"signature", func(p *patient) {
			p.put([]byte("{}"))
			p.manifest("app", func(m object) {
				m["layers"] = []any{object{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": p.put([]byte("{}")), "size": 2}}
			})
		}, "unreachable-blob"},
		{"nothing is known to be unreachable", func(p *patient) {
			p.put([]byte("x"))
			p.manifest("app", rename("layers", "Layers"))
		}, "invalid-document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatient(t)
			tt.do(p)
			r := p.verify(inspect.VerifyOptions{})
			if got := allCodes(r); got != tt.want {
				t.Errorf("got %q, want %q: %+v", got, tt.want, r.Findings)
			}
			checkReport(t, r)
		})
	}
}

// TestVerifyGraphs: what refers to each other in odd ways costs neither time nor memory.
func TestVerifyGraphs(t *testing.T) {
	start := time.Now()
	entry := func(data []byte, d string, more object) object {
		e := object{"mediaType": ispec.MediaTypeImageIndex, "digest": d, "size": len(data)}
		maps.Copy(e, more)
		return e
	}
	for _, tt := range []struct {
		name  string
		depth int
		more  func(level, i int) object
		opt   inspect.VerifyOptions
		want  string
	}{
		{"doubling", 30, func(int, int) object { return nil }, inspect.VerifyOptions{}, ""},
		{"doubling with platforms", 30, func(level, i int) object {
			return object{"platform": object{"os": "linux", "architecture": fmt.Sprintf("a%d", i)}}
		}, inspect.VerifyOptions{Platform: &ispec.Platform{OS: "linux", Architecture: "amd64"}}, ""},
		{"a chain", 2000, func(int, int) object { return nil }, inspect.VerifyOptions{}, "too-deep"},
	} {
		p := newPatient(t)
		p.document("multi", func(data []byte) []byte {
			for level := range tt.depth {
				d := p.put(data)
				data = p.json(object{"schemaVersion": 2, "manifests": []any{entry(data, d, tt.more(level, 0)), entry(data, d, tt.more(level, 1))}})
			}
			return data
		})
		if got := codes(p.verify(tt.opt)); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it takes %v", took)
	}
}

func TestVerifyWritesNothing(t *testing.T) {
	p := newPatient(t)
	before := ocitest.Snapshot(t, p.dir)
	p.must(filepath.WalkDir(p.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o222)
	}))
	if r := p.verify(inspect.VerifyOptions{}); r.Errors > 0 {
		t.Errorf("%+v", r.Findings)
	}
	ocitest.AssertSame(t, before, ocitest.Snapshot(t, p.dir), "mode")
}

// TestVerifyDocumentIsWhole holds the documentation against the codes.
func TestVerifyDocumentIsWhole(t *testing.T) {
	doc, err := os.ReadFile("../docs/verify-json.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range inspect.Codes() {
		row := fmt.Sprintf("| `%s` | %s | %s |\n", c.Code, c.Severity, c.Meaning)
		if !bytes.Contains(doc, []byte(row)) {
			t.Errorf("docs/verify-json.md lacks: %s", row)
		}
	}
}

func TestVerifyJSON(t *testing.T) {
	p := newPatient(t)
	p.layerDescriptor(1, addToSize(1))
	data, err := json.Marshal(p.verify(inspect.VerifyOptions{Ref: "app"}))
	p.must(err)
	want := fmt.Sprintf(`{"version":1,"findings":[{"code":"wrong-size","severity":"error","object":{"kind":"blob","name":%q},"in":%q,`+
		`"message":"the blob has`, p.layerDigest(1), p.target("app"))
	if !strings.HasPrefix(string(data), want) {
		t.Errorf("got  %s\nwant %s", data, want)
	}
}
