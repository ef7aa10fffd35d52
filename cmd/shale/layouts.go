// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/shale-oci/shale/layout"
)

// withLayout opens the layout at path for fn.
func (a *app) withLayout(ctx context.Context, path string, fn func(*layout.Layout) error) (err error) {
	l, err := layout.Open(ctx, path, &layout.Options{NoLock: a.global.noLock})
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
		path, err := l.Resolve(ctx, image.ref, nil)
		if err != nil {
			return err
		}
		return fn(l, path)
	})
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
