// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"regexp"
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

// rename returns p with the names that Go has.
func rename(p ispec.Platform) ispec.Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture = strings.ToLower(p.Architecture)
	p.Variant = strings.ToLower(p.Variant)
	if name, ok := archNames[p.Architecture]; ok {
		p.Architecture = name[0]
		if p.Variant == "" {
			p.Variant = name[1]
		}
	}
	return p
}

// normalize returns p with the names that Go has and its variant, even if it is the
// usual one.
func normalize(p ispec.Platform) ispec.Platform {
	p = rename(p)
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

// Fits reports whether an image for have is one that [Layout.Resolve] takes, for want
// of a better one, when asked for want: the same platform, or an older variant of it.
func Fits(want, have ispec.Platform) bool { return rank(want, have) >= 0 }

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

// SamePlatform reports whether two platforms are the same, whatever names they have
// for the architecture and whether or not they spell the usual variant out.
func SamePlatform(a, b ispec.Platform) bool {
	a, b = normalize(a), normalize(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant &&
		a.OSVersion == b.OSVersion && slices.Equal(a.OSFeatures, b.OSFeatures)
}

// platformPattern is what os/arch[/variant] looks like: names as Go has them, and as
// others write them.
var platformPattern = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9_-]+(/[A-Za-z0-9.]+)?$`)

// ParsePlatform parses os/arch[/variant], in lower case afterwards and with Go's
// name for the architecture: linux/x86_64 is linux/amd64, and linux/armhf is
// linux/arm/v7.
func ParsePlatform(s string) (ispec.Platform, error) {
	if !platformPattern.MatchString(s) {
		return ispec.Platform{}, opError("parse platform", s, as(ErrInvalid, errors.New("not of the form os/arch[/variant]")))
	}
	parts := append(strings.Split(s, "/"), "")
	return rename(ispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}), nil
}

// PlatformString is how a platform is written: os/arch[/variant]. What it is made
// of may be of foreign origin.
func PlatformString(p ispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// describePlatform is [PlatformString] for messages.
func describePlatform(p ispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return "an unknown platform"
	}
	return quote.Name(PlatformString(p))
}
