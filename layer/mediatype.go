// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// Compression is how a layer blob is compressed.
type Compression string

// The compressions that layers have.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Docker's media types of layers. Unlike the OCI types they say "gzip" after a
// point in the one case and after nothing at all in the others.
const (
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

// ErrMediaType is returned for a media type that is not a layer's, or a
// compression that is not supported.
var ErrMediaType = errors.New("unsupported layer media type")

// layerTypes are the media types of plain layers, with the separator that each
// puts before its compression.
var layerTypes = map[string]string{
	ispec.MediaTypeImageLayer:                 "+",
	ispec.MediaTypeImageLayerNonDistributable: "+", //nolint:staticcheck // deprecated, but images have it
	dockerLayer:        ".",
	dockerForeignLayer: ".",
}

// SplitMediaType takes a layer's media type apart into that of the same layer
// uncompressed and the compression. It knows the types of the OCI image-spec,
// "Layer", deprecated ones included, and Docker's.
func SplitMediaType(mediaType string) (base string, c Compression, err error) {
	if _, ok := layerTypes[mediaType]; ok {
		return mediaType, None, nil
	}
	for base, sep := range layerTypes {
		suffix, ok := strings.CutPrefix(mediaType, base+sep)
		if !ok {
			continue
		}
		switch c := Compression(suffix); c {
		case Gzip, Zstd:
			return base, c, nil
		}
	}
	return "", "", fmt.Errorf("%w %s", ErrMediaType, quote.Name(mediaType))
}

// JoinMediaType is the inverse of [SplitMediaType].
func JoinMediaType(base string, c Compression) string {
	if c == None {
		return base
	}
	sep, ok := layerTypes[base]
	if !ok {
		sep = "+"
	}
	return base + sep + string(c)
}
