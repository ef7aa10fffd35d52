// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// ErrChanged is returned when a file is not what it was when its tree was
// compared: a layer with parts of the old and parts of the new would be neither.
var ErrChanged = errors.New("changed while the layer was made")

// Change is one path of a tree that goes into a layer.
type Change struct {
	Path    string // below the root, "." for the root itself
	Name    string // of the entry, below the layer's root; Path if empty
	Deleted bool   // the path is gone: the layer gets a whiteout
	Opaque  bool   // the layer gets an opaque whiteout for the directory, and nothing else
	// Stat is what the path was when the tree was compared. It is not looked at
	// for whiteouts.
	Stat rooted.Stat
}

// entry is the name that c has in the layer. A whiteout's is what it hides.
func (c *Change) entry() string {
	if c.Name != "" {
		return cleanPath(c.Name)
	}
	return c.Path
}

// order is what changes are sorted by: their entries, and an opaque whiteout
// after its directory and before everything in it.
func (c *Change) order() string {
	if c.Opaque {
		return c.entry() + "/"
	}
	return c.entry()
}

// GenerateOptions say how a layer is made from a tree.
type GenerateOptions struct {
	// Map relates the owners on the disk to those in the layer.
	Map MapOptions
	// Clamp, if not nil, is the latest modification time that an entry gets, as
	// seconds since the Unix epoch.
	Clamp *int64
	// Owner, if not nil, is that of all entries, whoever owns the files.
	Owner *Owner
	// SkipXattr, if not nil, says by name which extended attributes are left out,
	// besides those that belong to the host.
	SkipXattr func(name string) bool
	// Warn receives what was left out. May be nil.
	Warn func(msg string)
	// Progress receives the bytes of content written. May be nil.
	Progress progress.Func
}

// Owner is a user and a group by their IDs inside the container.
type Owner struct{ UID, GID uint32 }

// Generate writes the changes of the tree below root to w as a plain tar
// layer. The entries come sorted by path, bytewise, and therefore parents
// first; times are cut to seconds, user and group names are left out: the same
// change gives the same bytes. Of the names of one inode, the first has the
// content and the others are hardlinks to it.
func Generate(ctx context.Context, w io.Writer, root *rooted.Dir, changes []Change, opt GenerateOptions) (err error) {
	g := &generator{tw: tar.NewWriter(w), root: root, opt: opt, first: map[inodeID]string{}}
	defer func() { g.closeParent() }()
	changes = slices.Clone(changes)
	slices.SortStableFunc(changes, func(a, b Change) int { return strings.Compare(a.order(), b.order()) })
	for _, c := range changes {
		if c.Stat.IsRegular() {
			g.total += c.Stat.Size
		}
	}
	for i := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.add(ctx, &changes[i]); err != nil {
			return &EntryError{Entry: changes[i].entry(), Layer: -1, Err: err}
		}
	}
	if err := g.tw.Close(); err != nil {
		return fmt.Errorf("end layer: %w", err)
	}
	g.summary()
	return nil
}

type inodeID struct{ dev, ino uint64 }

type generator struct {
	tw     *tar.Writer
	root   *rooted.Dir
	opt    GenerateOptions
	first  map[inodeID]string // the names of inodes with several
	parent *rooted.Dir        // the directory of the last entry
	where  string             // its path
	buf    []byte
	done   int64
	total  int64
	empty  map[string]int // xattrs without a value, which PAX cannot hold
	marked int            // entries with a rootless owner in a layer of root's
}

func (g *generator) add(ctx context.Context, c *Change) error {
	for _, name := range splitPath(c.entry()) {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return fmt.Errorf("%w: a layer would take it for a whiteout", ErrWhiteoutName)
		}
	}
	switch {
	case c.Opaque:
		return g.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(c.entry(), opaqueMarker)})
	case c.Deleted && c.entry() == ".":
		return fmt.Errorf("whiteout: %w", ErrRootType)
	case c.Deleted:
		return writeWhiteout(g.tw, c.entry())
	}
	err := g.addPath(ctx, c)
	if !g.opt.Map.Rootless || !errors.Is(err, unix.EACCES) {
		return err
	}
	// The owner may read what he has forbidden himself to read.
	restore, err := g.root.Unlock(c.Path)
	if err == nil {
		g.closeParent()
		err = g.addPath(ctx, c)
	}
	return errors.Join(err, restore())
}

// open returns the directory that p is in, and p's last component.
func (g *generator) open(p string) (*rooted.Dir, string, error) {
	if p == "." {
		return g.root, ".", nil
	}
	dir, base := splitBase(p)
	if dir == "" {
		return g.root, base, nil
	}
	if g.parent == nil || g.where != dir {
		g.closeParent()
		parent, err := g.root.OpenPath(dir)
		if err != nil {
			return nil, "", err
		}
		g.parent, g.where = parent, dir
	}
	return g.parent, base, nil
}

func (g *generator) closeParent() {
	if g.parent != nil {
		g.parent.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
		g.parent = nil
	}
}

// addPath writes the entry of a path that is still there.
func (g *generator) addPath(ctx context.Context, c *Change) error {
	dir, base, err := g.open(c.Path)
	if err != nil {
		return err
	}
	st, err := dir.Lstat(base)
	if err != nil {
		return err
	}
	if !g.same(&st, &c.Stat) {
		return ErrChanged
	}
	st.Mode = c.Stat.Mode // unlocking has changed it for the moment
	if st.Type() == unix.S_IFSOCK {
		g.warn(fmt.Sprintf("leaving out the socket %s: a layer cannot hold one", quote.Name(c.Path)))
		return nil
	}
	hdr, err := g.header(dir, base, c.entry(), &st)
	if err != nil {
		return err
	}
	if hdr.Typeflag != tar.TypeReg {
		return g.tw.WriteHeader(hdr)
	}
	return g.addFile(ctx, dir, base, hdr, &st)
}

// same reports whether nothing that matters has happened to what was found as
// old. What its owner has locked for himself is unlocked and locked to look at
// it, so that its permissions for him and its change time say nothing.
func (g *generator) same(now, old *rooted.Stat) bool {
	a, b := *now, *old
	if a.IsDir() {
		a.Size, a.Nlink = b.Size, b.Nlink
	}
	if g.opt.Map.Rootless && b.Perm()&0o700 != 0o700 {
		a.Ctime = b.Ctime
		a.Mode |= 0o700
		b.Mode |= 0o700
	}
	return a == b
}

// header describes the entry of a path. Entries with several names are known by
// the first.
func (g *generator) header(dir *rooted.Dir, base, name string, st *rooted.Stat) (*tar.Header, error) {
	hdr := &tar.Header{Name: name, Mode: int64(st.Perm()), ModTime: time.Unix(g.clamp(st.Mtime.Sec), 0)}
	switch st.Type() {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case unix.S_IFLNK:
		target, err := dir.Readlink(base)
		if err != nil {
			return nil, err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR:
		hdr.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		hdr.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	default:
		return nil, fmt.Errorf("%w: mode %o", ErrEntryType, st.Mode)
	}
	if hdr.Typeflag == tar.TypeChar || hdr.Typeflag == tar.TypeBlock {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if st.Nlink > 1 && !st.IsDir() {
		id := inodeID{st.Dev, st.Ino}
		if first, ok := g.first[id]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
		} else {
			g.first[id] = name
		}
	}
	if err := g.setXattrs(hdr, dir, base, st); err != nil {
		return nil, err
	}
	return hdr, nil
}

// setXattrs puts the extended attributes into hdr, and with them the owner,
// which without privilege is one of them.
func (g *generator) setXattrs(hdr *tar.Header, dir *rooted.Dir, base string, st *rooted.Stat) error {
	names, err := dir.Listxattr(base)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	slices.Sort(names)
	uid, gid := uint32(0), uint32(0)
	for _, name := range names {
		if hostXattr(name) || g.opt.SkipXattr != nil && g.opt.SkipXattr(name) {
			continue
		}
		raw, err := dir.Getxattr(base, name)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue // trusted.* is listed for those who may not read it
		}
		if err != nil {
			return err
		}
		value := string(raw)
		switch {
		case name == RootlessXattr && g.opt.Map.Rootless:
			if uid, gid, err = decodeOwner(value); err != nil {
				return err
			}
		case name == DeviceXattr:
			if !st.IsRegular() || st.Size > 0 {
				continue // somebody has made something else of the placeholder
			}
			if err := setDevice(hdr, value); err != nil {
				return err
			}
		case value == "":
			count(&g.empty, name)
		default:
			if name == RootlessXattr {
				g.marked++
			}
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords[paxXattr+name] = value
		}
	}
	switch owner := g.opt.Owner; {
	case owner != nil:
		uid, gid = owner.UID, owner.GID
	case !g.opt.Map.Rootless:
		if uid, gid, err = g.opt.Map.toContainer(st.UID, st.GID); err != nil {
			return err
		}
	}
	hdr.Uid, hdr.Gid = int(uid), int(gid)
	return nil
}

// setDevice turns the header of a placeholder into that of its device. A mode
// that somebody gave to the placeholder is meant for the device.
func setDevice(hdr *tar.Header, value string) error {
	d, err := decodeDevice(value)
	if err != nil || hdr.Typeflag == tar.TypeLink {
		return err
	}
	hdr.Typeflag = tar.TypeChar
	if d.Type == BlockDevice {
		hdr.Typeflag = tar.TypeBlock
	}
	hdr.Devmajor, hdr.Devminor = int64(d.Major), int64(d.Minor)
	if hdr.Mode&0o7777 == 0 {
		hdr.Mode = int64(d.Mode)
	}
	return nil
}

func (g *generator) clamp(sec int64) int64 {
	if g.opt.Clamp != nil && sec > *g.opt.Clamp {
		return *g.opt.Clamp
	}
	return sec
}

// addFile writes a regular file. It must be the same file, with the same
// content, from before the first byte to after the last.
func (g *generator) addFile(ctx context.Context, dir *rooted.Dir, base string, hdr *tar.Header, st *rooted.Stat) error {
	f, err := dir.Open(base)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	if now, err := rooted.FromFd(int(f.Fd())); err != nil || !g.same(&now, st) {
		return errors.Join(err, ErrChanged)
	}
	if err := g.tw.WriteHeader(hdr); err != nil {
		return err
	}
	if g.buf == nil {
		g.buf = make([]byte, wholeFile)
	}
	for left := hdr.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(g.buf[:min(left, int64(len(g.buf)))])
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it became shorter", ErrChanged)
		}
		if err != nil {
			return err
		}
		if _, err := g.tw.Write(g.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		g.done += int64(n)
		g.opt.Progress.Report(progress.Event{Stage: "compressing", Done: g.done, Total: g.total, Unit: progress.Bytes})
	}
	if now, err := rooted.FromFd(int(f.Fd())); err != nil || !g.same(&now, st) {
		return errors.Join(err, ErrChanged)
	}
	return nil
}

func (g *generator) warn(msg string) {
	if g.opt.Warn != nil {
		g.opt.Warn(msg)
	}
}

func (g *generator) summary() {
	g.opt.Progress.Report(progress.Event{Stage: "compressing", Done: g.done, Total: g.done, Unit: progress.Bytes, End: true})
	for name, n := range g.empty {
		g.warn(fmt.Sprintf("leaving out xattr %s of %d entries: PAX cannot hold one without a value", quote.Name(name), n))
	}
	if g.marked > 0 {
		g.warn(fmt.Sprintf("%d entries have the xattr %s although this bundle is not rootless", g.marked, RootlessXattr))
	}
}

// count adds one to m[name].
func count(m *map[string]int, name string) {
	if *m == nil {
		*m = map[string]int{}
	}
	(*m)[name]++
}
