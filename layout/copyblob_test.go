// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestCopyBlob(t *testing.T) {
	for _, size := range []int{0, 1, pumpChunk - 1, pumpChunk, pumpChunk * (pumpChunks + 3)} {
		for _, link := range []bool{false, true} {
			from, to := newLayout(t), newLayout(t)
			d := putBytes(t, from, "", bytes.Repeat([]byte{'x'}, size))
			read := 0
			how, err := to.CopyBlob(t.Context(), from, d, &CopyOptions{Link: link, Report: func(n int) { read += n }})
			must(t, err)
			if read != size {
				t.Errorf("%d bytes: %d reported", size, read)
			}
			a, err := os.Lstat(from.blobFile(d.Digest))
			must(t, err)
			b, err := os.Lstat(to.blobFile(d.Digest))
			must(t, err)
			if os.SameFile(a, b) != (how == Linked) || how == Kept || how == Linked && !link {
				t.Errorf("%d bytes, link %v: %s", size, link, how)
			}
			got, err := to.ReadBlob(t.Context(), d)
			if err != nil || len(got) != size {
				t.Errorf("%d bytes: %d bytes, %v", size, len(got), err)
			}
			if how, err := to.CopyBlob(t.Context(), from, d, nil); how != Kept || err != nil {
				t.Errorf("again: %s, %v", how, err)
			}
			noTempFiles(t, to)
		}
	}
}

func noTempFiles(t *testing.T, l *Layout) {
	t.Helper()
	if names, _ := filepath.Glob(l.file(".shale-*", "tmp-*")); len(names) > 0 {
		t.Errorf("temporary files: %v", names)
	}
}

func TestCopyBlobRefuses(t *testing.T) {
	content := []byte("some content")
	d := ispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, content, 0o644))
	write := func(data string) func(string) error {
		return func(p string) error { return os.WriteFile(p, []byte(data), 0o644) }
	}
	for name, tc := range map[string]struct {
		plant func(string) error
		want  error
	}{
		"flipped byte": {write("some cOntent"), ErrDigest},
		"short":        {write("some"), ErrSize},
		"long":         {write("some content and more"), ErrSize},
		"missing":      {func(string) error { return nil }, ErrNotFound},
		"FIFO":         {func(p string) error { return unix.Mkfifo(p, 0o644) }, nil},
		"symlink":      {func(p string) error { return os.Symlink(outside, p) }, nil},
	} {
		for _, link := range []bool{false, true} {
			from, to := newLayout(t), newLayout(t)
			must(t, tc.plant(from.blobFile(d.Digest)))
			_, err := to.CopyBlob(t.Context(), from, d, &CopyOptions{Link: link})
			wantOneLine(t, err)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%s: got %v, want %v", name, err, tc.want)
			}
			if names := blobNames(t, to); len(names) > 0 {
				t.Errorf("%s: blobs: %v", name, names)
			}
			noTempFiles(t, to)
		}
	}
}

func TestCopyBlobReplaces(t *testing.T) {
	for _, link := range []bool{false, true} {
		from, to := newLayout(t), newLayout(t)
		d := putBytes(t, from, "", []byte("good"))
		must(t, os.WriteFile(to.blobFile(d.Digest), []byte("evil"), 0o644))
		for range 2 { // the second time, the source may be the very file that is replaced
			_, err := to.CopyBlob(t.Context(), from, d, &CopyOptions{Link: link, Replace: true})
			must(t, err)
			if got, err := to.ReadBlob(t.Context(), d); err != nil || string(got) != "good" {
				t.Errorf("got %q, %v", got, err)
			}
			noTempFiles(t, to)
		}
	}
}

func TestReplaceVerified(t *testing.T) {
	l := newLayout(t)
	d := putBytes(t, l, "", []byte("good"))
	must(t, os.WriteFile(l.blobFile(d.Digest), []byte("evil"), 0o644))
	if err := l.ReplaceVerified(t.Context(), d, strings.NewReader("vile")); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v", err)
	}
	must(t, l.ReplaceVerified(t.Context(), d, strings.NewReader("good")))
	if got, err := l.ReadBlob(t.Context(), d); err != nil || string(got) != "good" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCopyBlobEmbedded(t *testing.T) {
	content := []byte("{}")
	d := ispec.Descriptor{Digest: digest.SHA512.FromBytes(content), Size: 2, Data: content}
	to := newLayout(t)
	if _, err := to.CopyBlob(t.Context(), newLayout(t), d, nil); err != nil {
		t.Fatal(err)
	}
	d.Data = nil
	if got, err := to.ReadBlob(t.Context(), d); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCopyBlobCancelled(t *testing.T) {
	from, to := newLayout(t), newLayout(t)
	d := putBytes(t, from, "", make([]byte, 3*pumpChunk))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := to.CopyBlob(ctx, from, d, &CopyOptions{Report: func(int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	noTempFiles(t, to)
}

func TestBlobs(t *testing.T) {
	l := newLayout(t)
	want := map[digest.Digest]int64{}
	for _, s := range []string{"", "a", "abc"} {
		d := putBytes(t, l, "", []byte(s))
		want[d.Digest] = d.Size
	}
	must(t, os.WriteFile(l.file("blobs", "sha256", "junk"), nil, 0o644))
	got := map[digest.Digest]int64{}
	must(t, l.Blobs(t.Context(), func(d digest.Digest, size int64) error { got[d] = size; return nil }))
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	boom := errors.New("boom")
	if err := l.Blobs(t.Context(), func(digest.Digest, int64) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}
