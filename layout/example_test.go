// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// Writing goes from the leaves up; the ref comes last, and makes the image visible.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	l, err := layout.Create(ctx, filepath.Join(dir, "images"))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	if err := writeHello(ctx, l); err != nil {
		log.Fatal(err)
	}

	path, err := l.Resolve(ctx, "hello", nil)
	if err != nil {
		log.Fatal(err)
	}
	manifest, err := l.Manifest(ctx, path.Target())
	if err != nil {
		log.Fatal(err)
	}
	r, err := l.OpenBlob(ctx, manifest.Layers[0])
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", content)
	// Output: not really a tar stream
}

func writeHello(ctx context.Context, l *layout.Layout) error {
	layer := "not really a tar stream"
	layerDigest, layerSize, err := l.PutBlob(ctx, strings.NewReader(layer))
	if err != nil {
		return err
	}
	configDigest, configSize, err := l.PutJSON(ctx, ispec.Image{
		Platform: ispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(layer)}},
	})
	if err != nil {
		return err
	}
	manifestDigest, manifestSize, err := l.PutJSON(ctx, ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig, Digest: configDigest, Size: configSize},
		Layers:    []ispec.Descriptor{{MediaType: ispec.MediaTypeImageLayer, Digest: layerDigest, Size: layerSize}},
	})
	if err != nil {
		return err
	}
	return l.SetRef(ctx, "hello", ispec.Descriptor{
		MediaType: ispec.MediaTypeImageManifest, Digest: manifestDigest, Size: manifestSize,
	})
}

func ExampleParseImage() {
	for _, s := range []string{"images", "images:v1", "images:"} {
		path, ref, err := layout.ParseImage(s)
		fmt.Printf("%q %q %v\n", path, ref, err)
	}
	// Output:
	// "images" "latest" <nil>
	// "images" "v1" <nil>
	// "" "" parse image images:: tag is empty
}

func ExampleLayout_GC() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := layout.Create(ctx, filepath.Join(dir, "images"))
	if err != nil {
		log.Fatal(err)
	}
	if _, _, err := l.PutBlob(ctx, strings.NewReader("nobody needs this")); err != nil {
		log.Fatal(err)
	}
	// As long as the layout is open, what was put is spared.
	l.Close()

	if l, err = layout.Open(ctx, filepath.Join(dir, "images"), nil); err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report, err := l.GC(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(report.Blobs), "blob with", report.Bytes, "bytes")
	// Output: 1 blob with 17 bytes
}
