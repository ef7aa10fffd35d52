// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/test/ocitest"
)

// benchLayer is a layer of 2,000 files, most of them small, of text.
func benchLayer() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var entries []ocitest.Entry
	for i := range 2000 {
		if i%50 == 0 {
			entries = append(entries, ocitest.Dir(fmt.Sprintf("directory-%d", i/50), 0o755))
		}
		var body bytes.Buffer
		for size := rng.ExpFloat64() * 20_000; float64(body.Len()) < size; {
			fmt.Fprintf(&body, "%x ", rng.Uint32()&rng.Uint32())
		}
		entries = append(entries, ocitest.File(fmt.Sprintf("directory-%d/file-%d", i/50, i), body.String(), 0o644))
	}
	return ocitest.Layer(entries...)
}

func BenchmarkApply(b *testing.B) {
	data := benchLayer()
	for name, sink := range map[string]Sink{"discard": Discard, "digests": NewDigests()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				must(b, NewTree().Apply(b.Context(), bytes.NewReader(data), sink, ApplyOptions{}))
			}
		})
	}
}

func BenchmarkApplyToDisk(b *testing.B) {
	data := benchLayer()
	top := tempBench(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint(i)
		must(b, top.Mkdir(name, 0o755))
		applyToDisk(b, top, name, data)
		b.StopTimer()
		must(b, top.RemoveAll(name))
		b.StartTimer()
	}
}

func applyToDisk(b *testing.B, top *rooted.Dir, name string, data []byte) {
	dir, err := top.OpenDir(name)
	must(b, err)
	defer dir.Close()
	disk, err := NewDisk(dir, DiskOptions{Map: rootlessUnlessRoot()})
	must(b, err)
	tree := NewTree()
	must(b, tree.Apply(b.Context(), bytes.NewReader(data), disk, ApplyOptions{}))
	must(b, disk.Finish(b.Context(), tree))
}

func tempBench(b *testing.B) *rooted.Dir {
	dir, err := rooted.Open(b.TempDir())
	must(b, err)
	b.Cleanup(func() { _ = dir.Close() })
	return dir
}

func BenchmarkGenerate(b *testing.B) {
	data := benchLayer()
	top := tempBench(b)
	must(b, top.Mkdir("tree", 0o755))
	applyToDisk(b, top, "tree", data)
	dir, err := top.OpenDir("tree")
	must(b, err)
	defer dir.Close()
	changes := everything(b, dir, ".", nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		must(b, Generate(b.Context(), io.Discard, dir, changes, GenerateOptions{Map: rootlessUnlessRoot()}))
	}
}

// everything is the change that makes all there is.
func everything(b *testing.B, dir *rooted.Dir, path string, list []Change) []Change {
	names, err := dir.Names()
	must(b, err)
	for _, e := range names {
		st, err := dir.Lstat(e.Name)
		must(b, err)
		below := filepath.Join(path, e.Name)
		list = append(list, Change{Path: below, Stat: st})
		if st.Type() != unix.S_IFDIR {
			continue
		}
		sub, err := dir.OpenDir(e.Name)
		must(b, err)
		list = everything(b, sub, below, list)
		_ = sub.Close()
	}
	return list
}

// BenchmarkStream reads a layer as unpacking does: decompressed and hashed.
func BenchmarkStream(b *testing.B) {
	data := benchLayer()
	for _, c := range []Compression{None, Gzip, Zstd} {
		b.Run(string(c), func(b *testing.B) {
			blob := compressed(b, c, data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := NewStream(b.Context(), bytes.NewReader(blob), StreamOptions{Compression: c, DiffID: digest.FromBytes(data)})
				must(b, err)
				must(b, s.Finish())
				s.Close()
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sha256.Sum256(data)
	}
}
