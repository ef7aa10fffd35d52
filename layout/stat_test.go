// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestStatBlob(t *testing.T) {
	l, err := Create(t.Context(), filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d ispec.Descriptor
	if d.Digest, d.Size, err = l.PutBlob(t.Context(), strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	st, err := l.StatBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.Path(), "blobs", "sha256", d.Digest.Encoded())
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := l.StatBlob(t.Context(), d); err != nil || again.Ino != st.Ino || again == st {
		t.Errorf("got %+v after %+v, %v", again, st, err)
	}
	short := d
	short.Size--
	if _, err := l.StatBlob(t.Context(), short); !errors.Is(err, ErrSize) {
		t.Errorf("another size: %v", err)
	}
	if _, err := l.StatBlob(t.Context(), ispec.Descriptor{Digest: digest.FromString("none")}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no blob: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.StatBlob(t.Context(), d); !errors.Is(err, ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}
