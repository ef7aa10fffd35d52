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

// secretName is there only, too.
const secretName = "name-of-the-host"

// host makes a directory that is none of the commands' business, with what they look
// for in the ones that it is put in the place of.
func (s stage) host(t *testing.T) string {
	t.Helper()
	for i := range 150 {
		for _, sub := range []string{"", "e", "d/e", "tree/e"} {
			s.write(t, filepath.Join("host", sub, fmt.Sprintf("f%d", i)), secret)
		}
	}
	s.write(t, "host/"+secretName, secret)
	s.write(t, "host/e/"+secretName, secret)
	s.write(t, "host/tree/e/"+secretName, secret)
	return s.path("host")
}

func (s stage) write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	must(t, os.WriteFile(s.path(name), []byte(text), 0o644))
}

// swapper replaces a directory by a symbolic link to the host and back while commands
// run, until it is told to stop.
type swapper struct {
	dir, host string
	running   atomic.Bool
	swaps     atomic.Int64 // while a command was running
	quit      chan struct{}
	done      chan struct{}
}

func startSwapping(dir, host string) *swapper {
	s := &swapper{dir: dir, host: host, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for {
			select {
			case <-s.quit:
				return
			default:
				s.swap()
			}
			// Now and then a run gets through.
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		}
	}()
	return s
}

// swap puts the link there, for a moment that may be none, and takes it away.
func (s *swapper) swap() {
	link := s.dir + ".link"
	if !s.running.Load() || os.Symlink(s.host, link) != nil {
		return
	}
	// One step: there is no moment in which the name is not there.
	exchange := func() error { return unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, s.dir, unix.RENAME_EXCHANGE) }
	if exchange() == nil {
		if s.running.Load() {
			s.swaps.Add(1)
		}
		if pause := rand.IntN(4); pause > 0 {
			time.Sleep(time.Duration(rand.IntN(200<<pause)) * time.Microsecond)
		}
		_ = exchange()
	}
	_ = os.Remove(link)
}

func (s *swapper) stop() {
	close(s.quit)
	<-s.done
}

// races runs a command on the stage again and again while the directory is swapped for
// a link to the host, and what comes after each run, until there were as many swaps as
// there have to be. Nothing of the host may change.
func (s stage) races(t *testing.T, dir, line string, then func()) {
	t.Helper()
	host := s.host(t)
	s.give(t)
	before := ocitest.Snapshot(t, host)
	if out, err := s.command(line).CombinedOutput(); err != nil {
		t.Fatalf("it does not work either without anybody to disturb it: %v: %s", err, out)
	}
	then()
	swapper := startSwapping(s.path(dir), host)
	runs, failed := 0, 0
	want := int64(pick(100, 1000))
	for ; (swapper.swaps.Load() < want || runs < pick(6, 50)) && runs < 3000; runs++ {
		cmd := s.command(line)
		swapper.running.Store(true)
		out, err := cmd.CombinedOutput()
		swapper.running.Store(false)
		if err != nil {
			failed++
		}
		if bytes.Contains(out, []byte("goroutine ")) {
			t.Errorf("a crash: %s", out)
			break
		}
		then()
	}
	swapper.stop()
	t.Logf("%d swaps in %d runs, %d of which failed", swapper.swaps.Load(), runs, failed)
	if swapper.swaps.Load() < want {
		t.Errorf("only %d swaps, not %d", swapper.swaps.Load(), want)
	}
	ocitest.AssertSame(t, before, ocitest.Snapshot(t, host))
}

// TestSwapWhileUnpacking is S24: directories that are being unpacked into become
// symbolic links. Nothing outside may change.
func TestSwapWhileUnpacking(t *testing.T) {
	var low, high []ocitest.Entry
	for i := range 150 {
		low = append(low, ocitest.File(fmt.Sprintf("d/e/f%d", i), "of the image\n", 0o4755))
		high = append(high, ocitest.Whiteout(fmt.Sprintf("d/e/f%d", i)), ocitest.File(fmt.Sprintf("d/e/g%d", i), "of the image\n", 0o600))
	}
	image := ocitest.Image{Layers: [][]byte{ocitest.Layer(low...), ocitest.Layer(high...)}}
	inModes(t, func(t *testing.T, m *ocitest.Mode) {
		for _, dir := range []string{"rootfs", "rootfs/d", "rootfs/d/e"} {
			t.Run(dir, func(t *testing.T) {
				t.Parallel()
				s := empty(t, m)
				image.Write(t, s.path("layout"), "v")
				s.races(t, "bundle/"+dir, "unpack --image layout:v bundle", func() {
					_ = os.RemoveAll(s.path("bundle")) // which the swapper may disturb too
				})
			})
		}
	})
}

// TestSwapWhileRepacking is K12: directories that are being repacked become symbolic
// links. No byte from outside may get into the layer.
func TestSwapWhileRepacking(t *testing.T) {
	inModes(t, func(t *testing.T, m *ocitest.Mode) {
		for _, dir := range []string{"rootfs", "rootfs/tree", "rootfs/tree/e"} {
			t.Run(dir, func(t *testing.T) {
				t.Parallel()
				s := place(t, m)
				for i := range 150 {
					for _, sub := range []string{"e", "tree/e"} {
						s.write(t, fmt.Sprintf("bundle/rootfs/tree/%s/f%d", sub, i), strings.Repeat("x", len(secret)))
					}
				}
				s.races(t, "bundle/"+dir, "repack --compress gzip --image layout:new bundle", func() {})
				ocitest.AssertWhole(t, s.path("layout"))
				noSecret(t, s.path("layout"))
			})
		}
	})
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
		if bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte(secretName)) {
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
			inModes(t, func(t *testing.T, m *ocitest.Mode) {
				n := 1
				for n < 10 && changesAtOpen(t, place(t, m), n, what, change) {
					n++
				}
				if n == 1 {
					t.Error("the file was never opened")
				}
			})
		})
	}
}

// changesAtOpen repacks, and changes a file when it is about to be opened for the n-th
// time. It reports whether there was such a time.
func changesAtOpen(t *testing.T, s stage, n int, what string, change func(path string) error) bool {
	t.Helper()
	v := victims[indexOf("repack")]
	path := s.path("bundle/rootfs/new")
	before := ocitest.Snapshot(t, s.path("layout/blobs"))
	opens := 0
	var changed error
	got := v.trace(t, s, &tracer{which: func(c call) bool {
		if name := c.name(); (name == "openat" || name == "openat2") && c.path() == path {
			if opens++; opens == n {
				changed = change(path)
			}
		}
		return false
	}})
	must(t, changed)
	if opens < n {
		return false
	}
	if got.status != 1 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "new") {
		t.Errorf("at open %d: status %d: %q", n, got.status, got.stderr)
	}
	v.committed(t, s, what)
	ocitest.AssertSame(t, before, ocitest.Snapshot(t, s.path("layout/blobs")), "mtime")
	return true
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
