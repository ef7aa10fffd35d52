// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

const (
	// wholeFile is the size up to which a file is handed to a worker in one
	// buffer. Longer ones are streamed in pieces of it.
	wholeFile = 256 << 10
	// holeSize is the unit in which a streamed file is looked at for holes: 16
	// pages are worth a seek.
	holeSize = 64 << 10
	// batchSize is how many files a worker gets at once, if they are not longer than
	// wholeFile together. Waking a worker for each file costs more than writing it.
	batchSize = 16
	// batchDirs is from how many directories the files of a batch may come: each stays
	// open for as long as the batch waits.
	batchDirs = 4
)

// job is one regular file for a worker to write.
type job struct {
	dir         *openDir
	node        *Node
	placeholder bool
	body        []byte      // the whole content, if pieces is nil
	pieces      chan []byte // the content piece by piece
}

// buffers holds the buffers of files on their way to a worker, by size class.
var buffers = [...]sync.Pool{{New: newBuffer(4 << 10)}, {New: newBuffer(32 << 10)}, {New: newBuffer(wholeFile)}}

func newBuffer(size int) func() any {
	return func() any { b := make([]byte, size); return &b }
}

// getBuffer returns a buffer of at least size bytes and at most wholeFile.
func getBuffer(size int64) []byte {
	class := 0
	for class < len(buffers)-1 && size > 4<<10<<(3*class) {
		class++
	}
	return *buffers[class].Get().(*[]byte)
}

func putBuffer(b []byte) {
	b = b[:cap(b)]
	for class := range buffers {
		if len(b) <= 4<<10<<(3*class) {
			buffers[class].Put(&b)
			return
		}
	}
}

// enqueue reads the body of j's file and has it written. It returns when the
// body is read, which for a long file means when most of it is written.
func (d *Disk) enqueue(j *job, body io.Reader) error {
	left := j.node.inode.Size
	if left <= wholeFile {
		if left > 0 {
			buf := getBuffer(left)
			if _, err := io.ReadFull(body, buf[:left]); err != nil {
				putBuffer(buf)
				j.dir.release()
				return unexpected(err)
			}
			j.body = buf[:left]
		}
		d.pend(j)
		return nil
	}
	d.flush()
	j.pieces = make(chan []byte, 4)
	defer close(j.pieces)
	d.send([]*job{j})
	for left > 0 {
		if err := d.err(); err != nil {
			return err
		}
		buf := getBuffer(wholeFile)
		n, err := io.ReadFull(body, buf[:min(left, wholeFile)])
		if err != nil {
			// The worker must not take a part of the file for the whole.
			err = unexpected(err)
			d.fail(err)
			return err
		}
		left -= int64(n)
		j.pieces <- buf[:n]
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pend adds j to the files that a worker gets next.
func (d *Disk) pend(j *job) {
	if n := len(d.pending); n == 0 || d.pending[n-1].dir != j.dir {
		if d.pendingDirs == batchDirs {
			d.flush()
		}
		d.pendingDirs++
	}
	d.pending = append(d.pending, j)
	d.pendingBytes += int64(len(j.body))
	if len(d.pending) == batchSize || d.pendingBytes >= wholeFile {
		d.flush()
	}
}

// flush gives the pending files to a worker.
func (d *Disk) flush() {
	if len(d.pending) > 0 {
		d.send(d.pending)
		d.pending, d.pendingBytes, d.pendingDirs = nil, 0, 0
	}
}

func (d *Disk) send(batch []*job) {
	d.mu.Lock()
	for _, j := range batch {
		d.busy[j.node.inode] = struct{}{}
	}
	d.mu.Unlock()
	d.batches <- batch
}

// work writes files until there are no more batches.
func (d *Disk) work() {
	for batch := range d.batches {
		for _, j := range batch {
			d.do(j)
		}
		d.done(batch)
	}
}

func (d *Disk) do(j *job) {
	if d.err() == nil {
		if err := d.write(j); err != nil {
			d.fail(&EntryError{Entry: j.node.Path(), Layer: j.node.inode.Layer, Err: err})
		}
	}
	if j.pieces != nil {
		for buf := range j.pieces { // what an error left behind
			putBuffer(buf)
		}
	}
	if j.body != nil {
		putBuffer(j.body)
	}
	j.dir.release()
}

func (d *Disk) done(batch []*job) {
	d.mu.Lock()
	for _, j := range batch {
		delete(d.busy, j.node.inode)
	}
	d.mu.Unlock()
	d.idle.Broadcast()
}

// wait returns when ino is neither pending nor being written.
func (d *Disk) wait(ino *Inode) {
	d.flush()
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if _, busy := d.busy[ino]; !busy {
			return
		}
		d.idle.Wait()
	}
}

func (d *Disk) waitAll() {
	d.flush()
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.busy) > 0 {
		d.idle.Wait()
	}
}

func (d *Disk) write(j *job) (err error) {
	ino := j.node.inode
	fd, err := j.dir.CreateFd(j.node.name, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := unix.Close(fd); cerr != nil && err == nil {
			err = fmt.Errorf("close: %w", cerr)
		}
	}()
	born, err := d.bornAs(fd)
	if err != nil {
		return err
	}
	switch {
	case j.placeholder:
		return d.finishPlaceholder(fd, born, ino)
	case j.pieces == nil:
		err = writeFull(fd, j.body)
	default:
		err = writePieces(fd, j.pieces, ino)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return d.setByFd(fd, born, ino)
}

// bornAs returns the owner that the file behind fd got when it was made, or nil if that
// is not known. All files below the root get the same: it is the process's, or the one
// that all directories have until Finish changes them. In a user namespace the kernel
// shows one ID for all that are not mapped, which may be a real one as well.
func (d *Disk) bornAs(fd int) (has *owner, err error) {
	if has = d.born.Load(); has != nil || d.lenient {
		return has, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	has = &owner{st.Uid, st.Gid}
	d.born.Store(has)
	return has, nil
}

// writePieces writes a file as its pieces come, and leaves holes where it is
// zero.
func writePieces(fd int, pieces <-chan []byte, ino *Inode) error {
	var off int64
	hole := false
	for buf := range pieces {
		for part := buf; len(part) > 0; {
			p := part[:min(len(part), holeSize)]
			part = part[len(p):]
			if hole = isZero(p); hole {
				off += int64(len(p))
				continue
			}
			if err := pwriteFull(fd, p, off); err != nil {
				return err
			}
			off += int64(len(p))
		}
		putBuffer(buf)
	}
	if off != ino.Size {
		return io.ErrUnexpectedEOF
	}
	if hole {
		if err := unix.Ftruncate(fd, off); err != nil {
			return err
		}
	}
	return nil
}

// isZero reports whether p holds nothing but zeros. The first byte tells for
// nearly all data, and comparing p with itself shifted by one for the rest.
func isZero(p []byte) bool {
	return p[0] == 0 && string(p[:len(p)-1]) == string(p[1:])
}

func writeFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

func pwriteFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		p = p[max(n, 0):]
		off += int64(max(n, 0))
	}
	return nil
}

// finishPlaceholder makes the empty file behind fd stand for a device. It gets the
// device's mode, so that whoever may read the one can copy the other.
func (d *Disk) finishPlaceholder(fd int, born *owner, ino *Inode) error {
	mark := DeviceMark(ino)
	return d.setByFd(fd, born, &Inode{
		UID: ino.UID, GID: ino.GID, Mode: ino.Mode, Mtime: ino.Mtime, Xattrs: append([]Xattr{mark}, ino.Xattrs...),
	})
}

// setByFd gives the open file or directory what ino says. Its owner is not set if it
// is known, in has, and right. The order matters: a new owner clears setuid and
// capabilities, a mode without write permission forbids xattrs, and all of them count
// as a change before the times are set.
func (d *Disk) setByFd(fd int, has *owner, ino *Inode) error {
	uid, gid, err := d.owner(ino)
	if err != nil {
		return err
	}
	if !d.opt.Map.Rootless && (has == nil || *has != owner{uid, gid}) {
		if err := unix.Fchown(fd, int(uid), int(gid)); err != nil {
			return fmt.Errorf("change owner to %d:%d: %w", uid, gid, err)
		}
	}
	if err := d.setXattrs(ino, func(name string, value []byte) error {
		return unix.Fsetxattr(fd, name, value, 0)
	}); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, ino.Mode); err != nil {
		return fmt.Errorf("change mode to %04o: %w", ino.Mode, err)
	}
	if err := rooted.Futimes(fd, ino.Mtime); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// setByName is setByFd for what cannot be opened: links, FIFOs, devices.
func (d *Disk) setByName(dir *rooted.Dir, name string, ino *Inode) error {
	uid, gid, err := d.owner(ino)
	if err != nil {
		return err
	}
	if !d.opt.Map.Rootless {
		if err := dir.Chown(name, uid, gid); err != nil {
			return fmt.Errorf("to %d:%d: %w", uid, gid, err)
		}
	}
	if err := d.setXattrs(ino, func(attr string, value []byte) error {
		return dir.Setxattr(name, attr, value)
	}); err != nil {
		return err
	}
	if ino.Type != Symlink {
		if err := dir.Chmod(name, ino.Mode); err != nil {
			return err
		}
	}
	return dir.Utimes(name, ino.Mtime)
}

// setXattrs sets the attributes of ino, and without privilege its owner too.
func (d *Disk) setXattrs(ino *Inode, set func(name string, value []byte) error) error {
	rootless := d.opt.Map.Rootless
	if rootless {
		if value, ok := encodeOwner(ino.UID, ino.GID); ok {
			if err := d.setXattr(RootlessXattr, value, set); err != nil {
				return err
			}
		}
	}
	for _, x := range ino.Xattrs {
		if rootless && x.Name == RootlessXattr {
			continue // the layer's own would overrule the owner that it gives
		}
		if err := d.setXattr(x.Name, x.Value, set); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) setXattr(name, value string, set func(name string, value []byte) error) error {
	err := set(name, []byte(value))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTSUP), d.lenient && errors.Is(err, unix.EPERM):
		d.lost.xattr(name)
		return nil
	}
	var path *fs.PathError // which would say the same again
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("set xattr %s: %w", quote.Name(name), err)
}
