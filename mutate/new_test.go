// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestNew(t *testing.T) {
	l := newLayout(t)
	created := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	d, err := New(t.Context(), l, NewOptions{Created: created, Platform: &ispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}})
	must(t, err)
	manifest, err := l.Manifest(t.Context(), d)
	must(t, err)
	got, err := l.ReadBlob(t.Context(), manifest.Config)
	must(t, err)
	want := `{"created":"2024-05-06T07:08:09Z","architecture":"arm","os":"linux","variant":"v7","config":{},"rootfs":{"type":"layers","diff_ids":[]}}` + "\n"
	if string(got) != want {
		t.Errorf("config is %s, want %s", got, want)
	}
	got, err = l.ReadBlob(t.Context(), d)
	must(t, err)
	want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + asJSON(t, manifest.Config) + `,"layers":[]}` + "\n"
	if string(got) != want {
		t.Errorf("manifest is %s, want %s", got, want)
	}
	// Without a time and for this machine it is the same image each time.
	one, err := New(t.Context(), l, NewOptions{})
	must(t, err)
	two, err := New(t.Context(), l, NewOptions{})
	must(t, err)
	if one.Digest != two.Digest {
		t.Errorf("%s and %s", one.Digest, two.Digest)
	}
}

func TestArmVariant(t *testing.T) {
	for machine, want := range map[string]string{
		"aarch64": "v8", "arm64": "v8", "armv8l": "v8", "armv7l": "v7", "armv6l": "v6", "armv5tejl": "v5", "armv": "v8",
	} {
		if got := armVariant(machine); got != want {
			t.Errorf("%s: got %s, want %s", machine, got, want)
		}
	}
}
