// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"maps"
	"slices"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// MediaTypes is one of the two families of media types that images have.
type MediaTypes string

// The families. The empty one stands for what an image has already, or for OCI.
const (
	OCITypes    MediaTypes = "oci"
	DockerTypes MediaTypes = "docker"
)

// Docker's media types of plain layers. The layout has those of documents.
const (
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

// twins are the media types of plain layers in both families.
var twins = []struct{ oci, docker string }{
	{ispec.MediaTypeImageLayer, dockerLayer},
	{ispec.MediaTypeImageLayerNonDistributable, dockerForeignLayer}, //nolint:staticcheck // deprecated, but images have it
}

// isDocker reports whether the image is one of Docker's media types.
func (i *Image) isDocker() bool { return i.target.MediaType == layout.MediaTypeDockerManifest }

// SetMediaTypes gives the image, its config and its layers the media types of the
// family, however they are compressed; the blobs of the layers stay as they are.
func (i *Image) SetMediaTypes(to MediaTypes) {
	docker := to == DockerTypes
	if to == "" || docker == i.isDocker() {
		return
	}
	m := &i.manifest.value
	i.target.MediaType, m.Config.MediaType = ispec.MediaTypeImageManifest, ispec.MediaTypeImageConfig
	if docker {
		i.target.MediaType, m.Config.MediaType = layout.MediaTypeDockerManifest, layout.MediaTypeDockerConfig
	}
	m.MediaType = i.target.MediaType
	m.Layers = slices.Clone(m.Layers)
	for n := range m.Layers {
		m.Layers[n].MediaType = layerType(m.Layers[n].MediaType, docker)
	}
}

// layerType returns the media type that a layer has in the other family, or the same
// if there is none.
func layerType(mediaType string, docker bool) string {
	base, c, err := layer.SplitMediaType(mediaType)
	if err != nil {
		return mediaType
	}
	for _, t := range twins {
		switch {
		case docker && base == t.oci:
			base = t.docker
		case !docker && base == t.docker:
			base = t.oci
		}
	}
	return layer.JoinMediaType(base, c)
}

// ConfigAnnotations returns a copy of the annotations that the descriptor of the
// config has in the manifest.
func (i *Image) ConfigAnnotations() map[string]string {
	return maps.Clone(i.manifest.value.Config.Annotations)
}

// SetConfigAnnotations changes the annotations that the descriptor of the config has
// in the manifest.
func (i *Image) SetConfigAnnotations(a map[string]string) {
	i.manifest.value.Config.Annotations = maps.Clone(a)
}
