// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// Format is the kind of manifests that an image has.
type Format string

// The formats that there are. An empty Format is that of the source.
const (
	FormatOCI    Format = "oci"    // the image-spec's
	FormatDocker Format = "docker" // Docker's image manifest version 2, schema 2
)

// Options change what is copied, and how. The zero value copies everything that the
// source's name leads to, byte by byte.
type Options struct {
	// Platforms are the platforms whose images are copied out of an index. One of them
	// gives its manifest; several give a new index that lists only them.
	Platforms []ispec.Platform
	// AllTags copies every tag of the source, whose location names none, under the same
	// tags in the destination, which names none either.
	AllTags bool
	// Referrers takes along what refers to the images as its subject: signatures,
	// SBOMs, attestations, and what refers to these.
	Referrers bool
	// Format, if not empty, is what the manifests are converted to.
	Format Format
	// Compress, if not empty, is how the layers are compressed. Those that are so
	// already stay as they are.
	Compress layer.Compression
	// Level is the level of Compress; 0 is the default of the compression.
	Level int
	// Link allows hard links between layouts where the file system cannot clone files.
	// Neither side may be written to then; shale never does.
	Link bool
	// Limits bound what the layers of an image may become where they are uncompressed: to
	// be compressed in another way, and for a docker-archive or out of one. Of an archive
	// that is compressed as a whole, or comes through a pipe, all of it counts. Only Bytes
	// and Ratio are looked at. The error is a [layer.LimitError].
	Limits layer.Limits
	// Parallel is how many blobs are copied at once. 0 means 6.
	Parallel int
	// Layout says how layouts are opened.
	Layout layout.Options
	// Registry says how registries are spoken to.
	Registry RegistryOptions
	// Warn receives what is worth knowing, as sentences without a final stop. May be
	// nil. It is called by one goroutine at a time.
	Warn func(msg string)
	// Progress receives how many bytes of blobs were copied: of each, named by its
	// digest, and, without a name, of all together. May be nil.
	Progress progress.Func
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// Method says how a blob got to the destination.
type Method string

// The methods that there are.
const (
	Kept    Method = "kept"    // it was there already
	Copied  Method = "copied"  // its bytes were sent or written
	Cloned  Method = "cloned"  // the file was cloned
	Linked  Method = "linked"  // the file got a second name
	Mounted Method = "mounted" // the registry had it in the source's repository
)

// Result is what a copy has come to.
type Result struct {
	Images []CopiedImage `json:"images"`
	// How many blobs there are by the way they came, and their bytes.
	Blobs map[Method]int   `json:"blobs"`
	Bytes map[Method]int64 `json:"bytes"`
	// Changed says, sentence by sentence, what is not as it was in the source.
	Changed []string `json:"changed,omitempty"`
}

// CopiedImage is one name that was copied.
type CopiedImage struct {
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	MediaType   string        `json:"mediaType"`
	Digest      digest.Digest `json:"digest"` // in the destination
	Size        int64         `json:"size"`
	// Referrers are the manifests that were taken along since they refer to the image.
	Referrers []digest.Digest `json:"referrers,omitempty"`
}

// Copy copies the image that src names to dst. Only the blobs that dst lacks travel. A
// name that is there already leads to the new image afterwards, and never to anything of
// which not all is there and right: after an error no name has changed, and what was
// copied by then stays for the next attempt, or for gc.
//
// A layout that is not there yet is made. The errors are those of this package and of
// package layout, in an [Error].
func Copy(ctx context.Context, src, dst Location, opt Options) (*Result, error) {
	result := &Result{Images: []CopiedImage{}, Blobs: map[Method]int{}, Bytes: map[Method]int64{}}
	if err := copyTo(ctx, src, dst, &opt, result); err != nil {
		return nil, &Error{Op: "copy", Ref: src.String() + " to " + dst.String(), Err: err}
	}
	return result, nil
}

func copyTo(ctx context.Context, src, dst Location, opt *Options, result *Result) error {
	if err := opt.check(src, dst); err != nil {
		return err
	}
	p, err := newPlaces(opt, src, dst)
	if err != nil {
		return err
	}
	defer p.close()
	p.web.maxDocument = opt.Layout.MaxDocument
	switch {
	case opt.Format != "" || opt.Compress != "":
		err = p.convert(ctx, src, dst, result)
	case opt.AllTags:
		err = p.copyTags(ctx, src, dst, result)
	default:
		err = p.copy(ctx, src, dst, result)
	}
	if err == nil {
		err = p.finish(ctx)
	}
	return both(err, p.discard())
}

// check looks for what does not go together.
func (o *Options) check(src, dst Location) error {
	switch o.Format {
	case "", FormatOCI, FormatDocker:
	default:
		return invalid(fmt.Errorf("%s is not a format", quote.Name(string(o.Format))))
	}
	switch o.Compress {
	case "", layer.None, layer.Gzip, layer.Zstd:
	default:
		return invalid(fmt.Errorf("%s is not a compression", quote.Name(string(o.Compress))))
	}
	if o.Format == FormatDocker && o.Compress == layer.Zstd {
		return errorf(ErrUnsupported, "format docker has no layers compressed by zstd")
	}
	if o.AllTags && (src.Tag != "" || src.Digest != "" || dst.Tag != "" || dst.Digest != "") {
		return invalid(errors.New("with all tags, neither side may name one"))
	}
	return nil
}

// copyTags copies all tags of a place.
func (p *places) copyTags(ctx context.Context, src, dst Location, result *Result) error {
	tags, err := p.tags(ctx, src)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return errorf(layout.ErrNotFound, "there is no tag")
	}
	// The tags are of foreign origin: nothing is copied unless all of them will do.
	targets := make([]Location, len(tags))
	for i, tag := range tags {
		if src.Scheme == SchemeRegistry && !tagPattern.MatchString(tag) {
			return errorf(layout.ErrInvalid, "the registry lists %s, which is no valid tag", quote.Name(tag))
		}
		if targets[i], err = dst.withTag(tag, src.Scheme == SchemeDockerArchive); err != nil {
			return fmt.Errorf("tag %s: %w", quote.Name(tag), err)
		}
	}
	for i, tag := range tags {
		from := src
		from.Tag = tag
		if src.Scheme == SchemeDockerArchive {
			from.Repo, from.Tag = cutTag(tag)
		}
		if err := p.copy(ctx, from, targets[i], result); err != nil {
			return fmt.Errorf("tag %s: %w", quote.Name(tag), err)
		}
	}
	return nil
}

// withTag returns the location that a tag of another place has at this one. The tags of a
// docker-archive are whole names: a layout and an archive keep them as they are.
func (l Location) withTag(tag string, whole bool) (Location, error) {
	repo, last := cutTag(tag)
	switch {
	case l.Scheme == SchemeRegistry && whole:
		l.Tag = last
	case l.Scheme != SchemeDockerArchive:
		l.Tag = tag
	case last != "":
		l.Repo, l.Tag = repo, last
	case l.Repo != "":
		l.Tag = tag
	default:
		l.Repo, l.Tag = tag, layout.DefaultRef
	}
	if l.Scheme == SchemeRegistry && l.Tag != "" && !tagPattern.MatchString(l.Tag) {
		return l, errorf(layout.ErrInvalid, "%s cannot be a tag in a registry", quote.Name(l.Tag))
	}
	if l.Scheme == SchemeDockerArchive && (!archiveName.MatchString(l.Repo) || !tagPattern.MatchString(l.Tag)) {
		return l, errorf(layout.ErrInvalid, "%s cannot be the name of an image in a docker-archive", quote.Name(tag))
	}
	return l, nil
}

// copy copies one name.
func (p *places) copy(ctx context.Context, src, dst Location, result *Result) (err error) {
	if other, taken := p.written[dst]; taken {
		return errorf(layout.ErrAmbiguous, "%s and %s would both be %s", quote.Name(other.String()), quote.Name(src.String()), quote.Name(dst.String()))
	}
	p.written[dst] = src
	from, err := p.source(ctx, src)
	if err != nil {
		return err
	}
	defer func() { err = both(err, from.Close()) }()
	c := &copier{opt: p.opt, src: from, result: result, parallel: p.parallel(), single: dst.Scheme == SchemeDockerArchive}
	root, err := from.Resolve(ctx)
	if err != nil {
		return err
	}
	if root, err = c.choose(ctx, root); err != nil {
		return err
	}
	if dst.Digest != "" && dst.Digest != root.Digest {
		return errorf(layout.ErrDigest, "the image is %s, not %s", root.Digest, dst.Digest)
	}
	to, err := p.destination(ctx, dst, from)
	if err != nil {
		return err
	}
	// What is written only when it is closed is not there unless that works.
	closed := false
	shut := func() error {
		closed = true
		return to.Close()
	}
	defer func() {
		if !closed {
			err = both(err, shut())
		}
	}()
	c.dst = to
	if err := c.copy(ctx, root); err != nil {
		return err
	}
	if err := shut(); err != nil {
		return err
	}
	if dst.Scheme == SchemeDockerArchive {
		c.change("the docker-archive has the config and the plain layers of %s, and not the manifest itself", root.Digest)
	}
	result.Images = append(result.Images, CopiedImage{
		Source: src.String(), Destination: dst.String(),
		MediaType: root.MediaType, Digest: root.Digest, Size: root.Size, Referrers: c.taken,
	})
	return nil
}
