// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/layout"
)

// dialer makes connections that files can be sent through without being read first.
func dialer(opt RegistryOptions) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: opt.Silence, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if tcp, ok := c.(*net.TCPConn); ok {
			return fileConn{tcp}, err
		}
		return c, err
	}
}

// fileConn is a connection that knows the bodies of uploads. Under TLS it is never asked.
type fileConn struct{ *net.TCPConn }

// ReadFrom implements [io.ReaderFrom].
func (c fileConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*uploadBody); ok && body.file != nil {
			return body.sendTo(c.TCPConn, limited)
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// fileOf returns the file that a reader reads; nil if it reads something else.
func fileOf(r io.Reader) *os.File {
	if f, ok := r.(interface{ File() *os.File }); ok {
		return f.File()
	}
	return nil
}

// sendChunk is how many bytes of a file are sent before somebody hears of it.
const sendChunk = 4 << 20

// sendTo has the kernel send the file. Nobody here sees what is sent: see settle.
func (b *uploadBody) sendTo(c *net.TCPConn, limited *io.LimitedReader) (int64, error) {
	var sent int64
	if err := b.note(func() error { b.u.unseen = true; return nil }); err != nil {
		return 0, err
	}
	for limited.N > 0 {
		b.quiet.alive()
		if err := b.ctx.Err(); err != nil {
			return sent, err
		}
		n, err := c.ReadFrom(io.LimitReader(b.file, min(limited.N, sendChunk)))
		limited.N -= n
		sent += n
		err = b.note(func() error {
			b.at += n
			if b.sent != nil {
				b.sent(int(n))
			}
			if err == nil && n == 0 {
				err = b.fail(fmt.Errorf("%w: ended %d bytes early", layout.ErrSize, b.u.desc.Size-b.at))
			}
			return err
		})
		if err != nil {
			return sent, err
		}
	}
	b.quiet.stop()
	return sent, nil
}

// settle looks at a blob whose bytes the kernel has sent. A registry that answers with
// its digest has hashed it. If there is no such answer, or an error, it is hashed here:
// no manifest follows a blob that is not what it should be.
func (u *upload) settle(ctx context.Context, digestKnown bool, err error) error {
	if err == nil && digestKnown || errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	src, oerr := u.open(ctx, 0)
	if oerr != nil {
		return both(err, oerr)
	}
	defer src.Close() //nolint:errcheck // it was only read from
	h := u.desc.Digest.Algorithm().Hash()
	if _, herr := io.Copy(h, src); herr != nil {
		return herr
	}
	if got := digest.NewDigest(u.desc.Digest.Algorithm(), h); got != u.desc.Digest {
		return fmt.Errorf("%w: the content is %s", layout.ErrDigest, got)
	}
	return err
}
