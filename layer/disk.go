// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/internal/userns"
)

// DiskOptions say how a tree is written to a disk. The zero value is root's
// way: real owners, real devices.
type DiskOptions struct {
	// Map relates the owners in the layers to those on the disk.
	Map MapOptions
	// Warn receives what could not be kept, once for each kind, when Finish is
	// called. May be nil.
	Warn func(msg string)
}

// Disk is the [Sink] that writes a tree below a directory. Regular files are
// written by a few goroutines while the next entries are read; directories are
// accessible to their owner alone until Finish gives them what the tree says.
//
// All methods of [Sink] must be called by one goroutine, and in the end either
// Finish or Abort.
type Disk struct {
	root    *rooted.Dir
	opt     DiskOptions
	lenient bool // xattrs that the kernel refuses are left out
	dirs    dirCache
	batches chan []*job
	workers sync.WaitGroup
	closed  bool
	failure atomic.Pointer[error]

	born atomic.Pointer[owner] // whose new files are, once there is one

	pending      []*job // files that no worker has got yet
	pendingBytes int64
	pendingDirs  int // how often the directory changes from one to the next

	mu   sync.Mutex
	idle sync.Cond
	busy map[*Inode]struct{} // files that are being written

	lost losses
}

// NewDisk returns a sink that writes below root, which must be an empty
// directory and stays the caller's to close. Its setgid bit is not inherited by
// what is made in it, because the sink takes that away first.
func NewDisk(root *rooted.Dir, opt DiskOptions) (*Disk, error) {
	if err := root.Chmod(".", 0o700); err != nil {
		return nil, err
	}
	if err := dropInheritedACLs(root); err != nil {
		return nil, err
	}
	workers := max(2, runtime.GOMAXPROCS(0))
	d := &Disk{
		root:    root,
		opt:     opt,
		lenient: opt.Map.Rootless || userns.Inside(),
		batches: make(chan []*job, workers),
		busy:    map[*Inode]struct{}{},
		dirs:    dirCache{root: root},
	}
	d.idle.L = &d.mu
	for range workers {
		d.workers.Go(d.work)
	}
	return d, nil
}

// owner is that of a file on the disk.
type owner struct{ uid, gid uint32 }

// wantDigests has Apply fill in the digests of files.
func (d *Disk) wantDigests() {}

// dropInheritedACLs removes the access lists that a new directory got from its
// parent's default one, which its entries would get too.
func dropInheritedACLs(root *rooted.Dir) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := root.Removexattr(".", name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

// Mkdir makes a directory that only its owner can enter.
func (d *Disk) Mkdir(n *Node) error {
	if err := d.checkOwner(n.inode); err != nil {
		return err
	}
	dir, err := d.dirs.open(n.parent)
	if err != nil {
		return err
	}
	defer dir.release()
	return dir.Mkdir(n.name, 0o700)
}

// Update checks that a directory's new owner is possible; Finish sets it.
func (d *Disk) Update(n *Node) error { return d.checkOwner(n.inode) }

func (d *Disk) checkOwner(ino *Inode) error {
	_, _, err := d.owner(ino)
	return err
}

// owner returns the IDs that ino gets on the disk.
func (d *Disk) owner(ino *Inode) (uid, gid uint32, err error) {
	if d.opt.Map.Rootless {
		return d.opt.Map.toHost(0, 0)
	}
	return d.opt.Map.toHost(ino.UID, ino.GID)
}

// Put makes a regular file, symbolic link, FIFO or device.
func (d *Disk) Put(n *Node, body io.Reader) error {
	if err := d.err(); err != nil {
		return err
	}
	ino := n.inode
	if err := d.checkOwner(ino); err != nil {
		return err
	}
	dir, err := d.dirs.open(n.parent)
	if err != nil {
		return err
	}
	switch ino.Type {
	case Regular:
		return d.enqueue(&job{dir: dir, node: n}, body)
	case Symlink:
		defer dir.release()
		if err := dir.Symlink(ino.Target, n.name); err != nil {
			return err
		}
		return d.setByName(dir.Dir, n.name, ino)
	case CharDevice, BlockDevice:
		if made, err := d.mknod(dir, n); made || err != nil {
			dir.release()
			return err
		}
		d.lost.placeholder()
		return d.enqueue(&job{dir: dir, node: n, placeholder: true}, nil)
	case Fifo:
		defer dir.release()
		if err := dir.Mknod(n.name, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
		return d.setByName(dir.Dir, n.name, ino)
	}
	dir.release()
	return fmt.Errorf("%w %d", ErrEntryType, ino.Type)
}

// mknod makes a device, unless that is something that this process may not do.
func (d *Disk) mknod(dir *openDir, n *Node) (made bool, err error) {
	if d.opt.Map.Rootless {
		return false, nil
	}
	ino := n.inode
	kind := uint32(unix.S_IFCHR)
	if ino.Type == BlockDevice {
		kind = unix.S_IFBLK
	}
	err = dir.Mknod(n.name, kind|0o600, unix.Mkdev(ino.Major, ino.Minor))
	if errors.Is(err, unix.EPERM) && d.lenient {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, d.setByName(dir.Dir, n.name, ino)
}

// Link gives target's inode one more name.
func (d *Disk) Link(n, target *Node) error {
	d.wait(target.inode)
	if err := d.err(); err != nil {
		return err
	}
	from, err := d.dirs.open(target.parent)
	if err != nil {
		return err
	}
	defer from.release()
	to, err := d.dirs.open(n.parent)
	if err != nil {
		return err
	}
	defer to.release()
	return to.Link(from.Dir, target.name, n.name)
}

// Remove removes n and all below it.
func (d *Disk) Remove(n *Node) error {
	if n.IsDir() {
		d.waitAll()
		d.dirs.drop(n)
	} else {
		d.wait(n.inode)
	}
	if err := d.err(); err != nil {
		return err
	}
	dir, err := d.dirs.open(n.parent)
	if err != nil {
		return err
	}
	defer dir.release()
	if n.IsDir() {
		return dir.RemoveAll(n.name)
	}
	return dir.Remove(n.name)
}

// Finish waits until all files are written and then gives every directory of
// tree its owner, mode, xattrs and times, the innermost first.
func (d *Disk) Finish(ctx context.Context, tree *Tree) error {
	d.stopWorkers()
	if err := d.err(); err != nil {
		return err
	}
	if err := d.finishDirs(ctx, tree.root); err != nil {
		return err
	}
	d.lost.report(d.opt.Warn)
	return nil
}

func (d *Disk) finishDirs(ctx context.Context, n *Node) error {
	if kids := n.own(); kids != nil {
		for _, c := range kids.list {
			if !c.IsDir() {
				continue
			}
			if err := d.finishDirs(ctx, c); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := d.root.OpenPath(n.Path())
	if err != nil {
		return &EntryError{Entry: n.Path(), Layer: n.inode.Layer, Err: err}
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	if err := d.setByFd(dir.Fd(), nil, n.inode); err != nil {
		return &EntryError{Entry: n.Path(), Layer: n.inode.Layer, Err: err}
	}
	return nil
}

// Abort ends the writing in the middle. What is on the disk stays for the
// caller to remove.
func (d *Disk) Abort() {
	d.fail(errAborted)
	d.stopWorkers()
}

var errAborted = errors.New("aborted")

func (d *Disk) stopWorkers() {
	if !d.closed {
		d.closed = true
		d.flush()
		close(d.batches)
	}
	d.workers.Wait()
	d.dirs.closeAll()
}

// fail notes the first error of a worker.
func (d *Disk) fail(err error) { d.failure.CompareAndSwap(nil, &err) }

func (d *Disk) err() error {
	if p := d.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// losses counts what a disk could not keep, to be reported once.
type losses struct {
	mu           sync.Mutex
	placeholders int
	xattrs       map[string]int
}

func (l *losses) placeholder() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placeholders++
}

func (l *losses) xattr(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count(&l.xattrs, name)
}

func (l *losses) report(warn func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if warn == nil {
		return
	}
	if l.placeholders > 0 {
		warn(fmt.Sprintf("%d devices became placeholders: making devices is not permitted here", l.placeholders))
	}
	for _, name := range slices.Sorted(maps.Keys(l.xattrs)) {
		warn(fmt.Sprintf("xattr %s of %d entries was not set: the file system or the kernel does not let this user",
			quote.Name(name), l.xattrs[name]))
	}
}
