// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/tarfile"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// Limits of a docker-archive.
const (
	maxDockerManifest = 8 << 20 // bytes of manifest.json
	maxDockerImages   = 4096
	maxDockerMade     = 32 << 20 // bytes of the manifests that are made for it
	maxDockerLinks    = 8        // that lead from one to the next
)

// ErrNoDockerArchive means that a tar is not what "docker save" writes: there is no
// manifest.json in it.
var ErrNoDockerArchive = errors.New("not a docker-archive")

// dockerManifestName is the file that makes a tar a docker-archive.
const dockerManifestName = "manifest.json"

// dockerEntry is an image in manifest.json.
type dockerEntry struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

var dockerEntryDoc = jsondoc.New[dockerEntry](jsondoc.Rules{
	MaxItems: map[string]int{"Layers": 4096, "RepoTags": 4096},
})

// DockerImage is an image in a docker-archive.
type DockerImage struct {
	// Names are what it is called, as NAME:TAG. There may be none.
	Names []string
	// Manifest is the descriptor of its manifest. Archives seldom have one: then it
	// is that of an OCI manifest with the image's config, byte for byte, and its
	// layers uncompressed.
	Manifest ispec.Descriptor
}

// dockerArchive is a docker-archive to read from.
type dockerArchive struct {
	loc     Location
	file    *archiveFile
	members map[string]tarfile.Member
	images  []DockerImage

	manifests map[digest.Digest][]byte // that were made here
	made      int64                    // bytes of these
	configs   map[digest.Digest]tarfile.Member
	layers    map[digest.Digest]dockerLayer        // by diffID
	archive   *layout.Archive                      // the same tar as a layout; nil if it is none
	originals map[digest.Digest][]ispec.Descriptor // manifests in that layout, by their configs
}

// dockerLayer is where a layer is.
type dockerLayer struct {
	member      tarfile.Member
	compression layer.Compression
	size        int64 // in bytes uncompressed
}

var _ Source = (*dockerArchive)(nil)

// openDockerArchive opens the docker-archive that loc names: a file, which may be
// compressed, a pipe, or "-" for standard input.
func openDockerArchive(ctx context.Context, loc Location) (*dockerArchive, error) {
	a, err := readDockerArchive(ctx, loc)
	if err != nil {
		return nil, &Error{Op: "open", Ref: loc.String(), Err: err}
	}
	return a, nil
}

func readDockerArchive(ctx context.Context, loc Location) (*dockerArchive, error) {
	f, err := openArchiveFile(ctx, loc.Path)
	if err != nil {
		return nil, err
	}
	a := &dockerArchive{
		loc: loc, file: f,
		manifests: map[digest.Digest][]byte{}, configs: map[digest.Digest]tarfile.Member{}, layers: map[digest.Digest]dockerLayer{},
	}
	if err := a.load(ctx); err != nil {
		return nil, both(err, f.Close())
	}
	return a, nil
}

// load reads all documents.
func (a *dockerArchive) load(ctx context.Context) error {
	var err error
	if a.members, err = tarfile.List(ctx, a.file, a.file.Size()); err != nil {
		if errors.Is(err, tarfile.ErrInvalid) {
			err = invalid(err)
		}
		return err
	}
	data, err := a.read(dockerManifestName, maxDockerManifest)
	if errors.Is(err, fs.ErrNotExist) {
		hint := ""
		if _, ok := a.members[ispec.ImageLayoutFile]; ok {
			hint = " (it looks like an oci-archive)"
		}
		return as(ErrNoDockerArchive, errorf(layout.ErrInvalid, "there is no %s in it%s", dockerManifestName, hint))
	} else if err != nil {
		return err
	}
	entries, err := parseDockerManifest(data)
	if err != nil {
		return fmt.Errorf("%s: %w", dockerManifestName, err)
	}
	if err := a.findOriginals(ctx); err != nil {
		return err
	}
	for i, e := range entries {
		img, err := a.image(ctx, e)
		if err != nil {
			return fmt.Errorf("image %s: %w", e.name(i), err)
		}
		a.images = append(a.images, img)
	}
	return nil
}

// name is what a message calls the n-th image.
func (e *dockerEntry) name(n int) string {
	if len(e.RepoTags) > 0 {
		return quote.Name(e.RepoTags[0])
	}
	return fmt.Sprintf("number %d", n+1)
}

// parseDockerManifest reads manifest.json.
func parseDockerManifest(data []byte) ([]dockerEntry, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, invalid(err)
	}
	if len(list) == 0 {
		return nil, invalid(errors.New("there is no image in it"))
	}
	if err := limit.Check("", "images", int64(len(list)), maxDockerImages); err != nil {
		return nil, as(layout.ErrTooLarge, err)
	}
	entries := make([]dockerEntry, len(list))
	for i, one := range list {
		if err := dockerEntryDoc.Unmarshal(one, &entries[i]); err != nil {
			return nil, errorf(layout.ErrInvalid, "image number %d: %w", i+1, err)
		}
	}
	return entries, nil
}

// lookup finds a file by its name, which may be that of a link.
func (a *dockerArchive) lookup(name string) (tarfile.Member, error) {
	at := path.Clean(name)
	for range maxDockerLinks {
		m, ok := a.members[at]
		if !ok {
			return m, errorf(layout.ErrInvalid, "there is no file %s in it: %w", quote.Name(name), fs.ErrNotExist)
		}
		if m.Link == "" {
			return m, nil
		}
		at = m.Link
	}
	return tarfile.Member{}, errorf(layout.ErrInvalid, "%s is a link, and leads to too many others", quote.Name(name))
}

func (a *dockerArchive) section(m tarfile.Member) *io.SectionReader {
	return io.NewSectionReader(a.file, m.Offset, m.Size)
}

// read returns the content of a file of at most most bytes.
func (a *dockerArchive) read(name string, most int64) ([]byte, error) {
	m, err := a.lookup(name)
	if err != nil {
		return nil, err
	}
	if err := limit.Check("", "bytes", m.Size, most); err != nil {
		return nil, errorf(layout.ErrTooLarge, "%s: %w", quote.Name(name), err)
	}
	data := make([]byte, m.Size)
	if _, err := io.ReadFull(a.section(m), data); err != nil {
		return nil, fmt.Errorf("read %s: %w", quote.Name(name), cause(err))
	}
	return data, nil
}

// configName is how a config is called after its digest.
var configName = regexp.MustCompile(`^(?:.*/)?([0-9a-f]{64})(?:\.json)?$`)

// image makes sense of an entry of manifest.json.
func (a *dockerArchive) image(ctx context.Context, e dockerEntry) (DockerImage, error) {
	img := DockerImage{Names: e.RepoTags}
	data, err := a.read(e.Config, layout.DefaultMaxDocument)
	if err != nil {
		return img, err
	}
	id := digest.FromBytes(data)
	if m := configName.FindStringSubmatch(e.Config); m != nil && m[1] != id.Encoded() {
		return img, errorf(layout.ErrDigest, "the config %s has the digest %s", quote.Name(e.Config), id)
	}
	config, err := layout.ParseConfig(data)
	if err != nil {
		return img, fmt.Errorf("config %s: %w", quote.Name(e.Config), err)
	}
	if len(e.Layers) != len(config.RootFS.DiffIDs) {
		return img, errorf(layout.ErrInvalid, "%d layers, and %d diffIDs in the config %s",
			len(e.Layers), len(config.RootFS.DiffIDs), quote.Name(e.Config))
	}
	if a.configs[id], err = a.lookup(e.Config); err != nil {
		return img, err
	}
	original, ok, err := a.original(ctx, id, e)
	if err != nil {
		return img, err
	}
	if ok {
		img.Manifest = original
		return img, nil
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig, Digest: id, Size: int64(len(data))},
		Layers:    []ispec.Descriptor{},
	}
	for i, diffID := range config.RootFS.DiffIDs {
		l, err := a.layer(ctx, e.Layers[i], diffID)
		if err != nil {
			return img, fmt.Errorf("layer %s: %w", quote.Name(e.Layers[i]), err)
		}
		m.Layers = append(m.Layers, ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: diffID, Size: l.size})
	}
	img.Manifest, err = a.addManifest(m)
	return img, err
}

// addManifest keeps a manifest that the archive itself does not have.
func (a *dockerArchive) addManifest(m ispec.Manifest) (ispec.Descriptor, error) {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(m); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	d := ispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(buf.Bytes()), Size: int64(buf.Len())}
	if a.manifests[d.Digest] != nil {
		return d, nil
	}
	if a.made += d.Size; a.made > maxDockerMade {
		return d, errorf(layout.ErrTooLarge, "its images have more layers than %d bytes of manifests can list", int64(maxDockerMade))
	}
	a.manifests[d.Digest] = buf.Bytes()
	return d, nil
}

// layer finds out where the layer of a diffID is. A plain one is not read: whoever
// copies it compares the digest.
func (a *dockerArchive) layer(ctx context.Context, name string, diffID digest.Digest) (dockerLayer, error) {
	if err := checkDigest(ispec.Descriptor{Digest: diffID}); err != nil {
		return dockerLayer{}, fmt.Errorf("diffID: %w", err)
	}
	m, err := a.lookup(name)
	if err != nil {
		return dockerLayer{}, err
	}
	if known, ok := a.layers[diffID]; ok {
		return known, nil
	}
	l := dockerLayer{member: m, size: m.Size}
	head := make([]byte, layer.MagicSize)
	n, err := a.section(m).ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return l, cause(err)
	}
	if l.compression, err = layer.DetectCompression(head[:n]); err != nil {
		return l, invalid(err)
	}
	if l.compression != layer.None {
		if l.size, err = a.plainSize(ctx, l, diffID); err != nil {
			return l, err
		}
	}
	a.layers[diffID] = l
	return l, nil
}

// plainSize reads a compressed layer to learn how large it is, and checks its diffID.
func (a *dockerArchive) plainSize(ctx context.Context, l dockerLayer, diffID digest.Digest) (int64, error) {
	s, err := layer.NewStream(ctx, a.section(l.member), layer.StreamOptions{Compression: l.compression, DiffID: diffID})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	size, err := io.Copy(io.Discard, io.LimitReader(s, maxStaged+1))
	if err == nil {
		err = s.Finish()
	}
	if err == nil {
		err = limit.Check("", "bytes in a layer", size, maxStaged)
	}
	return size, err
}
