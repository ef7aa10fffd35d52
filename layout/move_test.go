// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMoveRef(t *testing.T) {
	l := newLayout(t)
	ctx := t.Context()
	a, b := putImage(t, l, "a"), putImage(t, l, "b")
	to := func(d *ispec.Descriptor, seen *[]string) func(*ispec.Descriptor) (*ispec.Descriptor, error) {
		return func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
			if now == nil {
				*seen = append(*seen, "none")
			} else {
				*seen = append(*seen, now.Digest.String())
				now.Annotations["changed"] = "by fn"
			}
			return d, nil
		}
	}
	var seen []string
	must(t, l.MoveRef(ctx, "v1", to(&a, &seen)))
	must(t, l.MoveRef(ctx, "v1", to(&b, &seen)))
	must(t, l.MoveRef(ctx, "v1", to(nil, &seen)))
	if got := refs(t, l); got != "" {
		t.Errorf("left %s", got)
	}
	must(t, l.MoveRef(ctx, "v1", to(nil, &seen)))
	if got, want := strings.Join(seen, " "), strings.Join([]string{"none", a.Digest.String(), b.Digest.String(), "none"}, " "); got != want {
		t.Errorf("fn has seen %s, want %s", got, want)
	}
	boom := errors.New("boom")
	if err := l.MoveRef(ctx, "v1", func(*ispec.Descriptor) (*ispec.Descriptor, error) { return &a, boom }); err != boom { //nolint:errorlint // as it is
		t.Errorf("got %v", err)
	}
	wantInvalid(t, l.MoveRef(ctx, "../x", to(&a, &seen)), "not a valid ref")
}

// TestMoveRefTwoAtOnce moves the ref while another mover thinks about it.
func TestMoveRefTwoAtOnce(t *testing.T) {
	l := newLayout(t)
	a, b, c := putImage(t, l, "a"), putImage(t, l, "b"), putImage(t, l, "c")
	point(t, l, "v1", a)
	point(t, l, "v2", a)
	calls := 0
	must(t, l.MoveRef(t.Context(), "v1", func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		if calls++; calls == 1 {
			point(t, l, "v1", b)
			return &c, nil
		}
		if now.Digest != b.Digest {
			t.Errorf("the second time there is %s", now.Digest)
		}
		// Other refs are no matter.
		point(t, l, "v2", b)
		return &c, nil
	}))
	if d, err := l.Lookup(t.Context(), "v1"); calls != 2 || err != nil || d.Digest != c.Digest {
		t.Errorf("after %d calls: %s, %v", calls, d.Digest, err)
	}
}

func TestTagImage(t *testing.T) {
	l := newLayout(t)
	point(t, l, "multi", parseOffer(t, l, "linux/amd64 linux/arm64"))
	must(t, l.TagImage(t.Context(), "multi", "one", platform("linux/arm64")))
	d, err := l.Lookup(t.Context(), "one")
	must(t, err)
	if !IsManifest(d.MediaType) || d.Platform == nil || d.Platform.Architecture != "arm64" {
		t.Errorf("got %+v", d)
	}
	if err := l.TagImage(t.Context(), "multi", "two", platform("linux/s390x")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	wantInvalid(t, l.TagImage(t.Context(), "multi", "-", nil), "not a valid ref")
	if got := refs(t, l); got != "multi one" {
		t.Errorf("got %s", got)
	}
}

func TestMembers(t *testing.T) {
	l := newLayout(t)
	for offered, want := range map[string]string{
		"linux/amd64":                         "linux/amd64",
		"linux/amd64 *linux/arm":              "linux/amd64 linux/arm",
		"[a/b [c/d]] unknown/unknown e/f a/b": "a/b c/d e/f",
		"":                                    "",
	} {
		members, err := l.Members(t.Context(), parseOffer(t, l, offered))
		must(t, err)
		var got []string
		for _, m := range members {
			got = append(got, PlatformString(m.Platform))
			if p, err := l.PlatformOf(t.Context(), m.Path); err != nil || !SamePlatform(p, m.Platform) {
				t.Errorf("%s: %v, %v", offered, p, err)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", offered, got, want)
		}
	}
	image := putImage(t, l, "a")
	if members, err := l.Members(t.Context(), image); err != nil || len(members) != 1 || len(members[0].Path) != 1 {
		t.Errorf("got %v, %v", members, err)
	}
	if _, err := l.Members(t.Context(), ispec.Descriptor{MediaType: "application/x", Digest: image.Digest}); !errors.Is(err, ErrMediaType) {
		t.Errorf("got %v", err)
	}
}

// TestSameImageForTwoPlatforms lists one manifest twice: data is the same everywhere.
func TestSameImageForTwoPlatforms(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "data")
	one, two, again := d, d, d
	one.Platform, two.Platform, again.Platform = platform("linux/amd64"), platform("linux/arm64"), platform("linux/arm64/v8")
	point(t, l, "multi", putIndex(t, l, one, two, again))
	path, err := l.Resolve(t.Context(), "multi", &ResolveOptions{Platform: platform("linux/arm64")})
	must(t, err)
	if path.Target().Platform.Architecture != "arm64" {
		t.Errorf("got %+v", path.Target())
	}
	root, err := l.Lookup(t.Context(), "multi")
	must(t, err)
	if members, err := l.Members(t.Context(), root); err != nil || len(members) != 2 {
		t.Errorf("got %v, %v", members, err)
	}
}

func TestParsePlatform(t *testing.T) {
	for s, want := range map[string]string{
		"linux/amd64":    "linux/amd64",
		"Linux/x86_64":   "linux/amd64",
		"linux/aarch64":  "linux/arm64",
		"linux/armhf":    "linux/arm/v7",
		"linux/arm/V6":   "linux/arm/v6",
		"linux/arm64/v8": "linux/arm64/v8",
		"wasip1/wasm":    "wasip1/wasm",
	} {
		if p, err := ParsePlatform(s); err != nil || PlatformString(p) != want {
			t.Errorf("%s: got %s, %v, want %s", s, PlatformString(p), err, want)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "linux//v8", "linux/arm/v7/x", "linux/a b", "linux/arm\n", "linux/\x1b[m"} {
		_, err := ParsePlatform(s)
		wantInvalid(t, err, "os/arch")
	}
}

func TestSamePlatform(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"linux/amd64", "linux/amd64/v1", true},
		{"linux/amd64", "linux/amd64/v2", false},
		{"linux/aarch64", "linux/arm64/v8", true},
		{"linux/amd64", "windows/amd64", false},
	} {
		if got := SamePlatform(*platform(tc.a), *platform(tc.b)); got != tc.same {
			t.Errorf("%s and %s: got %v", tc.a, tc.b, got)
		}
	}
	a, b := platform("windows/amd64"), platform("windows/amd64")
	a.OSVersion = "10"
	if SamePlatform(*a, *b) {
		t.Error("another version is the same")
	}
}
