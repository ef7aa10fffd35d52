// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/internal/tarstream"
)

// EntryError says which entry of a layer could not be read or applied.
type EntryError struct {
	Entry string // the name as it stands in the layer, or in the tree
	// Layer is the layer that the entry is in, as in [Inode]: a file that is
	// written while the next entries are read may fail when its layer is over.
	Layer int32
	Err   error
}

// Error names the entry, with control characters escaped.
func (e *EntryError) Error() string {
	return fmt.Sprintf("entry %s: %v", quote.Name(e.Entry), e.Err)
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// Errors of tar headers that no tree can hold.
var (
	ErrEntryType = errors.New("unsupported entry type")
	ErrEntryName = errors.New("empty name")
	ErrOwner     = errors.New("owner out of range")
	ErrTime      = errors.New("modification time out of range")
	ErrXattr     = errors.New("xattr too large")
	ErrMode      = errors.New("mode out of range")
)

// Limits of the Linux kernel for extended attributes.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// Modification times that a layer may have: the years 1 to 9999, which is what
// every tool that shows a date can show.
const (
	minTime = -62_135_596_800
	maxTime = 253_402_300_799
)

// paxXattr is the prefix of PAX records that hold extended attributes.
const paxXattr = "SCHILY.xattr."

// ApplyOptions change how a layer is applied. The zero value is the rule of the
// OCI image-spec.
type ApplyOptions struct {
	// KeepDirlinks lets a symbolic link to a directory stay where a layer has a
	// directory of the same name: what the layer has below goes through the link.
	KeepDirlinks bool
	// Budget is what all layers of the image together may cost. Nil means that of the
	// zero value of [Limits], for this layer alone.
	Budget *Budget
	// Warn receives what was left out or looks wrong, as sentences without a
	// final stop. May be nil.
	Warn func(msg string)
	// Skip receives an entry that cannot be applied. If it returns nil, the entry is
	// left out and the next one is applied; otherwise its error ends Apply. If Skip is
	// nil, the first such entry does. So does, in any case, one that goes beyond what
	// all layers together may cost.
	Skip func(*EntryError) error
}

// Apply applies one more layer, the plain tar stream r, and tells sink what
// that does. Entries are applied strictly in order. Apply reads up to the end
// of the archive, which is two blocks of zeros or, as with other tools, the end
// of r between two entries; what follows the archive is left unread. If r is a
// [Stream], contents are hashed together with it where digests are wanted. An error
// about an entry is an [EntryError], and leaves tree and sink in the middle.
//
// Names are taken relative to the root, as by tar after chroot: a leading slash
// means nothing, and ".." in the root is the root.
func (t *Tree) Apply(ctx context.Context, r io.Reader, sink Sink, opt ApplyOptions) error {
	t.layer++
	if opt.Budget == nil {
		opt.Budget = Limits{}.Budget(0)
	}
	a := applier{tree: t, sink: sink, opt: opt, contents: newContents(r, sink)}
	tr := tarstream.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar header after %d entries (last: %s): %w", a.count, quote.Name(a.last), err)
		}
		a.count++
		a.last = hdr.Name
		if err := a.entry(hdr, tr); err != nil {
			var other *EntryError
			if errors.As(err, &other) { // of an entry whose file was still being written
				return err
			}
			bad := &EntryError{Entry: hdr.Name, Layer: t.layer, Err: err}
			if opt.Skip == nil || exhausted(err) {
				return bad
			}
			if err := opt.Skip(bad); err != nil {
				return err
			}
		}
	}
	a.summary()
	return nil
}

type applier struct {
	tree     *Tree
	sink     Sink
	opt      ApplyOptions
	contents contents
	count    int
	last     string
	ignored  map[string]int // entries per xattr that was left out
}

func (a *applier) entry(hdr *tar.Header, body io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // says nothing about the tree
	}
	if hdr.Name == "" {
		return ErrEntryName
	}
	if err := a.opt.Budget.entry(hdr, a.tree.entries); err != nil {
		return err
	}
	if err := checkNames(hdr); err != nil {
		return err
	}
	name := cleanPath(hdr.Name)
	kind, err := classify(name)
	if err != nil {
		return err
	}
	switch kind {
	case reservedName:
		return nil
	case plainWhiteout, opaqueWhiteout:
		return a.tree.whiteout(name, kind, a.sink)
	}
	if hdr.Typeflag == tar.TypeLink {
		return a.tree.link(name, hdr.Linkname, a.sink)
	}
	ino, err := a.inode(hdr)
	if err != nil {
		return err
	}
	return a.contents.pass(hdr, ino, body, func(body io.Reader) error {
		return a.tree.put(name, ino, body, a.sink, a.opt.KeepDirlinks)
	})
}

// checkNames refuses names that no file can have, before they are taken apart.
func checkNames(hdr *tar.Header) error {
	most := int64(maxDepth)
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		if err := limit.Check("", "bytes in the target", int64(len(hdr.Linkname)), unix.PathMax-1); err != nil {
			return err
		}
	case tar.TypeLink:
		if err := limit.Check("", "directories in each other", int64(strings.Count(hdr.Linkname, "/")), most); err != nil {
			return fmt.Errorf("hardlink: %w", err)
		}
	}
	return limit.Check("", "directories in each other", int64(strings.Count(hdr.Name, "/")), most)
}

// inode turns a header into an inode, or says why no file can be like that.
func (a *applier) inode(hdr *tar.Header) (*Inode, error) {
	ino := &Inode{Mode: uint32(hdr.Mode & 0o7777), Entry: int32(a.count - 1)}
	if hdr.Mode < 0 {
		return nil, fmt.Errorf("%w: %d", ErrMode, hdr.Mode)
	}
	// Some writers put the type into the mode as well, and there is no other
	// place for this one.
	if hdr.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil, fmt.Errorf("%w: a socket", ErrEntryType)
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		ino.Type, ino.Size = Regular, hdr.Size
	case tar.TypeDir:
		ino.Type = Directory
	case tar.TypeSymlink:
		ino.Type, ino.Target, ino.Mode = Symlink, hdr.Linkname, 0o777
		if hdr.Linkname == "" {
			return nil, errors.New("symbolic link without a target")
		}
	case tar.TypeChar:
		ino.Type = CharDevice
	case tar.TypeBlock:
		ino.Type = BlockDevice
	case tar.TypeFifo:
		ino.Type = Fifo
	default:
		return nil, fmt.Errorf("%w %q", ErrEntryType, hdr.Typeflag)
	}
	if ino.Type == CharDevice || ino.Type == BlockDevice {
		if hdr.Devmajor < 0 || hdr.Devmajor > math.MaxUint32 || hdr.Devminor < 0 || hdr.Devminor > math.MaxUint32 {
			return nil, fmt.Errorf("device number %d:%d out of range", hdr.Devmajor, hdr.Devminor)
		}
		ino.Major, ino.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	if err := setOwner(ino, hdr); err != nil {
		return nil, err
	}
	sec := hdr.ModTime.Unix()
	if sec < minTime || sec > maxTime {
		return nil, fmt.Errorf("%w: %d s after the epoch", ErrTime, sec)
	}
	ino.Mtime = rooted.Timespec{Sec: sec, Nsec: int32(hdr.ModTime.Nanosecond())}
	a.setXattrs(ino, hdr.PAXRecords)
	return ino, nil
}

// setOwner refuses IDs that the kernel would cut down to others: 2^32 would
// become root's, and 2^32-1 means "leave it as it is".
func setOwner(ino *Inode, hdr *tar.Header) error {
	if hdr.Uid < 0 || int64(hdr.Uid) >= math.MaxUint32 {
		return fmt.Errorf("%w: uid %d", ErrOwner, hdr.Uid)
	}
	if hdr.Gid < 0 || int64(hdr.Gid) >= math.MaxUint32 {
		return fmt.Errorf("%w: gid %d", ErrOwner, hdr.Gid)
	}
	ino.UID, ino.GID = uint32(hdr.Uid), uint32(hdr.Gid)
	return nil
}

// cutXattr returns the name of the attribute that a PAX record holds.
func cutXattr(key string) (name string, ok bool) { return strings.CutPrefix(key, paxXattr) }

func (a *applier) setXattrs(ino *Inode, records map[string]string) {
	for key, value := range records {
		name, ok := cutXattr(key)
		if !ok {
			continue
		}
		// A file that a layer marks as a placeholder would become a device when
		// it is repacked.
		if hostXattr(name) || name == DeviceXattr {
			count(&a.ignored, name)
			continue
		}
		ino.Xattrs = append(ino.Xattrs, Xattr{Name: name, Value: value})
	}
	slices.SortFunc(ino.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// summary warns once of each attribute that entries had and the tree has not.
func (a *applier) summary() {
	if a.opt.Warn == nil {
		return
	}
	for name, n := range a.ignored {
		a.opt.Warn(fmt.Sprintf("ignoring forbidden xattr %s of %d entries: it belongs to a host", quote.Name(name), n))
	}
}

// cleanPath returns name relative to the root: "." for the root itself, else
// without leading slash and without a component that is empty, "." or "..".
func cleanPath(name string) string {
	if clean := path.Clean("/" + name); clean != "/" {
		return clean[1:]
	}
	return "."
}
