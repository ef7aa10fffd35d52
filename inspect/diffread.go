// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/stack"
)

// wanted is the files of images that must be read once more. What two images share from
// the bottom is one stack for them.
type wanted struct {
	stacks [2]*stack.Stack
	shared int
	files  [2]map[wantedFile][]*layer.Inode // for each stack
}

// wantedFile is an entry of a layer.
type wantedFile struct{ layer, entry int32 }

func (d *differ) newWanted() *wanted {
	w := &wanted{}
	for i, s := range d.sides {
		w.stacks[i], w.files[i] = s.stack, map[wantedFile][]*layer.Inode{}
	}
	if w.stacks[0] != nil && w.stacks[1] != nil {
		w.shared = sharedLayers(w.stacks[0], w.stacks[1])
	}
	return w
}

// add asks for a file of side i.
func (w *wanted) add(i int, ino *layer.Inode) {
	if int(ino.Layer) < w.shared {
		i = 0
	}
	key := wantedFile{ino.Layer, ino.Entry}
	if !slices.Contains(w.files[i][key], ino) {
		w.files[i][key] = append(w.files[i][key], ino)
	}
}

// read calls fn for each entry that was asked for, with all inodes that come from it.
func (w *wanted) read(ctx context.Context, opt stack.Options, fn func([]*layer.Inode, io.Reader) error) error {
	for i, s := range w.stacks {
		var list []*layer.Inode
		for _, inodes := range w.files[i] {
			list = append(list, inodes[0])
		}
		slices.SortFunc(list, func(a, b *layer.Inode) int {
			return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Entry, b.Entry))
		})
		if len(list) == 0 {
			continue
		}
		err := s.Contents(ctx, list, func(ino *layer.Inode, body io.Reader) error {
			return fn(w.files[i][wantedFile{ino.Layer, ino.Entry}], body)
		}, opt)
		if err != nil {
			return err
		}
	}
	return nil
}

// hash reads the files of the pairs for those digests that are missing.
func (d *differ) hash(ctx context.Context, need []diffPair) error {
	images := d.newWanted()
	var disk [2]map[string]mtree.Entry
	for p := range slices.Values(need) {
		for i, s := range d.sides {
			if _, known := s.digest(p.path, p.names[i], p.inos[i]); known {
				continue
			}
			if s.stack != nil {
				images.add(i, p.inos[i])
				continue
			}
			if disk[i] == nil {
				disk[i] = map[string]mtree.Entry{}
			}
			disk[i][p.path] = p.names[i].entry
		}
	}
	for i, s := range d.sides {
		if s.disk == nil {
			continue
		}
		if err := s.disk.hash(ctx, disk[i], &d.opt); err != nil {
			return err
		}
	}
	h := newDiffHasher()
	return images.read(ctx, d.stackOptions(), func(inodes []*layer.Inode, body io.Reader) error {
		if err := h.fill(inodes[0], body); err != nil {
			return err
		}
		for _, other := range inodes[1:] {
			other.Digest, other.HasDigest = inodes[0].Digest, true
		}
		return nil
	})
}

const (
	// maxText is the size in bytes of the largest file that is shown as text.
	maxText = 128 << 10
	// maxTexts bounds what all of them take together.
	maxTexts = 64 << 20
)

// Why there is no text.
const (
	noTextBinary     = "binary"
	noTextLarge      = "large"
	noTextUnreadable = "unreadable"
)

// textDiff is how the content of a file differs: a unified diff, or the reason why there
// is none.
type textDiff struct{ text, why string }

// readTexts makes the unified diffs.
func (d *differ) readTexts(ctx context.Context) error {
	d.texts = map[string]textDiff{}
	images := d.newWanted()
	var pairs []diffPair
	left := int64(maxTexts)
	err := d.changes(func(p *diffPair, fields DiffFields) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if fields&DiffContent == 0 {
			return nil
		}
		size := p.inos[0].Size + p.inos[1].Size
		if max(p.inos[0].Size, p.inos[1].Size) > maxText || size > left {
			d.texts[p.path] = textDiff{why: noTextLarge}
			return nil
		}
		left -= size
		pairs = append(pairs, *p)
		for i, s := range d.sides {
			if s.stack != nil && p.inos[i].Size > 0 {
				images.add(i, p.inos[i])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	contents := map[*layer.Inode][]byte{}
	err = images.read(ctx, d.stackOptions(), func(inodes []*layer.Inode, body io.Reader) error {
		data := make([]byte, inodes[0].Size)
		if _, err := io.ReadFull(body, data); err != nil {
			return err
		}
		for _, ino := range inodes {
			contents[ino] = data
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range pairs {
		if err := d.addText(ctx, &pairs[i], contents); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) addText(ctx context.Context, p *diffPair, contents map[*layer.Inode][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var data [2][]byte
	for i, s := range d.sides {
		if s.disk == nil {
			data[i] = contents[p.inos[i]]
			continue
		}
		var err error
		data[i], err = s.disk.read(p.path, p.inos[i].Size)
		if errors.Is(err, fs.ErrPermission) {
			d.texts[p.path] = textDiff{why: noTextUnreadable}
			return nil
		}
		if err != nil {
			return err
		}
	}
	if !isText(data[0]) || !isText(data[1]) {
		d.texts[p.path] = textDiff{why: noTextBinary}
		return nil
	}
	d.texts[p.path] = textDiff{text: unifiedDiff(string(data[0]), string(data[1]))}
	return nil
}

// read returns the content of a file, which must have the size that it had.
func (t *diskTree) read(p string, size int64) (data []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %s: %w", quote.Name(t.source.Name), quote.Name(p), err)
		}
	}()
	dir, err := t.dir.OpenPath(path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	f, err := dir.Open(path.Base(p))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err = io.ReadAll(io.LimitReader(f, size+1))
	if err == nil && int64(len(data)) != size {
		err = mtree.ErrChanged
	}
	return data, err
}
