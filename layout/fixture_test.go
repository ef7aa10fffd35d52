// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newLayout makes an empty layout that is closed at the end of the test.
func newLayout(t testing.TB) *Layout {
	t.Helper()
	l, err := Create(t.Context(), filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, l)
	return l
}

func openLayout(t testing.TB, path string, opt *Options) *Layout {
	t.Helper()
	l, err := Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, l)
	return l
}

func closeAfter(t testing.TB, l *Layout) {
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func putBytes(t testing.TB, l *Layout, mediaType string, data []byte) ispec.Descriptor {
	t.Helper()
	d, size, err := l.PutBlob(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

func putJSON(t testing.TB, l *Layout, mediaType string, v any) ispec.Descriptor {
	t.Helper()
	d, size, err := l.PutJSON(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

// putImage writes an image with one layer whose content is name.
func putImage(t testing.TB, l *Layout, name string) ispec.Descriptor {
	t.Helper()
	d, err := writeImage(t.Context(), l, name, ispec.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// writeImage is putImage for code that has no test at hand.
func writeImage(ctx context.Context, l *Layout, name string, platform ispec.Platform) (ispec.Descriptor, error) {
	layer := []byte("the layer of " + name)
	ld, lsize, err := l.PutBlob(ctx, bytes.NewReader(layer))
	if err != nil {
		return ispec.Descriptor{}, err
	}
	config := ispec.Image{
		Platform: platform,
		Author:   name,
		RootFS:   ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}
	cd, csize, err := l.PutJSON(ctx, config)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	manifest := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig, Digest: cd, Size: csize},
		Layers:    []ispec.Descriptor{{MediaType: ispec.MediaTypeImageLayer, Digest: ld, Size: lsize}},
	}
	md, msize, err := l.PutJSON(ctx, manifest)
	return ispec.Descriptor{MediaType: ispec.MediaTypeImageManifest, Digest: md, Size: msize}, err
}

func putIndex(t testing.TB, l *Layout, entries ...ispec.Descriptor) ispec.Descriptor {
	t.Helper()
	return putJSON(t, l, ispec.MediaTypeImageIndex, ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageIndex,
		Manifests: entries,
	})
}

func point(t testing.TB, l *Layout, ref string, d ispec.Descriptor) {
	t.Helper()
	if err := l.SetRef(t.Context(), ref, d); err != nil {
		t.Fatal(err)
	}
}

// file returns the path of a file in the layout.
func (l *Layout) file(parts ...string) string {
	return filepath.Join(append([]string{l.path}, parts...)...)
}

func (l *Layout) blobFile(d digest.Digest) string {
	return l.file("blobs", d.Algorithm().String(), d.Encoded())
}

func readIndexFile(t testing.TB, l *Layout) string {
	t.Helper()
	data, err := os.ReadFile(l.file("index.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeIndexFile(t testing.TB, l *Layout, data string) {
	t.Helper()
	if err := os.WriteFile(l.file("index.json"), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// plantBlob writes a blob file without any check, as a hostile layout has it.
func plantBlob(t testing.TB, l *Layout, mediaType string, data []byte) ispec.Descriptor {
	t.Helper()
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := os.WriteFile(l.blobFile(d.Digest), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

// entry is a descriptor as it stands in index.json, with a ref.
func entry(d ispec.Descriptor, ref string) string {
	d.Annotations = map[string]string{ispec.AnnotationRefName: ref}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// tempDirs lists what is left in the layout of writers.
func tempDirs(t testing.TB, path string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(path, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkWhole fails unless the layout is sound: index.json parses, everything that
// can be reached is there with the right content, and no name in blobs lies.
func checkWhole(t testing.TB, path string) {
	t.Helper()
	l, err := Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	index, err := l.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range index.Manifests {
		err := l.Walk(t.Context(), root, func(p Path) error {
			r, err := l.OpenBlob(t.Context(), p.Target())
			if err != nil {
				return err
			}
			defer r.Close()
			return r.Verify(t.Context())
		})
		if err != nil {
			t.Errorf("%v: %v", root.Annotations, err)
		}
	}
	err = filepath.WalkDir(filepath.Join(path, "blobs", "sha256"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err == nil && digest.FromBytes(data).Encoded() != e.Name() {
			err = fmt.Errorf("%s has the wrong content", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// snapshot describes every file below dir, to see whether anything has changed.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v", p, info.Mode(), info.Size(), info.ModTime())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", digest.FromBytes(data))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// wantOneLine checks what every message must be like.
func wantOneLine(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, c := range err.Error() {
		if c < ' ' || c == 0x7f {
			t.Errorf("message with a control byte: %q", err)
			return
		}
	}
}
