// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// Create makes an empty layout at path and opens it. Parents that do not exist
// are made too. If there is anything at path already, the error is
// [os.ErrExist].
//
// The layout is made under another name and appears at path complete, so that a
// crash leaves nothing at path. What a crash leaves beside it, the next Create of
// the same path removes.
func Create(ctx context.Context, path string) (*Layout, error) {
	if err := create(ctx, path); err != nil {
		return nil, opError("create layout", path, err)
	}
	// What is there is not given up any more.
	return Open(context.WithoutCancel(ctx), path, nil)
}

func create(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if path == "" {
		return as(ErrInvalid, errors.New("empty path"))
	}
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	path = filepath.Clean(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	parent, err := rooted.Open(filepath.Dir(path) + "/.")
	if err != nil {
		return err
	}
	defer closeDir(parent)

	base := filepath.Base(path)
	temp := initName(base)
	dir, err := makeInitDir(ctx, parent, temp)
	if err != nil {
		return err
	}
	defer closeDir(dir)
	err = fill(dir)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = renameNoReplace(parent, temp, base)
	}
	if err != nil {
		return both(err, parent.RemoveAll(temp))
	}
	return syncDir(parent)
}

// initName is where a layout is made that is to be called base. A hash keeps it
// within the length that a name may have.
func initName(base string) string {
	sum := sha256.Sum256([]byte(base))
	return tempPrefix + "init-" + hex.EncodeToString(sum[:8])
}

// makeInitDir makes the directory in which a layout is made and locks it. The
// name is the same each time, so that what a crash has left is found: it can be
// locked.
func makeInitDir(ctx context.Context, parent *rooted.Dir, name string) (*rooted.Dir, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		made := parent.Mkdir(name, 0o755)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return nil, made
		}
		dir, err := parent.OpenDir(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has just finished or removed it
		} else if err != nil {
			return nil, err
		}
		err = flock(ctx, dir.Fd(), unix.LOCK_EX)
		if errors.Is(err, ErrLock) {
			err = nil // then nobody can tell who is first
		}
		same := sameDir(parent, name, dir)
		if err == nil && same && made == nil {
			return dir, nil
		}
		if err == nil && same {
			err = parent.RemoveAll(name)
		}
		closeDir(dir)
		if err != nil {
			return nil, err
		}
	}
}

// fill makes what belongs into an empty layout, and syncs it.
func fill(dir *rooted.Dir) error {
	index := ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageIndex,
		Manifests: []ispec.Descriptor{},
	}
	if err := createJSON(dir, ispec.ImageIndexFile, index); err != nil {
		return err
	}
	if err := createJSON(dir, ispec.ImageLayoutFile, ispec.ImageLayout{Version: ispec.ImageLayoutVersion}); err != nil {
		return err
	}
	if err := dir.Mkdir(ispec.ImageBlobsDir, 0o755); err != nil {
		return err
	}
	blobs, err := dir.OpenDir(ispec.ImageBlobsDir)
	if err != nil {
		return err
	}
	defer closeDir(blobs)
	if err := blobs.Mkdir(algorithms[0].String(), 0o755); err != nil {
		return err
	}
	return both(syncDir(blobs), syncDir(dir))
}

// createJSON makes a file with v in it, synced.
func createJSON(dir *rooted.Dir, name string, v any) (err error) {
	data, err := encode(v)
	if err != nil {
		return err
	}
	f, err := dir.Create(name, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return both(err, f.Close())
}

// encode returns v as JSON, with a newline at the end.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return buf.Bytes(), nil
}

// renameNoReplace gives oldname the name newname, which must not exist.
func renameNoReplace(dir *rooted.Dir, oldname, newname string) error {
	err := unix.Renameat2(dir.Fd(), oldname, dir.Fd(), newname, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// The file system cannot exclude that somebody else makes newname just now.
	// Of a directory only an empty one would be replaced.
	if _, err := dir.Lstat(newname); err == nil {
		return fs.ErrExist
	}
	return dir.Rename(oldname, dir, newname)
}
