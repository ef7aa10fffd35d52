// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/internal/sha256pair"
	"github.com/shale-oci/shale/internal/tarstream"
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
	b.printf("\nSeconds of CPU of each stage, measured alone, medians of %d runs. The floor is what the\nprogram in the last column takes for the same.\n\n", b.n)
	b.printf("| stage | shale | floor | what the floor is |\n| --- | --: | --: | --- |\n")
	for _, s := range []stage{
		{"inflate the blobs", a.inflate, "igzip -dc", a.program(`igzip -dc "$@" >/dev/null`, b.layers)},
		{"SHA-256 of the blobs", a.hashBlobs, "openssl dgst -sha256", a.program(`openssl dgst -sha256 "$@" >/dev/null`, b.layers)},
		{"SHA-256 of the layers", a.hashLayers, "openssl dgst -sha256", a.program(`openssl dgst -sha256 "$@" >/dev/null`, plain)},
		{"SHA-256 of the files, in the same pass", a.hashFiles, "openssl dgst -sha256 of the layers", a.program(`openssl dgst -sha256 "$@" >/dev/null`, plain)},
		{"read the tar headers", a.headers, "tar --list", a.program(`for f; do tar --list -f "$f" >/dev/null; done`, plain)},
		{"merge engine", a.merge, "", nil},
		{"make and write the files", a.write, "tar --extract", a.extract},
		{"list the result", a.list, "find -printf", a.program(fmt.Sprintf(`find %q -printf '%%p %%s %%m %%U %%G %%T@ %%C@ %%i %%n\n' >/dev/null`, dir+"/tree"), nil)},
	} {
		if err := a.measure(s); err != nil {
			return err
		}
	}
	var walls []float64
	used, err := b.median(func() (time.Duration, error) {
		u, err := b.unpacking(b.shale, b.layout)()
		walls = append(walls, u.wall.Seconds())
		return u.cpu, err
	})
	if err != nil {
		return err
	}
	wall := median(walls)
	cpus := float64(runtime.NumCPU())
	b.printf("| sum | %.2f | %.2f | |\n", a.sum.Seconds(), a.floor.Seconds())
	b.printf("\nThe whole of `shale unpack`: %.2f s of CPU in %.2f s, so that %.2f of %g CPUs were at work.\n",
		used.Seconds(), wall, used.Seconds()/wall, cpus)
	b.printf("The floors together would keep %g CPUs busy for %.2f s.\n%s", cpus, a.floor.Seconds()/cpus, tried)
	return removeAll(dir)
}

// tried is what did not make an unpack faster, so that nobody tries it again unawares.
// The figures are of a Xeon with AVX-512, and of the image above.
const tried = `
Tried, and not kept, since it made no difference beyond that between two runs:

- two literals for each look-up in inflate: 2.01 s, in place of 2.00 s. The loop itself
  gains 8 %, and making the tables loses it again. Half of its time goes to branches
  between literals and matches that nothing can predict.
- look-ups of 10 or 12 bits in place of 11: 1.95 and 2.50 s, in place of 1.92 and 2.31 s.
- other orders of instructions in the loop of two sums of SHA-256, and its constants by
  way of memory: 950 to 977 MB/s in all of them. The instruction for two rounds bounds it.
- pieces of 128 KiB, 512 KiB or 1 MiB between stages, in place of 256 KiB: 6.2, 6.0 and
  6.1 s of CPU, in place of 6.1 s.
- decoding to where the next stage reads, without the copy of all contents that took
  1.6 % of the samples: 6.7 s of CPU both times (it is kept, since small layers gain from
  buffers that are used again).
- igzip in place of our own decoder: 2.13 s of CPU for what takes 1.96 s, and a pipe.

Making a file takes openat, write, fchmod, utimensat and close, and fchown if its owner
is another than the process's.
`

// stage is one stage of an unpack.
type stage struct {
	name  string
	run   func() (time.Duration, error)
	what  string
	floor func() (time.Duration, error)
}

type account struct {
	*bench
	dir        string
	plain      []string // the layers, uncompressed
	sum, floor time.Duration
}

// median runs fn as often as everything is run, and returns the median.
func (b *bench) median(fn func() (time.Duration, error)) (time.Duration, error) {
	var all []float64
	for range b.n {
		d, err := fn()
		if err != nil {
			return 0, err
		}
		all = append(all, d.Seconds())
	}
	return time.Duration(median(all) * float64(time.Second)), nil
}

func (a *account) measure(s stage) error {
	used, err := a.median(s.run)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	a.sum += used
	if s.floor == nil {
		a.printf("| %s | %.2f | | |\n", s.name, used.Seconds())
		return nil
	}
	floor, err := a.median(s.floor)
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

// extract has GNU tar make the files of all layers.
func (a *account) extract() (time.Duration, error) {
	dir := filepath.Join(a.dir, "tree")
	if err := errors.Join(removeAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return 0, err
	}
	return a.program(fmt.Sprintf(`for f; do tar --extract -C %q -f "$f"; done`, dir), a.plain)()
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

// less returns what with takes longer than without.
func less(with, without func() (time.Duration, error)) (time.Duration, error) {
	w, err := with()
	if err != nil {
		return 0, err
	}
	wo, err := without()
	return max(w-wo, 0), err
}

func (a *account) inflate() (time.Duration, error) {
	return cpu(func() error {
		return each(a.layers, func(f *os.File) error {
			r, err := layer.NewReader(f, layer.Gzip, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		})
	})
}

func (a *account) hashBlobs() (time.Duration, error)  { return hashing(a.layers, 1) }
func (a *account) hashLayers() (time.Duration, error) { return hashing(a.plain, 1) }

func (a *account) hashFiles() (time.Duration, error) {
	return less(func() (time.Duration, error) { return hashing(a.plain, 2) }, a.hashLayers)
}

// hashing adds all files to one sum, or to two at once.
func hashing(files []string, sums int) (time.Duration, error) {
	buf := make([]byte, 256<<10)
	one, two := sha256.New(), sha256.New()
	var both sha256pair.Writer
	return cpu(func() error {
		return each(files, func(f *os.File) error {
			for {
				n, err := f.Read(buf)
				if sums == 2 {
					both.Write(one, two, buf[:n])
				} else {
					one.Write(buf[:n]) // never fails
				}
				if errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		})
	})
}

func (a *account) headers() (time.Duration, error) {
	return cpu(func() error {
		return each(a.plain, func(f *os.File) error {
			for r := tarstream.NewReader(bufio.NewReaderSize(f, 256<<10)); ; {
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		})
	})
}

func (a *account) merge() (time.Duration, error) { return less(a.applied(layer.Discard), a.headers) }

// applied returns what applies all layers to a tree.
func (a *account) applied(sink layer.Sink) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		return cpu(func() error { return a.apply(layer.NewTree(), sink) })
	}
}

func (a *account) apply(tree *layer.Tree, sink layer.Sink) error {
	return each(a.plain, func(f *os.File) error {
		return tree.Apply(a.ctx, bufio.NewReaderSize(f, 256<<10), sink, layer.ApplyOptions{})
	})
}

// write makes the files. A sink that only hashes them has the same work otherwise.
func (a *account) write() (time.Duration, error) {
	return less(a.unpacked, a.applied(layer.NewDigests()))
}

func (a *account) unpacked() (time.Duration, error) {
	root := filepath.Join(a.dir, "rootfs")
	if err := errors.Join(removeAll(root), os.Mkdir(root, 0o755)); err != nil {
		return 0, err
	}
	dir, err := rooted.Open(root)
	if err != nil {
		return 0, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	return cpu(func() error {
		disk, err := layer.NewDisk(dir, layer.DiskOptions{})
		if err != nil {
			return err
		}
		tree := layer.NewTree()
		if err := a.apply(tree, disk); err != nil {
			disk.Abort()
			return err
		}
		return disk.Finish(a.ctx, tree)
	})
}

func (a *account) list() (time.Duration, error) {
	dir, err := rooted.Open(filepath.Join(a.dir, "rootfs"))
	if err != nil {
		return 0, err
	}
	defer dir.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	return cpu(func() error {
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
}
