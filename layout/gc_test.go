// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// reopen closes the layout, so that nothing of it is held any more.
func reopen(t *testing.T, l *Layout) *Layout {
	t.Helper()
	must(t, l.Close())
	return openLayout(t, l.path, nil)
}

func TestGC(t *testing.T) {
	l := newLayout(t)
	kept, gone := putImage(t, l, "kept"), putImage(t, l, "gone")
	subject := putImage(t, l, "subject")
	referrer := putJSON(t, l, ispec.MediaTypeImageManifest, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		Config:    putBytes(t, l, ispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:    []ispec.Descriptor{},
		Subject:   &subject,
	})
	sha512 := ispec.Descriptor{Digest: digest.SHA512.FromString("x"), Size: 1}
	must(t, l.PutVerified(t.Context(), sha512, strings.NewReader("x")))
	point(t, l, "kept", putIndex(t, l, kept))
	must(t, l.Update(t.Context(), appending(referrer)))
	l = reopen(t, l)
	want := map[digest.Digest]bool{sha512.Digest: true}
	must(t, l.Walk(t.Context(), gone, func(p Path) error { want[p.Target().Digest] = true; return nil }))
	var bytes int64
	for d := range want {
		st, err := os.Stat(l.blobFile(d))
		must(t, err)
		bytes += st.Size()
	}

	before := snapshot(t, l.path)
	dry, err := l.GC(t.Context(), &GCOptions{DryRun: true})
	must(t, err)
	if after := snapshot(t, l.path); after != before {
		t.Errorf("a dry run changed:\n%s\n%s", before, after)
	}
	report, err := l.GC(t.Context(), nil)
	must(t, err)
	for _, r := range []GCReport{dry, report} {
		if len(r.Blobs) != len(want) || r.Bytes != bytes || len(r.TempDirs) != 0 {
			t.Errorf("got %+v, want %d blobs with %d bytes", r, len(want), bytes)
		}
		for _, d := range r.Blobs {
			if !want[d] {
				t.Errorf("%s removed", d)
			}
		}
	}
	checkWhole(t, l.path)
	for d := range want {
		if ok, _ := l.HasBlob(t.Context(), ispec.Descriptor{Digest: d}); ok {
			t.Errorf("%s is still there", d)
		}
	}
	again, err := l.GC(t.Context(), nil)
	if err != nil || len(again.Blobs) != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

// TestGCKeepsJunk is I16, with all that is no blob.
func TestGCKeepsJunk(t *testing.T) {
	l := newLayout(t)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("outside"), 0o644))
	hex := func(c string) string { return strings.Repeat(c, 64) }
	must(t, os.WriteFile(l.file("blobs", "sha256", "README"), []byte("x"), 0o644))
	must(t, os.WriteFile(l.file("blobs", "sha256", hex("A")), []byte("x"), 0o644))
	must(t, os.WriteFile(l.file("blobs", "sha256", hex("a")+"x"), []byte("x"), 0o644))
	must(t, os.WriteFile(l.file("blobs", "junk"), []byte("x"), 0o644))
	must(t, os.MkdirAll(l.file("blobs", "sha384", hex("b")), 0o755))
	must(t, os.Mkdir(l.file("blobs", "sha256", hex("c")), 0o755))
	must(t, os.Symlink(outside, l.file("blobs", "sha256", hex("d"))))
	must(t, unix.Mkfifo(l.file("blobs", "sha256", hex("e")), 0o644))
	must(t, os.WriteFile(l.file("notes.txt"), []byte("x"), 0o644))
	before := snapshot(t, l.path)
	report, err := l.GC(t.Context(), nil)
	if err != nil || len(report.Blobs) > 0 {
		t.Errorf("got %+v, %v", report, err)
	}
	if after := snapshot(t, l.path); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
}

func TestGCMissingBlobs(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "a")
	gone := putImage(t, l, "gone")
	point(t, l, "v1", putIndex(t, l, d, gone))
	manifest, err := l.Manifest(t.Context(), d)
	must(t, err)
	must(t, os.Remove(l.blobFile(manifest.Layers[0].Digest)))
	must(t, os.Remove(l.blobFile(gone.Digest)))
	l = reopen(t, l)
	report, err := l.GC(t.Context(), nil)
	// What only the missing manifest led to is garbage.
	if err != nil || len(report.Blobs) != 2 {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestGCUnknownGraph(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, l *Layout, d ispec.Descriptor){
		"flipped byte": func(t *testing.T, l *Layout, d ispec.Descriptor) {
			must(t, os.WriteFile(l.blobFile(d.Digest), []byte(strings.Repeat("x", int(d.Size))), 0o644))
		},
		"cut off": func(t *testing.T, l *Layout, d ispec.Descriptor) {
			must(t, os.Truncate(l.blobFile(d.Digest), d.Size-1))
		},
		"FIFO": func(t *testing.T, l *Layout, d ispec.Descriptor) {
			must(t, os.Remove(l.blobFile(d.Digest)))
			must(t, unix.Mkfifo(l.blobFile(d.Digest), 0o644))
		},
		"index.json": func(t *testing.T, l *Layout, d ispec.Descriptor) {
			writeIndexFile(t, l, `{"manifests":`)
		},
		"digest that cannot be read": func(t *testing.T, l *Layout, d ispec.Descriptor) {
			d.Digest = "blake3:abc"
			writeIndexFile(t, l, `{"manifests":[`+entry(d, "v1")+`]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			d := putImage(t, l, "a")
			putImage(t, l, "garbage")
			point(t, l, "v1", d)
			l = reopen(t, l)
			spoil(t, l, d)
			before := snapshot(t, l.path)
			report, err := l.GC(t.Context(), nil)
			wantOneLine(t, err)
			if len(report.Blobs) > 0 {
				t.Errorf("removed %v", report.Blobs)
			}
			if after := snapshot(t, l.path); after != before {
				t.Errorf("changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestGCTempDirs(t *testing.T) {
	l := newLayout(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "canary"), []byte("x"), 0o644))
	for _, name := range []string{".shale-stale", ".umoci-stale"} {
		must(t, os.MkdirAll(l.file(name, "sub"), 0o755))
		must(t, os.WriteFile(l.file(name, "sub", "file"), []byte("x"), 0o644))
		must(t, os.Symlink(outside, l.file(name, "link")))
	}
	// Names that only look like those of temporary directories.
	must(t, os.Symlink(outside, l.file(".shale-link")))
	must(t, os.WriteFile(l.file(".umoci-file"), []byte("x"), 0o644))
	must(t, unix.Mkfifo(l.file(".shale-fifo"), 0o644))
	// One that is in use.
	must(t, os.Mkdir(l.file(".umoci-living"), 0o755))
	living, err := os.Open(l.file(".umoci-living"))
	must(t, err)
	defer living.Close()
	must(t, unix.Flock(int(living.Fd()), unix.LOCK_EX))

	before := snapshot(t, outside)
	report, err := l.GC(t.Context(), nil)
	must(t, err)
	if got := strings.Join(report.TempDirs, " "); got != ".shale-stale .umoci-stale" {
		t.Errorf("got %s", got)
	}
	if after := snapshot(t, outside); after != before {
		t.Errorf("changed outside:\n%s\n%s", before, after)
	}
	var left []string
	for _, p := range tempDirs(t, l.path) {
		left = append(left, filepath.Base(p))
	}
	if got := strings.Join(left, " "); got != ".shale-fifo .shale-link .umoci-file .umoci-living" {
		t.Errorf("left: %s", got)
	}
}

// TestGCSparesWhatWritersCountOn covers all ways to count on a blob, in a layout
// that is open twice.
func TestGCSparesWhatWritersCountOn(t *testing.T) {
	l := newLayout(t)
	present := putBytes(t, l, "", []byte("present"))
	held := putBytes(t, l, "", []byte("held"))
	must(t, l.Close())
	writer, collector := openLayout(t, l.path, nil), openLayout(t, l.path, nil)
	fresh := putBytes(t, writer, "", []byte("fresh"))
	putBytes(t, writer, "", []byte("present"))
	must(t, writer.Hold(t.Context(), held, ispec.Descriptor{Digest: "blake3:abc"}))
	unfinished, err := writer.CreateBlob(t.Context())
	must(t, err)
	for _, gc := range []*Layout{collector, writer} {
		report, err := gc.GC(t.Context(), nil)
		must(t, err)
		if len(report.Blobs) > 0 || len(report.TempDirs) > 0 {
			t.Errorf("removed %+v", report)
		}
	}
	d, size, err := unfinished.Commit(t.Context())
	must(t, err)
	must(t, writer.Close())
	report, err := collector.GC(t.Context(), nil)
	must(t, err)
	if len(report.Blobs) != 4 {
		t.Errorf("removed %v", report.Blobs)
	}
	for _, d := range []ispec.Descriptor{present, held, fresh, {Digest: d, Size: size}} {
		if ok, _ := collector.HasBlob(t.Context(), d); ok {
			t.Errorf("%s is still there", d.Digest)
		}
	}
	if err := collector.Hold(t.Context(), ispec.Descriptor{Digest: "sha256:../../x"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestGCManyBlobs is about the order of growth: 30,000 blobs, of which half are
// garbage.
func TestGCManyBlobs(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 30,000 files")
	}
	l := newLayout(t)
	const n = 30_000
	manifest := ispec.Manifest{Config: ispec.Descriptor{MediaType: "x", Digest: "sha256:" + hexA, Size: 3}}
	var roots []ispec.Descriptor
	for i := range n {
		d := digest.FromString(fmt.Sprint(i))
		must(t, os.WriteFile(l.blobFile(d), nil, 0o644))
		if i%2 == 0 {
			manifest.Layers = append(manifest.Layers, ispec.Descriptor{MediaType: "x", Digest: d})
		}
		if len(manifest.Layers) == 3000 {
			roots = append(roots, putJSON(t, l, ispec.MediaTypeImageManifest, manifest))
			manifest.Layers = nil
		}
	}
	point(t, l, "v1", putIndex(t, l, roots...))
	start := time.Now()
	report, err := l.GC(t.Context(), nil)
	must(t, err)
	if len(report.Blobs) != n/2 {
		t.Errorf("removed %d", len(report.Blobs))
	}
	t.Logf("gc of %d blobs took %v", n, time.Since(start))
}
