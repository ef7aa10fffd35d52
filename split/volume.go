// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// Volumes are one tar of all that an OUT holds, split.json first, cut into files
// OUT.001, OUT.002 and so on. OUT.sha256 lists them as sha256sum does, so that
// "sha256sum -c OUT.sha256" checks them and "cat OUT.??? | tar x" is OUT again.

// minVolume is the least size of a volume, in bytes: enough for the headers of a tar.
const minVolume = 4 << 10

// maxVolumes is how many volumes there may be.
const maxVolumes = 999_999

// volumes writes an OUT as volumes into dir.
func (w *writer) volumes(ctx context.Context, dir string, out *Out, doc []byte) error {
	if w.opt.MaxSize < minVolume {
		return errorf(ErrInvalid, "a volume has at least %d bytes", minVolume)
	}
	base := filepath.Base(w.out)
	v := &volumeWriter{path: filepath.Join(dir, base), limit: w.opt.MaxSize}
	aw := layout.NewArchiveWriter(v)
	err := w.archiveOut(ctx, aw, out, doc)
	if err == nil {
		err = aw.Close()
	}
	if err = both(err, v.end()); err != nil {
		return err
	}
	return writeFile(checksumName(v.path), v.sums.Bytes())
}

func (w *writer) archiveOut(ctx context.Context, aw *layout.ArchiveWriter, out *Out, doc []byte) error {
	if err := aw.File(FileName, doc); err != nil {
		return err
	}
	for i := range out.Tiers {
		if t := &out.Tiers[i]; t.index != nil {
			if err := w.archiveTier(ctx, aw, t.Name, t, doc); err != nil {
				return fmt.Errorf("tier %s: %w", t.Name, err)
			}
		}
	}
	return nil
}

// volumeWriter cuts a stream into files.
type volumeWriter struct {
	path  string // of OUT
	limit int64
	n     int // how many volumes were begun
	file  *os.File
	size  int64
	hash  hash.Hash
	sums  bytes.Buffer
}

// Write implements [io.Writer].
func (v *volumeWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if v.file == nil || v.size == v.limit {
			if err := v.next(); err != nil {
				return written, err
			}
		}
		n, err := v.file.Write(p[:min(int64(len(p)), v.limit-v.size)])
		v.hash.Write(p[:n])
		v.size += int64(n)
		written += n
		p = p[n:]
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (v *volumeWriter) next() error {
	if err := v.end(); err != nil {
		return err
	}
	if v.n++; v.n > maxVolumes {
		return errorf(ErrInvalid, "more than %d volumes", maxVolumes)
	}
	f, err := os.OpenFile(volumeName(v.path, v.n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	v.file, v.size, v.hash = f, 0, sha256.New()
	return err
}

// end finishes the volume that is being written.
func (v *volumeWriter) end() error {
	if v.file == nil {
		return nil
	}
	f := v.file
	v.file = nil
	err := both(f.Sync(), f.Close())
	fmt.Fprintf(&v.sums, "%x  %s\n", v.hash.Sum(nil), filepath.Base(f.Name()))
	return err
}

// volumeSet is a series of volumes, read as one file.
type volumeSet struct {
	list  string // the file with the checksums
	files []*os.File
	ends  []int64 // where each ends in the whole
}

// maxChecksums is the size limit of a list of checksums, in bytes.
const maxChecksums = 64 << 20

// checksumPattern is a line of OUT.sha256.
var checksumPattern = regexp.MustCompile(`^([0-9a-f]{64})  ([^/]+)$`)

// openVolumes opens and checks all volumes of out.
func openVolumes(ctx context.Context, out string) (*volumeSet, error) {
	list := checksumName(out)
	data, err := readFile(list, maxChecksums)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errorf(ErrMissingVolume, "there is %s, but not %s with the checksums of all volumes",
			quote.Name(volumeName(out, 1)), quote.Name(list))
	} else if err != nil {
		return nil, err
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		return nil, errorf(ErrDamaged, "%s is damaged: its last line is not whole", quote.Name(list))
	}
	set := &volumeSet{list: list}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		m := checksumPattern.FindStringSubmatch(line)
		want := volumeName(out, i+1)
		if m == nil || m[2] != filepath.Base(want) {
			err = errorf(ErrDamaged, "%s is damaged: line %d is not that of %s", quote.Name(list), i+1, quote.Name(filepath.Base(want)))
		} else {
			err = set.add(ctx, want, m[1])
		}
		if err != nil {
			set.close()
			return nil, err
		}
	}
	return set, nil
}

// add opens a volume and compares its checksum.
func (s *volumeSet) add(ctx context.Context, path, want string) error {
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errorf(ErrMissingVolume, "volume %s is missing", quote.Name(path))
	} else if err != nil {
		return fmt.Errorf("open volume %s: %w", quote.Name(path), cause(err))
	}
	s.files = append(s.files, f)
	h := sha256.New()
	n, err := io.CopyBuffer(h, contextReader{ctx, f}, make([]byte, 256<<10))
	if err != nil {
		return fmt.Errorf("read volume %s: %w", quote.Name(path), cause(err))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return errorf(ErrDamaged, "volume %s is damaged: its %d bytes have the checksum %s, not %s as in %s",
			quote.Name(path), n, got, want, quote.Name(s.list))
	}
	s.ends = append(s.ends, s.Size()+n)
	return nil
}

// Size implements [layout.SizedReaderAt].
func (s *volumeSet) Size() int64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// ReadAt implements [io.ReaderAt].
func (s *volumeSet) ReadAt(p []byte, off int64) (int, error) {
	read := 0
	for i, f := range s.files {
		if len(p) == 0 {
			return read, nil
		}
		if off >= s.ends[i] {
			continue
		}
		begin := int64(0)
		if i > 0 {
			begin = s.ends[i-1]
		}
		want := min(int64(len(p)), s.ends[i]-off)
		n, err := f.ReadAt(p[:want], off-begin)
		read += n
		if int64(n) < want {
			return read, fmt.Errorf("read volume %s: %w", quote.Name(f.Name()), err)
		}
		off += int64(n)
		p = p[n:]
	}
	if len(p) > 0 {
		return read, io.EOF
	}
	return read, nil
}

func (s *volumeSet) close() {
	for _, f := range s.files {
		_ = f.Close() // it was only read from
	}
}

// contextReader stops reading once ctx is done.
type contextReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
