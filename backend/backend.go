// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"fmt"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/transfer"
)

// ErrBuild means that an image would have to be built from a Dockerfile, and nobody
// was named who does that: see [Options].
var ErrBuild = errors.New("building from a Dockerfile is not supported")

// Backend is what a builder needs of an image engine. Images are named as the package
// says. Where an image is not in the store the error is layout.ErrNotFound.
type Backend interface {
	// Build makes an image from a Dockerfile.
	Build(ctx context.Context, opt BuildOptions) error
	// Export writes images of the store to an archive.
	Export(ctx context.Context, opt ExportOptions) error
	// Load puts all images of an archive into the store, and returns their names, in the
	// order of the archive.
	Load(ctx context.Context, file string) ([]string, error)
	// Remove drops an image from the store.
	Remove(ctx context.Context, name string) error
	// DefinitionToTar makes an image of its definition and writes it to an archive. In
	// the store it is afterwards only if it was before.
	DefinitionToTar(ctx context.Context, opt BuildOptions, file string) error
	// Extract writes the root filesystem of an image of the store.
	Extract(ctx context.Context, opt ExtractOptions) error
	// Copy gives an image of the store another name, which leads to nothing else
	// afterwards.
	Copy(ctx context.Context, name, newName string) error
	// Download copies an image from its registry into the store.
	Download(ctx context.Context, name string) error
	// Push copies an image of the store to its registry.
	Push(ctx context.Context, name string) error
	// Available reports whether the image's registry has it.
	Available(ctx context.Context, name string) (bool, error)
	// Exists reports whether the store has the image.
	Exists(ctx context.Context, name string) (bool, error)
}

var _ Backend = (*Store)(nil)

// Builder builds images, for stores that are to do that: it puts the image into the
// layout at the path store, under the ref opt.Name.
type Builder func(ctx context.Context, store string, opt BuildOptions) error

// Options change how a store works. The zero value is what most want.
type Options struct {
	// Platform is the platform that is meant where an image is an index and one image is
	// needed. Nil means that of this machine.
	Platform *ispec.Platform
	// Builder is who builds from Dockerfiles. If nil, Build answers with [ErrBuild].
	Builder Builder
	// Layout says how the store is opened.
	Layout layout.Options
	// Registry says how registries are spoken to.
	Registry transfer.RegistryOptions
	// Warn receives what looks wrong but is no error. May be nil.
	Warn func(msg string)
	// Progress receives how far an operation is. May be nil.
	Progress progress.Func
}

// BuildOptions say what an image is built of.
type BuildOptions struct {
	// Name is what the image is to be called.
	Name string
	// Dockerfile is the path of the definition, relative to Context.
	Dockerfile string
	// Context is the directory that the definition may refer to.
	Context string
	// Args are further arguments for the builder.
	Args []string
}

// ExportOptions say what is written to an archive.
type ExportOptions struct {
	// Names are the images. The same images in the same order give the same archive.
	Names []string
	// File is the path of the archive, which is replaced if it is there; "-" stands for
	// standard output.
	File string
	// Format is transfer.SchemeDockerArchive, also if it is empty, or
	// transfer.SchemeOCIArchive, which keeps the digests.
	Format transfer.Scheme
}

// ExtractOptions say where a root filesystem is written to, and how.
type ExtractOptions struct {
	// Name is the image.
	Name string
	// Dir is the directory, which is made, or is there and empty.
	Dir string
	// Map relates the owners in the image to those on the disk. Without root's
	// privileges, Map.Rootless keeps them in attributes.
	Map layer.MapOptions
	// Limits bound what the image's layers may cost.
	Limits layer.Limits
}

// failed says what was tried on which image.
func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, quote.Name(name), err)
}
