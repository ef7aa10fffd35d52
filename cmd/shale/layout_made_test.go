// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/shale-oci/shale/layout"
)

// TestEmptyLayoutOfOthers looks at a layout in which nobody, or another one, has begun to write.
func TestEmptyLayoutOfOthers(t *testing.T) {
	for _, busy := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "images")
		l, err := layout.Create(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if busy {
			if err := os.Mkdir(filepath.Join(path, ".shale-other"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		l, err = layout.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if empty := isEmpty(t.Context(), l); empty == busy {
			t.Errorf("busy: %t, but empty: %t", busy, empty)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		err = removeLayout(path)
		if _, serr := os.Lstat(path); errors.Is(serr, fs.ErrNotExist) == busy || (err != nil) != busy {
			t.Errorf("busy: %t, removed with %v, and now %v", busy, err, serr)
		}
	}
}
