// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/mtree"
)

// account measures the stages of an unpack one by one, in seconds of CPU: each
// alone, without the others, and with the least that other programs need for the
// same on this machine.
func (b *bench) account() error {
	dir := filepath.Join(b.work, "account")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	plain, err := b.plain(dir)
	if err != nil {
		return err
	}
	a := &account{bench: b, dir: dir, plain: plain}
	b.printf("\nSeconds of CPU of each stage, measured alone. The floor is what the program in the\nlast column takes for the same.\n\n")
	b.printf("| stage | shale | floor | what the floor is |\n| --- | --: | --: | --- |\n")
	for _, s := range []stage{
		{"inflate the blobs", a.inflate, "igzip -dc", a.program(`igzip -dc "$@" >/dev/null`, b.layers)},
		{"SHA-256 of the blobs", a.hash(b.layers), "openssl dgst -sha256", a.program(`openssl dgst -sha256 "$@" >/dev/null`, b.layers)},
		{"SHA-256 of the layers", a.hash(plain), "openssl dgst -sha256", a.program(`openssl dgst -sha256 "$@" >/dev/null`, plain)},
		{"SHA-256 of the files", a.hashFiles, "openssl dgst -sha256 of the layers", a.program(`openssl dgst -sha256 "$@" >/dev/null`, plain)},
		{"read the tar headers", a.headers, "tar --list", a.program(`for f; do tar --list -f "$f" >/dev/null; done`, plain)},
		{"merge engine", a.merge, "", nil},
		{"make and write the files", a.write, "tar --extract", a.program(fmt.Sprintf(`mkdir %[1]q; for f; do tar --extract -C %[1]q -f "$f"; done`, dir+"/tree"), plain)},
		{"list the result", a.list, "find -printf", a.program(fmt.Sprintf(`find %q -printf '%%p %%s %%m %%U %%G %%T@ %%C@ %%i %%n\n' >/dev/null`, dir+"/tree"), nil)},
	} {
		if err := a.measure(s); err != nil {
			return err
		}
	}
	u, err := b.unpacking(b.shale, b.layout)()
	if err != nil {
		return err
	}
	b.printf("| sum | %.2f | %.2f | |\n", a.sum.Seconds(), a.floor.Seconds())
	b.printf("\nThe whole of `shale unpack`: %.2f s of CPU in %.2f s, so that %.2f of the CPUs were at work.\n",
		u.cpu.Seconds(), u.wall.Seconds(), u.cpu.Seconds()/u.wall.Seconds())
	return removeAll(dir)
}

// stage is one stage of an unpack. What the stages before it take again is in
// less.
type stage struct {
	name  string
	run   func() (used, less time.Duration, err error)
	what  string
	floor func() (time.Duration, error)
}

type account struct {
	*bench
	dir        string
	plain      []string // the layers, uncompressed
	sum, floor time.Duration
	parse      time.Duration // what reading the headers took
	apply      time.Duration // the same with the merge engine
	files      time.Duration // what hashing the files took
}

func (a *account) measure(s stage) error {
	used, less, err := s.run()
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	used = max(used-less, 0)
	a.sum += used
	if s.floor == nil {
		a.printf("| %s | %.2f | | |\n", s.name, used.Seconds())
		return nil
	}
	floor, err := s.floor()
	if errors.Is(err, exec.ErrNotFound) {
		a.printf("| %s | %.2f | | %s: SKIPPED, it is missing |\n", s.name, used.Seconds(), s.what)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	a.floor += floor
	a.printf("| %s | %.2f | %.2f | %s |\n", s.name, used.Seconds(), floor.Seconds(), s.what)
	return nil
}

// program returns the CPU time of a script.
func (a *account) program(script string, args []string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		u, err := timed("bash", append([]string{"-ec", script, "bash"}, args...)...)
		return u.cpu, err
	}
}

// cpu measures fn in this process.
func cpu(fn func() error) (time.Duration, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := ownCPU()
	return after - before, err
}

func ownCPU() (time.Duration, error) {
	var ru unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), err
}

// each opens the files one after the other.
func each(files []string, fn func(*os.File) error) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(fn(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (a *account) inflate() (used, less time.Duration, err error) {
	used, err = cpu(func() error {
		return each(a.layers, func(f *os.File) error {
			r, err := layer.NewReader(f, layer.Gzip, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		})
	})
	return used, 0, err
}

func (a *account) hash(files []string) func() (used, less time.Duration, err error) {
	return func() (used, less time.Duration, err error) {
		buf := make([]byte, 256<<10)
		used, err = cpu(func() error {
			return each(files, func(f *os.File) error {
				h := sha256.New()
				_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, buf)
				return err
			})
		})
		return used, 0, err
	}
}

func (a *account) hashFiles() (used, less time.Duration, err error) {
	with, err := a.applied(layer.NewDigests())
	if err != nil {
		return 0, 0, err
	}
	without, err := a.applied(layer.Discard)
	a.apply, a.files = without, with-without
	return with, without, err
}

func (a *account) headers() (used, less time.Duration, err error) {
	a.parse, err = cpu(func() error {
		return each(a.plain, func(f *os.File) error {
			for r := tar.NewReader(bufio.NewReaderSize(f, 256<<10)); ; {
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		})
	})
	return a.parse, 0, err
}

func (a *account) merge() (used, less time.Duration, err error) { return a.apply, a.parse, nil }

// applied applies all layers to a tree.
func (a *account) applied(sink layer.Sink) (time.Duration, error) {
	return cpu(func() error {
		tree := layer.NewTree()
		return each(a.plain, func(f *os.File) error {
			return tree.Apply(a.ctx, bufio.NewReaderSize(f, 256<<10), sink, layer.ApplyOptions{})
		})
	})
}

func (a *account) write() (used, less time.Duration, err error) {
	root := filepath.Join(a.dir, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return 0, 0, err
	}
	dir, err := rooted.Open(root)
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	used, err = cpu(func() error {
		disk, err := layer.NewDisk(dir, layer.DiskOptions{})
		if err != nil {
			return err
		}
		tree := layer.NewTree()
		if err := each(a.plain, func(f *os.File) error {
			return tree.Apply(a.ctx, bufio.NewReaderSize(f, 256<<10), disk, layer.ApplyOptions{})
		}); err != nil {
			disk.Abort()
			return err
		}
		return disk.Finish(a.ctx, tree)
	})
	return used, a.apply + a.files, err
}

func (a *account) list() (used, less time.Duration, err error) {
	dir, err := rooted.Open(filepath.Join(a.dir, "rootfs"))
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	used, err = cpu(func() error {
		tree, err := mtree.Walk(a.ctx, dir, mtree.WalkOptions{
			Digest: func(string, rooted.Stat) (sum [32]byte, ok bool) { return sum, true },
		})
		if err != nil {
			return err
		}
		var out bytes.Buffer
		_, err = tree.WriteManifest(&out, mtree.Header{})
		return err
	})
	return used, 0, err
}
