// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archiveOf writes all of l as an archive.
func archiveOf(t testing.TB, l *Layout) []byte {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(l.Path(), ispec.ImageIndexFile))
	if err != nil {
		t.Fatal(err)
	}
	c := ArchiveContent{Index: index, Open: func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) { return l.OpenBlob(ctx, d) }}
	err = l.Blobs(t.Context(), func(d digest.Digest, size int64) error {
		c.Blobs = append(c.Blobs, ispec.Descriptor{Digest: d, Size: size})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The order does not matter, and neither does how often a blob is given.
	rand.Shuffle(len(c.Blobs), func(i, j int) { c.Blobs[i], c.Blobs[j] = c.Blobs[j], c.Blobs[i] })
	c.Blobs = append(c.Blobs, c.Blobs[0])
	var buf bytes.Buffer
	w := NewArchiveWriter(&buf)
	if err := w.Layout(t.Context(), "", &c); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func readArchive(t testing.TB, data []byte) (*Archive, error) {
	t.Helper()
	return ReadArchive(t.Context(), "x.tar", bytes.NewReader(data), nil)
}

func TestArchiveHoldsTheLayout(t *testing.T) {
	l := newLayout(t)
	one, two := putImage(t, l, "one"), putImage(t, l, "two")
	point(t, l, "one", one)
	point(t, l, "two", putIndex(t, l, two))
	sum := sha512Blob(t, l, "counted otherwise")
	data := archiveOf(t, l)
	if again := archiveOf(t, l); !bytes.Equal(data, again) {
		t.Error("the same layout gives other bytes the second time")
	}
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := OpenArchive(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	index, err := a.Index(t.Context())
	want, _ := l.Index(t.Context())
	if err != nil || len(index.Manifests) != 2 || index.Manifests[1].Digest != want.Manifests[1].Digest {
		t.Errorf("index %v, %v", index, err)
	}
	to := newLayout(t)
	err = l.Blobs(t.Context(), func(d digest.Digest, size int64) error {
		desc := ispec.Descriptor{Digest: d, Size: size}
		read := 0
		how, err := a.CopyBlob(t.Context(), to, desc, &CopyOptions{Report: func(n int) { read += n }})
		if err != nil || how != Copied || int64(read) != size {
			t.Errorf("%s: %s, %d bytes, %v", d, how, read, err)
		}
		if how, err = a.CopyBlob(t.Context(), to, desc, nil); how != Kept {
			t.Errorf("%s again: %s, %v", d, how, err)
		}
		ours, err := a.ReadBlob(t.Context(), desc)
		theirs, _ := l.ReadBlob(t.Context(), desc)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("%s: %q, %v", d, ours, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := a.HasBlob(t.Context(), sum); !ok || err != nil {
		t.Errorf("%s: %v, %v", sum.Digest, ok, err)
	}
	sum.Size++
	if ok, err := a.HasBlob(t.Context(), sum); ok || err != nil {
		t.Errorf("%s of another size: %v, %v", sum.Digest, ok, err)
	}
	if _, err := a.OpenBlob(t.Context(), sum); !errors.Is(err, ErrSize) {
		t.Errorf("open %s of another size: %v", sum.Digest, err)
	}
	sum.Digest = digest.FromString("not there")
	if _, err := a.OpenBlob(t.Context(), sum); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "x.tar") {
		t.Errorf("open what is not there: %v", err)
	}
	if _, err := a.CopyBlob(t.Context(), to, sum, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("copy what is not there: %v", err)
	}
	if _, err := a.ReadFile("elsewhere", 100); !errors.Is(err, ErrNotFound) {
		t.Errorf("read what is not there: %v", err)
	}
	if _, err := a.ReadFile(ispec.ImageIndexFile, 10); !errors.Is(err, ErrTooLarge) {
		t.Errorf("read more than the limit: %v", err)
	}
}

func sha512Blob(t testing.TB, l *Layout, content string) ispec.Descriptor {
	t.Helper()
	d := ispec.Descriptor{Digest: digest.SHA512.FromString(content), Size: int64(len(content))}
	if err := l.PutVerified(t.Context(), d, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestArchiveIsATar has GNU tar unpack an archive, and opens what comes out.
func TestArchiveIsATar(t *testing.T) {
	l := newLayout(t)
	point(t, l, "one", putImage(t, l, "one"))
	dir := t.TempDir()
	cmd := exec.Command("tar", "--extract", "--directory="+dir)
	cmd.Stdin = bytes.NewReader(archiveOf(t, l))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := openLayout(t, dir, nil); len(refsOf(t, got)) != 1 {
		t.Errorf("refs %v", refsOf(t, got))
	}
	// The other way round, in whatever order, with a dot in front.
	out := filepath.Join(t.TempDir(), "y.tar")
	if msg, err := exec.Command("tar", "--create", "--sort=inode", "--file="+out, "--directory="+dir, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	a, err := OpenArchive(t.Context(), out, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	index, err := a.Index(t.Context())
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v, %v", index, err)
	}
	if _, err := a.ReadBlob(t.Context(), index.Manifests[0]); err != nil {
		t.Error(err)
	}
}

func refsOf(t testing.TB, l *Layout) []string {
	t.Helper()
	refs, err := l.Refs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// TestFlippedBitInArchive changes an archive at random places: what is read is either
// right or refused.
func TestFlippedBitInArchive(t *testing.T) {
	l := newLayout(t)
	root := putImage(t, l, "one")
	point(t, l, "one", root)
	good := archiveOf(t, l)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		data := slices.Clone(good)
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		a, err := readArchive(t, data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("open: %v", err)
			}
			continue
		}
		if index, err := a.Index(t.Context()); err == nil && len(index.Manifests) == 1 && index.Manifests[0].Digest == root.Digest {
			got, err := a.ReadBlob(t.Context(), root)
			if want, _ := l.ReadBlob(t.Context(), root); err == nil && !bytes.Equal(got, want) {
				t.Errorf("a manifest of other bytes: %q", got)
			}
		}
	}
	for n := range good[:len(good)-1024] {
		if n%97 != 0 {
			continue
		}
		a, err := readArchive(t, good[:n])
		if err == nil {
			// It ends between two members.
			if n%512 != 0 {
				t.Errorf("cut after %d bytes: no error", n)
			}
			_, err = a.Index(t.Context())
		}
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestHostileArchives(t *testing.T) {
	header := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
	}
	link := func(kind byte, name, target string) *tar.Header {
		return &tar.Header{Typeflag: kind, Name: name, Linkname: target}
	}
	for what, headers := range map[string][]*tar.Header{
		"a file twice":                {header("index.json"), header("index.json")},
		"a file twice, by two names":  {header("index.json"), header("./blobs/../index.json")},
		"a name that leads out":       {header("../index.json")},
		"a name that leads far out":   {header("blobs/../../index.json")},
		"an absolute name":            {header("/etc/passwd")},
		"a link":                      {link(tar.TypeSymlink, "index.json", "oci-layout")},
		"a link that leads out":       {link(tar.TypeSymlink, "blobs/sha256/x", "../../../etc/passwd")},
		"a link to an absolute name":  {link(tar.TypeSymlink, "index.json", "/etc/passwd")},
		"a hardlink":                  {link(tar.TypeLink, "index.json", "oci-layout")},
		"a hardlink that leads out":   {link(tar.TypeLink, "index.json", "../x")},
		"a FIFO":                      {{Typeflag: tar.TypeFifo, Name: "index.json"}},
		"a device":                    {{Typeflag: tar.TypeChar, Name: "index.json"}},
		"a name with an escape":       {{Typeflag: tar.TypeFifo, Name: "\x1b[2J"}},
		"a name that is not Unicode":  {header("\xff")},
		"a root that is a file":       {header(".")},
		"a root that is a link":       {link(tar.TypeSymlink, ".", "blobs")},
		"a directory that leads out":  {{Typeflag: tar.TypeDir, Name: "../x/"}},
		"a link without a target":     {link(tar.TypeSymlink, "index.json", "")},
		"more bytes than there are":   {{Typeflag: tar.TypeReg, Name: "index.json", Size: 1 << 40}},
		"a link that stays in itself": {link(tar.TypeSymlink, "index.json", "index.json")},
	} {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for _, h := range headers {
			if err := tw.WriteHeader(h); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		_ = tw.Flush() // content is missing, which is the point
		_, err := readArchive(t, buf.Bytes())
		if !errors.Is(err, ErrInvalid) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, data := range []string{"", "not a tar", strings.Repeat("x", 4096), "\x1f\x8b\x08"} {
		a, err := readArchive(t, []byte(data))
		if err == nil {
			_, err = a.Index(t.Context())
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestArchiveIndexIsChecked refuses what Open and Index refuse of a directory.
func TestArchiveIndexIsChecked(t *testing.T) {
	const good = `{"imageLayoutVersion":"1.0.0"}`
	for _, files := range []map[string]string{
		{},
		{"oci-layout": good},
		{"index.json": `{"schemaVersion":2,"manifests":[]}`},
		{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[]}`},
		{"oci-layout": good, "index.json": `{"schemaVersion":2,"manifests":[],"layers":[]}`},
		{"oci-layout": good, "index.json": `{"schemaVersion":2,"MANIFESTS":[]}`},
		{"oci-layout": good, "index.json": `{"schemaVersion":2,"manifests":[]}{}`},
	} {
		var buf bytes.Buffer
		w := NewArchiveWriter(&buf)
		for name, content := range files {
			if err := w.File(name, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		a, err := readArchive(t, buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Index(t.Context()); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v", files, err)
		}
	}
}

// TestArchiveOfDamagedBlob makes sure that writing verifies.
func TestArchiveOfDamagedBlob(t *testing.T) {
	l := newLayout(t)
	d := putBytes(t, l, "", []byte("content"))
	c := ArchiveContent{Index: []byte("{}"), Blobs: []ispec.Descriptor{d}}
	for what, content := range map[string]string{"other": "another", "short": "cont", "long": "content and more"} {
		if err := os.WriteFile(filepath.Join(l.Path(), "blobs/sha256", d.Digest.Encoded()), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Open = func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) { return l.OpenBlob(ctx, d) }
		w := NewArchiveWriter(io.Discard)
		if err := w.Layout(t.Context(), "", &c); !errors.Is(err, ErrDigest) && !errors.Is(err, ErrSize) {
			t.Errorf("%s: %v", what, err)
		}
		// Nor may a reader that does not verify put the tar out of step.
		c.Open = func(context.Context, ispec.Descriptor) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(content)), nil
		}
		w = NewArchiveWriter(io.Discard)
		err := w.Layout(t.Context(), "", &c)
		if err == nil {
			err = w.Close()
		}
		if (err == nil) != (what == "other") {
			t.Errorf("%s, not verified: %v", what, err)
		}
	}
}

func TestSubArchives(t *testing.T) {
	var buf bytes.Buffer
	w := NewArchiveWriter(&buf)
	l := newLayout(t)
	d := putBytes(t, l, "", []byte("content"))
	for _, dir := range []string{"one", "two"} {
		c := ArchiveContent{
			Index: []byte(`{"schemaVersion":2,"manifests":[]}`), Files: map[string][]byte{"b": []byte(dir), "a": nil}, Blobs: []ispec.Descriptor{d},
			Open: func(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) { return l.OpenBlob(ctx, d) },
		}
		if err := w.Layout(t.Context(), dir, &c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := readArchive(t, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"one", "two"} {
		sub := a.Sub(dir)
		if _, err := sub.Index(t.Context()); err != nil {
			t.Error(err)
		}
		if data, err := sub.ReadFile("b", 10); err != nil || string(data) != dir {
			t.Errorf("%q, %v", data, err)
		}
		if data, err := sub.ReadBlob(t.Context(), d); err != nil || string(data) != "content" {
			t.Errorf("%q, %v", data, err)
		}
	}
	if a.Sub("three") != nil || a.Sub("on") != nil {
		t.Error("there are layouts that are not there")
	}
}
