// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// convert copies by way of a layout, in which the images become what the options ask
// for.
func (p *places) convert(ctx context.Context, src, dst Location, result *Result) (err error) {
	middle, err := newStage(ctx, dst)
	if err != nil {
		return err
	}
	defer func() { err = both(err, middle.discard()) }()
	l := middle.l
	plain := *p.opt
	plain.Format, plain.Compress = "", ""
	// What is in the middle is nobody else's.
	first := &places{opt: &plain, web: p.web, repos: p.repos, archives: p.archives, written: map[Location]Location{}}
	here := Location{Scheme: SchemeLayout, Path: l.Path()}
	fetched := &Result{Blobs: map[Method]int{}, Bytes: map[Method]int64{}}
	if p.opt.AllTags {
		err = first.copyTags(ctx, src, here, fetched)
	} else {
		err = first.copy(ctx, src, here, fetched)
	}
	if err != nil {
		return err
	}
	result.Changed = append(result.Changed, fetched.Changed...)
	v := &converter{l: l, opt: p.opt, result: result, done: map[digest.Digest]ispec.Descriptor{}, layers: map[layerOf]ispec.Descriptor{}}
	last := *p.opt
	last.Platforms, last.Link = nil, true
	final := &places{opt: &last, web: p.web, repos: p.repos, archives: p.archives, archive: p.archive, written: p.written}
	for _, img := range fetched.Images {
		if err = final.copyConverted(ctx, v, img, dst, result); err != nil {
			break
		}
	}
	p.archive = final.archive
	return err
}

// copyConverted converts one image in the middle, and copies it on.
func (p *places) copyConverted(ctx context.Context, v *converter, img CopiedImage, dst Location, result *Result) error {
	here, err := ParseLocation(img.Destination)
	if err != nil {
		return err
	}
	root, err := v.l.Lookup(ctx, here.Ref())
	if err != nil {
		return err
	}
	made, err := v.convert(ctx, root, 1)
	if err != nil {
		return err
	}
	if err := v.l.SetRef(ctx, here.Ref(), made); err != nil {
		return err
	}
	if p.opt.Referrers && made.Digest != root.Digest {
		p.opt.warn("what refers to %s stays behind: it says nothing about %s", root.Digest, made.Digest)
	}
	to := dst
	if p.opt.AllTags {
		from, err := ParseLocation(img.Source)
		if err != nil {
			return err
		}
		if to, err = dst.withTag(here.Tag, from.Scheme == SchemeDockerArchive); err != nil {
			return err
		}
	}
	at := len(result.Images)
	if err := p.copy(ctx, here, to, result); err != nil {
		return err
	}
	result.Images[at].Source = img.Source
	return nil
}

// converter converts the images in a layout.
type converter struct {
	l      *layout.Layout
	opt    *Options
	result *Result
	done   map[digest.Digest]ispec.Descriptor // what became of documents
	layers map[layerOf]ispec.Descriptor       // and of layers
	budget *layer.Budget                      // for the layers of the image that is converted
}

// convert returns what becomes of a manifest or index.
func (v *converter) convert(ctx context.Context, d ispec.Descriptor, depth int) (ispec.Descriptor, error) {
	if depth > layout.DefaultMaxDepth {
		return d, errorf(layout.ErrTooDeep, "indexes refer to each other more than %d deep", layout.DefaultMaxDepth)
	}
	made, ok := v.done[d.Digest]
	if !ok {
		var err error
		if layout.IsIndex(d.MediaType) {
			made, err = v.index(ctx, d, depth)
		} else {
			made, err = v.image(ctx, d)
		}
		if err != nil {
			return d, err
		}
		v.done[d.Digest] = made
		if made.Digest != d.Digest {
			v.result.Changed = append(v.result.Changed, v.describe(d, made))
		}
	}
	// Platform and annotations are those of the place where it is listed.
	d.MediaType, d.Digest, d.Size, d.Data = made.MediaType, made.Digest, made.Size, nil
	return d, nil
}

func (v *converter) describe(from, to ispec.Descriptor) string {
	kind := "manifest"
	if layout.IsIndex(to.MediaType) {
		kind = "index"
	}
	var how []string
	if from.MediaType != to.MediaType {
		how = append(how, "format "+string(v.opt.Format))
	}
	if v.opt.Compress != "" {
		how = append(how, "layers compressed by "+string(v.opt.Compress))
	}
	return fmt.Sprintf("%s %s becomes %s: %s", kind, from.Digest, to.Digest, strings.Join(how, ", "))
}

func (v *converter) index(ctx context.Context, d ispec.Descriptor, depth int) (ispec.Descriptor, error) {
	index, err := v.l.ImageIndex(ctx, d)
	if err != nil {
		return d, err
	}
	changed := false
	renamed := map[digest.Digest]digest.Digest{}
	for i, child := range index.Manifests {
		if !isDocument(child) {
			continue
		}
		made, err := v.convert(ctx, child, depth+1)
		if err != nil {
			return d, err
		}
		changed = changed || made.Digest != child.Digest
		renamed[child.Digest] = made.Digest
		index.Manifests[i] = made
	}
	for _, child := range index.Manifests {
		about := digest.Digest(child.Annotations[attestedDigest])
		if made, ok := renamed[about]; ok && made != about {
			child.Annotations[attestedDigest] = made.String()
		}
	}
	mediaType := d.MediaType
	switch v.opt.Format {
	case FormatOCI:
		mediaType = ispec.MediaTypeImageIndex
	case FormatDocker:
		mediaType = layout.MediaTypeDockerIndex
	}
	if !changed && mediaType == d.MediaType {
		return d, nil
	}
	if mediaType == layout.MediaTypeDockerIndex {
		v.drop(d, index.Annotations)
		index.ArtifactType, index.Subject, index.Annotations = "", nil, nil
	}
	index.MediaType, index.SchemaVersion = mediaType, 2
	return v.put(ctx, mediaType, index)
}

// drop says that annotations are lost, if there are any.
func (v *converter) drop(d ispec.Descriptor, annotations map[string]string) {
	if len(annotations) > 0 {
		v.result.Changed = append(v.result.Changed,
			fmt.Sprintf("the %d annotations of %s are lost: format docker has none", len(annotations), d.Digest))
	}
}

func (v *converter) put(ctx context.Context, mediaType string, doc any) (ispec.Descriptor, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return ispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	dgst, size, err := v.l.PutBlob(ctx, strings.NewReader(string(data)))
	return ispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: size}, err
}

// image converts one manifest. What is no image stays as it is.
func (v *converter) image(ctx context.Context, d ispec.Descriptor) (ispec.Descriptor, error) {
	manifest, err := v.l.Manifest(ctx, d)
	if err != nil {
		return d, err
	}
	if !layout.IsConfig(manifest.Config.MediaType) || !allLayers(manifest.Layers) {
		v.opt.warn("%s is not an image, and stays as it is", d.Digest)
		return d, nil
	}
	config, err := v.l.Config(ctx, manifest.Config)
	if err != nil {
		return d, err
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return d, &Error{Op: "convert", Ref: d.Digest.String(),
			Err: invalid(fmt.Errorf("there are %d layers and %d diffIDs", len(manifest.Layers), len(config.RootFS.DiffIDs)))}
	}
	v.budget = v.opt.Limits.BudgetOf(manifest.Layers)
	changed := false
	for i, l := range manifest.Layers {
		made, err := v.layer(ctx, l, config.RootFS.DiffIDs[i])
		if err != nil {
			return d, &Error{Op: "convert layer", Ref: l.Digest.String(), Err: err}
		}
		changed = changed || made.Digest != l.Digest || made.MediaType != l.MediaType
		manifest.Layers[i] = made
	}
	mediaType, configType := d.MediaType, manifest.Config.MediaType
	switch v.opt.Format {
	case FormatOCI:
		mediaType, configType = ispec.MediaTypeImageManifest, ispec.MediaTypeImageConfig
	case FormatDocker:
		mediaType, configType = layout.MediaTypeDockerManifest, layout.MediaTypeDockerConfig
	}
	if !changed && mediaType == d.MediaType && configType == manifest.Config.MediaType {
		return d, nil
	}
	if mediaType == layout.MediaTypeDockerManifest {
		v.drop(d, manifest.Annotations)
		manifest.ArtifactType, manifest.Subject, manifest.Annotations = "", nil, nil
	}
	manifest.MediaType, manifest.SchemaVersion, manifest.Config.MediaType = mediaType, 2, configType
	return v.put(ctx, mediaType, manifest)
}

// allLayers reports whether the descriptors are those of layers.
func allLayers(list []ispec.Descriptor) bool {
	for _, d := range list {
		if _, _, err := layer.SplitMediaType(d.MediaType); err != nil {
			return false
		}
	}
	return true
}

// The media types of plain layers in the one format, by those in the other.
const (
	dockerPlain   = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

var plainTypes = map[Format]map[string]string{
	FormatOCI: {
		dockerPlain:   ispec.MediaTypeImageLayer,
		dockerForeign: ispec.MediaTypeImageLayerNonDistributable, //nolint:staticcheck // deprecated, but images have it
	},
	FormatDocker: {
		ispec.MediaTypeImageLayer:                 dockerPlain,
		ispec.MediaTypeImageLayerNonDistributable: dockerForeign, //nolint:staticcheck // deprecated, but images have it
	},
}

// layer returns what becomes of a layer.
func (v *converter) layer(ctx context.Context, d ispec.Descriptor, diffID digest.Digest) (ispec.Descriptor, error) {
	base, c, err := layer.SplitMediaType(d.MediaType)
	if err != nil {
		return d, err
	}
	if v.opt.Compress != "" && v.opt.Compress != c && len(d.URLs) == 0 {
		made, ok := v.layers[layerOf{d.Digest, diffID}]
		if !ok {
			if made, err = v.recompress(ctx, d, c, diffID); err != nil {
				return d, err
			}
			v.layers[layerOf{d.Digest, diffID}] = made
		}
		d.Digest, d.Size, d.Data = made.Digest, made.Size, nil
		c = v.opt.Compress
	}
	if other, ok := plainTypes[v.opt.Format][base]; ok {
		base = other
	}
	if c == layer.Zstd && (base == dockerPlain || base == dockerForeign) && v.opt.Format == FormatDocker {
		return d, errorf(ErrUnsupported, "format docker has no layers compressed by zstd: compress them by gzip")
	}
	d.MediaType = layer.JoinMediaType(base, c)
	return d, nil
}

// recompress writes the layer as a new blob. Its content must be that of its diffID.
func (v *converter) recompress(ctx context.Context, d ispec.Descriptor, c layer.Compression, diffID digest.Digest) (made ispec.Descriptor, err error) {
	if diffID.Validate() != nil {
		return made, invalid(fmt.Errorf("%s is not a diffID", quote.Name(diffID.String())))
	}
	blob, err := v.l.OpenBlob(ctx, d)
	if err != nil {
		return made, err
	}
	defer func() { err = both(err, blob.Close()) }()
	plain, err := layer.NewStream(ctx, blob, layer.StreamOptions{
		Compression: c, DiffID: diffID, Budget: v.budget, Warn: v.opt.Warn,
	})
	if err != nil {
		return made, err
	}
	defer plain.Close()
	w, err := v.l.CreateBlob(ctx)
	if err != nil {
		return made, err
	}
	defer func() { err = both(err, w.Close()) }()
	packed, err := layer.NewWriter(w, v.opt.Compress, v.opt.Level)
	if err != nil {
		return made, err
	}
	_, err = io.CopyBuffer(packed, plain, make([]byte, 256<<10))
	if cerr := packed.Close(); err == nil {
		err = cerr
	}
	plain.Close()
	if err == nil {
		err = blob.Verify(ctx)
	}
	if err == nil {
		err = plain.Finish()
	}
	if err != nil {
		return made, err
	}
	made = d
	made.Digest, made.Size, err = w.Commit(ctx)
	return made, err
}
