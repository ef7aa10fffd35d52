// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layout"
)

// NewOptions say what a new image is. The zero value is one without a time, for
// this machine.
type NewOptions struct {
	// Created is when the image was made; the zero time leaves it out.
	Created time.Time
	// Platform is what the image is for. If nil, the platform of this machine.
	Platform *ispec.Platform
}

// New writes the config and the manifest of an image without layers and without
// history, and returns the descriptor of the manifest. No ref leads to it yet.
func New(ctx context.Context, l *layout.Layout, opt NewOptions) (ispec.Descriptor, error) {
	config := ispec.Image{
		Platform: hostPlatform(),
		RootFS:   ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	if opt.Platform != nil {
		config.Platform = *opt.Platform
	}
	if !opt.Created.IsZero() {
		config.Created = &opt.Created
	}
	manifest := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig},
		Layers:    []ispec.Descriptor{},
	}
	d := ispec.Descriptor{MediaType: ispec.MediaTypeImageManifest}
	var err error
	if manifest.Config.Digest, manifest.Config.Size, err = l.PutJSON(ctx, config); err != nil {
		return d, fmt.Errorf("write config of a new image: %w", err)
	}
	if d.Digest, d.Size, err = l.PutJSON(ctx, manifest); err != nil {
		return d, fmt.Errorf("write manifest of a new image: %w", err)
	}
	return d, nil
}

// hostPlatform is the platform of this machine. Only ARM has variants that
// images tell apart.
func hostPlatform() ispec.Platform {
	p := ispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	if p.Architecture != "arm" && p.Architecture != "arm64" {
		return p
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		p.Variant = armVariant(unix.ByteSliceToString(u.Machine[:]))
	}
	return p
}

// armVariant returns the variant of a machine as uname calls it: armv7l is a v7,
// and whatever runs 64 bits a v8 at least.
func armVariant(machine string) string {
	version, ok := strings.CutPrefix(machine, "armv")
	if !ok || version == "" {
		return "v8"
	}
	return "v" + version[:1]
}
