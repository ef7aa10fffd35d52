// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"testing"
)

// TestTreeIsPipe takes a tar archive from a pipe that has no name, as a shell gives one for
// <(tar -c .).
func TestTreeIsPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("tar"); err != nil {
		t.Fatal(err)
	}
	f := packFlags{cache: t.TempDir()}
	list, err := f.snapshots(t.Context(), []string{fmt.Sprintf("/dev/fd/%d", r.Fd())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if len(list) != 1 || list[0].Tar == nil || list[0].Key != "" {
		t.Fatalf("got %+v", list)
	}
	in, err := list[0].Tar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if data, err := io.ReadAll(in); err != nil || string(data) != "tar" {
		t.Errorf("read %q, %v", data, err)
	}
}
