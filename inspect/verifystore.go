// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layout"
)

// algorithms are those that blobs can be checked by.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

// store is the directory of a layout, whatever state it is in. Like package layout it
// opens nothing but regular files, relative to the descriptor of their directory.
type store struct {
	dir *rooted.Dir
	// algs has the directories that there are, and nil for those that are of no use.
	algs map[digest.Algorithm]*rooted.Dir
}

func openStore(path string) (*store, error) {
	if path == "" {
		return nil, errors.New("empty path")
	}
	// The dot makes a symbolic link at path be followed, and nothing below it.
	dir, err := rooted.Open(path + "/.")
	if err != nil {
		return nil, withoutPath(err)
	}
	return &store{dir: dir, algs: map[digest.Algorithm]*rooted.Dir{}}, nil
}

func (s *store) close() {
	for _, d := range s.algs {
		if d != nil {
			_ = d.Close()
		}
	}
	_ = s.dir.Close()
}

// withoutPath takes the name of the file out of err, for messages that name it.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// readFile reads a file of the layout that is no blob.
func (s *store) readFile(name string, most int64) ([]byte, error) {
	f, err := s.dir.Open(name)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close() //nolint:errcheck // it was only read from
	info, err := f.Stat()
	if err == nil {
		err = limit.Check(limit.Index, "bytes", info.Size(), most)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	// In a buffer that is large enough from the beginning: growing one takes as much
	// again.
	data := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err = data.ReadFrom(io.LimitReader(f, most+1)); err == nil {
		err = limit.Check(limit.Index, "bytes or more", int64(data.Len()), most)
	}
	return data.Bytes(), withoutPath(err)
}

// maxLayoutFile is the size limit of the oci-layout file, in bytes.
const maxLayoutFile = 64 << 10

// checkFiles looks at what must be there in a layout besides index.json.
func (v *verifier) checkFiles() {
	about := fileObject(ispec.ImageLayoutFile)
	data, err := v.store.readFile(ispec.ImageLayoutFile, maxLayoutFile)
	if err == nil {
		var header ispec.ImageLayout
		if err = layoutFile.Unmarshal(data, &header); err == nil && header.Version != ispec.ImageLayoutVersion {
			v.found(LayoutVersion, about, "", "the version of the layout is %s, and only %s is known",
				quote.Name(header.Version), ispec.ImageLayoutVersion)
		}
	}
	if err != nil {
		v.found(LayoutFile, about, "", "%s cannot be used: %v", ispec.ImageLayoutFile, err)
	}
	blobs, err := v.store.dir.OpenDir(ispec.ImageBlobsDir)
	if err != nil {
		v.found(BlobsDirectory, fileObject(ispec.ImageBlobsDir), "", "%s cannot be opened: %v", ispec.ImageBlobsDir, withoutPath(err))
		for _, alg := range algorithms {
			v.store.algs[alg] = nil
		}
		return
	}
	defer blobs.Close() //nolint:errcheck // it was only read from
	for _, alg := range algorithms {
		d, err := blobs.OpenDir(alg.String())
		switch {
		case err == nil:
			v.store.algs[alg] = d
		case !errors.Is(err, fs.ErrNotExist):
			name := ispec.ImageBlobsDir + "/" + alg.String()
			v.found(BlobsDirectory, fileObject(name), "", "%s cannot be opened: %v", name, withoutPath(err))
			v.store.algs[alg] = nil
		}
	}
}

// blobFacts is what is known of a blob that something leads to.
type blobFacts struct {
	err  error // why there is no such file to be read
	size int64
	bad  bool // the content is not what the digest says
	read bool // and counted
}

// facts returns what is known of a blob. The digest is a valid one.
func (v *verifier) facts(d digest.Digest) *blobFacts {
	b := v.blobs[d]
	if b == nil {
		b = &blobFacts{}
		var st rooted.Stat
		if st, b.err = v.store.lstat(d); b.err == nil {
			b.size = st.Size
			if !st.IsRegular() {
				b.err = errIrregular
			}
		}
		v.blobs[d] = b
	}
	return b
}

// count counts a blob as looked at.
func (v *verifier) count(b *blobFacts) {
	if !b.read {
		b.read = true
		v.report.Blobs++
		v.report.Bytes += b.size
	}
}

var (
	errIrregular   = errors.New("not a regular file")
	errNoDirectory = errors.New("the directory of the blobs cannot be opened")
)

func (s *store) lstat(d digest.Digest) (rooted.Stat, error) {
	dir, known := s.algs[d.Algorithm()]
	switch {
	case dir == nil && known:
		return rooted.Stat{}, errNoDirectory
	case dir == nil:
		return rooted.Stat{}, fs.ErrNotExist
	}
	st, err := dir.Lstat(d.Encoded())
	return st, withoutPath(err)
}

// blobReader reads a blob up to the size that it had, and hashes it.
type blobReader struct {
	ctx  context.Context
	file io.ReadCloser
	want digest.Digest
	hash hash.Hash
	left int64
	done atomic.Int64
}

// open opens a blob of the size. The digest is a valid one.
func (s *store) open(ctx context.Context, d digest.Digest, size int64) (*blobReader, error) {
	dir := s.algs[d.Algorithm()]
	if dir == nil {
		return nil, fs.ErrNotExist
	}
	f, err := dir.Open(d.Encoded())
	if err != nil {
		return nil, withoutPath(err)
	}
	return &blobReader{ctx: ctx, file: f, want: d, hash: d.Algorithm().Hash(), left: size}, nil
}

// embedded reads what a descriptor has of its blob.
func embedded(ctx context.Context, d digest.Digest, data []byte) *blobReader {
	return &blobReader{
		ctx: ctx, file: io.NopCloser(bytes.NewReader(data)),
		want: d, hash: d.Algorithm().Hash(), left: int64(len(data)),
	}
}

func (r *blobReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.hash.Write(p[:n])
	r.left -= int64(n)
	r.done.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		err = withoutPath(err)
	}
	return n, err
}

// finish reads what is left and says what is wrong with the blob: layout.ErrDigest if
// it is not what it should be, and otherwise the error of reading it.
func (r *blobReader) finish() error {
	buf := make([]byte, max(min(r.left, 64<<10), 1)) // of documents, nothing is left
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, buf); err != nil {
		return err
	}
	if r.left > 0 {
		return fmt.Errorf("%w: it ended %d bytes early while it was read", layout.ErrDigest, r.left)
	}
	if got := digest.NewDigest(r.want.Algorithm(), r.hash); got != r.want {
		return fmt.Errorf("%w: the content is %s", layout.ErrDigest, got)
	}
	return nil
}

func (r *blobReader) close() { _ = r.file.Close() }

// spoiled reports what finish has found, and remembers that the blob is of no use.
func (v *verifier) spoiled(ctx context.Context, d digest.Digest, err error) error {
	if stop := cannotGoOn(ctx, err); stop != nil {
		return stop
	}
	v.facts(d).bad = true
	if errors.Is(err, layout.ErrDigest) {
		v.found(WrongDigest, blobObject(d), "", "the blob does not have its digest: %v", err)
	} else {
		v.found(UnreadableBlob, blobObject(d), "", "the blob cannot be read: %v", err)
	}
	return nil
}
