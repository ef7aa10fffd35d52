// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layout"
)

// layoutFile is what Split writes as oci-layout.
var layoutFile = []byte(`{"imageLayoutVersion":"` + ispec.ImageLayoutVersion + `"}` + "\n")

// writer writes OUTs.
type writer struct {
	opt    *Options
	out    string // what it will be called
	total  int64
	open   []*layout.Layout
	placed map[digest.Digest]*layout.Layout // where blobs were written to

	mu   sync.Mutex
	done int64
}

// report counts bytes that were read.
func (w *writer) report(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += int64(n)
	w.opt.Progress.Report(progress.Event{Stage: "splitting", Done: w.done, Total: w.total, Unit: progress.Bytes})
}

func (w *writer) end() {
	w.opt.Progress.Report(progress.Event{Stage: "splitting", Done: w.done, Total: w.total, Unit: progress.Bytes, End: true})
}

// write writes one OUT into dir, which is empty.
func (w *writer) write(ctx context.Context, dir string, out *Out) error {
	if w.opt.Format == FormatIsula {
		return w.isula(ctx, dir, out)
	}
	file, err := out.File.encode()
	if err != nil {
		return err
	}
	if w.opt.MaxSize > 0 {
		return w.volumes(ctx, dir, out, file)
	}
	if err := writeFile(filepath.Join(dir, FileName), file); err != nil {
		return err
	}
	for i := range out.Tiers {
		t := &out.Tiers[i]
		if t.index == nil {
			continue
		}
		if w.opt.Format == FormatArchive {
			err = w.archive(ctx, filepath.Join(dir, t.Name+archiveSuffix), t, file)
		} else {
			err = w.layout(ctx, dir, t, file)
		}
		if err != nil {
			return fmt.Errorf("tier %s: %w", t.Name, err)
		}
	}
	return syncDir(dir)
}

// layout writes a tier as a layout below dir.
func (w *writer) layout(ctx context.Context, dir string, t *TierPlan, file []byte) error {
	path := filepath.Join(dir, t.Name)
	if err := os.MkdirAll(filepath.Join(path, ispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(path, ispec.ImageLayoutFile), layoutFile); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(path, ispec.ImageIndexFile), t.index); err != nil {
		return err
	}
	if t.Name == TopTier {
		if err := os.Link(filepath.Join(dir, FileName), filepath.Join(path, FileName)); err != nil {
			if err := writeFile(filepath.Join(path, FileName), file); err != nil {
				return err
			}
		}
	}
	l, err := layout.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	w.open = append(w.open, l)
	err = parallel(ctx, len(t.items), func(ctx context.Context, i int) error {
		return w.blob(ctx, l, t.items[i].located)
	})
	if err != nil {
		return err
	}
	for _, it := range t.items {
		if w.placed[it.desc.Digest] == nil {
			w.placed[it.desc.Digest] = l
		}
	}
	return syncDir(path)
}

// blob writes a blob into a tier. One that was written before is linked: both
// files are ours.
func (w *writer) blob(ctx context.Context, l *layout.Layout, b located) error {
	from, link := b.from, w.opt.Link
	if other := w.placed[b.desc.Digest]; other != nil {
		from, link = other, true
		b.desc.Data = nil
	} else if b.data != nil {
		w.report(len(b.data))
		return l.PutVerified(ctx, b.desc, bytes.NewReader(b.data))
	}
	_, err := l.CopyBlob(ctx, from, b.desc, &layout.CopyOptions{Link: link, Report: w.report})
	if err != nil {
		return fmt.Errorf("copy out of %s: %w", from.Path(), err)
	}
	return nil
}

// close closes the layouts that were written.
func (w *writer) close() error {
	var err error
	for _, l := range w.open {
		err = both(err, l.Close())
	}
	w.open = nil
	return err
}

// parallel calls fn for 0 to n-1, on all CPUs but at most four at a time. It returns
// the first error, and all calls have returned by then.
func parallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0), 4) {
		wg.Go(func() {
			for i := range next {
				if err := fn(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
