// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	umoci "github.com/opencontainers/umoci/oci/layer"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "layout"))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// tempRoot is a directory on a file system with nanosecond times and xattrs.
func tempRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shale-pack-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		_ = exec.Command("chmod", "-R", "u+rwX", dir).Run()
		_ = os.RemoveAll(dir)
	})
	return dir
}

// mapping is how owners are kept by whoever runs the test.
func mapping() layer.MapOptions { return layer.MapOptions{Rootless: os.Geteuid() != 0} }

// copyTree copies a tree with all that it is.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// snapshotDirs makes n directories, each a changed copy of the one before.
func snapshotDirs(t testing.TB, rng *rand.Rand, root string, n, edits int) []string {
	t.Helper()
	var dirs []string
	for i := range n {
		dir := filepath.Join(root, fmt.Sprint(i))
		if i == 0 {
			must(t, os.Mkdir(dir, 0o755))
			ocitest.RandomEdits(t, rng, dir, 2*edits)
		} else {
			copyTree(t, dirs[i-1], dir)
			ocitest.RandomEdits(t, rng, dir, edits)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// chainOf makes snapshots of directories, each based on the one before.
func chainOf(dirs []string) []pack.Snapshot {
	var snapshots []pack.Snapshot
	for i, dir := range dirs {
		s := pack.Snapshot{Name: fmt.Sprint("s", i), Dir: dir}
		if i > 0 {
			s.Parent = fmt.Sprint("s", i-1)
		}
		snapshots = append(snapshots, s)
	}
	return snapshots
}

func image(t testing.TB, l *layout.Layout, snapshots []pack.Snapshot, opt pack.Options) pack.Result {
	t.Helper()
	res, err := pack.Image(t.Context(), l, snapshots, opt)
	must(t, err)
	ocitest.AssertWhole(t, l.Path())
	return res
}

// plainLayers returns the tar streams of an image.
func plainLayers(t testing.TB, l *layout.Layout, d ispec.Descriptor) [][]byte {
	t.Helper()
	s, err := stack.Open(t.Context(), l, layout.Path{d})
	must(t, err)
	var all [][]byte
	for _, sl := range s.Layers {
		blob, err := l.OpenBlob(t.Context(), sl.Descriptor)
		must(t, err)
		stream, err := layer.NewStream(t.Context(), blob, layer.StreamOptions{Compression: sl.Compression, DiffID: sl.DiffID})
		must(t, err)
		data, err := io.ReadAll(stream)
		must(t, err)
		must(t, stream.Finish())
		stream.Close()
		must(t, blob.Close())
		all = append(all, data)
	}
	return all
}

// unpacked unpacks layers with umoci's library.
func unpacked(t testing.TB, layers [][]byte) ocitest.Tree {
	t.Helper()
	dir := filepath.Join(tempRoot(t), "rootfs")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)))
	format := umoci.DirRootfs{MapOptions: umoci.MapOptions{Rootless: os.Geteuid() != 0}}
	for i, data := range layers {
		if err := umoci.UnpackLayer(dir, bytes.NewReader(data), &umoci.UnpackOptions{OnDiskFormat: format}); err != nil {
			t.Fatalf("umoci: layer %d: %v", i, err)
		}
	}
	return ocitest.Snapshot(t, dir)
}

// assertSame compares what was unpacked with what was packed, to the second.
func assertSame(t testing.TB, what string, want, got ocitest.Tree, ignore ...string) {
	t.Helper()
	if diff := ocitest.Diff(want.Seconds(), got.Seconds(), ignore...); len(diff) > 0 {
		t.Fatalf("%s:\n%s", what, strings.Join(diff, "\n"))
	}
}

// headers lists the entries of a layer.
func headers(t testing.TB, data []byte) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, hdr)
	}
}

// assertUntouched fails if a ref or a temporary file is left of what has failed.
func assertUntouched(t testing.TB, l *layout.Layout) {
	t.Helper()
	refs, err := l.Refs(t.Context())
	must(t, err)
	if len(refs) > 0 {
		t.Errorf("the refs are %v", refs)
	}
	temps, err := filepath.Glob(filepath.Join(l.Path(), ".shale-*", "tmp-*"))
	must(t, err)
	if len(temps) > 0 {
		t.Errorf("temporary files are left: %v", temps)
	}
}

// mksock makes a socket that has a name.
func mksock(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Close(fd))
}
