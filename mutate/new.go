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
	// MediaTypes are those of the image; OCI's if empty.
	MediaTypes MediaTypes
}

// New writes the config and the manifest of an image without layers and without
// history, and returns the descriptor of the manifest. No ref leads to it yet.
func New(ctx context.Context, l *layout.Layout, opt NewOptions) (ispec.Descriptor, error) {
	config, manifest := opt.documents()
	d := ispec.Descriptor{MediaType: manifest.MediaType}
	var err error
	if manifest.Config.Digest, manifest.Config.Size, err = l.PutJSON(ctx, config); err != nil {
		return d, fmt.Errorf("write config of a new image: %w", err)
	}
	if d.Digest, d.Size, err = l.PutJSON(ctx, manifest); err != nil {
		return d, fmt.Errorf("write manifest of a new image: %w", err)
	}
	return d, nil
}

// Blank is [New] and [Open] for those who need no image without layers: nothing is
// written before [Image.Commit].
func Blank(l *layout.Layout, opt NewOptions) *Image {
	i := &Image{layout: l, held: true}
	i.config.value, i.manifest.value = opt.documents()
	i.config.data, i.manifest.data = []byte("{}"), []byte("{}")
	i.platform = clonePlatform(i.config.value.Platform)
	i.target.MediaType = i.manifest.value.MediaType
	i.path = layout.Path{i.target}
	return i
}

// documents returns the config and the manifest of an image without layers.
func (opt *NewOptions) documents() (ispec.Image, ispec.Manifest) {
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
	if opt.MediaTypes == DockerTypes {
		manifest.MediaType, manifest.Config.MediaType = layout.MediaTypeDockerManifest, layout.MediaTypeDockerConfig
	}
	return config, manifest
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
