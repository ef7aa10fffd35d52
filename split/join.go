// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// JoinOptions say what to put together. From or the topmost of Tiers must be given.
type JoinOptions struct {
	// From is what Split has written, in whatever format; for volumes, the path
	// without their numbers.
	From string
	// Tiers are paths of tiers by name, in place of those in From: layouts, tars with
	// a layout, or OUTs.
	Tiers map[string]string
	// Ref is what the image is to be called, if From holds one, and which of them is
	// meant, if it holds several. Empty means all, as they were called.
	Ref string
	// Force lets a ref that is there already stand for something else.
	Force bool
	// Link allows hard links where the file system cannot clone files.
	Link bool
	// Limits bound what the files of an image may become where they are uncompressed,
	// which those of isula-build are. Only Bytes and Ratio are looked at. The error is a
	// [layer.LimitError].
	Limits layer.Limits
	// Warn receives what is worth knowing, as sentences without a final stop. May be
	// nil.
	Warn func(msg string)
	// Progress receives how many bytes of layers were read and hashed. May be nil.
	Progress progress.Func
}

// Joined is what a join has come to.
type Joined struct {
	Images []JoinedImage `json:"images"`
	// How many blobs there are by the way they came, and their bytes. Kept are those
	// that were there already, and right.
	Blobs map[layout.CopyMethod]int   `json:"blobs"`
	Bytes map[layout.CopyMethod]int64 `json:"bytes"`
}

// JoinedImage is an image that was put together.
type JoinedImage struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"` // of the manifest, or of the index
}

// Join puts images together in the layout to. Every blob is verified, also those
// that are in to already; the refs come last, all at once. After an error no ref has
// changed, and what was copied by then stays for the next attempt, or for gc.
//
// The error is [ErrMissingTier] or [ErrWrongTier] if a blob is not where it should be,
// [ErrMissingVolume] if a volume is not, [ErrDamaged] for a file that is not as it was
// written, that of the layout package for a blob that is not, and [ErrExists] if a ref
// stands for something else already.
func Join(ctx context.Context, to *layout.Layout, opt JoinOptions) (*Joined, error) {
	what := opt.From
	if what == "" {
		what = opt.Tiers[TopTier]
	}
	j := &joiner{
		to: to, opt: &opt, graph: newGraph(to, func(ispec.Descriptor) {}),
		known: map[digest.Digest]bool{}, queued: map[digest.Digest]bool{},
		result: &Joined{Blobs: map[layout.CopyMethod]int{}, Bytes: map[layout.CopyMethod]int64{}},
	}
	if err := j.join(ctx); err != nil {
		return nil, fmt.Errorf("join %s into %s: %w", quote.Name(what), quote.Name(to.Path()), err)
	}
	return j.result, nil
}

// joiner is one join.
type joiner struct {
	to     *layout.Layout
	opt    *JoinOptions
	out    *opened
	places map[digest.Digest][]string // the tiers that have a blob
	left   map[digest.Digest]bool     // what was left out

	images  []FileImage            // what is joined
	entries []ispec.Descriptor     // for index.json
	graph   *graph                 // of to
	known   map[digest.Digest]bool // documents and other small blobs that are in to, verified
	queue   []ispec.Descriptor     // layers to be copied
	queued  map[digest.Digest]bool

	mu     sync.Mutex
	total  int64
	done   int64
	result *Joined
}

func (j *joiner) join(ctx context.Context) error {
	if j.opt.From == "" && j.opt.Tiers[TopTier] == "" {
		return errorf(ErrInvalid, "there is nothing to join")
	}
	if isIsula(j.opt.From) {
		return j.joinIsula(ctx)
	}
	var err error
	if j.out, err = openOut(ctx, j.opt.From, j.opt.Tiers); err != nil {
		return err
	}
	defer j.out.close()
	if j.images, err = selectImages(j.out.file, j.opt.Ref); err != nil {
		return err
	}
	j.locateAll()
	for _, img := range j.images {
		d := withRef(img.Descriptor, img.Ref)
		j.entries = append(j.entries, d)
		j.result.Images = append(j.result.Images, JoinedImage{Ref: img.Ref, Digest: img.Digest})
	}
	if err := j.checkRefs(ctx); err != nil {
		return err
	}
	for i := range j.out.file.Tiers {
		if err := j.out.checkFiles(&j.out.file.Tiers[i]); err != nil {
			return err
		}
	}
	if err := j.preflight(ctx); err != nil {
		return err
	}
	if err := j.documents(ctx); err != nil {
		return err
	}
	if err := j.layers(ctx); err != nil {
		return err
	}
	if err := j.rest(ctx); err != nil {
		return err
	}
	return j.commit(ctx)
}

// selectImages returns the images that ref means, with the refs that they get.
func selectImages(f *File, ref string) ([]FileImage, error) {
	if len(f.Images) == 0 {
		return nil, errorf(ErrInvalid, "there is no image in it")
	}
	if ref == "" {
		return f.Images, nil
	}
	if !layout.ValidRef(ref) {
		return nil, errorf(ErrInvalid, "%s is not a valid ref", quote.Name(ref))
	}
	if len(f.Images) == 1 {
		img := f.Images[0]
		img.Ref = ref
		return []FileImage{img}, nil
	}
	var refs []string
	for _, img := range f.Images {
		if img.Ref == ref {
			return []FileImage{img}, nil
		}
		refs = append(refs, quote.Name(img.Ref))
	}
	return nil, errorf(ErrInvalid, "there are %d images in it, and none is called %s: %v", len(refs), quote.Name(ref), refs)
}

// withRef returns the descriptor as the entry of index.json for the ref.
func withRef(d ispec.Descriptor, ref string) ispec.Descriptor {
	annotations := maps.Clone(d.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[ispec.AnnotationRefName] = ref
	d.Annotations = annotations
	return d
}

// locateAll notes down which tiers have which blobs.
func (j *joiner) locateAll() {
	j.places, j.left = map[digest.Digest][]string{}, map[digest.Digest]bool{}
	for _, t := range j.out.file.Tiers {
		for _, b := range t.content() {
			j.places[b.Digest] = append(j.places[b.Digest], t.Name)
		}
	}
	for _, b := range j.out.file.LeftOut {
		j.left[b.Digest] = true
	}
}

// checkRefs looks for refs that stand for something else, before anything is done.
func (j *joiner) checkRefs(ctx context.Context) error {
	index, err := j.to.Index(ctx)
	if err != nil {
		return err
	}
	return j.place(&index)
}

// place puts the entries into an index.
func (j *joiner) place(index *ispec.Index) error {
	for _, d := range j.entries {
		ref, named := d.Annotations[ispec.AnnotationRefName]
		same := func(other ispec.Descriptor) bool {
			if otherRef, ok := other.Annotations[ispec.AnnotationRefName]; named && ok {
				return otherRef == ref
			} else if named || ok {
				return false
			}
			return other.Digest == d.Digest
		}
		at := slices.IndexFunc(index.Manifests, same)
		if at < 0 {
			index.Manifests = append(index.Manifests, d)
			continue
		}
		for _, other := range index.Manifests[at:] {
			if same(other) && other.Digest != d.Digest && !j.opt.Force {
				return errorf(ErrExists, "the tag %s is there already, for %s and not for %s", quote.Name(ref), other.Digest, d.Digest)
			}
		}
		rest := slices.DeleteFunc(slices.Clone(index.Manifests[at+1:]), same)
		index.Manifests = append(append(slices.Clone(index.Manifests[:at]), d), rest...)
	}
	return nil
}

// preflight looks for all layers that split.json knows of, before anything is
// written: what is missing is mostly a whole tier.
func (j *joiner) preflight(ctx context.Context) error {
	for _, img := range j.images {
		for _, m := range img.Manifests {
			for _, l := range m.Layers {
				d := ispec.Descriptor{Digest: l.Digest, Size: l.Size}
				if has, err := j.to.HasBlob(ctx, d); err != nil {
					return err
				} else if has || l.Tier == "" {
					continue
				}
				if _, err := j.locate(ctx, d); err != nil {
					return fmt.Errorf("image %s: %w", quote.Name(img.Ref), err)
				}
			}
		}
	}
	return nil
}

// documents copies everything but layers, and finds the layers.
func (j *joiner) documents(ctx context.Context) error {
	for _, img := range j.images {
		if err := j.walk(ctx, img.Descriptor); err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(img.Ref), err)
		}
		if err := j.compare(ctx, &img); err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(img.Ref), err)
		}
	}
	for _, r := range j.out.file.Referrers {
		if err := j.ensure(ctx, r); err != nil {
			return fmt.Errorf("referrer: %w", err)
		}
		about, err := isAbout(ctx, j.to, r, j.known)
		if err != nil {
			return err
		}
		if !about {
			continue
		}
		if err := j.walk(ctx, r); err != nil {
			return fmt.Errorf("referrer: %w", err)
		}
		j.entries = append(j.entries, r)
	}
	return j.checkRefs(ctx)
}

// walk copies what is below root. Documents come before what they refer to, so that
// they can be read out of the layout that they are copied to.
func (j *joiner) walk(ctx context.Context, root ispec.Descriptor) error {
	return j.to.Walk(ctx, root, func(path layout.Path) error {
		d := path.Target()
		isDocument := layout.IsIndex(d.MediaType) || layout.IsManifest(d.MediaType)
		if !isDocument && j.graph.layers[d.Digest] {
			return j.enqueue(ctx, d)
		}
		if err := j.ensure(ctx, d); err != nil {
			if j.graph.subjects[d.Digest] && len(j.places[d.Digest]) == 0 {
				return layout.SkipChildren // it was not in the source either
			}
			return err
		}
		if !isDocument {
			return nil
		}
		return j.graph.note(ctx, d)
	})
}

// enqueue notes down a layer to be copied. It must be somewhere.
func (j *joiner) enqueue(ctx context.Context, d ispec.Descriptor) error {
	if j.queued[d.Digest] {
		return nil
	}
	if len(d.Data) == 0 {
		plain := d
		if ok, err := j.to.HasBlob(ctx, plain); err != nil {
			return err
		} else if !ok {
			if _, err := j.locate(ctx, d); err != nil {
				if len(d.URLs) > 0 && len(j.places[d.Digest]) == 0 {
					return nil // it was not in the source either
				}
				return err
			}
		}
	}
	j.queued[d.Digest] = true
	j.queue = append(j.queue, d)
	j.total += d.Size
	return nil
}

// layers copies what is in the queue.
func (j *joiner) layers(ctx context.Context) error {
	err := parallel(ctx, len(j.queue), func(ctx context.Context, i int) error { return j.copy(ctx, j.queue[i], j.report) })
	if err == nil {
		j.opt.Progress.Report(progress.Event{Stage: "joining", Done: j.done, Total: j.total, Unit: progress.Bytes, End: true})
	}
	return err
}

func (j *joiner) report(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done += int64(n)
	j.opt.Progress.Report(progress.Event{Stage: "joining", Done: min(j.done, j.total), Total: j.total, Unit: progress.Bytes})
}

// ensure copies a blob that is not a layer, once.
func (j *joiner) ensure(ctx context.Context, d ispec.Descriptor) error {
	if j.known[d.Digest] {
		return nil
	}
	if err := j.copy(ctx, d, nil); err != nil {
		return err
	}
	j.known[d.Digest] = true
	return nil
}

// copy makes sure that the layout has the blob, with the right content.
func (j *joiner) copy(ctx context.Context, d ispec.Descriptor, report func(int)) error {
	data := d.Data
	d.Data = nil // what counts is the file
	if err := j.to.Hold(ctx, d); err != nil {
		return err
	}
	bad := false
	if has, err := j.to.HasBlob(ctx, d); err != nil {
		return err
	} else if has {
		err := verify(ctx, dirSource{j.to}, d, report)
		if err == nil {
			j.count(layout.Kept, d)
			return nil
		}
		if !errors.Is(err, layout.ErrDigest) {
			return err
		}
		bad = true
	}
	if len(data) > 0 && !bad {
		j.count(layout.Copied, d)
		return j.to.PutVerified(ctx, d, bytes.NewReader(data))
	}
	s, err := j.locate(ctx, d)
	if err != nil {
		if bad {
			return fmt.Errorf("blob %s in %s is damaged, and to replace it: %w", d.Digest, quote.Name(j.to.Path()), err)
		}
		return err
	}
	how, err := s.copyTo(ctx, j.to, d, &layout.CopyOptions{Link: j.opt.Link, Replace: bad, Report: report})
	if err != nil {
		return fmt.Errorf("%s from %s: %w", j.describe(d.Digest), quote.Name(s.where()), err)
	}
	j.count(how, d)
	return nil
}

func (j *joiner) count(how layout.CopyMethod, d ispec.Descriptor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.result.Blobs[how]++
	j.result.Bytes[how] += d.Size
}

// verify reads a blob to its end.
func verify(ctx context.Context, s source, d ispec.Descriptor, report func(int)) error {
	r, err := s.open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it is read to its end, which checks it
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if report != nil {
			report(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// describe says what a blob is and where it belongs.
func (j *joiner) describe(d digest.Digest) string {
	tiers := j.places[d]
	if len(tiers) == 0 {
		return fmt.Sprintf("blob %s", d)
	}
	return fmt.Sprintf("blob %s of tier %s", d, tiers[0])
}

// compare holds the image against split.json.
func (j *joiner) compare(ctx context.Context, img *FileImage) error {
	members, err := j.to.Members(ctx, img.Descriptor)
	if err != nil {
		return err
	}
	found := map[digest.Digest]ispec.Descriptor{}
	for _, m := range members {
		found[m.Path.Target().Digest] = m.Path.Target()
	}
	for i := range img.Manifests {
		want := &img.Manifests[i]
		d, ok := found[want.Digest]
		if !ok {
			return errorf(ErrInvalid, "%s lists manifest %s, which is not in the image", FileName, want.Digest)
		}
		m, err := j.to.Manifest(ctx, d)
		if err != nil {
			return err
		}
		config, err := j.to.Config(ctx, m.Config)
		if err != nil {
			return err
		}
		if err := want.compare(&m, config.RootFS.DiffIDs); err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
	}
	return nil
}

func (want *FileManifest) compare(m *ispec.Manifest, diffIDs []digest.Digest) error {
	if m.Config.Digest != want.Config {
		return errorf(ErrInvalid, "its config is %s, and not %s as %s says", m.Config.Digest, want.Config, FileName)
	}
	if len(m.Layers) != len(want.Layers) || len(diffIDs) != len(want.Layers) {
		return errorf(ErrInvalid, "it has %d layers and %d diffIDs, and not %d as %s says", len(m.Layers), len(diffIDs), len(want.Layers), FileName)
	}
	for i, l := range want.Layers {
		if m.Layers[i].Digest != l.Digest || m.Layers[i].Size != l.Size {
			return errorf(ErrInvalid, "layer %d is %s, and not %s as %s says", i, m.Layers[i].Digest, l.Digest, FileName)
		}
		if diffIDs[i] != l.DiffID {
			return errorf(ErrInvalid, "layer %d has the diffID %s, and not %s as %s says", i, diffIDs[i], l.DiffID, FileName)
		}
		_, c, err := layer.SplitMediaType(m.Layers[i].MediaType)
		if err == nil && c == layer.None && l.Digest.Algorithm() == l.DiffID.Algorithm() && l.Digest != l.DiffID {
			return errorf(ErrInvalid, "layer %d is not compressed, and its digest %s is not its diffID %s", i, l.Digest, l.DiffID)
		}
	}
	return nil
}

// rest verifies what is in OUT besides layers where it is: also what the images do
// not need, because it makes a tier an image of its own, and what the layout had
// already. A damaged OUT is not to be found out later.
func (j *joiner) rest(ctx context.Context) error {
	for _, t := range j.out.file.Tiers {
		s := j.out.sources[t.Name]
		if s == nil || j.out.given[t.Name] {
			continue
		}
		for _, b := range t.Blobs {
			if j.left[b.Digest] {
				continue
			}
			if err := verify(ctx, s, ispec.Descriptor{Digest: b.Digest, Size: b.Size}, nil); err != nil {
				return fmt.Errorf("tier %s: blob %s in %s: %w", t.Name, b.Digest, quote.Name(s.where()), err)
			}
		}
	}
	return nil
}

// commit sets the refs.
func (j *joiner) commit(ctx context.Context) error {
	return j.to.Update(ctx, func(index *ispec.Index) error { return j.place(index) })
}
