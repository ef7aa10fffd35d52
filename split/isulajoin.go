// SPDX-License-Identifier: Apache-2.0

package split

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/tarfile"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

const (
	maxIsulaManifest = 64 << 20 // bytes
	maxIsulaDocument = layout.DefaultMaxDocument
	maxIsulaMemory   = 128 << 20 // bytes of all documents together
	maxIsulaLayers   = 4096      // of an image
)

var (
	hexPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// What may be in an archive: directories of layers and what is in them, and what
	// an app has besides.
	layerMember  = regexp.MustCompile(`^([0-9a-f]{64})(?:/(VERSION|json|layer\.tar))?$`)
	configMember = regexp.MustCompile(`^([0-9a-f]{64})\.json$`)
	layerLink    = regexp.MustCompile(`^\.\./([0-9a-f]{64})/layer\.tar$`)
	layerPath    = regexp.MustCompile(`^([0-9a-f]{64})/layer\.tar$`)
)

// parseIsula reads isula-build's manifest, of either generation.
func parseIsula(data []byte) (map[string]isulaImage, error) {
	var images map[string]isulaImage
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, errorf(ErrInvalid, "read %s: %w", isulaManifest, err)
	}
	if len(images) == 0 {
		return nil, errorf(ErrInvalid, "read %s: there is no image in it", isulaManifest)
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		img := images[name]
		if err := img.check(); err != nil {
			return nil, errorf(ErrInvalid, "read %s: image %s: %w", isulaManifest, quote.Name(name), err)
		}
	}
	return images, nil
}

func (img *isulaImage) check() error {
	for _, p := range img.parts() {
		if !isFileName(p.file) {
			return fmt.Errorf("%s cannot be the name of its %s", quote.Name(p.file), p.kind)
		}
		if !hexPattern.MatchString(p.hash) {
			return fmt.Errorf("the checksum of its %s is %s", p.kind, quote.Name(p.hash))
		}
		for _, id := range p.layers {
			if !hexPattern.MatchString(id) {
				return fmt.Errorf("its %s has a layer called %s", p.kind, quote.Name(id))
			}
		}
	}
	if n := len(img.ids()); n > maxIsulaLayers {
		return fmt.Errorf("it has %d layers, more than the limit of %d", n, maxIsulaLayers)
	}
	return nil
}

// isulaPart is one of the files of an image.
type isulaPart struct {
	kind, file, hash string
	layers           []string
}

// parts returns the files of an image, the lowest first.
func (img *isulaImage) parts() []isulaPart {
	parts := []isulaPart{{isulaBase, img.Base, img.BaseHash, img.BaseLayer}}
	if img.Lib != "" || len(img.LibLayers) > 0 {
		parts = append(parts, isulaPart{isulaLib, img.Lib, img.LibHash, img.LibLayers})
	}
	return append(parts, isulaPart{TopTier, img.App, img.AppHash, img.AppLayers})
}

func (img *isulaImage) ids() []string {
	var ids []string
	for _, p := range img.parts() {
		ids = append(ids, p.layers...)
	}
	return ids
}

// isulaReader joins images out of isula-build's files.
type isulaReader struct {
	*joiner
	dir      string
	archives map[string]*isulaContent            // by the name of the file
	wanted   map[string]map[string]digest.Digest // the diffIDs of layers, by file and by directory
	have     map[digest.Digest]int64             // the sizes of layers that are in the layout now
	memory   int64                               // how many more bytes of documents there may be
}

// isulaContent is what is in one archive, but for its layers.
type isulaContent struct {
	hash      string
	documents map[string][]byte
	layers    map[string]string // the directory of each layer, and where its content is
	memory    *int64            // the reader's
}

// joinIsula joins what isula-build, or Split, has written.
func (j *joiner) joinIsula(ctx context.Context) error {
	if len(j.opt.Tiers) > 0 {
		return errorf(ErrInvalid, "%s is in isula-build's format, whose tiers cannot be given apart", quote.Name(j.opt.From))
	}
	data, err := readFile(filepath.Join(j.opt.From, isulaManifest), maxIsulaManifest)
	if err != nil {
		return fmt.Errorf("read %s: %w", isulaManifest, cause(err))
	}
	images, err := parseIsula(data)
	if err != nil {
		return err
	}
	names, err := selectIsula(images, j.opt.Ref)
	if err != nil {
		return err
	}
	r := &isulaReader{
		joiner: j, dir: j.opt.From, archives: map[string]*isulaContent{},
		wanted: map[string]map[string]digest.Digest{}, have: map[digest.Digest]int64{},
		memory: maxIsulaMemory,
	}
	var plans []*isulaPlan
	for _, name := range names {
		img := images[name]
		p, err := r.plan(ctx, &img)
		if err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(name), err)
		}
		p.ref = name
		if j.opt.Ref != "" {
			p.ref = j.opt.Ref
		}
		plans = append(plans, p)
	}
	for _, file := range slices.Sorted(maps.Keys(r.wanted)) {
		if err := r.layers(ctx, file); err != nil {
			return fmt.Errorf("%s: %w", quote.Name(file), err)
		}
	}
	for _, p := range plans {
		if err := r.assemble(ctx, p); err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(p.ref), err)
		}
	}
	if err := j.checkRefs(ctx); err != nil {
		return err
	}
	return j.commit(ctx)
}

// selectIsula returns the names of the images that ref means.
func selectIsula(images map[string]isulaImage, ref string) ([]string, error) {
	names := slices.Sorted(maps.Keys(images))
	switch {
	case ref == "":
		for _, name := range names {
			if !layout.ValidRef(name) {
				return nil, errorf(ErrInvalid, "image %s needs another name: that is not a valid ref", quote.Name(name))
			}
		}
		return names, nil
	case !layout.ValidRef(ref):
		return nil, errorf(ErrInvalid, "%s is not a valid ref", quote.Name(ref))
	case len(names) == 1:
		return names, nil
	case slices.Contains(names, ref):
		return []string{ref}, nil
	}
	for i := range names {
		names[i] = quote.Name(names[i])
	}
	return nil, errorf(ErrInvalid, "there are %d images in it, and none is called %s: %v", len(names), quote.Name(ref), names)
}

// isulaPlan is an image that all is known of but whether its layers are right.
type isulaPlan struct {
	ref     string
	config  []byte
	diffIDs []digest.Digest
}

// plan reads the documents of an image and notes down its layers.
func (r *isulaReader) plan(ctx context.Context, img *isulaImage) (*isulaPlan, error) {
	parts := img.parts()
	budget := r.opt.Limits.Budget(0)
	for _, p := range parts {
		if err := r.open(ctx, p, budget); err != nil {
			return nil, err
		}
	}
	app := r.archives[img.App]
	m, err := app.manifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote.Name(img.App), err)
	}
	plan := &isulaPlan{config: app.documents[m.Config]}
	// Any number of images may have the same one.
	if r.memory -= int64(len(plan.config)); r.memory < 0 {
		return nil, errTooManyDocuments
	}
	if got := digest.FromBytes(plan.config).Encoded() + ".json"; got != m.Config {
		return nil, errorf(ErrDamaged, "%s: %s does not have the checksum that is its name", quote.Name(img.App), m.Config)
	}
	config, err := layout.ParseConfig(plan.config)
	if err != nil {
		return nil, errorf(ErrInvalid, "%s: read %s: %w", quote.Name(img.App), m.Config, err)
	}
	plan.diffIDs = config.RootFS.DiffIDs
	if len(m.Layers) != len(plan.diffIDs) {
		return nil, errorf(ErrInvalid, "%s: manifest.json lists %d layers, and %s %d diffIDs",
			quote.Name(img.App), len(m.Layers), m.Config, len(plan.diffIDs))
	}
	return plan, r.want(parts, m.Layers, plan.diffIDs)
}

// want notes down which layer is to have which diffID.
func (r *isulaReader) want(parts []isulaPart, layers []string, diffIDs []digest.Digest) error {
	var owners []isulaPart
	var ids []string
	for _, p := range parts {
		for _, id := range p.layers {
			owners = append(owners, p)
			ids = append(ids, id)
		}
	}
	if len(ids) != len(layers) {
		return errorf(ErrInvalid, "%s lists %d layers, and manifest.json %d", isulaManifest, len(ids), len(layers))
	}
	for i, l := range layers {
		if l != ids[i]+"/layer.tar" {
			return errorf(ErrInvalid, "layer %d is %s in %s, and %s in manifest.json", i, ids[i], isulaManifest, quote.Name(l))
		}
		if diffIDs[i].Validate() != nil || diffIDs[i].Algorithm() != digest.SHA256 {
			return errorf(ErrInvalid, "layer %d has the diffID %s", i, quote.Name(string(diffIDs[i])))
		}
		file, dir, err := r.find(parts, owners[i], ids[i])
		if err != nil {
			return err
		}
		if other, ok := r.wanted[file][dir]; ok && other != diffIDs[i] {
			return errorf(ErrInvalid, "layer %d: %s would have two diffIDs, %s and %s", i, dir, other, diffIDs[i])
		}
		if r.wanted[file] == nil {
			r.wanted[file] = map[string]digest.Digest{}
		}
		r.wanted[file][dir] = diffIDs[i]
	}
	return nil
}

// find returns the archive and the directory with the content of a layer. A layer
// that is a link may lead into any of the image's archives, and only once.
func (r *isulaReader) find(parts []isulaPart, owner isulaPart, id string) (file, dir string, err error) {
	target, ok := r.archives[owner.file].layers[id]
	if !ok {
		return "", "", errorf(ErrWrongTier, "%s is not the %s of the image: it lacks layer %s", quote.Name(owner.file), owner.kind, id)
	}
	if target == id {
		return owner.file, id, nil
	}
	for _, p := range parts {
		if r.archives[p.file].layers[target] == target {
			return p.file, target, nil
		}
	}
	return "", "", errorf(ErrInvalid, "%s: layer %s is a link to %s, which is no layer", quote.Name(owner.file), id, target)
}

// open checks an archive's checksum and reads what is in it besides layers.
func (r *isulaReader) open(ctx context.Context, p isulaPart, budget *layer.Budget) error {
	if known := r.archives[p.file]; known != nil {
		if known.hash != p.hash {
			return errorf(ErrInvalid, "%s has two checksums in %s", quote.Name(p.file), isulaManifest)
		}
		return nil
	}
	name := filepath.Join(r.dir, p.file)
	f, err := openRegular(name)
	if errors.Is(err, fs.ErrNotExist) {
		return errorf(ErrMissingTier, "the %s is missing: there is no %s", p.kind, quote.Name(name))
	} else if err != nil {
		return fmt.Errorf("open %s: %w", quote.Name(name), cause(err))
	}
	defer f.Close() //nolint:errcheck // it was only read from
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, contextReader{ctx, f}, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("read %s: %w", quote.Name(name), cause(err))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.hash {
		return errorf(ErrDamaged, "%s is not the %s of the image, or is damaged: its checksum is %s, not %s",
			quote.Name(name), p.kind, got, p.hash)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c := &isulaContent{hash: p.hash, documents: map[string][]byte{}, layers: map[string]string{}, memory: &r.memory}
	if err := eachMember(ctx, f, budget, c.add); err != nil {
		return fmt.Errorf("%s: %w", quote.Name(p.file), err)
	}
	r.archives[p.file] = c
	return nil
}

// eachMember calls fn for the members of a compressed tar.
func eachMember(
	ctx context.Context, r io.Reader, budget *layer.Budget, fn func(h *tar.Header, name string, r io.Reader) error,
) error {
	packed := budget.CountCompressed(contextReader{ctx, r})
	zr, err := layer.NewReader(bufio.NewReaderSize(packed, 256<<10), layer.Gzip, nil)
	if err != nil {
		return err
	}
	zr = budget.Count(zr)
	defer zr.Close() //nolint:errcheck // it was only read from
	tr := tar.NewReader(zr)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		if n > 4*maxIsulaLayers {
			return errorf(ErrInvalid, "it has too many members")
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if name == "" || name == "." {
			continue
		}
		if err := fn(h, name, tr); err != nil {
			return err
		}
	}
}

// damaged says of an archive that cannot be read that it is damaged, unless it is too large.
func damaged(err error) error {
	var over *layer.LimitError
	if errors.As(err, &over) {
		return err
	}
	return errorf(ErrDamaged, "%w", err)
}

// add looks at one member: what cannot be in such an archive is refused.
func (c *isulaContent) add(h *tar.Header, name string, r io.Reader) error {
	refuse := func(why string) error {
		return errorf(ErrInvalid, "entry %s: %s", quote.Name(h.Name), why)
	}
	if m := layerMember.FindStringSubmatch(name); m != nil {
		switch {
		case m[2] == "" && h.Typeflag != tar.TypeDir:
			return refuse("not a directory")
		case m[2] == "layer.tar":
			return c.addLayer(h, m[1])
		case m[2] != "" && h.Typeflag != tar.TypeReg:
			return refuse("not a regular file")
		}
		return nil
	}
	if name != "manifest.json" && name != "repositories" && !configMember.MatchString(name) {
		return refuse("has no place in an image")
	}
	if h.Typeflag != tar.TypeReg || tarfile.Sparse(h) {
		return refuse("not a regular file")
	}
	if h.Size > maxIsulaDocument {
		return refuse(fmt.Sprintf("larger than the limit of %d bytes", int64(maxIsulaDocument)))
	}
	if _, twice := c.documents[name]; twice {
		return refuse("it is there twice")
	}
	if *c.memory -= h.Size; *c.memory < 0 {
		return errTooManyDocuments
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("entry %s: %w", quote.Name(h.Name), damaged(err))
	}
	c.documents[name] = data
	return nil
}

var errTooManyDocuments = errorf(ErrInvalid, "the documents have more than %d bytes together", int64(maxIsulaMemory))

// addLayer notes down where the content of a layer is.
func (c *isulaContent) addLayer(h *tar.Header, id string) error {
	target := id
	var link []string
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		link = layerLink.FindStringSubmatch(h.Linkname)
	case tar.TypeLink:
		link = layerPath.FindStringSubmatch(strings.TrimPrefix(path.Clean(h.Linkname), "./"))
	default:
		return errorf(ErrInvalid, "entry %s: not a regular file", quote.Name(h.Name))
	}
	if h.Typeflag != tar.TypeReg {
		if link == nil {
			return errorf(ErrInvalid, "entry %s: a link to %s, which is no layer", quote.Name(h.Name), quote.Name(h.Linkname))
		}
		target = link[1]
	}
	if _, twice := c.layers[id]; twice {
		return errorf(ErrInvalid, "entry %s: it is there twice", quote.Name(h.Name))
	}
	if tarfile.Sparse(h) {
		return errorf(ErrInvalid, "entry %s: a sparse file", quote.Name(h.Name))
	}
	c.layers[id] = target
	return nil
}

// manifest returns the one image of a docker-archive.
func (c *isulaContent) manifest() (dockerManifest, error) {
	data, ok := c.documents["manifest.json"]
	if !ok {
		return dockerManifest{}, errorf(ErrInvalid, "there is no manifest.json in it")
	}
	var list []dockerManifest
	if err := json.Unmarshal(data, &list); err != nil {
		return dockerManifest{}, errorf(ErrInvalid, "read manifest.json: %w", err)
	}
	if len(list) != 1 {
		return dockerManifest{}, errorf(ErrInvalid, "read manifest.json: there are %d images in it, not one", len(list))
	}
	if !configMember.MatchString(list[0].Config) || c.documents[list[0].Config] == nil {
		return dockerManifest{}, errorf(ErrInvalid, "read manifest.json: there is no config %s", quote.Name(list[0].Config))
	}
	return list[0], nil
}

// layers puts the layers that are wanted out of an archive into the layout. Its
// checksum was compared, but between then and now it may have changed: what counts
// is the diffID.
func (r *isulaReader) layers(ctx context.Context, file string) error {
	f, err := openRegular(filepath.Join(r.dir, file))
	if err != nil {
		return cause(err)
	}
	defer f.Close() //nolint:errcheck // it was only read from
	// That the file was within the limits of an image is known, if it is the same.
	return eachMember(ctx, f, r.opt.Limits.Budget(0), func(h *tar.Header, name string, body io.Reader) error {
		m := layerPath.FindStringSubmatch(name)
		if m == nil || h.Typeflag != tar.TypeReg {
			return nil
		}
		want, ok := r.wanted[file][m[1]]
		if !ok {
			return nil
		}
		if _, done := r.have[want]; done {
			return nil
		}
		d := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: want, Size: h.Size}
		if err := r.put(ctx, d, body); err != nil {
			return fmt.Errorf("entry %s: %w", quote.Name(h.Name), err)
		}
		r.have[want] = h.Size
		return nil
	})
}

// put makes sure that the layout has the blob, which is what body yields.
func (r *isulaReader) put(ctx context.Context, d ispec.Descriptor, body io.Reader) error {
	if err := r.to.Hold(ctx, d); err != nil {
		return err
	}
	has, err := r.to.HasBlob(ctx, d)
	if err != nil {
		return err
	}
	put := r.to.PutVerified
	if has {
		if verify(ctx, dirSource{r.to}, d, nil) == nil {
			r.count(layout.Kept, d)
			return nil
		}
		put = r.to.ReplaceVerified
	}
	r.count(layout.Copied, d)
	return put(ctx, d, body)
}

// assemble writes config and manifest of an image.
func (r *isulaReader) assemble(ctx context.Context, p *isulaPlan) error {
	m := ispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest,
		Config: ispec.Descriptor{
			MediaType: ispec.MediaTypeImageConfig, Digest: digest.FromBytes(p.config), Size: int64(len(p.config)),
		},
		Layers: []ispec.Descriptor{},
	}
	for i, d := range p.diffIDs {
		size, ok := r.have[d]
		if !ok {
			return errorf(ErrMissingTier, "layer %d, %s, is in no archive any more", i, d)
		}
		m.Layers = append(m.Layers, ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: d, Size: size})
	}
	if err := r.put(ctx, m.Config, bytes.NewReader(p.config)); err != nil {
		return err
	}
	manifest, err := document(ispec.MediaTypeImageManifest, m)
	if err != nil {
		return err
	}
	if err := r.put(ctx, manifest.desc, bytes.NewReader(manifest.data)); err != nil {
		return err
	}
	if _, err := r.to.Config(ctx, m.Config); err != nil {
		return err
	}
	r.entries = append(r.entries, withRef(manifest.desc, p.ref))
	r.result.Images = append(r.result.Images, JoinedImage{Ref: p.ref, Digest: manifest.desc.Digest})
	return nil
}
