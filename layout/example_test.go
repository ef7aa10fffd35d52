// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"context"
	"fmt"
	"io"
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
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, path := context.Background(), filepath.Join(dir, "images")
	if err := writeHello(ctx, path); err != nil {
		fmt.Println(err)
	}
	if err := readHello(ctx, path); err != nil {
		fmt.Println(err)
	}
	// Output: not really a tar stream
}

func writeHello(ctx context.Context, path string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
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

func readHello(ctx context.Context, path string) error {
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	way, err := l.Resolve(ctx, "hello", nil)
	if err != nil {
		return err
	}
	manifest, err := l.Manifest(ctx, way.Target())
	if err != nil {
		return err
	}
	r, err := l.OpenBlob(ctx, manifest.Layers[0])
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", content)
	return nil
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

// As long as a layout is open, gc spares what was put into it. The garbage here is
// that of a writer that is gone.
func ExampleLayout_GC() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, path := context.Background(), filepath.Join(dir, "images")
	if err := abandon(ctx, path, "nobody needs this"); err != nil {
		fmt.Println(err)
	}

	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	report, err := l.GC(ctx, nil)
	fmt.Println(len(report.Blobs), "blob with", report.Bytes, "bytes,", err)
	// Output: 1 blob with 17 bytes, <nil>
}

func abandon(ctx context.Context, path, content string) error {
	l, err := layout.Create(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	_, _, err = l.PutBlob(ctx, strings.NewReader(content))
	return err
}
