// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layout"
)

// TestManyPlatforms: a list of more platforms than anybody reads is not read out.
func TestManyPlatforms(t *testing.T) {
	members := make([]candidate, 100_000)
	for i := range members {
		members[i].platform = ispec.Platform{OS: "linux", Architecture: fmt.Sprint(i)}
	}
	began := time.Now()
	_, err := pick(members, ispec.Platform{OS: "linux", Architecture: "amd64"})
	if !errors.Is(err, layout.ErrNotFound) || len(err.Error()) > 1000 {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestManyConfigs: of so many images none is asked what it is for.
func TestManyConfigs(t *testing.T) {
	own := map[digest.Digest][]byte{}
	put := func(mediaType string, doc any) ispec.Descriptor {
		data := []byte(encode(t, doc))
		d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		own[d.Digest] = data
		return d
	}
	m := ispec.Manifest{
		MediaType: ispec.MediaTypeImageManifest, Layers: []ispec.Descriptor{},
		Config: put(ispec.MediaTypeImageConfig, ispec.Image{Platform: ispec.Platform{OS: "linux", Architecture: "amd64"}}),
	}
	m.SchemaVersion = 2
	one := put(ispec.MediaTypeImageManifest, m)
	for n, want := range map[int]error{maxConfigs: nil, maxConfigs + 1: layout.ErrTooLarge} {
		x := ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: slices.Repeat([]ispec.Descriptor{one}, n)}
		x.SchemaVersion = 2
		c := &copier{opt: &Options{}, own: own, docs: map[digest.Digest]*document{}}
		if _, err := c.members(t.Context(), put(ispec.MediaTypeImageIndex, x)); !errors.Is(err, want) {
			t.Errorf("%d images: %v", n, err)
		}
	}
}

// TestGraphInMemory: indexes that lead to each other are in memory at once, and not without
// a limit.
func TestGraphInMemory(t *testing.T) {
	for size, want := range map[int64]error{1000: nil, layout.DefaultMaxDocument: layout.ErrTooLarge} {
		made := map[digest.Digest][]byte{}
		d := ispec.Descriptor{MediaType: "application/x", Digest: digest.FromString(""), Size: 1}
		for range 10 {
			x := ispec.Index{MediaType: ispec.MediaTypeImageIndex, Manifests: []ispec.Descriptor{d}}
			x.SchemaVersion = 2
			data := []byte(encode(t, x))
			d = ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: size}
			made[d.Digest] = data
		}
		g := graph{
			read:  func(_ context.Context, d ispec.Descriptor) ([]byte, error) { return made[d.Digest], nil },
			has:   func(context.Context, ispec.Descriptor) (bool, error) { return true, nil },
			visit: func(ispec.Descriptor) {},
		}
		if err := g.walk(t.Context(), d, 1); !errors.Is(err, want) {
			t.Errorf("documents of %d bytes: %v", size, err)
		}
		if want == nil && g.held != 0 {
			t.Errorf("%d bytes are held at the end", g.held)
		}
	}
}

// TestAllTagsFromPipe: an archive is read once for all names that are copied out of it.
func TestAllTagsFromPipe(t *testing.T) {
	l, one, two, _ := archiveLayout(t)
	for scheme, tag := range map[string]string{"docker-archive:": ":1", "oci-archive:": ""} {
		dir := t.TempDir()
		file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
		must(t, writeArchive(t, l, scheme+file+":one"+tag, one))
		must(t, writeArchive(t, l, scheme+file+":two"+tag, two))
		must(t, unix.Mkfifo(fifo, 0o600))
		data := readFile(t, file)
		sent := make(chan error, 1)
		go func() { sent <- os.WriteFile(fifo, data, 0) }()
		opt := quick()
		opt.AllTags = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := Copy(ctx, location(t, scheme+fifo), location(t, filepath.Join(t.TempDir(), "to")), opt)
		must(t, err)
		must(t, <-sent)
		if len(r.Images) != 2 {
			t.Errorf("%s %+v", scheme, r.Images)
		}
	}
}
