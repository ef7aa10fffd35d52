// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func platform(s string) *ispec.Platform {
	parts := append(strings.Split(s, "/"), "")
	return &ispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// putPlatform writes an image for the platform. The descriptor names it too unless
// bare is set.
func putPlatform(t *testing.T, l *Layout, s string, bare bool) ispec.Descriptor {
	t.Helper()
	p := platform(s)
	d, err := writeImage(t.Context(), l, s, *p)
	must(t, err)
	if !bare {
		d.Platform = p
	}
	return d
}

func TestResolve(t *testing.T) {
	host := runtime.GOOS + "/" + runtime.GOARCH
	for _, tc := range []struct {
		name    string
		offered string // platforms; with a * only the config says it; [ ] is a nested index
		want    string // the platform asked for; empty is none
		got     string // the image chosen, or the error
	}{
		{"one image, nothing asked", "plan9/mips", "", "plan9/mips"},
		{"the host's", "plan9/mips " + host + " windows/amd64", "", host},
		{"the host's by its config", "plan9/mips *" + host, "", host},
		{"asked for", "linux/amd64 linux/arm64 linux/riscv64", "linux/riscv64", "linux/riscv64"},
		{"only one, but another is asked for", "linux/amd64", "linux/arm64", "!no image for linux/arm64, only for linux/amd64"},
		{"not there", "linux/amd64 linux/arm64/v8", "linux/s390x", "!no image for linux/s390x, only for linux/amd64, linux/arm64/v8"},
		{"the first that fits", "linux/s390x linux/amd64 linux/amd64/v1", "linux/amd64", "linux/amd64"},
		{"other names", "linux/amd64 linux/arm64", "linux/aarch64", "linux/arm64"},
		{"arm64 is arm64/v8", "linux/arm64", "linux/arm64/v8", "linux/arm64"},
		{"the best variant", "linux/arm/v5 linux/arm/v7 linux/arm/v6", "linux/arm", "linux/arm/v7"},
		{"an older variant", "linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm/v6", "linux/arm/v6"},
		{"the newest that runs", "linux/arm/v5 linux/arm/v6", "linux/arm/v7", "linux/arm/v6"},
		{"no newer variant", "linux/arm/v7", "linux/arm/v6", "!no image for linux/arm/v6, only for linux/arm/v7"},
		{"amd64 variants", "linux/amd64/v3 linux/amd64/v2 linux/amd64", "linux/amd64/v2", "linux/amd64/v2"},
		{"nested", "[linux/arm64 linux/amd64] [linux/s390x]", "linux/s390x", "linux/s390x"},
		{"nested twice", "[[linux/arm64]] linux/amd64", "linux/arm64", "linux/arm64"},
		{"statements are no images", "unknown/unknown plan9/mips", "", "plan9/mips"},
		{"nothing but statements", "unknown/unknown", "", "!there is no image in it"},
		{"empty", "", "", "!there is no image in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			index := parseOffer(t, l, tc.offered)
			point(t, l, "multi", index)
			var opt *ResolveOptions
			if tc.want != "" {
				opt = &ResolveOptions{Platform: platform(tc.want)}
			}
			path, err := l.Resolve(t.Context(), "multi", opt)
			if msg, ok := strings.CutPrefix(tc.got, "!"); ok {
				wantOneLine(t, err)
				if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), msg) {
					t.Errorf("got %v, want %s", err, msg)
				}
				return
			}
			must(t, err)
			manifest, err := l.Manifest(t.Context(), path.Target())
			must(t, err)
			config, err := l.Config(t.Context(), manifest.Config)
			must(t, err)
			if config.Author != tc.got {
				t.Errorf("got %s, want %s", config.Author, tc.got)
			}
			if path.Root().Digest != index.Digest || path.Root().Annotations[ispec.AnnotationRefName] != "multi" {
				t.Errorf("root is %+v", path.Root())
			}
			for i := range path[1:] {
				index, err := l.ImageIndex(t.Context(), path[i])
				must(t, err)
				if !slices.ContainsFunc(index.Manifests, func(d ispec.Descriptor) bool { return reflect.DeepEqual(d, path[i+1]) }) {
					t.Errorf("step %d of the path is not in the index above", i+1)
				}
			}
		})
	}
}

// parseOffer makes the index that a line of TestResolve describes.
func parseOffer(t *testing.T, l *Layout, s string) ispec.Descriptor {
	t.Helper()
	stack := [][]ispec.Descriptor{nil}
	for _, word := range strings.Fields(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(s)) {
		top := len(stack) - 1
		switch word {
		case "[":
			stack = append(stack, nil)
		case "]":
			stack[top-1] = append(stack[top-1], putIndex(t, l, stack[top]...))
			stack = stack[:top]
		default:
			name, bare := strings.CutPrefix(word, "*")
			stack[top] = append(stack[top], putPlatform(t, l, name, bare))
		}
	}
	return putIndex(t, l, stack[0]...)
}

func TestResolveManifest(t *testing.T) {
	l := newLayout(t)
	d := putPlatform(t, l, "linux/riscv64", true)
	point(t, l, "v1", d)
	path, err := l.Resolve(t.Context(), "v1", nil)
	if err != nil || len(path) != 1 || path.Target().Digest != d.Digest {
		t.Errorf("got %v, %v", path, err)
	}
	// Who asks for a platform gets that one or none.
	if _, err := l.Resolve(t.Context(), "v1", &ResolveOptions{Platform: platform("linux/riscv64")}); err != nil {
		t.Error(err)
	}
	if _, err := l.Resolve(t.Context(), "v1", &ResolveOptions{Platform: platform("linux/amd64")}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Resolve(t.Context(), "none", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	other := putBytes(t, l, "application/x-\x1b[2J", []byte("x"))
	point(t, l, "other", other)
	_, err = l.Resolve(t.Context(), "other", nil)
	wantOneLine(t, err)
	if !errors.Is(err, ErrMediaType) {
		t.Errorf("got %v", err)
	}
}

func TestResolveBrokenIndex(t *testing.T) {
	l := newLayout(t)
	good := putPlatform(t, l, "linux/amd64", false)
	missing := ispec.Descriptor{MediaType: ispec.MediaTypeImageIndex, Digest: "sha256:" + hexA, Size: 3}
	point(t, l, "v1", putIndex(t, l, good, missing))
	_, err := l.Resolve(t.Context(), "v1", nil)
	wantOneLine(t, err)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), hexA) {
		t.Errorf("got %v", err)
	}
}

func TestResolveFrom(t *testing.T) {
	l := newLayout(t)
	one, two := putPlatform(t, l, "linux/s390x", false), putPlatform(t, l, "linux/riscv64", false)
	index := putIndex(t, l, one, two)
	for root, want := range map[string]ispec.Descriptor{index.Digest.String(): two, two.Digest.String(): two} {
		d := index
		if root == two.Digest.String() {
			d = two
		}
		path, err := l.ResolveFrom(t.Context(), d, &ResolveOptions{Platform: platform("linux/riscv64")})
		if err != nil || path.Root().Digest != d.Digest || path.Target().Digest != want.Digest {
			t.Errorf("%s: %v, %v", root, path, err)
		}
	}
	if _, err := l.ResolveFrom(t.Context(), index, &ResolveOptions{Platform: platform("linux/arm64")}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), index.Digest.String()) {
		t.Errorf("no image: %v", err)
	}
	if _, err := l.ResolveFrom(t.Context(), ispec.Descriptor{MediaType: "text/plain"}, nil); !errors.Is(err, ErrMediaType) {
		t.Errorf("no image at all: %v", err)
	}
}
