// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// Known is a set of blobs that a site has.
type Known struct {
	sizes map[digest.Digest]int64 // -1 where the size is not known
}

// unknownSize stands for the size of a blob of which only the digest is known.
const unknownSize = -1

// maxDigests is the size limit of a file of digests, in bytes.
const maxDigests = 256 << 20

// NewKnown returns the set of blobs with the digests.
func NewKnown(digests ...digest.Digest) *Known {
	k := &Known{sizes: map[digest.Digest]int64{}}
	for _, d := range digests {
		k.sizes[d] = unknownSize
	}
	return k
}

// Len returns the number of blobs.
func (k *Known) Len() int { return len(k.sizes) }

// Add adds what is in other.
func (k *Known) Add(other *Known) { maps.Copy(k.sizes, other.sizes) }

// has reports whether the site has the blob. A nil Known has nothing.
func (k *Known) has(d ispec.Descriptor) bool {
	if k == nil {
		return false
	}
	size, ok := k.sizes[d.Digest]
	return ok && (size == unknownSize || size == d.Size)
}

// ReadKnown returns what a site has, which path says in one of these forms:
//
//   - a layout: the blobs in it, by name and size;
//   - an earlier OUT in any format but isula's, or its split.json alone: the blobs
//     in it, and those that were left out of it because the site had them by then;
//   - a file of digests, one at the beginning of each line, as sha256:HEX or as
//     sha256sum prints it; what follows on the line, empty lines, and lines that
//     begin with # mean nothing.
func ReadKnown(ctx context.Context, path string) (*Known, error) {
	k, err := readKnown(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read what the site has from %s: %w", quote.Name(path), err)
	}
	return k, nil
}

func readKnown(ctx context.Context, path string) (*Known, error) {
	k := NewKnown()
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() {
		return k, k.readFile(path)
	}
	if _, serr := os.Stat(filepath.Join(path, ispec.ImageLayoutFile)); serr == nil {
		return k, k.readLayout(ctx, path)
	}
	out, oerr := openOut(ctx, path, nil)
	if oerr != nil {
		return nil, oerr
	}
	defer out.close()
	maps.Copy(k.sizes, out.file.blobs())
	return k, nil
}

func (k *Known) readLayout(ctx context.Context, path string) error {
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // it was only read from
	return l.Blobs(ctx, func(d digest.Digest, size int64) error {
		k.sizes[d] = size
		return nil
	})
}

func (k *Known) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return cause(err)
	}
	defer f.Close() //nolint:errcheck // it was only read from
	data, err := io.ReadAll(io.LimitReader(f, maxDigests+1))
	if err != nil {
		return cause(err)
	}
	if len(data) > maxDigests {
		return errorf(ErrInvalid, "larger than the limit of %d bytes", maxDigests)
	}
	if bytes.HasPrefix(data, []byte("{")) {
		file, err := ParseFile(data)
		if err == nil {
			maps.Copy(k.sizes, file.blobs())
		}
		return err
	}
	return k.parse(data)
}

func (k *Known) parse(data []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		d := digest.Digest(fields[0])
		if !strings.Contains(fields[0], ":") {
			d = digest.NewDigestFromEncoded(digest.SHA256, fields[0])
		}
		if err := d.Validate(); err != nil {
			return errorf(ErrInvalid, "line %d: %s is not a digest", n, quote.Name(fields[0]))
		}
		k.sizes[d] = unknownSize
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errorf(ErrInvalid, "a line is too long")
		}
		return err
	}
	return nil
}
