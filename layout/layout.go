// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// maxLayoutFile is the size limit of the oci-layout file, in bytes.
const maxLayoutFile = 64 << 10

// Options change how a layout is used. The zero value is what most want.
type Options struct {
	// MaxIndex is the size limit of index.json, in bytes. 0 means DefaultMaxIndex.
	// Whatever it is, there may be 200,000 entries.
	MaxIndex int64
	// MaxDocument is the size limit of an index, manifest or config that is a
	// blob, in bytes. 0 means DefaultMaxDocument. Whatever it is, an image may have
	// 4,096 layers and four times as many entries in its history.
	MaxDocument int64
	// MaxDepth is how many descriptors a path in the graph may have, the entry of
	// index.json and the blob at its end among them. 0 means DefaultMaxDepth.
	MaxDepth int
	// NoLock leaves the layout's lock alone, for file systems that cannot lock.
	// Then the caller makes sure that nobody else uses the layout: gc may remove
	// what others are just writing.
	NoLock bool
}

// Layout is an open layout directory.
type Layout struct {
	path  string
	opt   Options
	dir   *rooted.Dir // the layout itself
	blobs *rooted.Dir
	own   ownership

	closed atomic.Bool

	algMu sync.Mutex
	algs  map[digest.Algorithm]*rooted.Dir // directories in blobs that are open

	tempMu sync.Mutex
	temp   *tempDir // nil until something is written
}

var layoutDoc = jsondoc.New[ispec.ImageLayout](jsondoc.Rules{})

// Open opens the layout at path, which must be an oci-layout of version 1.0.0
// with a blobs directory and an index.json. A nil opt stands for the zero value.
// Nothing is written or locked, and index.json is not read yet.
func Open(ctx context.Context, path string, opt *Options) (*Layout, error) {
	l, err := open(ctx, path, opt)
	return l, opError("open layout", path, err)
}

func open(ctx context.Context, path string, opt *Options) (*Layout, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &Layout{path: path, algs: map[digest.Algorithm]*rooted.Dir{}}
	if opt != nil {
		l.opt = *opt
	}
	l.opt.setDefaults()
	if path == "" {
		return nil, as(ErrInvalid, errors.New("empty path"))
	}
	var err error
	// The dot makes a symbolic link at path be followed, and nothing below it.
	if l.dir, err = rooted.Open(path + "/."); err != nil {
		return nil, cause(err)
	}
	if err := l.check(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// check looks at everything that must be there in a layout.
func (l *Layout) check() error {
	data, st, err := readFile(l.dir, ispec.ImageLayoutFile, sizeLimit{max: maxLayoutFile})
	if err != nil {
		return notLayout(ispec.ImageLayoutFile, err)
	}
	if err := checkLayoutFile(data); err != nil {
		return notLayout(ispec.ImageLayoutFile, err)
	}
	dirStat, err := l.dir.Lstat(".")
	if err != nil {
		return cause(err)
	}
	l.own = newOwnership(dirStat, st)
	if l.blobs, err = l.dir.OpenDir(ispec.ImageBlobsDir); err != nil {
		return notLayout(ispec.ImageBlobsDir, err)
	}
	for _, alg := range algorithms {
		if _, err := l.algDir(alg); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return notLayout(ispec.ImageBlobsDir+"/"+alg.String(), err)
		}
	}
	index, err := l.dir.Lstat(ispec.ImageIndexFile)
	if err == nil && !index.IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return notLayout(ispec.ImageIndexFile, err)
	}
	return nil
}

// checkLayoutFile looks at the content of oci-layout.
func checkLayoutFile(data []byte) error {
	var header ispec.ImageLayout
	if err := layoutDoc.Unmarshal(data, &header); err != nil {
		return err
	}
	if header.Version != ispec.ImageLayoutVersion {
		return fmt.Errorf("version %s is not supported, only %s is", quote.Name(header.Version), ispec.ImageLayoutVersion)
	}
	return nil
}

// notLayout says which file keeps the directory from being a layout.
func notLayout(name string, err error) error {
	err = fmt.Errorf("%s: %w", name, cause(err))
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return as(ErrInvalid, err)
}

// Path returns the path that was given to [Open].
func (l *Layout) Path() string { return l.path }

// Close removes the temporary directory, if there is one, and with it the notes
// that keep gc from the blobs that were put: what is to stay must be referred to
// by index.json before. Everything fails afterwards, also with writers that are
// still open.
//
// The error is always nil. What was committed is committed, and a temporary
// directory that cannot be removed is one for the next gc.
func (l *Layout) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.closeTemp()
	l.algMu.Lock()
	defer l.algMu.Unlock()
	for _, d := range l.algs {
		closeDir(d)
	}
	closeDir(l.blobs)
	closeDir(l.dir)
	return nil
}

// closeDir closes a directory, which was only read from: it has nothing to lose.
func closeDir(d *rooted.Dir) {
	if d != nil {
		_ = d.Close()
	}
}

// usable is asked before anything that uses a descriptor of the layout, whose
// number may belong to another file once it is closed.
func (l *Layout) usable(ctx context.Context) error {
	if l.closed.Load() {
		return fmt.Errorf("the layout is closed: %w", fs.ErrClosed)
	}
	return ctx.Err()
}

// readFile reads the regular file called name in d.
func readFile(d *rooted.Dir, name string, most sizeLimit) ([]byte, rooted.Stat, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, rooted.Stat{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read from
	st, err := rooted.FromFd(int(f.Fd()))
	if err != nil {
		return nil, st, err
	}
	data, err := readAll(f, st.Size, most)
	return data, st, err
}

// readAll reads f, of which size bytes are expected.
func readAll(f *os.File, size int64, most sizeLimit) ([]byte, error) {
	if err := most.check(size); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, size+1)
	for {
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err == nil {
			err = most.check(int64(len(buf)))
		}
		if err != nil {
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}
