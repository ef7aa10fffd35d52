// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	umoci "github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// oracleDir is a directory on a file system with nanosecond times and xattrs.
func oracleDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-squash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// rootDir makes a directory with what is said of a root that no layer has an entry for.
func rootDir(t *testing.T, dir string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)))
	return dir
}

// byShale unpacks an image with the merge engine.
func byShale(t *testing.T, dir string, i *Image) ocitest.Tree {
	t.Helper()
	s, err := i.stack()
	must(t, err)
	to, err := rooted.Open(rootDir(t, dir))
	must(t, err)
	defer to.Close()
	disk, err := layer.NewDisk(to, layer.DiskOptions{Map: layer.MapOptions{Rootless: os.Geteuid() != 0}})
	must(t, err)
	tree, err := s.Tree(t.Context(), disk, stack.Options{})
	must(t, err)
	must(t, disk.Finish(t.Context(), tree))
	return ocitest.Snapshot(t, dir)
}

// plainLayers returns the tar streams of an image.
func plainLayers(t *testing.T, i *Image) [][]byte {
	t.Helper()
	var all [][]byte
	for _, d := range i.manifest.value.Layers {
		blob, err := i.layout.OpenBlob(t.Context(), d)
		must(t, err)
		_, c, err := layer.SplitMediaType(d.MediaType)
		must(t, err)
		r, err := layer.NewReader(blob, c, nil)
		must(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		must(t, err)
		must(t, r.Close())
		must(t, blob.Close())
		all = append(all, b.Bytes())
	}
	return all
}

// byUmoci unpacks layers with umoci's library.
func byUmoci(t *testing.T, dir string, layers ...[]byte) (ocitest.Tree, error) {
	t.Helper()
	rootDir(t, dir)
	format := umoci.DirRootfs{MapOptions: umoci.MapOptions{Rootless: os.Geteuid() != 0}}
	for _, l := range layers {
		if err := umoci.UnpackLayer(dir, bytes.NewReader(l), &umoci.UnpackOptions{OnDiskFormat: format}); err != nil {
			return nil, err
		}
	}
	return ocitest.Snapshot(t, dir), nil
}

// byKernel has the kernel merge the layers, each unpacked alone by umoci's library.
func byKernel(t *testing.T, dir string, layers ...[]byte) ocitest.Tree {
	t.Helper()
	lowers := []string{rootDir(t, filepath.Join(dir, "empty"))} // an overlay needs two
	for n, l := range layers {
		lower := rootDir(t, filepath.Join(dir, fmt.Sprint(n)))
		must(t, umoci.UnpackLayer(lower, bytes.NewReader(l), &umoci.UnpackOptions{OnDiskFormat: umoci.OverlayfsRootfs{}}))
		lowers = append(lowers, lower)
	}
	slices.Reverse(lowers)
	merged := rootDir(t, filepath.Join(dir, "merged"))
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lowers, ":")); err != nil {
		t.Skipf("no oracle: this user may not mount an overlay here: %v", err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH) //nolint:errcheck // the test is over
	return ocitest.Snapshot(t, merged)
}

// forgiveUmoci takes over from shale's tree what umoci's library cannot know or do.
func forgiveUmoci(theirs, ours ocitest.Tree, impliedParents bool) {
	for name, facts := range theirs {
		// Making the implied parents of an entry leaves the present time on the
		// directory that they are in: see package layer's tests.
		if facts.Type == "dir" && impliedParents {
			facts.Mtime = ours[name].Mtime
		}
		// Without privilege it gives a file its mode first, which may then forbid xattrs.
		if os.Geteuid() != 0 {
			facts.Xattrs = ours[name].Xattrs
		}
		theirs[name] = facts
	}
}
