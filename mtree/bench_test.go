// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/shale-oci/shale/internal/rooted"
)

// benchTree is a tree of about 50,000 entries: 45,000 files of 4 KiB in 4,500
// directories and 500 symlinks, made once for all benchmarks.
var benchTree struct {
	once  sync.Once
	path  string
	tree  *Tree
	stamp Stamp
	text  []byte
	sum   [sha256.Size]byte
	cache []byte
}

func TestMain(m *testing.M) {
	code := m.Run()
	if benchTree.path != "" {
		_ = os.RemoveAll(benchTree.path)
	}
	os.Exit(code)
}

func setUpBench(b *testing.B) {
	benchTree.once.Do(func() {
		// Disks would be measured otherwise.
		base := "/dev/shm"
		if _, err := os.Stat(base); err != nil {
			base = ""
		}
		var err error
		benchTree.path, err = os.MkdirTemp(base, "mtree-bench-")
		must(b, err)
		content := make([]byte, 4096)
		for i := range 4500 {
			dir := filepath.Join(benchTree.path, "rootfs", fmt.Sprintf("package-%02d", i%50), fmt.Sprintf("module-%d", i))
			must(b, os.MkdirAll(dir, 0o755))
			for j := range 10 {
				content[0], content[1], content[2] = byte(i), byte(i>>8), byte(j)
				must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d.js", j*i)), content, 0o644))
			}
			if i%9 == 0 {
				must(b, os.Symlink("../file", filepath.Join(dir, "link")))
			}
		}
		settle()
		dir, err := rooted.Open(benchTree.path)
		must(b, err)
		defer dir.Close()
		benchTree.stamp, err = TakeStamp(dir)
		must(b, err)
		benchTree.tree = benchWalk(b, WalkOptions{})
		var text, cache bytes.Buffer
		benchTree.sum, err = benchTree.tree.WriteManifest(&text, Header{})
		must(b, err)
		must(b, benchTree.tree.WriteCache(&cache, benchTree.sum, benchTree.stamp))
		benchTree.text, benchTree.cache = text.Bytes(), cache.Bytes()
		must(b, os.WriteFile(filepath.Join(benchTree.path, "m.mtree"), text.Bytes(), 0o644),
			os.WriteFile(filepath.Join(benchTree.path, CacheName("m.mtree")), cache.Bytes(), 0o644))
	})
	b.ReportAllocs()
	b.ResetTimer()
}

func benchWalk(b *testing.B, opt WalkOptions) *Tree {
	dir, err := rooted.Open(filepath.Join(benchTree.path, "rootfs"))
	must(b, err)
	defer dir.Close()
	tree, err := Walk(context.Background(), dir, opt)
	must(b, err)
	return tree
}

func reportEntries(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(benchTree.tree.Len()), "ns/entry")
}

// BenchmarkWalkHashing reads every file, as for a bundle without a stat cache.
func BenchmarkWalkHashing(b *testing.B) {
	setUpBench(b)
	b.SetBytes(45_000 * 4096)
	for b.Loop() {
		benchWalk(b, WalkOptions{})
	}
	reportEntries(b)
}

// BenchmarkWalkKnown is the walk at the end of unpack.
func BenchmarkWalkKnown(b *testing.B) {
	setUpBench(b)
	for b.Loop() {
		benchWalk(b, WalkOptions{Digest: func(string, rooted.Stat) (d [sha256.Size]byte, ok bool) { return d, true }})
	}
	reportEntries(b)
}

// BenchmarkWalkCached is the walk of repack with a stat cache.
func BenchmarkWalkCached(b *testing.B) {
	setUpBench(b)
	tree, err := decodeCache(benchTree.cache)
	must(b, err)
	opt := WalkOptions{Cache: &Cache{tree: tree, stamp: benchTree.stamp}}
	for b.Loop() {
		benchWalk(b, opt)
	}
	reportEntries(b)
}

// BenchmarkChanges is all that repack does to find out what has changed.
func BenchmarkChanges(b *testing.B) {
	setUpBench(b)
	dir, err := rooted.Open(benchTree.path)
	must(b, err)
	defer dir.Close()
	for b.Loop() {
		base, err := LoadBaseline(context.Background(), dir, "m.mtree")
		must(b, err)
		if base.Cache == nil {
			b.Fatal(base.NoCache)
		}
		if d := Compare(base.Tree, benchWalk(b, WalkOptions{Cache: base.Cache})); len(d) > 0 {
			b.Fatal(summary(d))
		}
	}
	reportEntries(b)
}

func BenchmarkCompare(b *testing.B) {
	setUpBench(b)
	old, err := Parse(bytes.NewReader(benchTree.text))
	must(b, err)
	for b.Loop() {
		Compare(old, benchTree.tree)
	}
	reportEntries(b)
}

func BenchmarkParse(b *testing.B) {
	setUpBench(b)
	b.SetBytes(int64(len(benchTree.text)))
	for b.Loop() {
		_, err := Parse(bytes.NewReader(benchTree.text))
		must(b, err)
	}
	reportEntries(b)
}

func BenchmarkWriteManifest(b *testing.B) {
	setUpBench(b)
	b.SetBytes(int64(len(benchTree.text)))
	for b.Loop() {
		_, err := benchTree.tree.WriteManifest(io.Discard, Header{})
		must(b, err)
	}
	reportEntries(b)
}

func BenchmarkLoadCache(b *testing.B) {
	setUpBench(b)
	b.SetBytes(int64(len(benchTree.cache)))
	for b.Loop() {
		_, err := decodeCache(benchTree.cache)
		must(b, err)
	}
	reportEntries(b)
}

func BenchmarkWriteCache(b *testing.B) {
	setUpBench(b)
	b.SetBytes(int64(len(benchTree.cache)))
	for b.Loop() {
		must(b, benchTree.tree.WriteCache(io.Discard, benchTree.sum, benchTree.stamp))
	}
	reportEntries(b)
}
