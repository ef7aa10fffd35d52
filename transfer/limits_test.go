// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// TestLimits: whatever uncompresses an image keeps to the limits, and for all of its
// layers together, each of which is within them.
func TestLimits(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	image, src := filepath.Join(dir, "l"), filepath.Join(dir, "l")+":v"
	one, two := make([]byte, size), make([]byte, size+512)
	d := ocitest.Image{Layers: [][]byte{one, two}, Compression: "zstd"}.Write(t, image, "v")
	l := openAt(t, image)

	config, name := configOf(t, one, two)
	manifest := encode(t, []dockerEntry{{Config: name, RepoTags: []string{"a:v"}, Layers: []string{"1", "2"}}})
	packed := writeTemp(t, tarOf(t,
		tarMember{name: name, content: config}, tarMember{name: "manifest.json", content: manifest},
		tarMember{name: "1", content: string(compressed(t, one, layer.Gzip))},
		tarMember{name: "2", content: string(compressed(t, two, layer.Zstd))},
	))
	plain := filepath.Join(dir, "plain.tar")
	mustCopy(t, src, "docker-archive:"+plain+":a:v", quick())
	whole := writeTemp(t, compressed(t, readFile(t, plain), layer.Zstd))

	copies := func(from, to string) func(*testing.T, layer.Limits) error {
		return func(t *testing.T, limits layer.Limits) error {
			opt, scheme := quick(), to
			if opt.Limits = limits; to == "gzip" {
				scheme, opt.Compress = "", layer.Gzip
			}
			_, err := Copy(t.Context(), location(t, from), location(t, scheme+filepath.Join(t.TempDir(), "to")+":a:v"), opt)
			return err
		}
	}
	loads := func(from string, c layer.Compression) func(*testing.T, layer.Limits) error {
		return func(t *testing.T, limits layer.Limits) error {
			_, err := LoadDockerArchive(t.Context(), from, emptyLayout(t), DockerArchiveOptions{Compression: c, Limits: limits})
			return err
		}
	}
	for what, run := range map[string]func(*testing.T, layer.Limits) error{
		"compressed anew":              copies(src, "gzip"),
		"to a docker-archive":          copies(src, "docker-archive:"),
		"from packed layers":           copies("docker-archive:"+packed, "oci-archive:"),
		"from a packed archive":        copies("docker-archive:"+whole, "oci-archive:"),
		"loaded from packed layers":    loads(packed, ""),
		"loaded from a packed archive": loads(whole, ""),
		"loaded and compressed":        loads(plain, layer.Gzip),
		"what is in a docker-archive":  copies("docker-archive:"+plain, "docker-archive:"),
		"an image opened where it is not": func(t *testing.T, limits layer.Limits) error {
			img, err := OpenImage(t.Context(), location(t, "docker-archive:"+packed), t.TempDir(), Options{Limits: limits})
			if err == nil {
				err = img.Close()
			}
			return err
		},
		"saved": func(t *testing.T, limits layer.Limits) error {
			return SaveDockerArchive(t.Context(), io.Discard, l, []DockerImage{{Manifest: d}}, DockerArchiveOptions{Limits: limits})
		},
	} {
		t.Run(what, func(t *testing.T) {
			for _, limits := range []layer.Limits{{}, {Bytes: 2*size + 100_000}, {Bytes: layer.Unlimited, Ratio: layer.Unlimited}} {
				must(t, run(t, limits))
			}
			var over *layer.LimitError
			if err := run(t, layer.Limits{Bytes: 2 * size}); !errors.As(err, &over) || over.Name != "bytes" || over.Limit != 2*size {
				t.Errorf("more than it may be: %v", err)
			} else {
				wantOneLine(t, err)
			}
		})
	}
}

// TestRecompressedOnce: a layer that many images have, and each of them many times, is
// uncompressed once.
func TestRecompressedOnce(t *testing.T) {
	const size, times = 1 << 20, 100
	one := make([]byte, size)
	layers := make([][]byte, times)
	for i := range layers {
		layers[i] = one
	}
	dir := t.TempDir()
	image, file := filepath.Join(dir, "l"), filepath.Join(dir, "x.tar")
	for _, tag := range []string{"a", "b"} {
		ocitest.Image{Layers: layers, Author: tag}.Write(t, image, tag)
		mustCopy(t, image+":"+tag, "docker-archive:"+file+":"+tag+":1", quick())
	}
	to := emptyLayout(t)
	images, err := LoadDockerArchive(t.Context(), file, to, DockerArchiveOptions{
		Compression: layer.Gzip, Limits: layer.Limits{Bytes: size},
	})
	must(t, err)
	if len(images) != 2 {
		t.Fatalf("%v", images)
	}
	m, err := to.Manifest(t.Context(), images[1].Manifest)
	must(t, err)
	if len(m.Layers) != times || m.Layers[0].Digest != m.Layers[times-1].Digest || m.Layers[0].Digest == digest.FromBytes(one) {
		t.Errorf("%+v", m.Layers[0])
	}
	ocitest.AssertWhole(t, to.Path())
}

// TestArchiveLayoutOptions: the limits of layouts are those of archives, too.
func TestArchiveLayoutOptions(t *testing.T) {
	l, one, _, _ := archiveLayout(t)
	dir := t.TempDir()
	for _, from := range []string{"docker-archive:" + dir + "/d.tar:a:v", "oci-archive:" + dir + "/o.tar:v"} {
		must(t, writeArchive(t, l, from, one))
		opt := quick()
		opt.Layout.MaxDocument = 10
		_, err := Copy(t.Context(), location(t, from), location(t, filepath.Join(t.TempDir(), "to")+":v"), opt)
		var over *layer.LimitError
		if !errors.Is(err, layout.ErrTooLarge) || !errors.As(err, &over) || over.Name != "document-size" {
			t.Errorf("%s: %v", from, err)
		}
	}
}
