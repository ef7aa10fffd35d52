// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/tarfile"
	"github.com/shale-oci/shale/layer"
)

// What isula-build writes: a docker-archive in three parts, each a tar.gz of
// directories called like layers, and a file called manifest that says what belongs
// together.

const (
	isulaManifest = "manifest"
	isulaBase     = "base"
	isulaLib      = "lib"
)

// isulaImage is an image in the manifest.
type isulaImage struct {
	App       string   `json:"app"`
	AppHash   string   `json:"appHash"` // SHA-256 of the file
	AppLayers []string `json:"appLayers"`

	Lib          string   `json:"lib,omitzero"`
	LibHash      string   `json:"libHash,omitzero"`
	LibImageName string   `json:"libImageName,omitzero"`
	LibLayers    []string `json:"libLayers,omitzero"`

	Base          string     `json:"base"`
	BaseHash      string     `json:"baseHash"`
	BaseImageName string     `json:"baseImageName"`
	BaseLayer     isulaLayer `json:"baseLayer"`
}

// isulaLayer is the layers of a base: one generation of isula-build writes a
// string, another one a list.
type isulaLayer []string

// MarshalJSON implements [json.Marshaler].
func (l isulaLayer) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal(append([]string{}, l...))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (l *isulaLayer) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = isulaLayer{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

// isulaName returns the whole name of an image, with a tag, and how the names of
// its files begin.
func isulaName(ref string) (name, prefix string) {
	last := ref[strings.LastIndex(ref, "/")+1:]
	base, tag, ok := strings.Cut(last, ":")
	if !ok {
		tag = "latest"
		ref += ":" + tag
	}
	return ref, strings.NewReplacer(":", "_", "@", "_").Replace(base + "_" + tag)
}

// ReadRename reads a file of new names in the form of isula-build's --rename: a list
// of objects with "name" and "rename".
func ReadRename(path string) (map[string]string, error) {
	data, err := readFile(path, maxSmallFile)
	if err != nil {
		return nil, fmt.Errorf("read new names from %s: %w", quote.Name(path), cause(err))
	}
	var list []struct {
		Name   string `json:"name"`
		Rename string `json:"rename"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, errorf(ErrInvalid, "read new names from %s: %w", quote.Name(path), err)
	}
	names := map[string]string{}
	for _, r := range list {
		if !isFileName(r.Rename) {
			return nil, errorf(ErrInvalid, "read new names from %s: %s cannot be the name of a file", quote.Name(path), quote.Name(r.Rename))
		}
		if _, twice := names[r.Name]; twice {
			return nil, errorf(ErrInvalid, "read new names from %s: two new names for %s", quote.Name(path), quote.Name(r.Name))
		}
		names[r.Name] = r.Rename
	}
	return names, nil
}

// isFileName reports whether s names a file in a directory, other than the manifest.
func isFileName(s string) bool {
	return s != "" && s != "." && s != ".." && s != isulaManifest && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

// isulaWriter writes all files of one OUT.
type isulaWriter struct {
	*writer
	dir     string
	out     *Out
	renamed map[string]bool // new names that were used
	taken   map[string]bool // names of files
	tiers   map[*slice]isulaFile
}

// isulaFile is a file that was written.
type isulaFile struct{ name, hash string }

func (w *writer) isula(ctx context.Context, dir string, out *Out) error {
	iw := &isulaWriter{
		writer: w, dir: dir, out: out,
		renamed: map[string]bool{}, taken: map[string]bool{}, tiers: map[*slice]isulaFile{},
	}
	images := map[string]isulaImage{}
	for _, img := range out.images {
		name, prefix := isulaName(img.ref)
		entry, err := iw.image(ctx, img, name, prefix)
		if err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(img.ref), err)
		}
		images[name] = entry
	}
	for old := range w.opt.Rename {
		if !iw.renamed[old] && !w.opt.Each {
			return errorf(ErrInvalid, "there is no file %s to be renamed", quote.Name(old))
		}
	}
	data, err := json.Marshal(images)
	if err != nil {
		return fmt.Errorf("encode %s: %w", isulaManifest, err)
	}
	if err := writeFile(filepath.Join(dir, isulaManifest), data); err != nil {
		return err
	}
	return syncDir(dir)
}

// image writes the files of one image, less those that another one has written.
func (w *isulaWriter) image(ctx context.Context, img *imagePlan, name, prefix string) (isulaImage, error) {
	if len(img.stacks) != 1 {
		return isulaImage{}, errorf(ErrInvalid, "format isula is for images of one platform, and this one has %d", len(img.stacks))
	}
	s := img.stacks[0]
	ids := layerIDs(s.config.RootFS.DiffIDs)
	budget := w.opt.Limits.BudgetOf(s.manifest.Layers)
	var entry isulaImage
	start := 0
	for i, tier := range w.out.slices {
		c := sliceOf(tier, s)
		kind := isulaBase
		if i > 0 {
			kind = isulaLib
		}
		file, ok := w.tiers[c]
		if !ok {
			var err error
			a := isulaArchive{ids: ids, start: c.start, layers: c.layers, diffIDs: s.config.RootFS.DiffIDs, budget: budget}
			if file, err = w.file(ctx, prefix+"_"+kind+"_image.tar.gz", a.write); err != nil {
				return entry, fmt.Errorf("tier %s: %w", c.tier.name, err)
			}
			w.tiers[c] = file
		}
		ref, _ := isulaName(c.tier.img.Ref)
		if kind == isulaBase {
			entry.Base, entry.BaseHash, entry.BaseImageName, entry.BaseLayer = file.name, file.hash, ref, ids[:s.ends[i]]
		} else {
			entry.Lib, entry.LibHash, entry.LibImageName, entry.LibLayers = file.name, file.hash, ref, ids[c.start:s.ends[i]]
		}
		start = s.ends[i]
	}
	top := isulaArchive{ids: ids, start: start, diffIDs: s.config.RootFS.DiffIDs, budget: budget, name: name, stack: s}
	for _, l := range s.manifest.Layers[start:] {
		top.layers = append(top.layers, located{desc: l, from: s.from})
	}
	file, err := w.file(ctx, prefix+"_app_image.tar.gz", top.write)
	entry.App, entry.AppHash, entry.AppLayers = file.name, file.hash, append([]string{}, ids[start:]...)
	return entry, err
}

func sliceOf(tier []*slice, s *stack) *slice {
	for _, c := range tier {
		for _, u := range c.users {
			if u == s {
				return c
			}
		}
	}
	return nil
}

// layerIDs returns what the directories of layers are called: the chainIDs, which
// differ even where the same layer comes twice.
func layerIDs(diffIDs []digest.Digest) []string {
	chain := identity.ChainIDs(append([]digest.Digest{}, diffIDs...))
	ids := make([]string, len(chain))
	for i, d := range chain {
		ids[i] = d.Encoded()
	}
	return ids
}

// file writes one compressed tar.
func (w *isulaWriter) file(ctx context.Context, name string, fill func(context.Context, *isulaWriter, *tarfile.Writer) error) (isulaFile, error) {
	if other, ok := w.opt.Rename[name]; ok {
		w.renamed[name] = true
		name = other
	}
	if w.taken[name] {
		return isulaFile{}, errorf(ErrInvalid, "two files would be called %s: give one of them another name", quote.Name(name))
	}
	w.taken[name] = true
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return isulaFile{}, err
	}
	sum := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	err = func() error {
		zw, err := layer.NewWriter(buf, layer.Gzip, 0)
		if err != nil {
			return err
		}
		tw := tarfile.NewWriter(zw)
		err = fill(ctx, w, tw)
		if err == nil {
			err = tw.Close()
		}
		return both(err, zw.Close())
	}()
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return isulaFile{name, hex.EncodeToString(sum.Sum(nil))}, both(err, f.Close())
}

// isulaArchive is what goes into one file.
type isulaArchive struct {
	ids     []string // of all layers of the image
	start   int      // the first that is in the file
	layers  []located
	diffIDs []digest.Digest // of all layers
	budget  *layer.Budget   // for all layers that no other image has written
	name    string          // of the image
	stack   *stack          // nil but for an app
}

func (a *isulaArchive) write(ctx context.Context, w *isulaWriter, tw *tarfile.Writer) error {
	if a.stack != nil {
		config, err := a.stack.from.ReadBlob(ctx, a.stack.manifest.Config)
		if err != nil {
			return err
		}
		if err := tw.File(digest.FromBytes(config).Encoded()+".json", config); err != nil {
			return err
		}
	}
	for i, l := range a.layers {
		if err := a.layer(ctx, w, tw, a.start+i, l); err != nil {
			return fmt.Errorf("layer %d: %w", a.start+i, err)
		}
	}
	if a.stack == nil {
		return nil
	}
	return a.index(ctx, tw)
}

// legacyLayer is the json file beside a layer.tar, which nothing but old programs
// read.
type legacyLayer struct {
	ID           string             `json:"id"`
	Parent       string             `json:"parent,omitzero"`
	Created      *time.Time         `json:"created,omitzero"`
	Architecture string             `json:"architecture,omitzero"`
	OS           string             `json:"os,omitzero"`
	Config       *ispec.ImageConfig `json:"config,omitzero"`
}

func (a *isulaArchive) layer(ctx context.Context, w *isulaWriter, tw *tarfile.Writer, n int, l located) error {
	id := a.ids[n]
	legacy := legacyLayer{ID: id}
	if n > 0 {
		legacy.Parent = a.ids[n-1]
	}
	if a.stack != nil && n == len(a.ids)-1 {
		c := a.stack.config
		legacy.Created, legacy.Architecture, legacy.OS, legacy.Config = c.Created, c.Architecture, c.OS, &c.Config
	}
	doc, err := json.Marshal(legacy)
	if err != nil {
		return err
	}
	if err := tw.Dir(id); err != nil {
		return err
	}
	if err := tw.File(id+"/VERSION", []byte("1.0")); err != nil {
		return err
	}
	if err := tw.File(id+"/json", doc); err != nil {
		return err
	}
	return w.plainLayer(ctx, tw, id+"/layer.tar", l, layer.StreamOptions{
		DiffID: a.diffIDs[n], Budget: a.budget, Warn: w.opt.Warn,
	})
}

// plainLayer writes a layer as a plain tar. A tar needs to know the size of a member
// first, which only a temporary file tells.
func (w *isulaWriter) plainLayer(ctx context.Context, tw *tarfile.Writer, name string, l located, opt layer.StreamOptions) (err error) {
	_, opt.Compression, err = layer.SplitMediaType(l.desc.MediaType)
	if err != nil {
		return err
	}
	blob, err := l.from.OpenBlob(ctx, l.desc)
	if err != nil {
		return err
	}
	defer blob.Close() //nolint:errcheck // it is read to its end, which checks it
	stream, err := layer.NewStream(ctx, &reporting{blob, w.report}, opt)
	if err != nil {
		return err
	}
	defer stream.Close()
	temp, err := os.CreateTemp(w.dir, ".layer-")
	if err != nil {
		return err
	}
	defer func() { err = both(err, both(temp.Close(), os.Remove(temp.Name()))) }()
	size, err := io.Copy(temp, stream)
	if err == nil {
		err = stream.Finish()
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", l.desc.Digest, err)
	}
	if _, err := temp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return tw.Stream(ctx, name, size, temp, nil)
}

// dockerManifest is an entry of manifest.json in a docker-archive.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// index writes what makes the three parts together a docker-archive.
func (a *isulaArchive) index(ctx context.Context, tw *tarfile.Writer) error {
	config, err := a.stack.from.ReadBlob(ctx, a.stack.manifest.Config)
	if err != nil {
		return err
	}
	m := dockerManifest{Config: digest.FromBytes(config).Encoded() + ".json", RepoTags: []string{a.name}, Layers: []string{}}
	top := ""
	for _, id := range a.ids {
		m.Layers = append(m.Layers, id+"/layer.tar")
		top = id
	}
	manifest, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return err
	}
	if err := tw.File("manifest.json", manifest); err != nil {
		return err
	}
	colon := strings.LastIndex(a.name, ":")
	repositories, err := json.Marshal(map[string]map[string]string{a.name[:colon]: {a.name[colon+1:]: top}})
	if err != nil {
		return err
	}
	return tw.File("repositories", repositories)
}

// isIsula reports whether a directory holds what isula-build has written.
func isIsula(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(path, FileName))
	return errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(path, isulaManifest))
}
