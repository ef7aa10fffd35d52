// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
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
	maxDockerMade     = 32 << 20  // bytes of the manifests that are made for it
	maxDockerConfigs  = 128 << 20 // bytes of the configs of all images, which are read one by one
	maxDockerLinks    = 8         // that lead from one to the next
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
	opt     *Options
	file    *archiveFile
	kept    bool // open after Close, for another name in it
	members map[string]tarfile.Member
	images  []DockerImage

	manifests map[digest.Digest][]byte // that were made here
	made      int64                    // bytes of these
	configs   map[digest.Digest]tarfile.Member
	read      int64                              // bytes of configs, each as often as images have it
	layers    map[digest.Digest]dockerLayer      // by diffID
	archive   *layout.Archive                    // the same tar as a layout; nil if it is none
	originals map[digest.Digest]ispec.Descriptor // manifests in that layout, by imageKey
}

// dockerLayer is where a layer is.
type dockerLayer struct {
	member      tarfile.Member
	compression layer.Compression
	size        int64 // in bytes uncompressed
}

var _ archiveSource = (*dockerArchive)(nil)

// openDockerArchive opens the docker-archive that loc names: a file, which may be
// compressed, a pipe, or "-" for standard input. Of the options Limits and Layout count.
func openDockerArchive(ctx context.Context, loc Location, opt *Options) (*dockerArchive, error) {
	a, err := readDockerArchive(ctx, loc, opt)
	if err != nil {
		return nil, &Error{Op: "open", Ref: loc.String(), Err: err}
	}
	return a, nil
}

func readDockerArchive(ctx context.Context, loc Location, opt *Options) (*dockerArchive, error) {
	f, err := openArchiveFile(ctx, loc.Path, opt.Limits)
	if err != nil {
		return nil, err
	}
	a := &dockerArchive{
		loc: loc, opt: opt, file: f,
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
	data, err := a.content(dockerManifestName, "", maxDockerManifest)
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

// content returns what is in a file of at most most bytes, which the limit of the name
// says.
func (a *dockerArchive) content(name string, by limit.Name, most int64) ([]byte, error) {
	m, err := a.lookup(name)
	if err != nil {
		return nil, err
	}
	if err := limit.Check(by, "bytes", m.Size, most); err != nil {
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
	d, config, err := a.config(e)
	if err != nil {
		return img, err
	}
	if original, ok := a.originals[imageKey(d.Digest, e.Layers)]; ok {
		img.Manifest = original
		return img, nil
	}
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config:    d,
	}
	if m.Layers, err = a.layersOf(ctx, e, config.RootFS.DiffIDs); err != nil {
		return img, err
	}
	img.Manifest, err = a.addManifest(m)
	return img, err
}

// config reads the config of an image.
func (a *dockerArchive) config(e dockerEntry) (d ispec.Descriptor, config ispec.Image, err error) {
	data, err := a.content(e.Config, limit.Document, cmp.Or(a.opt.Layout.MaxDocument, layout.DefaultMaxDocument))
	if err != nil {
		return d, config, err
	}
	// Many images may have the same config, which is read as often.
	if a.read += int64(len(data)); a.read > maxDockerConfigs {
		return d, config, errorf(layout.ErrTooLarge, "the configs of its images have more than %d bytes together", int64(maxDockerConfigs))
	}
	d = ispec.Descriptor{MediaType: ispec.MediaTypeImageConfig, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if m := configName.FindStringSubmatch(e.Config); m != nil && m[1] != d.Digest.Encoded() {
		return d, config, errorf(layout.ErrDigest, "the config %s has the digest %s", quote.Name(e.Config), d.Digest)
	}
	if config, err = layout.ParseConfig(data); err != nil {
		return d, config, fmt.Errorf("config %s: %w", quote.Name(e.Config), err)
	}
	if len(e.Layers) != len(config.RootFS.DiffIDs) {
		return d, config, errorf(layout.ErrInvalid, "%d layers, and %d diffIDs in the config %s",
			len(e.Layers), len(config.RootFS.DiffIDs), quote.Name(e.Config))
	}
	a.configs[d.Digest], err = a.lookup(e.Config)
	return d, config, err
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

// layersOf returns the layers of an image, uncompressed.
func (a *dockerArchive) layersOf(ctx context.Context, e dockerEntry, diffIDs []digest.Digest) ([]ispec.Descriptor, error) {
	members := make([]tarfile.Member, len(e.Layers))
	packed := map[int64]int64{} // sizes by offsets: what is there twice counts once
	var total int64
	for i, name := range e.Layers {
		m, err := a.lookup(name)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", quote.Name(name), err)
		}
		members[i] = m
		total += m.Size - packed[m.Offset]
		packed[m.Offset] = m.Size
	}
	budget := a.opt.Limits.Budget(total)
	layers := []ispec.Descriptor{}
	for i, diffID := range diffIDs {
		l, err := a.layer(ctx, members[i], diffID, budget)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", quote.Name(e.Layers[i]), err)
		}
		layers = append(layers, ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: diffID, Size: l.size})
	}
	return layers, nil
}

// layer finds out what the layer of a diffID is. A plain one is not read: whoever
// copies it compares the digest.
func (a *dockerArchive) layer(ctx context.Context, m tarfile.Member, diffID digest.Digest, budget *layer.Budget) (dockerLayer, error) {
	if err := checkDigest(ispec.Descriptor{Digest: diffID}); err != nil {
		return dockerLayer{}, fmt.Errorf("diffID: %w", err)
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
		if l.size, err = a.plainSize(ctx, l, diffID, budget); err != nil {
			return l, err
		}
	}
	a.layers[diffID] = l
	return l, nil
}

// plainSize reads a compressed layer to learn how large it is, and checks its diffID.
func (a *dockerArchive) plainSize(ctx context.Context, l dockerLayer, diffID digest.Digest, budget *layer.Budget) (int64, error) {
	s, err := layer.NewStream(ctx, a.section(l.member), layer.StreamOptions{
		Compression: l.compression, DiffID: diffID, Budget: budget,
	})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	size, err := io.Copy(io.Discard, s)
	if err == nil {
		err = s.Finish()
	}
	return size, err
}
