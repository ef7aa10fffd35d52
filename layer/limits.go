// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
)

// LimitError is the error of a layer that goes beyond one of the [Limits]: it has the
// name of the limit, what was found, and what there may be.
type LimitError = limit.Error

// Unlimited is the value of a field of [Limits] that means that there is none.
const Unlimited = -1

// The limits that hold where [Limits] say nothing else. They are beyond what honest
// images have, and keep what a hostile one costs below what a machine has.
const (
	// DefaultMaxBytes is several times the size of the largest images that are
	// published, which are of language models.
	DefaultMaxBytes = 256 << 30
	// DefaultMaxEntries costs 600 MiB of memory. Large images have a tenth of it.
	DefaultMaxEntries = 2_000_000
	// DefaultMaxRatio is more than DEFLATE can reach, which is 1032, so that nothing
	// compressed with gzip is ever refused, be it all zeros. zstd has no such bound:
	// for it this stops images that are next to nothing but repetition.
	DefaultMaxRatio = 1100
	// DefaultMaxXattr is what Linux takes as the value of an attribute.
	DefaultMaxXattr = 64 << 10
	// DefaultMaxHeader is what archive/tar takes as the extended header of an entry.
	DefaultMaxHeader = 1 << 20
	// DefaultMaxMetadata is what names, links and attributes may have beyond what
	// usual ones need.
	DefaultMaxMetadata = 12 << 20
)

const (
	// ratioFrom is the number of uncompressed bytes from which on there is a limit
	// to the ratio: small things may be as empty as they like.
	ratioFrom = 1 << 30
	// usualMetadata is how many bytes of names, links and attributes each entry
	// has before any count against Limits.Metadata. A signature of IMA needs most of
	// it.
	usualMetadata = 512
	// maxDepth is how many directories deep a tree may be. The kernel gives up at
	// half of that when a path is used as a whole.
	maxDepth = 4096
)

// Limits bound what the layers of an image may cost whoever reads them. The zero
// value stands for the defaults; a field that is [Unlimited] for no limit.
type Limits struct {
	// Bytes is how many bytes all layers together may have when they are
	// uncompressed, and the files in them. 0 means DefaultMaxBytes.
	Bytes int64
	// Entries is how many entries all layers together may have, and how many names
	// the tree. 0 means DefaultMaxEntries.
	Entries int64
	// Ratio is how many times the size of the blobs the layers may have when they
	// are uncompressed. It is looked at from 1 GiB on. 0 means DefaultMaxRatio.
	Ratio int64
	// Xattr is how many bytes the value of one extended attribute may have. 0 means
	// DefaultMaxXattr, which is what Linux takes.
	Xattr int64
	// Header is how many bytes the extended header of one entry may have. 0 means
	// DefaultMaxHeader, and nothing makes it more.
	Header int64
	// Metadata is how many bytes of names, link targets and extended attributes all
	// entries together may have, beyond 512 for each entry. All of that is kept in
	// memory. 0 means DefaultMaxMetadata.
	Metadata int64
}

// Budget counts what the layers of one image cost against [Limits]. It may be used
// by several goroutines at once.
type Budget struct {
	limits     Limits
	ratioFrom  int64        // for tests with less than a gigabyte
	compressed atomic.Int64 // bytes of the blobs
	bytes      atomic.Int64 // of the streams
	files      atomic.Int64 // bytes of the files
	entries    atomic.Int64
	metadata   atomic.Int64
}

// Budget returns what is to be shared by all layers of an image whose blobs have
// that many bytes, each counted once. If it is 0, nobody knows, and Limits.Ratio
// is not looked at.
func (l Limits) Budget(compressed int64) *Budget {
	set := func(value *int64, otherwise int64) {
		if *value = cmp.Or(*value, otherwise); *value < 0 {
			*value = math.MaxInt64
		}
	}
	set(&l.Bytes, DefaultMaxBytes)
	set(&l.Entries, DefaultMaxEntries)
	set(&l.Ratio, DefaultMaxRatio)
	set(&l.Xattr, DefaultMaxXattr)
	set(&l.Header, DefaultMaxHeader)
	set(&l.Metadata, DefaultMaxMetadata)
	b := &Budget{limits: l, ratioFrom: ratioFrom}
	b.compressed.Store(compressed)
	return b
}

// BudgetOf returns what is to be shared by the layers of an image, whose blobs these are.
func (l Limits) BudgetOf(blobs []ispec.Descriptor) *Budget {
	var compressed int64
	seen := map[digest.Digest]bool{} // a layer that is there twice was sent once
	for _, d := range blobs {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			compressed += d.Size
		}
	}
	return l.Budget(compressed)
}

// Clone returns a budget of which as much is used up, for images that begin with the
// same layers and go on with others.
func (b *Budget) Clone() *Budget {
	c := &Budget{limits: b.limits, ratioFrom: b.ratioFrom}
	c.compressed.Store(b.compressed.Load())
	c.bytes.Store(b.bytes.Load())
	c.files.Store(b.files.Load())
	c.entries.Store(b.entries.Load())
	c.metadata.Store(b.metadata.Load())
	return c
}

// Count returns a reader of r, a stream that no [Stream] reads, whose bytes count as
// uncompressed ones.
func (b *Budget) Count(r io.ReadCloser) io.ReadCloser { return &metered{r, b} }

// CountCompressed returns a reader of r, a blob of which nobody knows how large it is,
// whose bytes count as compressed ones as they come.
func (b *Budget) CountCompressed(r io.Reader) io.Reader { return &packed{r, b} }

// uncompressed counts n more bytes of a stream.
func (b *Budget) uncompressed(n int) error {
	total := b.bytes.Add(int64(n))
	if err := limit.Check(limit.Bytes, "uncompressed bytes or more", total, b.limits.Bytes); err != nil {
		return err
	}
	compressed := b.compressed.Load()
	if total <= b.ratioFrom || compressed <= 0 {
		return nil
	}
	return limit.Check(limit.Ratio, "uncompressed bytes for each compressed one", total/compressed, b.limits.Ratio)
}

// exhausted reports whether err is about a limit that every further entry would go
// beyond too.
func exhausted(err error) bool {
	var over *LimitError
	return errors.As(err, &over) &&
		slices.Contains([]limit.Name{limit.Bytes, limit.Entries, limit.Ratio, limit.Metadata}, over.Name)
}

// Header counts an entry of a layer that is not applied to a tree, as applying it
// would.
func (b *Budget) Header(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // says nothing about a tree
	}
	return b.entry(hdr, 0)
}

// entry counts an entry that a tree is to get, which has so many names already.
func (b *Budget) entry(hdr *tar.Header, names int) error {
	extended, xattrs := 0, 0
	for key, value := range hdr.PAXRecords {
		extended += len(key) + len(value)
		if name, ok := cutXattr(key); ok {
			xattrs += len(name) + len(value)
			if err := b.xattr(name, value); err != nil {
				return err
			}
		}
	}
	kept := b.metadata.Add(int64(len(hdr.Name) + len(hdr.Linkname) + xattrs))
	entries := b.entries.Add(1)
	return cmp.Or(
		limit.Check(limit.Header, "bytes in the extended header", int64(extended), b.limits.Header),
		limit.Check(limit.Entries, "entries or more", max(entries, int64(names)), b.limits.Entries),
		limit.Check(limit.Metadata, "bytes of names, links and attributes beyond what is usual",
			kept-usualMetadata*entries, b.limits.Metadata),
		b.file(hdr),
	)
}

// xattr refuses an attribute that is longer than it may be, or than it can be.
func (b *Budget) xattr(name, value string) error {
	err := limit.Check(limit.Xattr, "bytes", int64(len(value)), min(b.limits.Xattr, maxXattrValue))
	if err == nil && len(name) > maxXattrName {
		err = limit.Check("", "bytes in the name", int64(len(name)), maxXattrName)
	}
	if err != nil {
		return fmt.Errorf("%w: %s has %w", ErrXattr, quote.Name(name), err)
	}
	return nil
}

// file counts the bytes of a file, which may be more than the layer has of it.
func (b *Budget) file(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeGNUSparse || hdr.Size < 0 {
		return nil
	}
	total := b.files.Add(min(hdr.Size, math.MaxInt64/2))
	if total < 0 {
		total = math.MaxInt64
	}
	return limit.Check(limit.Bytes, "bytes in files or more", total, b.limits.Bytes)
}

// metered counts what is read from a stream.
type metered struct {
	io.ReadCloser
	budget *Budget
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if over := m.budget.uncompressed(n); over != nil {
		return 0, over
	}
	return n, err
}

// packed counts what is read of a blob.
type packed struct {
	io.Reader
	budget *Budget
}

func (p *packed) Read(buf []byte) (int, error) {
	n, err := p.Reader.Read(buf)
	p.budget.compressed.Add(int64(n))
	return n, err
}
