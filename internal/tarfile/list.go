// SPDX-License-Identifier: Apache-2.0

package tarfile

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/shale-oci/shale/internal/quote"
)

// Limits of what [List] takes, far more than any honest archive of images needs.
const (
	maxMembers = 1 << 18
	maxName    = 4096     // bytes
	maxNames   = 32 << 20 // bytes of all names together
)

// ErrInvalid means that a tar is damaged, or holds what an archive of images
// cannot hold.
var ErrInvalid = errors.New("invalid archive")

// Member is a regular file in a tar, or a link to one.
type Member struct {
	Offset, Size int64 // of the content, in bytes
	// Link is the name of the member that a link stands for, relative to the top of
	// the tar; empty for a regular file.
	Link string
}

// List returns the files in the size bytes of a tar, by their names without a
// leading "./". Directories are left out. The error is ErrInvalid if the tar is
// damaged or cut short, if a name is there twice or leads out of the tar, if a link
// does, or if there is anything else than files, links and directories. Whether
// there is anything where a link leads to is not looked at.
func List(ctx context.Context, r io.ReaderAt, size int64) (map[string]Member, error) {
	members := map[string]Member{}
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	names := 0
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return members, nil
		}
		if err != nil {
			return nil, invalid("%w", err)
		}
		if names += len(h.Name) + len(h.Linkname); n == maxMembers || names > maxNames {
			return nil, invalid("more than %d entries or %d bytes of names", maxMembers, maxNames)
		}
		if long := max(len(h.Name), len(h.Linkname)); long > maxName {
			return nil, invalid("entry %d: a name of %d bytes", n, long)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name, m, err := member(h, at, size)
		if err == nil && name != "" {
			if _, twice := members[name]; twice {
				err = errors.New("it is there twice")
			}
			members[name] = m
		}
		if err != nil {
			return nil, invalid("entry %s: %w", quote.Name(h.Name), err)
		}
	}
}

// member makes sense of a header, whose content begins at the offset at in a tar of
// end bytes. For a directory the name is empty.
func member(h *tar.Header, at, end int64) (string, Member, error) {
	name := path.Clean(h.Name)
	if h.Name == "" || !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return "", Member{}, errors.New("not a name in an archive")
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return "", Member{}, nil
	case tar.TypeReg:
		if Sparse(h) {
			return "", Member{}, errors.New("a sparse file")
		}
		// A member is padded to whole blocks.
		if h.Size > end-at || (h.Size+511)&^511 > end-at {
			return "", Member{}, fmt.Errorf("%d bytes, of which %d are there", h.Size, end-at)
		}
	case tar.TypeSymlink, tar.TypeLink:
		target := path.Clean(h.Linkname)
		if h.Typeflag == tar.TypeSymlink {
			target = path.Join(path.Dir(name), h.Linkname)
		}
		if h.Linkname == "" || path.IsAbs(h.Linkname) || !fs.ValidPath(target) || target == "." {
			return "", Member{}, fmt.Errorf("a link to %s, which is not in the archive", quote.Name(h.Linkname))
		}
		return name, Member{Link: target}, nil
	default:
		return "", Member{}, errors.New("neither a file nor a directory")
	}
	if name == "." {
		return "", Member{}, errors.New("not a name in an archive")
	}
	return name, Member{Offset: at, Size: h.Size}, nil
}

// Sparse reports whether a member is larger than what is in the tar.
func Sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func invalid(format string, args ...any) error {
	return &invalidError{fmt.Errorf(format, args...)}
}

// invalidError is an ErrInvalid whose text need not repeat that.
type invalidError struct{ err error }

func (e *invalidError) Error() string   { return e.err.Error() }
func (e *invalidError) Unwrap() []error { return []error{ErrInvalid, e.err} }
