// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mutate"
)

// archive makes the layer of a snapshot that is a tar archive.
func (e *exporter) archive(ctx context.Context, n *node) (l mutate.Layer, err error) {
	switch {
	case e.opt.Owner != nil:
		return l, fmt.Errorf("%w: it cannot be given an owner", ErrAsItIs)
	case len(e.opt.Masks) > 0:
		return l, fmt.Errorf("%w: nothing can be masked", ErrAsItIs)
	}
	// A hardlink may be to something below.
	tree := layer.NewTree()
	if e.hasLower(n) {
		if tree, err = e.merged(ctx, n, layer.Discard); err != nil {
			return l, err
		}
	}
	done, err := e.slot(ctx)
	if err != nil {
		return l, err
	}
	defer done()
	src, err := n.Tar(ctx)
	if err != nil {
		return l, err
	}
	defer src.Close() //nolint:errcheck // only read from
	// Reading from a pipe ends when it is closed, if nothing comes.
	stop := context.AfterFunc(ctx, func() { src.Close() }) //nolint:errcheck // only read from
	defer stop()
	budget := e.opt.Limits.Budget(0)
	plain, err := openTar(src)
	if err == nil {
		plain = budget.Count(plain)
		defer plain.Close() //nolint:errcheck // what it could say has been said by reading
		l, err = mutate.PutLayer(ctx, e.layout, mutate.PutLayerOptions{
			Compression: e.opt.Compression,
			Level:       e.opt.Level,
			Replace:     n.damaged,
			Write: func(w io.Writer) error {
				return e.check(ctx, &tarCopy{ctx: ctx, from: plain, to: w, report: e.steps.of(n)}, tree, budget)
			},
		})
	}
	if ctx.Err() != nil { // which is why it was closed
		err = ctx.Err()
	}
	return l, err
}

// openTar finds out how an archive is compressed.
func openTar(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(layer.MagicSize)
	if len(head) == 0 {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it is empty", ErrNoTar)
		}
		return nil, err
	}
	c, err := layer.DetectCompression(head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoTar, err)
	}
	return layer.NewReader(br, c, nil)
}

// check copies the archive while it is applied to the tree, to its last byte.
func (e *exporter) check(ctx context.Context, c *tarCopy, tree *layer.Tree, budget *layer.Budget) error {
	if err := tree.Apply(ctx, c, layer.Discard, layer.ApplyOptions{Budget: budget, Warn: e.opt.Warn}); err != nil {
		var over *layer.LimitError
		if c.err == nil && !errors.As(err, &over) {
			err = fmt.Errorf("%w: %w", ErrNoTar, err)
		}
		return err
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	c.report.Report(c.event(true))
	return nil
}

// tarCopy is a reader of an archive that writes what was read.
type tarCopy struct {
	ctx    context.Context
	from   io.Reader
	to     io.Writer
	report progress.Func
	done   int64
	told   int64
	err    error // of reading or writing, not of what was read
}

func (c *tarCopy) event(end bool) progress.Event {
	return progress.Event{Stage: "compressing", Done: c.done, Unit: progress.Bytes, End: end}
}

// Read implements [io.Reader].
func (c *tarCopy) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	n, err := c.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	if _, werr := c.to.Write(p[:n]); werr != nil {
		c.err = werr
		return n, werr
	}
	if c.done += int64(n); c.done-c.told >= 1<<20 {
		c.told = c.done
		c.report.Report(c.event(false))
	}
	return n, err
}
