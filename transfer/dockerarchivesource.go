// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// Resolve implements [Source].
func (a *dockerArchive) Resolve(context.Context) (ispec.Descriptor, error) {
	img, err := a.resolve()
	if err != nil {
		return ispec.Descriptor{}, &Error{Op: "resolve", Ref: a.loc.String(), Err: err}
	}
	return img.Manifest, nil
}

func (a *dockerArchive) resolve() (DockerImage, error) {
	if a.loc.Repo == "" {
		if len(a.images) == 1 {
			return a.images[0], nil
		}
		return DockerImage{}, errorf(layout.ErrAmbiguous, "there are %d images in it: %s", len(a.images), a.names())
	}
	want := CanonicalName(a.loc.dockerName())
	for _, img := range a.images {
		for _, name := range img.Names {
			if CanonicalName(name) == want {
				return img, nil
			}
		}
	}
	return DockerImage{}, errorf(layout.ErrNotFound, "there is no %s in it, but %s", quote.Name(a.loc.dockerName()), a.names())
}

// names lists what there is, for messages.
func (a *dockerArchive) names() string {
	var names []string
	for _, img := range a.images {
		if len(img.Names) == 0 {
			names = append(names, "one without a name")
		}
		for _, name := range img.Names {
			names = append(names, quote.Name(name))
		}
	}
	return list(names)
}

// dockerName is NAME:TAG, empty if there is no name.
func (l Location) dockerName() string {
	if l.Repo == "" {
		return ""
	}
	return l.Repo + ":" + l.Ref()
}

// CanonicalName returns the long form of an image's name, in which names can be compared:
// Docker Hub, its library and the tag latest may be left out of a name.
func CanonicalName(name string) string {
	repo, tag := cutTag(name)
	if tag == "" {
		tag = layout.DefaultRef
	}
	host, rest, ok := strings.Cut(repo, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = dockerHub, repo
	}
	if host == "index."+dockerHub {
		host = dockerHub
	}
	if host == dockerHub {
		rest = strings.TrimPrefix(rest, "library/")
	}
	return host + "/" + rest + ":" + tag
}

// Open implements [Source].
func (a *dockerArchive) Open(ctx context.Context, d ispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if data, ok := a.manifests[d.Digest]; ok && int64(len(data)) == d.Size {
		return bytesOpener(data)(ctx, offset)
	}
	if m, ok := a.configs[d.Digest]; ok && m.Size == d.Size {
		return sectionAt(ctx, a.section(m), offset)
	}
	if l, ok := a.layers[d.Digest]; ok && l.size == d.Size {
		if l.compression == layer.None {
			return sectionAt(ctx, a.section(l.member), offset)
		}
		return a.decompress(ctx, l, d.Digest, offset)
	}
	if a.archive == nil {
		return nil, errorf(layout.ErrNotFound, "blob %s is not in %s", d.Digest, quote.Name(a.loc.Path))
	}
	r, err := a.archive.Section(ctx, d)
	if err != nil {
		return nil, err
	}
	return sectionAt(ctx, r, offset)
}

// has reports whether Open can give the blob.
func (a *dockerArchive) has(ctx context.Context, d ispec.Descriptor) bool {
	if data, ok := a.manifests[d.Digest]; ok && int64(len(data)) == d.Size {
		return true
	}
	if m, ok := a.configs[d.Digest]; ok && m.Size == d.Size {
		return true
	}
	if l, ok := a.layers[d.Digest]; ok && l.size == d.Size {
		return true
	}
	if a.archive == nil {
		return false
	}
	ok, err := a.archive.HasBlob(ctx, d)
	return ok && err == nil
}

// decompress opens a compressed layer.
func (a *dockerArchive) decompress(ctx context.Context, l dockerLayer, diffID digest.Digest, offset int64) (io.ReadCloser, error) {
	// It is as large as it was found to be, or is not what it was any more.
	budget := layer.Limits{Bytes: l.size, Ratio: layer.Unlimited}.Budget(0)
	s, err := layer.NewStream(ctx, a.section(l.member), layer.StreamOptions{
		Compression: l.compression, DiffID: diffID, Budget: budget,
	})
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, s, offset); err != nil {
		s.Close()
		return nil, err
	}
	return streamCloser{s}, nil
}

// streamCloser is a layer's stream that is closed as readers are.
type streamCloser struct{ *layer.Stream }

func (s streamCloser) Close() error {
	s.Stream.Close()
	return nil
}

// Close implements [Source].
func (a *dockerArchive) Close() error {
	if a.kept {
		return nil
	}
	return a.file.Close()
}

func (a *dockerArchive) at(loc Location) { a.loc, a.kept = loc, true }

func (a *dockerArchive) shut() { _ = a.file.Close() } // it was only read from
