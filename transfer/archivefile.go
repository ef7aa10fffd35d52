// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// standardStream is the path that stands for standard input, or standard output.
const standardStream = "-"

// archiveFile is the tar of an archive, open for reading at any offset.
type archiveFile struct {
	io.SectionReader
	file *os.File
	path string // for messages
}

// openArchiveFile opens the archive at path. One that is compressed, or comes through
// a pipe, is first written to a temporary file without a name, which is gone whenever
// the process is. The limits are for that file.
func openArchiveFile(ctx context.Context, path string, limits layer.Limits) (*archiveFile, error) {
	f, err := openInput(ctx, path)
	if err != nil {
		return nil, cause(err)
	}
	a, err := stageIfNeeded(ctx, path, f, limits)
	if err != nil || a.file != f {
		_ = f.Close() // it was only read from
	}
	return a, err
}

func (a *archiveFile) Close() error {
	_ = a.file.Close() // it was only read from
	return nil
}

// openInput opens what is to be read.
func openInput(ctx context.Context, path string) (*os.File, error) {
	if path == standardStream {
		return openStdin()
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, invalid(errors.New("it is a directory: a layout is written oci:DIR"))
	case info.Mode().IsRegular():
		return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	case info.Mode()&fs.ModeNamedPipe == 0:
		return nil, invalid(errors.New("neither a file nor a pipe"))
	}
	// Opening a pipe waits for somebody who writes.
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.Open(path)
		done <- opened{f, err}
	}()
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openStdin opens standard input once more, if it is a pipe or a terminal and that is
// permitted: then reads that wait can be ended.
func openStdin() (*os.File, error) {
	info, err := os.Stdin.Stat()
	if err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 {
		// A pipe may have nobody any more who writes, which is not to be waited for.
		if f, err := os.OpenFile(procName(os.Stdin), os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			return f, nil
		}
	}
	return dupStandard(os.Stdin)
}

// dupStandard returns one of the standard streams as a file that may be closed.
func dupStandard(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// stageIfNeeded makes an archive of what f holds, or yields.
func stageIfNeeded(ctx context.Context, path string, f *os.File, limits layer.Limits) (*archiveFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	head := make([]byte, layer.MagicSize)
	seekable := info.Mode().IsRegular()
	if seekable {
		// A program before us may have read from standard input.
		if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
			seekable = false
		}
	}
	if seekable {
		n, err := f.ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, cause(err)
		}
		if c, err := layer.DetectCompression(head[:n]); err != nil {
			return nil, invalid(err)
		} else if c == layer.None {
			return &archiveFile{*io.NewSectionReader(f, 0, info.Size()), f, path}, nil
		}
	}
	// What cannot have a deadline does not wait, or cannot be helped.
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	return stageArchive(ctx, path, f, limits)
}

// stageArchive writes what r yields, uncompressed, to a temporary file.
func stageArchive(ctx context.Context, path string, r io.Reader, limits layer.Limits) (*archiveFile, error) {
	budget := limits.Budget(0)
	br := bufio.NewReaderSize(budget.CountCompressed(contextReader{ctx, r}), 256<<10)
	head, err := br.Peek(layer.MagicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, cause(err)
	}
	c, err := layer.DetectCompression(head)
	if err != nil {
		return nil, invalid(err)
	}
	zr, err := layer.NewReader(br, c, nil)
	if err != nil {
		return nil, invalid(err)
	}
	zr = budget.Count(zr)
	defer zr.Close() //nolint:errcheck // it was only read from
	temp, err := nameless(os.TempDir())
	if err != nil {
		return nil, err
	}
	size, err := io.Copy(temp, contextReader{ctx, zr})
	if err != nil {
		_ = temp.Close() // what is in it is of no use
		var over *layer.LimitError
		if errors.As(err, &over) {
			return nil, as(layout.ErrTooLarge, err)
		}
		return nil, fmt.Errorf("write temporary file: %w", cause(err))
	}
	return &archiveFile{*io.NewSectionReader(temp, 0, size), temp, path}, nil
}

// nameless makes a temporary file in dir that nobody else sees and that is gone once
// it is closed.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "(temporary file)")), nil
	}
	// Not every file system can do that.
	f, err := os.CreateTemp(dir, ".shale-*")
	if err == nil {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("create temporary file in %s: %w", quote.Name(dir), cause(err))
	}
	return f, nil
}

// writeArchiveFile makes the file at path what write writes, all at once: until then
// what was there before stays, and a kill leaves nothing half done. Pipes and devices are
// written to as they are, and so is standard output, which "-" stands for.
func writeArchiveFile(ctx context.Context, path string, write func(w io.Writer) error) error {
	if path == standardStream {
		return write(contextWriter{ctx, os.Stdout})
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return cause(err)
	case info.IsDir():
		return invalid(errors.New("it is a directory: a layout is written oci:DIR"))
	case !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return cause(err)
		}
		return both(write(contextWriter{ctx, f}), f.Close())
	default:
		// What a link leads to is replaced, not the link.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return cause(err)
		}
	}
	return replaceFile(ctx, path, write)
}

// replaceFile writes a new file and gives it the name path once it is whole and
// synced.
func replaceFile(ctx context.Context, path string, write func(w io.Writer) error) (err error) {
	n, err := createNewFile(path)
	if err != nil {
		return err
	}
	defer func() { err = both(err, n.close()) }()
	err = write(contextWriter{ctx, n.file})
	if err == nil {
		err = adopt(n.file, path)
	}
	if err == nil {
		err = n.file.Sync()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = n.publish()
	}
	return cause(err)
}

// newFile is a file that is being written and gets its name at last.
type newFile struct {
	file *os.File
	path string
	temp string // the name that it has now; empty for none

	published bool // it is at path, and synced
}

func createNewFile(path string) (*newFile, error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err == nil {
		f := os.NewFile(uintptr(fd), path)
		if _, err := os.Stat(procName(f)); err == nil {
			return &newFile{file: f, path: path}, nil
		}
		_ = f.Close() // it cannot get a name later
	}
	// Not every file system can do that.
	f, err := os.CreateTemp(dir, tempPattern(path))
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", cause(err))
	}
	return &newFile{file: f, path: path, temp: f.Name()}, nil
}

// tempPattern is how temporary files beside path are called, within the length that a
// name may have.
func tempPattern(path string) string {
	base := filepath.Base(path)
	return ".shale-" + base[:min(len(base), 200)] + "-*"
}

func procName(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// publish gives the file its name, durably.
func (n *newFile) publish() error {
	if n.temp == "" {
		err := n.link(n.path)
		if err == nil {
			n.published = true
			if err = syncDirectory(filepath.Dir(n.path)); err != nil {
				// An error must mean that there is no file.
				return both(err, os.Remove(n.path))
			}
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Only a rename takes the place of a file. It needs a name to begin with.
		temp := strings.TrimSuffix(tempPattern(n.path), "*") + strings.ToLower(rand.Text()[:10])
		temp = filepath.Join(filepath.Dir(n.path), temp)
		if err := n.link(temp); err != nil {
			return err
		}
		n.temp = temp
	}
	if err := os.Rename(n.temp, n.path); err != nil {
		return cause(err)
	}
	n.temp, n.published = "", true
	return syncDirectory(filepath.Dir(n.path))
}

// link gives a file without a name one.
func (n *newFile) link(name string) error {
	return unix.Linkat(unix.AT_FDCWD, procName(n.file), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

// close drops the file unless it has got its name.
func (n *newFile) close() error {
	err := n.file.Close()
	if n.published {
		return nil // what closing could say has been said by syncing
	}
	if n.temp != "" {
		err = both(err, os.Remove(n.temp))
	}
	return cause(err)
}

// adopt gives a new file the owner and the mode of the one that it replaces, or else
// the mode that files have which are created in the usual way.
func adopt(f *os.File, path string) error {
	var old unix.Stat_t
	if err := unix.Stat(path, &old); err != nil {
		return f.Chmod(0o666 &^ umask())
	}
	if os.Geteuid() == 0 {
		if err := f.Chown(int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(fs.FileMode(old.Mode & 0o777))
}

// umask returns the process's mask for new files, without changing it even for a
// moment.
func umask() fs.FileMode {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o022
	}
	_, rest, ok := strings.Cut(string(data), "\nUmask:")
	if !ok {
		return 0o022
	}
	var mask uint32
	if _, err := fmt.Sscanf(rest, "%o", &mask); err != nil {
		return 0o022
	}
	return fs.FileMode(mask)
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return cause(err)
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // the file system has no such thing
	}
	return cause(both(err, d.Close()))
}

// contextReader stops reading once ctx is done.
type contextReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.ctx.Err() != nil {
		err = r.ctx.Err() // which is why there was a deadline
	}
	return n, err
}

// contextWriter stops writing once ctx is done.
type contextWriter struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	w   io.Writer
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// cause takes the file name out of err, for messages that name the file themselves.
func cause(err error) error {
	switch e := err.(type) { //nolint:errorlint // what wraps it tells more
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}
