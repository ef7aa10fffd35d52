// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWriteFile: a file is replaced whole or not at all, and through a link.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o640), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	write := func(result error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, "new")
			return errors.Join(err, result)
		}
	}
	check := func(want string) {
		t.Helper()
		data, err := os.ReadFile(file)
		info, serr := os.Lstat(file)
		all, derr := os.ReadDir(dir)
		if err := errors.Join(err, serr, derr); err != nil {
			t.Fatal(err)
		}
		if string(data) != want || info.Mode() != 0o640 || len(all) != 2 {
			t.Errorf("the file has %q and mode %v, the directory %v", data, info.Mode(), all)
		}
	}
	if err := WriteFile(t.Context(), link, write(broken)); !errors.Is(err, broken) || !strings.Contains(err.Error(), link) {
		t.Errorf("got %v", err)
	}
	check("old")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteFile(ctx, link, write(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	check("old")
	if err := WriteFile(t.Context(), link, write(nil)); err != nil {
		t.Error(err)
	}
	check("new")
}
