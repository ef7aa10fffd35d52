// SPDX-License-Identifier: Apache-2.0

package split

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// archiveSuffix ends the name of a tier that is a tar.
const archiveSuffix = ".tar"

// archive writes a tier as a tar that holds a layout. The same tier gives the same
// bytes: names in a fixed order, no owners, no times.
func (w *writer) archive(ctx context.Context, file string, t *TierPlan, doc []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	tw := tar.NewWriter(buf)
	err = w.tarTier(ctx, tw, "", t, doc)
	if err == nil {
		err = tw.Close()
	}
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return both(err, f.Close())
}

// tarTier writes a tier's files with names below prefix.
func (w *writer) tarTier(ctx context.Context, tw *tar.Writer, prefix string, t *TierPlan, doc []byte) error {
	if prefix != "" {
		if err := tarDir(tw, prefix); err != nil {
			return err
		}
	}
	if err := tarFile(tw, path.Join(prefix, ispec.ImageLayoutFile), layoutFile); err != nil {
		return err
	}
	if err := tarFile(tw, path.Join(prefix, ispec.ImageIndexFile), t.index); err != nil {
		return err
	}
	if t.Name == TopTier {
		if err := tarFile(tw, path.Join(prefix, FileName), doc); err != nil {
			return err
		}
	}
	items := slices.Clone(t.items)
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(string(a.desc.Digest), string(b.desc.Digest)) })
	if err := tarDir(tw, path.Join(prefix, ispec.ImageBlobsDir)); err != nil {
		return err
	}
	algorithm := digest.Algorithm("")
	for _, it := range items {
		if a := it.desc.Digest.Algorithm(); a != algorithm {
			algorithm = a
			if err := tarDir(tw, path.Join(prefix, ispec.ImageBlobsDir, a.String())); err != nil {
				return err
			}
		}
		if err := w.tarBlob(ctx, tw, prefix, it.located); err != nil {
			return err
		}
	}
	return nil
}

// tarBlob writes a blob, verified.
func (w *writer) tarBlob(ctx context.Context, tw *tar.Writer, prefix string, b located) error {
	name := path.Join(prefix, blobName(b.desc.Digest))
	if b.data != nil {
		w.report(len(b.data))
		return tarFile(tw, name, b.data)
	}
	r, err := b.from.OpenBlob(ctx, b.desc)
	if err != nil {
		return fmt.Errorf("copy out of %s: %w", quote.Name(b.from.Path()), err)
	}
	defer r.Close() //nolint:errcheck // it is read to its end, which checks it
	if err := tw.WriteHeader(tarHeader(name, b.desc.Size)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := w.stream(tw, r); err != nil {
		return fmt.Errorf("copy out of %s: %w", quote.Name(b.from.Path()), err)
	}
	return nil
}

// stream copies from r to its end, where it is checked, and reports that.
func (w *writer) stream(dst io.Writer, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			w.report(n)
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// blobName is where a blob is in a layout.
func blobName(d digest.Digest) string {
	return path.Join(ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}

func tarFile(tw *tar.Writer, name string, data []byte) error {
	err := tw.WriteHeader(tarHeader(name, int64(len(data))))
	if err == nil {
		_, err = io.Copy(tw, bytes.NewReader(data))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(name), err)
	}
	return nil
}

func tarDir(tw *tar.Writer, name string) error {
	h := tarHeader(name+"/", 0)
	h.Typeflag, h.Mode = tar.TypeDir, 0o755
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", quote.Name(name), err)
	}
	return nil
}
