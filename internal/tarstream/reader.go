// SPDX-License-Identifier: Apache-2.0

// Package tarstream reads tar archives as archive/tar does, and faster.
//
// Nearly all headers of a layer are of one kind: a file, directory or link with plain
// octal numbers, in the form of POSIX or of GNU, at most with a small extended header of
// names and times before it. Those are read here. Everything else, attributes, large
// numbers, sparse files, and whatever is wrong, is left to archive/tar, so that there is
// one opinion on what an archive means.
package tarstream

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
)

// blockSize is the unit of an archive, in bytes.
const blockSize = 512

// Reader reads the entries of an archive one after the other. It reads no byte behind
// what it has been asked for.
type Reader struct {
	src   io.Reader
	left  int64               // bytes of the body that have not been read
	pad   int64               // bytes behind the body
	ahead [3 * blockSize]byte // a header, or an extended one with records and a header
	hdr   tar.Header
	lib   *tar.Reader // has read the last entry, and must read its body and go on from it
	err   error
}

// NewReader returns a reader of the archive r.
func NewReader(r io.Reader) *Reader { return &Reader{src: r} }

// Next goes on to the next entry, and returns io.EOF behind the last one, which is where
// two blocks of zeros are, or the end of the source between two entries. The header is
// that of archive/tar without Uname, Gname and Format, and is good until the next call.
// After an error there is no going on.
func (t *Reader) Next() (*tar.Header, error) {
	if t.err != nil {
		return nil, t.err
	}
	hdr, err := t.next()
	t.err = err
	return hdr, err
}

func (t *Reader) next() (*tar.Header, error) {
	if t.lib == nil {
		if err := t.skip(); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(t.src, t.ahead[:blockSize]); err != nil {
			return nil, err
		}
		n, err := t.parse()
		if n == 0 {
			t.begin(&t.hdr)
			return &t.hdr, nil
		}
		t.lib = tar.NewReader(io.MultiReader(strings.NewReader(string(t.ahead[:n])), sourceAfter(t.src, err)))
	}
	hdr, err := t.lib.Next()
	if err != nil {
		return nil, err
	}
	if ordinary(hdr) {
		t.lib = nil // it has read no more than the header
		t.begin(hdr)
	}
	return hdr, nil
}

// parse reads a header of the frequent kind, the first block of which is in ahead, and
// then returns 0. Otherwise it returns how much is in ahead now, and the error that
// ended reading it.
func (t *Reader) parse() (n int, err error) {
	if parse(block(t.ahead[:]), &t.hdr) {
		return 0, nil
	}
	size := extension(block(t.ahead[:]))
	if size == 0 {
		return blockSize, nil
	}
	// The header that it belongs to follows, or there is an error.
	n, err = io.ReadFull(t.src, t.ahead[blockSize:])
	if err == nil && parse(block(t.ahead[2*blockSize:]), &t.hdr) && records(t.ahead[blockSize:blockSize+size], &t.hdr) {
		return 0, nil
	}
	return blockSize + n, err
}

func block(b []byte) *[blockSize]byte { return (*[blockSize]byte)(b) }

// sourceAfter is what follows in src, from which reading has ended with err, if not nil.
func sourceAfter(src io.Reader, err error) io.Reader {
	switch {
	case err == nil:
		return src
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return strings.NewReader("")
	default:
		return failing{err}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// ordinary reports whether the body of an entry is in the archive as it is.
func ordinary(hdr *tar.Header) bool {
	return hdr.Typeflag != tar.TypeXGlobalHeader && !Sparse(hdr)
}

// Sparse reports whether hdr is that of a file whose holes are not in the archive.
func Sparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// begin notes how long the body is that follows hdr.
func (t *Reader) begin(hdr *tar.Header) {
	t.left = hdr.Size
	switch hdr.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		t.left = 0 // whatever the header says
	}
	t.pad = -t.left & (blockSize - 1)
}

// skip reads over what is left of an entry.
func (t *Reader) skip() error {
	if t.left > 0 {
		n, err := io.CopyN(io.Discard, t.src, t.left)
		t.left -= n
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	_, err := io.ReadFull(t.src, t.ahead[:t.pad])
	t.pad = 0
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // as at the end of an archive without padding
	}
	return err
}

// Read reads from the body of the entry, with the holes of a sparse file as zeros.
func (t *Reader) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	if t.lib != nil {
		return t.lib.Read(p)
	}
	if t.left == 0 {
		return 0, io.EOF
	}
	n, err := t.src.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	if errors.Is(err, io.EOF) && t.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
