// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/mtree"
)

// contents compares what files contain, where nothing else tells whether they changed.
type contents struct {
	old, now *mtree.Tree
	below    *lower
	root     *rooted.Dir // of the tree now
	clamp    *int64
	owner    bool // owners count
	ignore   func(xattr string) bool

	volumes bool // both trees are on file systems whose snapshots keep inode numbers

	mu     sync.Mutex
	differ map[int]bool // by the numbers of the entries now
	todo   []candidate
	next   int
	err    error
}

type candidate struct{ old, now mtree.Entry }

// compareContents returns the numbers of the entries now that contain something else than
// before. Only pairs of files are read that differ in nothing that lstat(2) tells and are not
// the same file.
func (e *exporter) compareContents(ctx context.Context, n *node, c *contents) (map[int]bool, error) {
	c.differ = map[int]bool{}
	c.volumes = c.below.dir != nil && keepsInodes(c.below.dir) && keepsInodes(c.root)
	var total int64
	for now := range c.now.All() {
		if now.IsDir() {
			continue
		}
		if old, ok := c.old.Lookup(now.Path()); ok && c.open(old, now) {
			c.todo = append(c.todo, candidate{old, now})
			total += c.weight(now)
		}
	}
	if len(c.todo) == 0 {
		return c.differ, nil
	}
	report := e.steps.of(n)
	event := progress.Event{Stage: "comparing", Total: total, Unit: progress.Bytes}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(c.todo)) {
		wg.Go(func() {
			c.work(ctx, func(size int64) {
				event.Done += size
				report.Report(event)
			})
		})
	}
	wg.Wait()
	if c.err != nil {
		return nil, c.err
	}
	event.Done, event.End = total, true
	report.Report(event)
	return c.differ, nil
}

// open reports whether only the content can tell if a file has changed.
func (c *contents) open(old, now mtree.Entry) bool {
	a, b := old.Stat(), now.Stat()
	clamped := func(sec int64) int64 {
		if c.clamp != nil && sec > *c.clamp {
			return *c.clamp
		}
		return sec
	}
	switch {
	case a.Mode != b.Mode, a.Size != b.Size, clamped(a.Mtime.Sec) != clamped(b.Mtime.Sec):
		return false
	case c.owner && (a.UID != b.UID || a.GID != b.GID):
		return false
	case c.below.dir == nil:
		return now.IsRegular() // all else is known
	case a.Dev == b.Dev && a.Ino == b.Ino:
		return false
	}
	// A snapshot of a volume has the same inode numbers on another device, and a file in
	// it that nobody has touched keeps its change time.
	return !c.volumes || a.Ino != b.Ino || a.Ctime != b.Ctime || a.Ctime.Nsec == 0 || a.Mtime != b.Mtime
}

// weight is how many bytes of a file are compared.
func (c *contents) weight(now mtree.Entry) int64 {
	if !now.IsRegular() {
		return 0
	}
	st := now.Stat()
	return st.Size
}

// keepsInodes reports whether the file system makes snapshots with the inode numbers of
// the original.
func keepsInodes(d *rooted.Dir) bool {
	var st unix.Statfs_t
	err := unix.Fstatfs(d.Fd(), &st)
	return err == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// work compares files until there are no more.
func (c *contents) work(ctx context.Context, done func(size int64)) {
	w := comparer{contents: c, sha: sha256.New()}
	defer w.close()
	for {
		c.mu.Lock()
		if c.err == nil {
			c.err = ctx.Err()
		}
		if c.err != nil || c.next == len(c.todo) {
			c.mu.Unlock()
			return
		}
		p := c.todo[c.next]
		c.next++
		c.mu.Unlock()
		same, err := w.same(ctx, p)
		if err != nil {
			err = fmt.Errorf("compare %s: %w", quote.Name(p.now.Path()), err)
		}
		c.mu.Lock()
		if err != nil && c.err == nil {
			c.err = err
		}
		if !same {
			c.differ[p.now.Index()] = true
		}
		done(c.weight(p.now))
		c.mu.Unlock()
	}
}

// comparer is what one worker has.
type comparer struct {
	*contents
	sha  hash.Hash
	bufs [2][]byte
	dirs [2]struct { // the last directories, of before and of now
		path string
		dir  *rooted.Dir
	}
}

func (w *comparer) close() {
	for i := range w.dirs {
		if w.dirs[i].dir != nil {
			w.dirs[i].dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		}
	}
}

const compareBuffer = 256 << 10

// same reports whether the files of a pair contain the same. A file that may not be read
// counts as changed: whoever writes the layer knows what to do about it.
func (w *comparer) same(ctx context.Context, p candidate) (bool, error) {
	if !p.now.IsRegular() {
		return w.sameXattrs(p)
	}
	now, err := w.file(1, w.root, p.now.Path())
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer now.Close() //nolint:errcheck // only read from
	if w.below.dir == nil {
		want, ok := p.old.Digest()
		got, err := w.digest(ctx, now)
		if err != nil {
			return false, err
		}
		return ok && got == want, unchanged(now, p.now)
	}
	old, err := w.file(0, w.below.dir, p.old.Path())
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer old.Close() //nolint:errcheck // only read from
	same, err := w.equal(ctx, old, now)
	if err != nil || !same {
		return false, err // if it is only a file that is just written, the layer will tell
	}
	return true, errors.Join(unchanged(old, p.old), unchanged(now, p.now))
}

// sameXattrs reports whether something that is neither a file nor a directory has the same
// extended attributes, which only root can give it.
func (w *comparer) sameXattrs(p candidate) (bool, error) {
	var found [2]map[string]string
	for side, name := range []string{p.old.Path(), p.now.Path()} {
		root := w.root
		if side == 0 {
			root = w.below.dir
		}
		dir, base, err := w.dir(side, root, name)
		if err != nil {
			return false, err
		}
		attrs, err := dir.Listxattr(base)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, fs.ErrPermission) {
			return false, err
		}
		found[side] = map[string]string{}
		for _, attr := range attrs {
			if value, err := dir.Getxattr(base, attr); err == nil && !w.ignore(attr) {
				found[side][attr] = string(value)
			}
		}
	}
	return maps.Equal(found[0], found[1]), nil
}

// file opens a file of one of the two trees.
func (w *comparer) file(side int, root *rooted.Dir, name string) (*os.File, error) {
	dir, base, err := w.dir(side, root, name)
	if err != nil {
		return nil, err
	}
	return dir.Open(base)
}

// dir opens the directory that a name is in.
func (w *comparer) dir(side int, root *rooted.Dir, name string) (*rooted.Dir, string, error) {
	dir, base := path.Split(name)
	at := &w.dirs[side]
	if at.dir == nil || at.path != dir {
		if at.dir != nil {
			at.dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
			at.dir = nil
		}
		d, err := root.OpenPath(path.Clean(dir))
		if err != nil {
			return nil, "", err
		}
		at.dir, at.path = d, dir
	}
	return at.dir, base, nil
}

func (w *comparer) buffer(i int) []byte {
	if w.bufs[i] == nil {
		w.bufs[i] = make([]byte, compareBuffer)
	}
	return w.bufs[i]
}

// digest hashes a file.
func (w *comparer) digest(ctx context.Context, f *os.File) (sum [sha256.Size]byte, err error) {
	w.sha.Reset()
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := f.Read(w.buffer(0))
		w.sha.Write(w.bufs[0][:n])
		if errors.Is(err, io.EOF) {
			w.sha.Sum(sum[:0])
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// equal reads two files up to the first difference.
func (w *comparer) equal(ctx context.Context, a, b io.Reader) (bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err1 := io.ReadFull(a, w.buffer(0))
		m, err2 := io.ReadFull(b, w.buffer(1))
		if n != m || !bytes.Equal(w.bufs[0][:n], w.bufs[1][:m]) {
			return false, nil
		}
		ended := errors.Is(err1, io.EOF) || errors.Is(err1, io.ErrUnexpectedEOF)
		switch {
		case err1 == nil && err2 == nil:
		case ended && (errors.Is(err2, io.EOF) || errors.Is(err2, io.ErrUnexpectedEOF)):
			return true, nil
		case !ended:
			return false, err1
		default:
			return false, err2
		}
	}
}

// unchanged makes sure that a file is what was found when its tree was listed.
func unchanged(f *os.File, e mtree.Entry) error {
	now, err := rooted.FromFd(int(f.Fd()))
	if err != nil {
		return err
	}
	was := e.Stat()
	if now.Dev != was.Dev || now.Ino != was.Ino || now.Size != was.Size || now.Mtime != was.Mtime {
		return mtree.ErrChanged
	}
	return nil
}
