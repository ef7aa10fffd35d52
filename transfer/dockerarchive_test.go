// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

func TestDockerArchiveKeepsImageIDs(t *testing.T) {
	l, one, two, index := archiveLayout(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, writeArchive(t, l, "docker-archive:"+file+":example.com/one:1", one))
	must(t, writeArchive(t, l, "docker-archive:"+file+":two:2", two))
	for from, root := range map[string]ispec.Descriptor{"example.com/one:1": one, "two:2": two, "docker.io/library/two:2": two} {
		to, got, err := readArchive(t, "docker-archive:"+file+":"+from)
		must(t, err)
		ocitest.AssertWhole(t, to.Path())
		want, wantConfig, err := readImage(t.Context(), l.ReadBlob, root)
		must(t, err)
		have, config, err := readImage(t.Context(), to.ReadBlob, got)
		must(t, err)
		if have.Config.Digest != want.Config.Digest || !slices.Equal(config.RootFS.DiffIDs, wantConfig.RootFS.DiffIDs) {
			t.Errorf("%s: another config", from)
		}
		for i, d := range have.Layers {
			if d.Digest != config.RootFS.DiffIDs[i] || d.MediaType != ispec.MediaTypeImageLayer {
				t.Errorf("%s: layer %d is %v", from, i, d)
			}
		}
	}
	before := readFile(t, file)
	must(t, writeArchive(t, l, "docker-archive:"+file+":example.com/one:1", one))
	if !bytes.Equal(before, readFile(t, file)) {
		t.Error("writing what is there has changed the archive")
	}
	var saved bytes.Buffer
	images := []DockerImage{{Names: []string{"example.com/one:1"}, Manifest: one}, {Names: []string{"two:2"}, Manifest: two}}
	must(t, SaveDockerArchive(t.Context(), &saved, l, images, DockerArchiveOptions{}))
	if !bytes.Equal(before, saved.Bytes()) {
		t.Error("SaveDockerArchive makes another archive")
	}
	for from, want := range map[string]error{"": layout.ErrAmbiguous, ":two:1": layout.ErrNotFound, ":two": layout.ErrNotFound, ":one:1": layout.ErrNotFound} {
		_, _, err := readArchive(t, "docker-archive:"+file+from)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "example.com/one:1, two:2") {
			t.Errorf("%q: %v", from, err)
		}
	}
	if err := writeArchive(t, l, "docker-archive:"+file+":index:1", index); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an index: %v", err)
	}
	if !bytes.Equal(before, readFile(t, file)) {
		t.Error("what failed has changed the archive")
	}
	// The name of an image moves to another one.
	must(t, writeArchive(t, l, "docker-archive:"+file+":docker.io/library/two:2", one))
	if _, err := LoadDockerArchive(t.Context(), file, emptyLayout(t), DockerArchiveOptions{Names: []string{"one"}}); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("load what is not there: %v", err)
	}
	loaded, err := LoadDockerArchive(t.Context(), file, emptyLayout(t), DockerArchiveOptions{})
	must(t, err)
	if len(loaded) != 2 || loaded[0].Manifest.Digest != loaded[1].Manifest.Digest || loaded[1].Names[0] != "docker.io/library/two:2" {
		t.Errorf("loaded %v", loaded)
	}
}

// TestLoadDockerArchive loads, uncompressed and compressed, and unpacked content stays
// the same.
func TestLoadDockerArchive(t *testing.T) {
	l, one, two, _ := archiveLayout(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, writeArchive(t, l, "docker-archive:"+file+":one:1", one))
	must(t, writeArchive(t, l, "docker-archive:"+file+":two:2", two))
	for _, c := range []layer.Compression{"", layer.None, layer.Gzip, layer.Zstd} {
		to := emptyLayout(t)
		images, err := LoadDockerArchive(t.Context(), file, to, DockerArchiveOptions{Compression: c, Names: []string{"two:2", "docker.io/one:1"}})
		must(t, err)
		if len(images) != 2 || images[0].Names[0] != "one:1" {
			t.Fatalf("%v", images)
		}
		for i, root := range []ispec.Descriptor{one, two} {
			must(t, to.SetRef(t.Context(), "x"+string(rune('0'+i)), images[i].Manifest))
			m, _, err := readImage(t.Context(), to.ReadBlob, images[i].Manifest)
			must(t, err)
			want, _, err := readImage(t.Context(), l.ReadBlob, root)
			must(t, err)
			if m.Config.Digest != want.Config.Digest {
				t.Errorf("%s: config %s", c, m.Config.Digest)
			}
			for _, d := range m.Layers {
				if _, got, err := layer.SplitMediaType(d.MediaType); err != nil || got != c && c != "" {
					t.Errorf("%s: layer of type %s, %v", c, d.MediaType, err)
				}
			}
		}
		ocitest.AssertWhole(t, to.Path())
	}
}

// TestOldDockerArchive reads what docker has written for years: a directory for each
// layer, where a layer that comes twice is a link.
func TestOldDockerArchive(t *testing.T) {
	a, b := ocitest.Layer(ocitest.File("a", "a", 0o644)), ocitest.Layer(ocitest.File("b", "b", 0o644))
	config, name := configOf(t, a, b, a)
	data := tarOf(t,
		tarMember{name: "1/VERSION", content: "1.0"}, tarMember{name: "1/json", content: "{}"}, tarMember{name: "1/layer.tar", content: string(a)},
		tarMember{name: "2/VERSION", content: "1.0"}, tarMember{name: "2/json", content: "{}"}, tarMember{name: "2/layer.tar", content: string(compressed(t, b, layer.Gzip))},
		tarMember{name: "3/layer.tar", link: "../1/layer.tar"},
		tarMember{name: name, content: config},
		tarMember{name: "repositories", content: "{}"},
		tarMember{name: "manifest.json", content: `[{"Config":"` + name + `","RepoTags":["old:1","old:2"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"],"Parent":""}]`},
	)
	for what, data := range map[string][]byte{"plain": data, "gzip": compressed(t, data, layer.Gzip), "zstd": compressed(t, data, layer.Zstd)} {
		for _, from := range []string{"", ":old:1", ":old:2", ":docker.io/library/old:2"} {
			to, got, err := readArchive(t, "docker-archive:"+writeTemp(t, data)+from)
			must(t, err)
			ocitest.AssertWhole(t, to.Path())
			m, _, err := readImage(t.Context(), to.ReadBlob, got)
			must(t, err)
			if m.Config.Digest != digest.FromString(config) || m.Layers[1].Digest != digest.FromBytes(b) || m.Layers[0].Digest != m.Layers[2].Digest {
				t.Errorf("%s%s: %v", what, from, m)
			}
		}
	}
	_, err := openArchive(t, "oci-archive:"+writeTemp(t, data))
	if !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("as an oci-archive: %v", err)
	}
}

// TestNewDockerArchive reads what newer dockers write: a layout with a manifest.json.
// The manifest that is in there keeps its digest.
func TestNewDockerArchive(t *testing.T) {
	l, one, two, index := archiveLayout(t)
	c := layout.ArchiveContent{
		Index: readFile(t, filepath.Join(l.Path(), "index.json")),
		Open:  func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) { return l.OpenBlob(ctx, d) },
	}
	must(t, l.Blobs(t.Context(), func(d digest.Digest, size int64) error {
		c.Blobs = append(c.Blobs, ispec.Descriptor{Digest: d, Size: size})
		return nil
	}))
	var entries []dockerEntry
	for name, root := range map[string]ispec.Descriptor{"one:1": one, "two:2": two} {
		m, err := l.Manifest(t.Context(), root)
		must(t, err)
		e := dockerEntry{Config: "blobs/sha256/" + m.Config.Digest.Encoded(), RepoTags: []string{name}}
		for _, d := range m.Layers {
			e.Layers = append(e.Layers, "blobs/sha256/"+d.Digest.Encoded())
		}
		entries = append(entries, e)
	}
	write := func() string {
		c.Files = map[string][]byte{"manifest.json": []byte(encode(t, entries)), "repositories": []byte("{}")}
		var buf bytes.Buffer
		w := layout.NewArchiveWriter(&buf)
		must(t, w.Layout(t.Context(), "", &c))
		must(t, w.Close())
		return writeTemp(t, buf.Bytes())
	}
	file := write()
	for name, root := range map[string]ispec.Descriptor{"one:1": one, "two:2": two} {
		to, got, err := readArchive(t, "docker-archive:"+file+":"+name)
		if err != nil || got.Digest != root.Digest {
			t.Errorf("%s: %v, %v", name, got.Digest, err)
			continue
		}
		ocitest.AssertWhole(t, to.Path())
	}
	if _, got, err := readArchive(t, "oci-archive:"+file+":index"); err != nil || got.Digest != index.Digest {
		t.Errorf("as an oci-archive: %v, %v", got.Digest, err)
	}
	// It is compressed on request, from whatever it is.
	for _, how := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
		to := emptyLayout(t)
		images, err := LoadDockerArchive(t.Context(), file, to, DockerArchiveOptions{Compression: how})
		must(t, err)
		for _, img := range images {
			must(t, to.SetRef(t.Context(), strings.ReplaceAll(img.Names[0], ":", "-"), img.Manifest))
			m, err := to.Manifest(t.Context(), img.Manifest)
			must(t, err)
			for _, d := range m.Layers {
				if _, got, err := layer.SplitMediaType(d.MediaType); got != how {
					t.Errorf("%s: a layer of type %s, %v", how, d.MediaType, err)
				}
			}
		}
		ocitest.AssertWhole(t, to.Path())
	}
	// Where manifest.json has other layers, its word counts, not that of the manifest.
	entries[0].Layers, entries[1].Layers = entries[1].Layers, entries[0].Layers
	if _, err := openArchive(t, "docker-archive:"+write()); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("other layers: %v", err)
	}
}

func TestHostileDockerArchives(t *testing.T) {
	a := ocitest.Layer(ocitest.File("a", "a", 0o644))
	config, name := configOf(t, a)
	other, otherName := configOf(t, a, a)
	manifest := func(config, layers string) tarMember {
		return tarMember{name: "manifest.json", content: `[{"Config":"` + config + `","Layers":[` + layers + `]}]`}
	}
	good := []tarMember{{name: "a.tar", content: string(a)}, {name: name, content: config}}
	must(t, os.WriteFile(filepath.Join(t.TempDir(), "outside"), []byte("outside"), 0o644))
	for what, c := range map[string]struct {
		members []tarMember
		want    error
	}{
		"nothing":                   {nil, layout.ErrInvalid},
		"no manifest.json":          {good, layout.ErrInvalid},
		"no list":                   {append(good, tarMember{name: "manifest.json", content: `{}`}), layout.ErrInvalid},
		"an empty list":             {append(good, tarMember{name: "manifest.json", content: `[]`}), layout.ErrInvalid},
		"a list of null":            {append(good, tarMember{name: "manifest.json", content: `[null]`}), layout.ErrInvalid},
		"two documents":             {append(good, tarMember{name: "manifest.json", content: `[][]`}), layout.ErrInvalid},
		"another case":              {append(good, tarMember{name: "manifest.json", content: `[{"config":"` + name + `","Layers":["a.tar"]}]`}), layout.ErrInvalid},
		"a huge manifest.json":      {append(good, tarMember{name: "manifest.json", content: "[" + strings.Repeat(" ", maxDockerManifest) + "]"}), layout.ErrTooLarge},
		"too many images":           {append(good, tarMember{name: "manifest.json", content: "[" + strings.Repeat(`{},`, maxDockerImages) + "{}]"}), layout.ErrTooLarge},
		"too many layers":           {append(good, manifest(name, strings.Repeat(`"a.tar",`, 5000)+`"a.tar"`)), layout.ErrInvalid},
		"a config outside":          {append(good, manifest("../../../../../../etc/passwd", `"a.tar"`)), layout.ErrInvalid},
		"an absolute config":        {append(good, manifest("/etc/passwd", `"a.tar"`)), layout.ErrInvalid},
		"a config that is missing":  {append(good, manifest("x.json", `"a.tar"`)), layout.ErrInvalid},
		"a config of another name":  {append(good, tarMember{name: otherName, content: config}, manifest(otherName, `"a.tar"`)), layout.ErrDigest},
		"a config that is none":     {append(good, tarMember{name: "x", content: "[]"}, manifest("x", `"a.tar"`)), layout.ErrInvalid},
		"too few layers":            {append(good, tarMember{name: otherName, content: other}, manifest(otherName, `"a.tar"`)), layout.ErrInvalid},
		"too many diffIDs":          {append(good, manifest(name, `"a.tar","a.tar"`)), layout.ErrInvalid},
		"a layer that is missing":   {append(good, manifest(name, `"b.tar"`)), layout.ErrInvalid},
		"a layer outside":           {append(good, manifest(name, `"../outside"`)), layout.ErrInvalid},
		"a layer that is another":   {append(good, tarMember{name: "b.tar", content: "x"}, manifest(name, `"b.tar"`)), layout.ErrDigest},
		"a compressed one, another": {append(good, tarMember{name: "b.tar", content: string(compressed(t, []byte("x"), layer.Gzip))}, manifest(name, `"b.tar"`)), layer.ErrDiffID},
		"a layer of xz":             {append(good, tarMember{name: "b.tar", content: "\xfd7zXZ\x00"}, manifest(name, `"b.tar"`)), layout.ErrInvalid},
		"a link in a circle":        {append(good, tarMember{name: "b.tar", link: "c.tar"}, tarMember{name: "c.tar", link: "b.tar"}, manifest(name, `"b.tar"`)), layout.ErrInvalid},
		"a link to nothing":         {append(good, tarMember{name: "b.tar", link: "c.tar"}, manifest(name, `"b.tar"`)), layout.ErrInvalid},
		"a link outside":            {append(good, tarMember{name: "b.tar", link: "../outside"}, manifest(name, `"b.tar"`)), layout.ErrInvalid},
		"twice the same":            {append(good, manifest(name, `"a.tar"`), manifest(name, `"a.tar"`)), layout.ErrInvalid},
	} {
		file := writeTemp(t, tarOf(t, c.members...))
		to := emptyLayout(t)
		before := ocitest.Snapshot(t, to.Path())
		_, err := LoadDockerArchive(t.Context(), file, to, DockerArchiveOptions{})
		if !errors.Is(err, c.want) || strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", what, err)
		}
		must(t, to.Close())
		ocitest.AssertSame(t, before, ocitest.Snapshot(t, to.Path()), "mtime")
	}
}

// TestManyLayersOfManyImages has a small file stand for more layers than fit in memory.
func TestManyLayersOfManyImages(t *testing.T) {
	members := []tarMember{{name: "a"}}
	var entries []dockerEntry
	layers := slices.Repeat([]string{"a"}, 4096)
	for n := range 60 {
		var config ispec.Image
		config.OS, config.RootFS.Type, config.Author = "linux", "layers", strings.Repeat("x", n)
		config.RootFS.DiffIDs = slices.Repeat([]digest.Digest{digest.FromString("")}, len(layers))
		name := "c" + strings.Repeat("x", n)
		members = append(members, tarMember{name: name, content: encode(t, config)})
		entries = append(entries, dockerEntry{Config: name, Layers: layers})
	}
	members = append(members, tarMember{name: "manifest.json", content: encode(t, entries)})
	file := writeTemp(t, compressed(t, tarOf(t, members...), layer.Gzip))
	if _, err := openArchive(t, "docker-archive:"+file); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

// TestNamesOfManyImages keeps apart what names tell apart.
func TestNamesOfManyImages(t *testing.T) {
	l, one, two, _ := archiveLayout(t)
	must(t, l.Update(t.Context(), func(index *ispec.Index) error {
		index.Manifests = nil
		return nil
	}))
	dir := t.TempDir()
	docker, back, oci := filepath.Join(dir, "d.tar"), filepath.Join(dir, "back"), filepath.Join(dir, "o.tar")
	must(t, writeArchive(t, l, "docker-archive:"+docker+":one:1", one))
	must(t, writeArchive(t, l, "docker-archive:"+docker+":example.com/two:1", two))
	all := Options{AllTags: true}
	for _, c := range [][2]string{
		{"docker-archive:" + docker, "oci:" + back}, {"oci:" + back, "oci-archive:" + oci}, {"oci-archive:" + oci, "docker-archive:" + docker + "2"},
	} {
		_, err := Copy(t.Context(), parse(t, c[0]), parse(t, c[1]), all)
		must(t, err)
	}
	if !bytes.Equal(readFile(t, docker), readFile(t, docker+"2")) {
		t.Error("the names did not come back")
	}
	if d := lookup(t, back, "example.com/two:1"); d.Digest == lookup(t, back, "one:1").Digest {
		t.Error("two names lead to the same image")
	}
	for _, compress := range []layer.Compression{"", layer.Gzip} {
		all.Compress = compress
		// A registry has one repository to copy to.
		_, err := Copy(t.Context(), parse(t, "docker-archive:"+docker), parse(t, "docker://"+server(t, nil)+"/x"), all)
		if !errors.Is(err, layout.ErrAmbiguous) || !strings.Contains(err.Error(), "example.com/two:1 would both be") {
			t.Errorf("to a registry: %v", err)
		}
		again := filepath.Join(t.TempDir(), "again.tar")
		_, err = Copy(t.Context(), parse(t, "docker-archive:"+docker), parse(t, "docker-archive:"+again), all)
		must(t, err)
		if !bytes.Equal(readFile(t, docker), readFile(t, again)) {
			t.Errorf("compressed in between with %q, the archive is another one", compress)
		}
	}
	all.Compress = ""
	// Tags become names.
	must(t, l.SetRef(t.Context(), "plain", one))
	for to, want := range map[string]string{docker + "3": "plain:latest", docker + "4:app": "app:plain"} {
		_, err := Copy(t.Context(), parse(t, "oci:"+l.Path()), parse(t, "docker-archive:"+to), all)
		must(t, err)
		file, _, _ := strings.Cut(to, ":")
		if names, err := Tags(t.Context(), parse(t, "docker-archive:"+file), Options{}); err != nil || !slices.Equal(names, []string{want}) {
			t.Errorf("%s: %v, %v", to, names, err)
		}
	}
	must(t, l.SetRef(t.Context(), "UPPER", one))
	if _, err := Copy(t.Context(), parse(t, "oci:"+l.Path()), parse(t, "docker-archive:"+docker+"5"), all); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("a tag that cannot be a name: %v", err)
	}
}

// TestGoContainerregistryArchives exchanges docker-archives with crane's library, which
// compresses the layers.
func TestGoContainerregistryArchives(t *testing.T) {
	l, one, _, _ := archiveLayout(t)
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours.tar"), filepath.Join(dir, "theirs.tar")
	must(t, writeArchive(t, l, "docker-archive:"+ours+":one:1", one))
	tag, err := name.NewTag("one:1")
	must(t, err)
	img, err := tarball.ImageFromPath(ours, &tag)
	must(t, err)
	want, err := l.Manifest(t.Context(), one)
	must(t, err)
	if id, err := img.ConfigName(); err != nil || id.String() != want.Config.Digest.String() {
		t.Errorf("it has image %v of ours, %v", id, err)
	}
	must(t, validate.Image(img))
	p, err := ggcrlayout.FromPath(l.Path())
	must(t, err)
	h, err := v1.NewHash(one.Digest.String())
	must(t, err)
	img, err = p.Image(h)
	must(t, err)
	must(t, tarball.WriteToFile(theirs, tag, img))
	to, d, err := readArchive(t, "docker-archive:"+theirs+":one:1")
	must(t, err)
	ocitest.AssertWhole(t, to.Path())
	if m, err := to.Manifest(t.Context(), d); err != nil || m.Config.Digest != want.Config.Digest {
		t.Errorf("we have image %s of its archive, %v", m.Config.Digest, err)
	}
}
