// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
)

// withLayout opens the layout at path for fn.
func (a *app) withLayout(ctx context.Context, path string, fn func(*layout.Layout) error) (err error) {
	l, err := layout.Open(ctx, path, a.layoutOptions())
	if err != nil {
		return err
	}
	defer func() {
		if cerr := l.Close(); err == nil {
			err = cerr
		}
	}()
	return fn(l)
}

// withImage opens the layout of an image for fn, and finds the image in it.
func (a *app) withImage(ctx context.Context, image imageFlag, fn func(*layout.Layout, layout.Path) error) error {
	return a.withLayout(ctx, image.path, func(l *layout.Layout) error {
		path, err := l.Resolve(ctx, image.ref, &layout.ResolveOptions{Platform: image.platform})
		if err != nil {
			return err
		}
		return fn(l, path)
	})
}

// retag makes the tag lead to what images have become. If they are from an index, it leads to an index afterwards.
func (a *app) retag(ctx context.Context, l *layout.Layout, tag string, changes []mutate.Change) error {
	var image ispec.Descriptor
	err := l.MoveRef(ctx, tag, func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
		grafted, err := mutate.Graft(ctx, l, now, changes)
		if err != nil {
			return nil, err
		}
		image = grafted[0].To.Target()
		root := grafted[0].To.Root()
		return &root, nil
	})
	if err == nil {
		a.log.Infof("tagged the image %s as %s", image.Digest, tag)
	}
	return err
}

// printJSON prints v as one line.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	_, err := a.stdout.Write(escapeControls(b.Bytes()))
	return err
}

// escapeControls escapes in JSON what the json package leaves as it is though
// terminals act on it: the control characters from U+007F to U+009F, and bytes
// that are not UTF-8.
func escapeControls(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for len(doc) > 0 {
		r, n := utf8.DecodeRune(doc)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, `\ufffd`...)
		case 0x7f <= r && r <= 0x9f:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, doc[:n]...)
		}
		doc = doc[n:]
	}
	return out
}
