// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/test/ocitest"
)

// secret is in all files of the host, and must not get into an image.
const secret = "a secret of the host\n"

// swapper replaces a directory by a symbolic link to the host and back, until it is
// told to stop.
type swapper struct {
	dir, host string
	swaps     atomic.Int64
	quit      chan struct{}
	done      chan struct{}
}

func startSwapping(dir, host string) *swapper {
	s := &swapper{dir: dir, host: host, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		link := dir + ".link"
		for {
			select {
			case <-s.quit:
				return
			default:
			}
			if os.Symlink(host, link) != nil {
				continue
			}
			// One step: there is no moment in which the name is not there.
			if unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE) == nil {
				s.swaps.Add(1)
				_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
			}
			_ = os.Remove(link)
			// Now and then a run gets through.
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
	}()
	return s
}

func (s *swapper) stop() {
	close(s.quit)
	<-s.done
}

// TestSwapWhileUnpacking is S24: directories that are being unpacked into become
// symbolic links. Nothing outside may change.
func TestSwapWhileUnpacking(t *testing.T) {
	for _, name := range []string{"rootfs", "rootfs/d", "rootfs/d/e"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			layout, host := filepath.Join(dir, "layout"), filepath.Join(dir, "host")
			var low, high []ocitest.Entry
			for i := range 150 {
				low = append(low, ocitest.File(fmt.Sprintf("d/e/f%d", i), "of the image\n", 0o4755))
				high = append(high, ocitest.Whiteout(fmt.Sprintf("d/e/f%d", i)), ocitest.File(fmt.Sprintf("d/e/g%d", i), "of the image\n", 0o600))
			}
			ocitest.Image{Layers: [][]byte{ocitest.Layer(low...), ocitest.Layer(high...)}}.Write(t, layout, "v")
			for i := range 150 {
				for _, sub := range []string{"", "e", "d/e"} {
					must(t, os.MkdirAll(filepath.Join(host, sub), 0o755))
					must(t, os.WriteFile(filepath.Join(host, sub, fmt.Sprintf("f%d", i)), []byte(secret), 0o644))
				}
			}
			before := ocitest.Snapshot(t, host)
			bundle := filepath.Join(dir, "bundle")
			s := startSwapping(filepath.Join(bundle, name), host)
			runs, failed := 0, 0
			for want := int64(pick(150, 1000)); (s.swaps.Load() < want || runs < pick(6, 50)) && runs < 3000; runs++ {
				out, err := command(dir, "unpack"+rootless()+" --image layout:v bundle").CombinedOutput()
				if err != nil {
					failed++
				}
				if bytes.Contains(out, []byte("goroutine ")) {
					t.Fatalf("a crash: %s", out)
				}
				_ = os.RemoveAll(bundle) // which the swapper may disturb too
			}
			s.stop()
			t.Logf("%d swaps in %d runs, %d of which failed", s.swaps.Load(), runs, failed)
			if s.swaps.Load() < 100 {
				t.Errorf("only %d swaps", s.swaps.Load())
			}
			ocitest.AssertSame(t, before, ocitest.Snapshot(t, host))
		})
	}
}

// TestSwapWhileRepacking is K12: directories that are being repacked become symbolic
// links. No byte from outside may get into the layer.
func TestSwapWhileRepacking(t *testing.T) {
	for _, name := range []string{"rootfs", "rootfs/tree", "rootfs/tree/e"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := place(t)
			bundle, host := filepath.Join(dir, "bundle"), filepath.Join(dir, "host")
			for i := range 150 {
				for _, sub := range []string{"", "e", "tree/e"} {
					write := func(root, text string) {
						path := filepath.Join(root, sub, fmt.Sprintf("f%d", i))
						must(t, os.MkdirAll(filepath.Dir(path), 0o755))
						must(t, os.WriteFile(path, []byte(text), 0o644))
					}
					write(host, secret)
					if sub != "" {
						write(filepath.Join(bundle, "rootfs", "tree"), strings.Repeat("x", len(secret)))
					}
				}
			}
			before := ocitest.Snapshot(t, host)
			s := startSwapping(filepath.Join(bundle, name), host)
			runs, failed := 0, 0
			for want := int64(pick(150, 1000)); (s.swaps.Load() < want || runs < pick(6, 50)) && runs < 3000; runs++ {
				out, err := command(dir, "repack --compress gzip --image layout:new bundle").CombinedOutput()
				if err != nil {
					failed++
				}
				if bytes.Contains(out, []byte("goroutine ")) {
					t.Fatalf("a crash: %s", out)
				}
			}
			s.stop()
			t.Logf("%d swaps in %d runs, %d of which failed", s.swaps.Load(), runs, failed)
			if s.swaps.Load() < 100 {
				t.Errorf("only %d swaps", s.swaps.Load())
			}
			ocitest.AssertSame(t, before, ocitest.Snapshot(t, host))
			ocitest.AssertWhole(t, filepath.Join(dir, "layout"))
			noSecret(t, filepath.Join(dir, "layout"))
		})
	}
}

// noSecret looks into every blob.
func noSecret(t *testing.T, layout string) {
	t.Helper()
	blobs, err := filepath.Glob(layout + "/blobs/sha256/*")
	must(t, err)
	for _, blob := range blobs {
		data, err := os.ReadFile(blob)
		must(t, err)
		if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(z)
			must(t, err)
		}
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the blob %s has a secret of the host", filepath.Base(blob))
		}
	}
}

// TestChangeWhileRepacking is K10 and K11: a file that vanishes, grows or shrinks
// while it is read. That is an error that names it, and no blob is committed.
func TestChangeWhileRepacking(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"vanishes": os.Remove,
		"grows": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("more\n")
			return err
		},
		"shrinks": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			v := victims[indexOf("repack")]
			changed := 0
			for n := 1; n < 10; n++ {
				dir := place(t)
				path := filepath.Join(dir, "bundle/rootfs/new")
				before := ocitest.Snapshot(t, filepath.Join(dir, "layout/blobs"))
				// The file is changed when it is about to be opened for the n-th time.
				opens := 0
				got := v.trace(t, dir, &tracer{which: func(c call) bool {
					if name := c.name(); (name == "openat" || name == "openat2") && c.path() == path {
						if opens++; opens == n {
							must(t, change(path))
						}
					}
					return false
				}})
				if opens < n {
					break
				}
				changed++
				if got.status != 1 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "new") {
					t.Errorf("at open %d: status %d: %q", n, got.status, got.stderr)
				}
				v.committed(t, dir, what)
				ocitest.AssertSame(t, before, ocitest.Snapshot(t, filepath.Join(dir, "layout/blobs")), "mtime")
			}
			if changed == 0 {
				t.Error("the file was never opened")
			}
		})
	}
}

// indexOf returns the place of a victim in the list.
func indexOf(name string) int {
	for i, v := range victims {
		if v.name == name {
			return i
		}
	}
	panic(name)
}
