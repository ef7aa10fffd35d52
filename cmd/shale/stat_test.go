// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// statImage is an image for stat to show. Config may be of any type.
type statImage struct {
	config       any
	configDesc   ispec.Descriptor // its digest and size are filled in
	edit         func(*ispec.Manifest)
	embed        bool // the config is embedded in its descriptor, and nowhere else
	differs      bool // umoci does not show it, or not well
	differsPlain bool // the same, but its JSON is right
	differsJSON  bool // the other way round
}

func at(seconds int64) *time.Time {
	t := time.Unix(seconds, 120_000_000).UTC()
	return &t
}

func blobDesc(mediaType, content string) ispec.Descriptor {
	return ispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
}

func layers(contents ...string) (descs []ispec.Descriptor, diffIDs []digest.Digest) {
	for _, c := range contents {
		descs = append(descs, blobDesc(ispec.MediaTypeImageLayerGzip, c))
		diffIDs = append(diffIDs, digest.FromString("plain "+c))
	}
	return descs, diffIDs
}

func withLayers(descs []ispec.Descriptor) func(*ispec.Manifest) {
	return func(m *ispec.Manifest) { m.Layers = descs }
}

const hostileText = "red\x1b[31m\nnext, \"quoted\" \xff"

// statImages are images with everything that stat can meet.
func statImages() map[string]statImage {
	descs, diffIDs := layers("one", strings.Repeat("two", 1000), strings.Repeat("three", 1<<20))
	full := ispec.Image{
		Created: at(1700000000),
		Author:  "Some Body <some@body>",
		Platform: ispec.Platform{
			OS: "linux", OSVersion: "5.10, or so", OSFeatures: []string{"a", "b c", "d,e"},
			Architecture: "arm64", Variant: "v8",
		},
		Config: ispec.ImageConfig{
			User:       "1000:1000",
			Entrypoint: []string{"/bin/sh", "-c", "echo a, b", ""},
			Cmd:        []string{"one", "two words", "tab\there"},
			WorkingDir: "/a dir",
			Env:        []string{"PATH=/bin:/sbin", "A=a, b", "E=", "Ü=ü"},
			StopSignal: "SIGTERM",
			ExposedPorts: map[string]struct{}{
				"80/tcp": {}, "443": {}, "53/udp": {},
			},
			Volumes:     map[string]struct{}{"/data": {}, "/with space": {}, "": {}},
			Labels:      map[string]string{"b": "2", "a": "1, 2", "key with space": "v", "e": "", "esc\x1b": "\x1b]0;x\a"},
			ArgsEscaped: true, //nolint:staticcheck // stat shows it
		},
		RootFS: ispec.RootFS{Type: "layers", DiffIDs: diffIDs},
		History: []ispec.History{
			{Created: at(1), CreatedBy: "ADD one", Author: "me"},
			{Created: at(2), CreatedBy: "ENV\tA=1", EmptyLayer: true, Comment: "a comment"},
			{Created: at(3), CreatedBy: "RUN two " + hostileText},
			{Created: at(4), CreatedBy: "", Comment: "größer"},
		},
	}
	hostile := full
	hostile.Author, hostile.Architecture, hostile.Variant = hostileText, hostileText, hostileText
	hostile.Config = ispec.ImageConfig{User: hostileText, Cmd: []string{hostileText}, Labels: map[string]string{hostileText: hostileText}}
	c1 := hostile
	c1.Author = "\u0085\u009b31m\u007f"
	older, newer := full, full
	older.History = full.History[:2]
	newer.History = slices.Concat(full.History, []ispec.History{{CreatedBy: "RUN more"}, {EmptyLayer: true}})
	bare := ispec.Image{Platform: ispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ispec.RootFS{Type: "layers"}}
	config := ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig}
	subject := blobDesc(ispec.MediaTypeImageManifest, "subject")

	return map[string]statImage{
		"full": {config: full, configDesc: config, edit: func(m *ispec.Manifest) {
			m.Layers = descs
			m.Annotations = map[string]string{"org.example.b": "x", "org.example.a": "y, z", "empty": ""}
			m.Subject = &subject
			m.ArtifactType = "application/x, y"
		}},
		"bare":    {config: bare, configDesc: config},
		"older":   {config: older, configDesc: config, edit: withLayers(descs)},
		"newer":   {config: newer, configDesc: config, edit: withLayers(descs), differs: true},
		"hostile": {config: hostile, configDesc: config, edit: withLayers(descs)},
		"c1":      {config: c1, configDesc: config, edit: withLayers(descs), differsJSON: true},
		"docker": {config: full, configDesc: ispec.Descriptor{MediaType: layout.MediaTypeDockerConfig}, differs: true, edit: func(m *ispec.Manifest) {
			m.MediaType = layout.MediaTypeDockerManifest
			m.Layers = descs
		}},
		"descriptors": {config: bare, differsPlain: true, configDesc: ispec.Descriptor{
			MediaType: ispec.MediaTypeImageConfig,
			Platform: &ispec.Platform{
				OS: "windows", OSVersion: "10.0.1", OSFeatures: []string{"win32k"}, Architecture: "amd64",
			},
			URLs:         []string{"https://example.org/a", "https://example.org/a b"},
			Annotations:  map[string]string{"k": "v"},
			ArtifactType: "application/example",
		}},
		"data": {config: bare, embed: true, configDesc: config, edit: func(m *ispec.Manifest) {
			short := strings.Repeat("0123456789 abcdef\n\x00~\x7f", 3)
			long := strings.Repeat("x", 256) + "and more"
			exact := strings.Repeat("y", 256)
			for _, content := range []string{short, long, exact, "z"} {
				d := blobDesc("application/octet-stream", content)
				d.Data = []byte(content)
				m.Layers = append(m.Layers, d)
			}
		}},
		"artifact": {config: json.RawMessage("{}"), configDesc: ispec.Descriptor{MediaType: ispec.MediaTypeEmptyJSON}, edit: func(m *ispec.Manifest) {
			m.ArtifactType = "application/vnd.example+type"
			m.Layers = []ispec.Descriptor{blobDesc("text/plain", "hello")}
		}},
		"unknown": {config: "something", configDesc: ispec.Descriptor{MediaType: "application/vnd.example.config"}},
		"unknown-data": {config: map[string]int{"a": 1}, embed: true,
			configDesc: ispec.Descriptor{MediaType: "application/vnd.example.config"}},
		"null-history": {config: json.RawMessage(`{"architecture":"x","os":"y","rootfs":{"type":"layers","diff_ids":[]},"history":[]}`), configDesc: config},
	}
}

// writeStatImages makes a layout at path with all of them.
func writeStatImages(t *testing.T, path string) {
	t.Helper()
	l, err := layout.Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for ref, i := range statImages() {
		if err := writeStatImage(t, l, ref, i); err != nil {
			t.Fatalf("write image %s: %v", ref, err)
		}
	}
}

func writeStatImage(t *testing.T, l *layout.Layout, ref string, i statImage) (err error) {
	ctx := t.Context()
	data, err := json.Marshal(i.config)
	if err != nil {
		return err
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    i.configDesc,
	}
	m.Config.Digest, m.Config.Size = digest.FromBytes(data), int64(len(data))
	if i.embed {
		m.Config.Data = data
	} else if _, _, err := l.PutBlob(ctx, bytes.NewReader(data)); err != nil {
		return err
	}
	if i.edit != nil {
		i.edit(&m)
	}
	d := ispec.Descriptor{MediaType: m.MediaType, Annotations: map[string]string{"org.example": "of the entry"}}
	if d.Digest, d.Size, err = l.PutJSON(ctx, m); err != nil {
		return err
	}
	return l.SetRef(ctx, ref, d)
}

// TestStatLikeUmoci compares what shale and umoci print.
func TestStatLikeUmoci(t *testing.T) {
	umoci := umociCommand(t)
	dir := t.TempDir()
	writeStatImages(t, filepath.Join(dir, "l"))
	for ref, image := range statImages() {
		for _, form := range []string{"--json=true", "--json=false"} {
			if image.differs || image.differsPlain && form == "--json=false" || image.differsJSON && form == "--json=true" {
				continue
			}
			t.Run(ref+form, func(t *testing.T) {
				args := []string{"stat", "--image", "l:" + ref, form}
				want, got := runCommand(t, umoci(dir, args...)), runShale(t, dir, args...)
				if got.code != want.code || got.stdout != want.stdout {
					t.Errorf("got exit code %d and\n%s\nwant exit code %d and\n%s", got.code, got.stdout, want.code, want.stdout)
				}
			})
		}
	}
}

// TestStatIsSafe looks for bytes that a terminal acts on.
func TestStatIsSafe(t *testing.T) {
	dir := t.TempDir()
	writeStatImages(t, filepath.Join(dir, "l"))
	for ref := range statImages() {
		for _, form := range []string{"--json=true", "--json=false"} {
			got := runShale(t, dir, "stat", "--image", "l:"+ref, form)
			if got.code != 0 {
				t.Errorf("%s %s: exit code %d: %s", ref, form, got.code, got.stderr)
			}
			for _, r := range got.stdout {
				if r < ' ' && r != '\n' && r != '\t' || 0x7f <= r && r <= 0x9f {
					t.Errorf("%s %s: there is a %q in %q", ref, form, r, got.stdout)
					break
				}
			}
			if !utf8.ValidString(got.stdout) {
				t.Errorf("%s %s: not UTF-8: %q", ref, form, got.stdout)
			}
			if form == "--json=true" && (strings.Count(got.stdout, "\n") != 1 || !json.Valid([]byte(got.stdout))) {
				t.Errorf("%s: not one line of JSON: %q", ref, got.stdout)
			}
		}
	}
}

func TestStatWarnsOfContradictions(t *testing.T) {
	dir := t.TempDir()
	writeStatImages(t, filepath.Join(dir, "l"))
	got := runShale(t, dir, "stat", "--image", "l:newer")
	if want := "shale: warning: the image has 3 layers, and the history tells of 4\n"; got.stderr != want {
		t.Errorf("standard error is %q, want %q", got.stderr, want)
	}
	_, history, _ := strings.Cut(got.stdout, "== HISTORY ==\n")
	row := strings.Join(strings.Fields(strings.Split(history, "\n")[5]), " ")
	if want := "<none> <none> RUN more <none>"; row != want {
		t.Errorf("the layer that is not there is shown as %q, want %q", row, want)
	}
}

// The digests in these have been put in by name, to be read.
const wantDescriptors = `== MANIFEST ==
Schema Version: 2
Media Type: application/vnd.oci.image.manifest.v1+json
Config:
	Descriptor:
		Media Type: application/vnd.oci.image.config.v1+json
		Artifact Type: application/example
		Digest: CONFIG
		Size: 92B
		Platform:
			OS: windows
			OS Version: 10.0.1
			OS Features: win32k
			Architecture: amd64
		URLs:
			https://example.org/a
			"https://example.org/a b"
		Annotations:
			k: v
Descriptor:
	Media Type: application/vnd.oci.image.manifest.v1+json
	Digest: MANIFEST
	Size: 468B
	Annotations:
		org.example: "of the entry"
		org.opencontainers.image.ref.name: descriptors

== CONFIG ==
Author: ""
Platform:
	OS: linux
	Architecture: amd64
Image Config:
	User: ""
	Command: (empty)
Descriptor:
	Media Type: application/vnd.oci.image.config.v1+json
	Artifact Type: application/example
	Digest: CONFIG
	Size: 92B
	Platform:
		OS: windows
		OS Version: 10.0.1
		OS Features: win32k
		Architecture: amd64
	URLs:
		https://example.org/a
		"https://example.org/a b"
	Annotations:
		k: v

== HISTORY ==
LAYER CREATED CREATED BY SIZE COMMENT
`

func TestStatGolden(t *testing.T) {
	dir := t.TempDir()
	writeStatImages(t, filepath.Join(dir, "l"))
	var s struct {
		Manifest, Config struct{ Descriptor ispec.Descriptor }
	}
	if err := json.Unmarshal([]byte(runShale(t, dir, "stat", "--json", "--image", "l:descriptors").stdout), &s); err != nil {
		t.Fatal(err)
	}
	got := runShale(t, dir, "stat", "--image", "l:descriptors").stdout
	got = strings.NewReplacer(s.Manifest.Descriptor.Digest.String(), "MANIFEST", s.Config.Descriptor.Digest.String(), "CONFIG").Replace(got)
	if got != wantDescriptors {
		t.Errorf("got\n%s\nwant\n%s", got, wantDescriptors)
	}
}

func TestDump(t *testing.T) {
	var data []byte
	for i := range 300 {
		data = append(data, byte(i))
	}
	var b strings.Builder
	(&statPrinter{w: &b, indent: "\t"}).dump(data)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 17 {
		t.Fatalf("%d lines, want 17", len(lines))
	}
	for i, want := range map[int]string{
		0:  "\t0000: 0001 0203 0405 0607 0809 0a0b 0c0d 0e0f  ................",
		2:  "\t0020: 2021 2223 2425 2627 2829 2a2b 2c2d 2e2f   !\"#$%&'()*+,-./",
		15: "\t00f0: f0f1 f2f3 f4f5 f6f7 f8f9 fafb fcfd feff  ................",
		16: "\t....  (extra 44 bytes omitted)",
	} {
		if lines[i] != want {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	b.Reset()
	(&statPrinter{w: &b}).dump([]byte("abc"))
	if want := fmt.Sprintf("0000: %-39s  abc\n", "6162 63"); b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1kB", 1234: "1.234kB", 12345: "12.35kB", 999999: "1000kB",
		1000000: "1MB", 2746000: "2.746MB", 1 << 40: "1.1TB", 1<<63 - 1: "9.223EB",
	} {
		if got := humanSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
