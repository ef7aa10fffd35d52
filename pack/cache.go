// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mutate"
)

// Cache remembers which layers snapshots have become, by their keys and all that a layer
// depends on besides. The zero value does so until the process ends. It may be used by
// several goroutines at once, and the directory of [OpenCache] by several processes.
//
// It holds no blobs: a layer is made anew in a layout that lacks its blob. A blob that is
// there is taken if its file is the one that was written or verified last, by device, inode,
// size, modification time and change time; if not, its digest is verified first.
type Cache struct {
	dir *rooted.Dir // nil if the cache is in memory only

	mu     sync.Mutex
	memory map[string]*record
}

// cacheVersion is part of the identities of layers: it changes when the same input begins
// to give other layers.
const cacheVersion = 1

// maxRecord is the size of the largest record that is read, in bytes.
const maxRecord = 64 << 10

// record is what is remembered of a layer.
type record struct {
	Key        string           `json:"key"` // for people who look at the file
	Empty      bool             `json:"empty,omitempty"`
	Descriptor ispec.Descriptor `json:"descriptor,omitzero"`
	DiffID     digest.Digest    `json:"diffID,omitempty"`
	Created    *time.Time       `json:"created,omitempty"`
	File       fileFacts        `json:"file,omitzero"` // of the blob when it was known to be right
}

// fileFacts tell whether a file is still the same.
type fileFacts struct {
	Dev   uint64          `json:"dev"`
	Ino   uint64          `json:"ino"`
	Size  int64           `json:"size"`
	Mtime rooted.Timespec `json:"mtime"`
	Ctime rooted.Timespec `json:"ctime"`
}

func factsOf(st *rooted.Stat) fileFacts {
	return fileFacts{st.Dev, st.Ino, st.Size, st.Mtime, st.Ctime}
}

var recordDoc = jsondoc.New[record](jsondoc.Rules{})

// OpenCache opens the cache in the directory at path, which is made if need be.
func OpenCache(path string) (*Cache, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	dir, err := rooted.Open(path + "/.")
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return &Cache{dir: dir}, nil
}

// Close closes the directory, if there is one.
func (c *Cache) Close() error {
	if c.dir == nil {
		return nil
	}
	return c.dir.Close()
}

// cached returns the layer of a snapshot from the cache, if it is there and right.
func (e *exporter) cached(ctx context.Context, n *node) (made, bool) {
	if e.opt.Cache == nil {
		return made{}, false
	}
	r, err := e.opt.Cache.load(n.identity)
	if err == nil && r != nil && !r.Empty {
		err = e.usable(ctx, n, r)
	}
	if err != nil && !errors.Is(err, errGone) {
		e.warn(fmt.Sprintf("the cached layer of snapshot %s is made anew: %v", quote.Name(n.name()), err))
	}
	if err != nil || r == nil {
		return made{}, false
	}
	return made{
		layer: mutate.Layer{Descriptor: r.Descriptor, DiffID: r.DiffID},
		empty: r.Empty, created: r.Created, reused: true,
	}, true
}

var (
	errGone    = errors.New("the layout has no such blob")
	errForeign = errors.New("the record is not that of such a layer")
)

// usable makes sure that the blob of a record is there and right.
func (e *exporter) usable(ctx context.Context, n *node, r *record) error {
	_, c, err := layer.SplitMediaType(r.Descriptor.MediaType)
	if err != nil || c != e.opt.Compression || r.DiffID.Validate() != nil || r.Descriptor.Digest.Validate() != nil ||
		r.Descriptor.Size < 0 || len(r.Descriptor.Data) > 0 {
		return errForeign
	}
	there, err := e.hold(ctx, r.Descriptor)
	if err != nil {
		return err
	}
	if !there {
		return errGone
	}
	st, err := e.layout.StatBlob(ctx, r.Descriptor)
	if err != nil {
		return err
	}
	if factsOf(&st) == r.File {
		return nil
	}
	blob, err := e.layout.OpenBlob(ctx, r.Descriptor)
	if err != nil {
		return err
	}
	defer blob.Close() //nolint:errcheck // Verify has told all there is
	if err := blob.Verify(ctx); err != nil {
		n.damaged = ctx.Err() == nil
		return err
	}
	r.File = factsOf(&st)
	if err := e.opt.Cache.store(n.identity, r); err != nil {
		e.warn(err.Error())
	}
	return nil
}

// remember puts a layer that was made into the cache. What cannot be remembered is only
// made again.
func (e *exporter) remember(ctx context.Context, n *node, m made) {
	if e.opt.Cache == nil {
		return
	}
	r := &record{
		Key: n.Key, Empty: m.empty, Descriptor: m.layer.Descriptor, DiffID: m.layer.DiffID, Created: m.created,
	}
	var err error
	if !m.empty {
		var st rooted.Stat
		st, err = e.layout.StatBlob(ctx, m.layer.Descriptor)
		// A file from before has been kept because of its name and its size alone: it has
		// to be verified before it is taken.
		if ctime := time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)); !ctime.Before(e.began) {
			r.File = factsOf(&st)
		}
	}
	if err == nil {
		err = e.opt.Cache.store(n.identity, r)
	}
	if err != nil {
		e.warn(err.Error())
	}
}

// load returns the record of a layer; nil if there is none.
func (c *Cache) load(identity string) (*record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.memory[identity]; r != nil {
		found := *r
		return &found, nil
	}
	if c.dir == nil {
		return nil, nil
	}
	f, err := c.dir.Open(identity + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecord {
		return nil, errForeign
	}
	var r record
	if err := recordDoc.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return &r, nil
}

// store remembers a layer. The file appears complete, in the place of an old one.
func (c *Cache) store(identity string, r *record) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory == nil {
		c.memory = map[string]*record{}
	}
	kept := *r
	c.memory[identity] = &kept
	if c.dir == nil {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write to cache: %w", err)
	}
	temp := ".new-" + rand.Text()
	f, err := c.dir.Create(temp, 0o600)
	if err != nil {
		return fmt.Errorf("write to cache: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = c.dir.Rename(temp, c.dir, identity+".json")
	}
	if err != nil {
		return fmt.Errorf("write to cache: %w", errors.Join(err, c.dir.Remove(temp)))
	}
	return nil
}
