// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// maxRaces is how often an update starts over because somebody who does not know
// the lock keeps changing index.json.
const maxRaces = 1000

// Index reads index.json. Its list of manifests is never nil.
func (l *Layout) Index(ctx context.Context) (ispec.Index, error) {
	_, index, err := l.readIndex(ctx)
	return index, err
}

// indexFile is index.json as it is on disk.
type indexFile struct {
	data []byte
	stat rooted.Stat
}

func (l *Layout) readIndex(ctx context.Context) (indexFile, ispec.Index, error) {
	if err := l.usable(ctx); err != nil {
		return indexFile{}, ispec.Index{}, opError("read", ispec.ImageIndexFile, err)
	}
	var file indexFile
	var index ispec.Index
	var err error
	file.data, file.stat, err = readFile(l.dir, ispec.ImageIndexFile, l.opt.indexLimit())
	if err == nil {
		index, err = parseIndex(file.data, ispec.MediaTypeImageIndex)
	}
	return file, index, opError("read", ispec.ImageIndexFile, cause(err))
}

// Update changes index.json: fn gets the current index and changes it in place.
// All of it happens under the layout's lock. The new index.json appears by a
// rename, durably; if fn leaves the index as it was, nothing is written. An error
// of fn is returned as it is, and nothing is written either.
//
// If a program that does not know the lock changes index.json meanwhile, Update
// starts over with the new index: fn must be ready to be called again.
//
// Blobs that entries of the index refer to must be there before they are
// mentioned: the error is ErrNotFound for a new entry without a blob. Members of
// index.json that [ispec.Index] does not know stay as they are, and what is written is
// always an index by its version and media type, whatever fn sets them to.
func (l *Layout) Update(ctx context.Context, fn func(*ispec.Index) error) error {
	unlock, err := l.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return opError("update", ispec.ImageIndexFile, err)
	}
	defer unlock()
	for range maxRaces {
		old, index, err := l.readIndex(ctx)
		if err != nil {
			return err
		}
		data, err := l.change(ctx, old, index, fn)
		if err != nil || data == nil {
			return err
		}
		done, err := l.replaceIndex(ctx, old, data)
		if err != nil || done {
			return opError("update", ispec.ImageIndexFile, err)
		}
	}
	return opError("update", ispec.ImageIndexFile, errors.New("another program keeps changing it"))
}

// change calls fn and returns what index.json is to hold; nil if that is what it
// holds already.
func (l *Layout) change(ctx context.Context, old indexFile, index ispec.Index, fn func(*ispec.Index) error) ([]byte, error) {
	type content struct {
		mediaType string
		digest    digest.Digest
		size      int64
	}
	known := map[content]bool{}
	for _, d := range index.Manifests {
		known[content{d.MediaType, d.Digest, d.Size}] = true
	}
	before, err := encodeIndex(index)
	if err != nil {
		return nil, opError("update", ispec.ImageIndexFile, err)
	}
	if err := fn(&index); err != nil {
		return nil, err
	}
	after, err := encodeIndex(index)
	if err != nil || bytes.Equal(before, after) {
		return nil, opError("update", ispec.ImageIndexFile, err)
	}
	for _, d := range index.Manifests {
		if known[content{d.MediaType, d.Digest, d.Size}] {
			continue
		}
		if err := l.checkEntry(ctx, d); err != nil {
			return nil, opError("update", ispec.ImageIndexFile, err)
		}
	}
	data := indexDoc.MergeEncoded(after, before, old.data)
	if err = l.opt.indexLimit().check(int64(len(data))); err != nil {
		err = fmt.Errorf("it would have %w", err)
	}
	return data, opError("update", ispec.ImageIndexFile, err)
}

// encodeIndex returns an index.json with what is written into all of them.
func encodeIndex(index ispec.Index) ([]byte, error) {
	index.SchemaVersion = 2
	index.MediaType = ispec.MediaTypeImageIndex
	if index.Manifests == nil {
		index.Manifests = []ispec.Descriptor{}
	}
	return json.Marshal(index)
}

// checkEntry refuses a descriptor that nobody could use.
func (l *Layout) checkEntry(ctx context.Context, d ispec.Descriptor) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	ok, err := l.HasBlob(ctx, d)
	if err == nil && !ok && len(d.Data) == 0 {
		err = as(ErrNotFound, fmt.Errorf("there is no blob %s of %d bytes", d.Digest, d.Size))
	}
	return err
}

// replaceIndex puts data in the place of index.json unless that is no longer what
// old says: then it returns false.
//
// Where the file system can, the two files are exchanged rather than one renamed
// over the other. That shows whether index.json was still the old one at that very
// moment, and keeps the old one at hand for the case that the change cannot be
// made durable: an error must mean that nothing has changed.
func (l *Layout) replaceIndex(ctx context.Context, old indexFile, data []byte) (bool, error) {
	t, err := l.openTempLocked(ctx)
	if err != nil {
		return false, err
	}
	temp, err := l.writeTemp(t, data, old.stat.Perm()&0o666)
	if err != nil {
		return false, err
	}
	done, err := l.renameIndex(t, temp, old)
	if rmErr := t.remove(temp); !done {
		err = both(err, rmErr)
	}
	return done, err
}

func (l *Layout) renameIndex(t *tempDir, temp string, old indexFile) (bool, error) {
	if same, err := sameIndex(l.dir, ispec.ImageIndexFile, old); err != nil || !same {
		return false, err
	}
	if err := t.exchange(temp, l.dir); err != nil {
		// Not every file system can do that; for any other error this one fails too.
		if err := t.dir.Rename(temp, l.dir, ispec.ImageIndexFile); err != nil {
			return false, cause(err)
		}
		return true, syncDir(l.dir)
	}
	same, err := sameIndex(t.dir, temp, old)
	if err == nil && same {
		if err = syncDir(l.dir); err == nil {
			return true, nil
		}
	}
	return false, both(err, t.exchange(temp, l.dir))
}

// sameIndex reports whether the file called name holds what old holds.
func sameIndex(d *rooted.Dir, name string, old indexFile) (bool, error) {
	f, err := d.Open(name)
	if err != nil {
		return false, cause(err)
	}
	defer f.Close() //nolint:errcheck // it was only read from
	buf := make([]byte, 64<<10)
	for rest := old.data; ; {
		n, err := f.Read(buf)
		if !bytes.HasPrefix(rest, buf[:n]) {
			return false, nil
		}
		rest = rest[n:]
		if errors.Is(err, io.EOF) {
			return len(rest) == 0, nil
		}
		if err != nil {
			return false, cause(err)
		}
	}
}

// exchange swaps the temporary file and index.json.
func (t *tempDir) exchange(temp string, dir *rooted.Dir) error {
	return unix.Renameat2(t.dir.Fd(), temp, dir.Fd(), ispec.ImageIndexFile, unix.RENAME_EXCHANGE)
}

// without returns the descriptors that do not carry the ref.
func without(ds []ispec.Descriptor, ref string) []ispec.Descriptor {
	return slices.DeleteFunc(slices.Clone(ds), func(d ispec.Descriptor) bool { return hasRef(d, ref) })
}
