// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// faraway is content that comes through a line that is cut after a number of bytes.
type faraway struct {
	data    []byte
	cut     int // bytes until the line is cut; 0 is never
	offsets []int64
}

var errCut = errors.New("the line was cut")

func (f *faraway) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	f.offsets = append(f.offsets, offset)
	rest := io.Reader(bytes.NewReader(f.data[offset:]))
	if f.cut > 0 {
		rest = io.MultiReader(io.LimitReader(rest, int64(f.cut)), failing{errCut})
	}
	return io.NopCloser(rest), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func randomBlob(size int) ([]byte, ispec.Descriptor) {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data, ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(size)}
}

func TestResume(t *testing.T) {
	data, d := randomBlob(3 << 20)
	for _, c := range []struct {
		name   string
		reopen bool
		cut    int
		offset int64
	}{
		{"in the same layout", false, 1000, 1000},
		{"in another process", true, 2 << 20, 2 << 20},
		{"of too little to be kept", true, 1000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLayout(t)
			f := &faraway{data: data, cut: c.cut}
			err := l.PutResumable(t.Context(), d, f.open)
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			wantOneLine(t, err)
			if ok, _ := l.HasBlob(t.Context(), d); ok {
				t.Fatal("there is a blob already")
			}
			if c.reopen {
				l.Close()
				l = openLayout(t, l.Path(), nil)
			}
			f.cut = 0
			if err := l.PutResumable(t.Context(), d, f.open); err != nil {
				t.Fatal(err)
			}
			if got := f.offsets[len(f.offsets)-1]; got != c.offset {
				t.Errorf("went on at %d, not %d", got, c.offset)
			}
			got, err := os.ReadFile(l.blobFile(d.Digest))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("the blob is wrong: %v", err)
			}
			calls := len(f.offsets)
			if err := l.PutResumable(t.Context(), d, f.open); err != nil || len(f.offsets) != calls {
				t.Errorf("a blob that is there: %v, %v", err, f.offsets)
			}
			l.Close()
			wantNoTemp(t, l.Path())
		})
	}
}

func wantNoTemp(t *testing.T, path string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(path, tempPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestResumeOfRubbish has the beginning of a blob that a crash has spoiled.
func TestResumeOfRubbish(t *testing.T) {
	data, d := randomBlob(2 << 20)
	l := newLayout(t)
	f := &faraway{data: data, cut: 3 << 19}
	if err := l.PutResumable(t.Context(), d, f.open); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	l.Close()
	found, _ := filepath.Glob(filepath.Join(l.Path(), tempPrefix+"*", partialPrefix+"*"))
	if len(found) != 1 {
		t.Fatal(found)
	}
	if err := os.WriteFile(found[0], make([]byte, 3<<19), 0o600); err != nil {
		t.Fatal(err)
	}
	l = openLayout(t, l.Path(), nil)
	f.cut = 0
	if err := l.PutResumable(t.Context(), d, f.open); err != nil {
		t.Fatal(err)
	}
	if got := f.offsets[len(f.offsets)-1]; got != 0 {
		t.Errorf("did not start over but went on at %d", got)
	}
}

func TestResumeRefusesWhatIsWrong(t *testing.T) {
	data, d := randomBlob(2 << 20)
	other := bytes.Clone(data)
	other[5] ^= 1
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"other content", other, ErrDigest},
		{"more", append(bytes.Clone(data), 0), ErrSize},
		{"less", data[:len(data)-1], ErrSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLayout(t)
			f := &faraway{data: c.data}
			err := l.PutResumable(t.Context(), d, f.open)
			if !errors.Is(err, c.want) || len(f.offsets) != 1 {
				t.Errorf("%v after %v", err, f.offsets)
			}
			if ok, _ := l.HasBlob(t.Context(), d); ok {
				t.Error("there is a blob")
			}
			l.Close()
			wantNoTemp(t, l.Path())
		})
	}
}

// TestResumeAtOnce has several writers of one blob, in two open layouts.
func TestResumeAtOnce(t *testing.T) {
	data, d := randomBlob(1 << 20)
	one := newLayout(t)
	two := openLayout(t, one.Path(), nil)
	var wg sync.WaitGroup
	for n := range 8 {
		l := []*Layout{one, two}[n%2]
		wg.Go(func() {
			f := &faraway{data: data}
			if err := l.PutResumable(t.Context(), d, f.open); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r, err := one.OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKeptPartialsAreGarbage makes sure that gc takes what is kept, but not from under
// a living writer.
func TestKeptPartialsAreGarbage(t *testing.T) {
	data, d := randomBlob(2 << 20)
	l := newLayout(t)
	f := &faraway{data: data, cut: 3 << 19}
	if err := l.PutResumable(t.Context(), d, f.open); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	other := openLayout(t, l.Path(), nil)
	report, err := other.GC(t.Context(), nil)
	if err != nil || len(report.TempDirs) != 0 {
		t.Fatalf("%+v %v", report, err)
	}
	l.Close()
	if report, err = other.GC(t.Context(), nil); err != nil || len(report.TempDirs) != 1 {
		t.Fatalf("%+v %v", report, err)
	}
	wantNoTemp(t, l.Path())
}
