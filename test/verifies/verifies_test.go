// SPDX-License-Identifier: Apache-2.0

package verifies_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-oci/shale/test/ocitest"
	"github.com/shale-oci/shale/test/verifies"
)

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	d := ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("a", "x", 0o644))}}.Write(t, dir, "app")
	ocitest.AssertWhole(t, dir)
	if ocitest.AlsoVerify == nil {
		t.Error("the fixtures do not ask")
	}
	// Only verify minds a member in another case.
	index := filepath.Join(dir, "index.json")
	data, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	doubled := strings.Replace(string(data), `"manifests"`, `"Annotations":{},"manifests"`, 1)
	if err := os.WriteFile(index, []byte(doubled), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ocitest.Verify(dir); err != nil {
		t.Errorf("%s: %v", d.Digest, err)
	}
	if err := verifies.Layout(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "invalid-document") {
		t.Errorf("got %v", err)
	}
}
