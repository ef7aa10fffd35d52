// SPDX-License-Identifier: Apache-2.0

// Package tarstream reads tar archives as archive/tar does, and faster.
//
// Nearly all headers of a layer are of one kind: a file, directory or link with plain
// octal numbers, in the form of POSIX or of GNU. Those are read here. Everything else,
// extended headers, long names, sparse files, and whatever is wrong, is left to
// archive/tar, so that there is one opinion on what an archive means.
package tarstream

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"
)

// blockSize is the unit of an archive, in bytes.
const blockSize = 512

// Reader reads the entries of an archive one after the other. It reads no byte behind
// what it has been asked for.
type Reader struct {
	src   io.Reader
	left  int64 // bytes of the body that have not been read
	pad   int64 // bytes behind the body
	block [blockSize]byte
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
		if _, err := io.ReadFull(t.src, t.block[:]); err != nil {
			return nil, err
		}
		if parse(&t.block, &t.hdr) {
			t.begin(&t.hdr)
			return &t.hdr, nil
		}
		t.lib = tar.NewReader(io.MultiReader(strings.NewReader(string(t.block[:])), t.src))
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
	_, err := io.ReadFull(t.src, t.block[:t.pad])
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

// parse reads a header that is of the frequent kind, and otherwise returns false, with
// hdr in the middle. The fields are those of POSIX.1-1988 (ustar), and of GNU's older
// form, which has times where ustar has the beginning of a long name.
func parse(b *[blockSize]byte, hdr *tar.Header) bool {
	flag := b[156]
	switch flag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeDir:
	default:
		return false
	}
	prefix := b[345:500]
	switch string(b[257:265]) {
	case "ustar\x0000":
		if string(b[508:]) == "tar\x00" {
			return false // another form again
		}
	case "ustar  \x00":
		if b[345] != 0 || b[357] != 0 {
			return false
		}
		prefix = nil
	default:
		return false
	}
	n := numbers{ok: true}
	if sum := n.octal(b[148:156]); !n.ok || sum != checksum(b) {
		return false
	}
	*hdr = tar.Header{
		Typeflag: flag,
		Mode:     n.octal(b[100:108]),
		Uid:      int(n.octal(b[108:116])),
		Gid:      int(n.octal(b[116:124])),
		Size:     n.octal(b[124:136]),
		ModTime:  time.Unix(n.octal(b[136:148]), 0),
		Devmajor: n.octal(b[329:337]),
		Devminor: n.octal(b[337:345]),
	}
	if !n.ok {
		return false
	}
	hdr.Name, hdr.Linkname = text(b[:100]), text(b[157:257])
	if len(prefix) > 0 && prefix[0] != 0 {
		hdr.Name = text(prefix) + "/" + hdr.Name
	}
	return true
}

// text returns what is before the first NUL.
func text(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// numbers reads fields until one is not a plain octal number.
type numbers struct{ ok bool }

// octal reads octal digits behind spaces and before spaces and NULs; none are zero.
func (n *numbers) octal(b []byte) (v int64) {
	i := 0
	for i < len(b) && b[i] == ' ' {
		i++
	}
	for ; i < len(b) && b[i]-'0' < 8; i++ {
		v = v<<3 | int64(b[i]-'0')
	}
	for ; i < len(b); i++ {
		if b[i] != ' ' && b[i] != 0 {
			n.ok = false
		}
	}
	return v
}

// checksum adds up the bytes of a header, of which those of the sum itself count as
// spaces.
func checksum(b *[blockSize]byte) int64 {
	const lanes = 0x00ff00ff00ff00ff
	var four uint64 // sums of 16 bits, each of 128 bytes at the most
	for i := 0; i < blockSize; i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		four += word&lanes + word>>8&lanes
	}
	sum := int64(four&0xffff + four>>16&0xffff + four>>32&0xffff + four>>48)
	for _, c := range b[148:156] {
		sum += ' ' - int64(c)
	}
	return sum
}
