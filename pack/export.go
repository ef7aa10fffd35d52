// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/stack"
)

// exporter is one call of Image.
type exporter struct {
	layout  *layout.Layout
	opt     Options
	nodes   []*node // the lowest first
	base    *stack.Stack
	image   *mutate.Image
	session *session
	slots   chan struct{} // one for each layer that is being made
	steps   steps
	began   time.Time
}

// newExporter checks what can be known before anything is read from a snapshot.
func newExporter(ctx context.Context, l *layout.Layout, snapshots []Snapshot, opt Options) (*exporter, error) {
	if opt.Parallel <= 0 {
		opt.Parallel = runtime.GOMAXPROCS(0)
	}
	e := &exporter{layout: l, opt: opt, slots: make(chan struct{}, opt.Parallel), began: time.Now()}
	for _, ref := range opt.Refs {
		if !layout.ValidRef(ref) {
			return nil, fmt.Errorf("%s is not a valid ref", quote.Name(ref))
		}
	}
	var err error
	if e.nodes, err = chain(snapshots); err != nil {
		return nil, err
	}
	if err := e.begin(ctx); err != nil {
		return nil, err
	}
	if e.opt.Compression == "" {
		e.opt.Compression = e.image.DefaultCompression()
	}
	// A level that there is not is found out before the work, not after it.
	w, err := layer.NewWriter(io.Discard, e.opt.Compression, opt.Level)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	var below []digest.Digest
	if e.base != nil {
		below = e.image.Config().RootFS.DiffIDs
	}
	if err := e.opt.identify(e.nodes, below); err != nil {
		return nil, err
	}
	e.steps.report = opt.Progress
	e.session, err = enter(l)
	return e, err
}

// begin makes the image that the layers are put on.
func (e *exporter) begin(ctx context.Context) error {
	if len(e.opt.Base) == 0 {
		e.image = mutate.Blank(e.layout, mutate.NewOptions{Platform: e.opt.Platform, MediaTypes: e.opt.MediaTypes})
	} else {
		// The image is one of its own, whatever index the base is in.
		from := layout.Path{e.opt.Base.Target()}
		var err error
		if e.base, err = stack.Open(ctx, e.layout, from); err != nil {
			return fmt.Errorf("base: %w", err)
		}
		if e.image, err = mutate.Open(ctx, e.layout, from); err != nil {
			return fmt.Errorf("base: %w", err)
		}
		e.image.SetMediaTypes(e.opt.MediaTypes)
	}
	if e.opt.Config != nil {
		if err := e.image.SetConfig(e.opt.Config); err != nil {
			return err
		}
	}
	if e.opt.Platform != nil {
		s := e.image.Settings()
		s.Platform = refine(*e.opt.Platform, s.Platform)
		e.image.Set(s)
	}
	return nil
}

// refine returns the platform that is asked for, with what it leaves open as it is in the
// image now if that is for the same operating system and architecture.
func refine(want, now ispec.Platform) ispec.Platform {
	if want.OS != now.OS || want.Architecture != now.Architecture {
		return want
	}
	if want.Variant == "" {
		want.Variant = now.Variant
	}
	if want.OSVersion == "" {
		want.OSVersion = now.OSVersion
	}
	if want.OSFeatures == nil {
		want.OSFeatures = now.OSFeatures
	}
	return want
}

func (e *exporter) run(ctx context.Context) (Result, error) {
	if err := e.layers(ctx); err != nil {
		return Result{}, err
	}
	res, err := e.commit(ctx)
	if err != nil {
		return Result{}, err
	}
	return res, e.name(ctx, &res)
}

// layers makes all layers at once, as far as there are slots. The first error ends the
// work on the others.
func (e *exporter) layers(ctx context.Context) error {
	step := e.steps.start("exporting layers", "", int64(len(e.nodes)), progress.Layers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, n := range e.nodes {
		wg.Go(func() {
			defer close(n.done)
			if n.made, n.err = e.layer(ctx, n); n.err != nil {
				cancel()
				return
			}
			step.add(1)
		})
	}
	wg.Wait()
	if err := e.firstError(); err != nil {
		return err
	}
	step.end()
	return nil
}

// firstError returns the error that came first: the others are those of work that was
// cancelled for it.
func (e *exporter) firstError() error {
	var first error
	for _, n := range e.nodes {
		if n.err == nil {
			continue
		}
		err := n.err
		var named *SnapshotError // it may be about the parent
		if !errors.As(err, &named) {
			err = &SnapshotError{n.name(), err}
		}
		if first == nil || errors.Is(first, context.Canceled) && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	return first
}

// layer returns the layer of a snapshot: made by somebody else meanwhile, known from
// before, or made now.
func (e *exporter) layer(ctx context.Context, n *node) (made, error) {
	if n.identity == "" {
		return e.make(ctx, n)
	}
	for {
		m, err := e.session.do(ctx, n.identity, func() (made, error) {
			if m, ok := e.cached(ctx, n); ok {
				return m, nil
			}
			m, err := e.make(ctx, n)
			if err == nil {
				e.remember(ctx, n, m)
			}
			return m, err
		})
		if e.opt.Created == nil || m.created == nil { // whoever made it has another opinion on times
			m.created = e.opt.Created
		}
		if err != nil || m.empty {
			return m, err
		}
		// Whoever has made it may have closed the layout since, and then gc may have come.
		if ok, err := e.hold(ctx, m.layer.Descriptor); ok || err != nil {
			return m, err
		}
		e.session.forget(n.identity, nil)
	}
}

// hold keeps gc from a blob, and reports whether it is there.
func (e *exporter) hold(ctx context.Context, d ispec.Descriptor) (bool, error) {
	if err := e.layout.Hold(ctx, d); err != nil {
		return false, err
	}
	return e.layout.HasBlob(ctx, d)
}

// make makes the layer of a snapshot.
func (e *exporter) make(ctx context.Context, n *node) (made, error) {
	var (
		m   made
		err error
	)
	switch {
	case n.Tar != nil:
		m.layer, err = e.archive(ctx, n)
	default:
		m.layer, m.empty, err = e.directory(ctx, n)
	}
	if err == nil {
		m.created = e.opt.Created
	}
	return m, err
}

// slot waits for the right to work, which must be given back by calling done.
func (e *exporter) slot(ctx context.Context) (done func(), err error) {
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// below returns the layers below a snapshot, and waits for those that are being made.
func (e *exporter) below(ctx context.Context, n *node) (*stack.Stack, error) {
	var layers []stack.Layer
	if e.base != nil {
		layers = append(layers, e.base.Layers...)
	}
	for _, p := range e.nodes {
		if p == n {
			break
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if p.err != nil {
			return nil, context.Canceled // the error is that of the parent
		}
		if !p.made.empty {
			l := p.made.layer
			layers = append(layers, stack.Layer{Descriptor: l.Descriptor, Compression: e.opt.Compression, DiffID: l.DiffID})
		}
	}
	return stack.Of(e.layout, layers...), nil
}

func (e *exporter) warn(msg string) {
	if e.opt.Warn != nil {
		e.opt.Warn(msg)
	}
}
