// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/shale-oci/shale/internal/tarstream"
)

// digester is a [Sink] that reads all content, and for which Apply fills in the
// digests of what it has read.
type digester interface{ wantDigests() }

// teer is a reader that can hash what is read from it, as a [Stream] can.
type teer interface{ Tee(h hash.Hash) }

// contents hashes the contents of files on their way to a sink.
type contents struct {
	sum hash.Hash // nil if nobody wants digests
	tee teer      // nil if the stream of the layer cannot hash
}

func newContents(stream io.Reader, sink Sink) contents {
	var c contents
	if _, ok := sink.(digester); ok {
		c.sum = sha256.New()
		c.tee, _ = stream.(teer)
	}
	return c
}

// pass calls put with the content of a file, and notes the digest of what it reads.
func (c *contents) pass(hdr *tar.Header, ino *Inode, body io.Reader, put func(io.Reader) error) error {
	if c.sum == nil || ino.Type != Regular {
		return put(body)
	}
	c.sum.Reset()
	// Only what is in the stream as it is can be hashed on the way: a sparse file has
	// holes besides.
	direct := c.tee != nil && !tarstream.Sparse(hdr)
	if direct {
		c.tee.Tee(c.sum)
	} else {
		body = io.TeeReader(body, c.sum)
	}
	err := put(body)
	if direct {
		c.tee.Tee(nil)
	}
	if err == nil {
		c.sum.Sum(ino.Digest[:0])
		ino.HasDigest = true
	}
	return err
}
