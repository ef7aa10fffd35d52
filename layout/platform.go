// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"runtime"
	"slices"
	"strconv"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// hostPlatform is the platform of this machine, with the variant that Go itself
// takes for granted.
func hostPlatform() *ispec.Platform {
	return &ispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
}

// archNames are names that others have for architectures, and the variants that
// they imply.
var archNames = map[string][2]string{
	"x86_64":  {"amd64", ""},
	"x86-64":  {"amd64", ""},
	"i386":    {"386", ""},
	"i686":    {"386", ""},
	"aarch64": {"arm64", ""},
	"armhf":   {"arm", "v7"},
	"armel":   {"arm", "v6"},
}

// defaultVariant is what an architecture without a variant means.
var defaultVariant = map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}

func normalize(p ispec.Platform) ispec.Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture = strings.ToLower(p.Architecture)
	p.Variant = strings.ToLower(p.Variant)
	if name, ok := archNames[p.Architecture]; ok {
		p.Architecture = name[0]
		if p.Variant == "" {
			p.Variant = name[1]
		}
	}
	if p.Variant == "" {
		p.Variant = defaultVariant[p.Architecture]
	}
	return p
}

// rank says how well an image for have runs on want: 0 is exact, more is worse,
// and a negative number is not at all. An older variant of the same architecture
// runs on a newer one.
func rank(want, have ispec.Platform) int {
	w, h := normalize(want), normalize(have)
	if w.OS != h.OS || w.Architecture != h.Architecture {
		return -1
	}
	if w.OSVersion != "" && w.OSVersion != h.OSVersion {
		return -1
	}
	for _, feature := range w.OSFeatures {
		if !slices.Contains(h.OSFeatures, feature) {
			return -1
		}
	}
	if w.Variant == h.Variant {
		return 0
	}
	wl, wok := level(w.Variant)
	hl, hok := level(h.Variant)
	if !wok || !hok || hl > wl || defaultVariant[w.Architecture] == "" {
		return -1
	}
	return wl - hl
}

// level returns the order of a variant: 80 for v8, 81 for v8.1.
func level(variant string) (int, bool) {
	digits, ok := strings.CutPrefix(variant, "v")
	if !ok {
		return 0, false
	}
	major, minor, _ := strings.Cut(digits, ".")
	n, err := strconv.ParseUint(major, 10, 8)
	if err != nil {
		return 0, false
	}
	m, err := strconv.ParseUint(minor, 10, 8)
	if minor != "" && (err != nil || m > 9) {
		return 0, false
	}
	return int(n)*10 + int(m), true
}

// platformString is how a platform is written: os/arch[/variant].
func platformString(p ispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return "an unknown platform"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return quote.Name(s)
}
