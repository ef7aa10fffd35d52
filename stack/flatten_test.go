// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
	"github.com/shale-oci/shale/test/ocitest"
)

// entries lists the headers of an archive.
func entries(t testing.TB, archive []byte) []*tar.Header {
	t.Helper()
	var list []*tar.Header
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		must(t, err)
		list = append(list, hdr)
	}
}

func clean(hdr *tar.Header) string { return path.Clean(hdr.Name) }

// TestFlattenSorted: a sorted archive holds the same, and what is in a directory comes
// right after it.
func TestFlattenSorted(t *testing.T) {
	for seed := range uint64(30) {
		made := ocitest.RandomStack(rand.New(rand.NewPCG(seed, 7)), 3, ocitest.StackOptions{})
		layers := made.Layers()
		s := image(t, layers...)
		temp := t.TempDir()
		var flat, again bytes.Buffer
		opt := stack.FlattenOptions{Sorted: true, TempDir: temp}
		must(t, s.Flatten(t.Context(), &flat, s.All(), opt))
		must(t, s.Flatten(t.Context(), &again, s.All(), opt))
		if !bytes.Equal(flat.Bytes(), again.Bytes()) {
			t.Fatalf("seed %d: other bytes the second time", seed)
		}
		if want, got := facts(apply(t, layers...)), facts(apply(t, flat.Bytes())); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %s\n%s", seed, difference(want, got), made)
		}
		var names []string
		for _, hdr := range entries(t, flat.Bytes()) {
			// With slashes lowest, the order of paths is that of a walk.
			names = append(names, strings.ReplaceAll(clean(hdr), "/", "\x00"))
		}
		if names[0] == "." {
			names = names[1:]
		}
		if !slices.IsSorted(names) {
			t.Fatalf("seed %d: not sorted: %q", seed, names)
		}
		// A layer for the top of others can be sorted, too.
		flat.Reset()
		must(t, s.Flatten(t.Context(), &flat, stack.Range{From: 1, To: 3}, opt))
		if want, got := facts(apply(t, layers...)), facts(apply(t, layers[0], flat.Bytes())); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d, upper layers: %s\n%s", seed, difference(want, got), made)
		}
		left, err := os.ReadDir(temp)
		must(t, err)
		if len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	}
	// The second layer has to wait for the first.
	s := image(t,
		ocitest.Layer(ocitest.File("a", "1", 0o644), ocitest.File("c", "3", 0o644)),
		ocitest.Layer(ocitest.File("b", "2", 0o644)))
	err := s.Flatten(t.Context(), io.Discard, s.All(), stack.FlattenOptions{Sorted: true, TempDir: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a place for the spool: %v", err)
	}
}

// TestFlattenSortedSparse: zeros cost no room in the spool, and are there again.
func TestFlattenSortedSparse(t *testing.T) {
	const size = 64 << 20
	body := make([]byte, size)
	copy(body[size/2:], "in the middle")
	s := image(t, ocitest.Layer(ocitest.File("first", "1", 0o644)), ocitest.Layer(ocitest.File("holes", string(body), 0o644)))
	temp := t.TempDir()
	var flat bytes.Buffer
	looked := false
	w := writerFunc(func(p []byte) (int, error) {
		if blocks, ok := spoolBlocks(t, temp); ok && flat.Len() > size/2 {
			looked = true
			if used := blocks * 512; used > 1<<20 {
				t.Errorf("the spool takes %d bytes", used)
			}
		}
		return flat.Write(p)
	})
	must(t, s.Flatten(t.Context(), w, s.All(), stack.FlattenOptions{Sorted: true, TempDir: temp}))
	if !looked {
		t.Error("there was no spool")
	}
	if want, got := facts(apply(t, flat.Bytes())), facts(apply(t, ocitest.Layer(
		ocitest.File("first", "1", 0o644), ocitest.File("holes", string(body), 0o644)))); !reflect.DeepEqual(got, want) {
		t.Error(difference(want, got))
	}
}

// spoolBlocks returns how many blocks the temporary file of this process takes that has
// no name any more and was in dir.
func spoolBlocks(t *testing.T, dir string) (blocks int64, ok bool) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		name := filepath.Join("/proc/self/fd", fd.Name())
		if to, err := os.Readlink(name); err != nil || !strings.HasPrefix(to, dir+"/") {
			continue
		}
		var st unix.Stat_t
		must(t, unix.Stat(name, &st))
		return st.Blocks, true
	}
	return 0, false
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestFlattenStandsAlone: a layer for the top of others has the directories above what
// is new, and all names of a file that got one more, for tools that unpack it into a
// directory of its own. It has nothing else of what is below.
func TestFlattenStandsAlone(t *testing.T) {
	base := ocitest.Layer(
		ocitest.Dir("d", 0o711).Owner(1, 2), ocitest.Dir("d/e", 0o1777), ocitest.File("d/e/gone", "x", 0o644),
		ocitest.Dir("other", 0o700), ocitest.File("other/linked", "linked", 0o4711), ocitest.File("other/alone", "x", 0o644),
		ocitest.Dir("untouched", 0o755), ocitest.File("untouched/x", "x", 0o644), ocitest.Hardlink("untouched/y", "untouched/x"),
	)
	s := image(t, base,
		ocitest.Layer(ocitest.File("d/new", "new", 0o644)),
		ocitest.Layer(ocitest.Whiteout("d/e/gone"), ocitest.Hardlink("link", "other/linked")),
	)
	var flat bytes.Buffer
	must(t, s.Flatten(t.Context(), &flat, stack.Range{From: 1, To: 3}, stack.FlattenOptions{}))
	var got []string
	for _, hdr := range entries(t, flat.Bytes()) {
		got = append(got, strings.TrimSuffix(hdr.Name+" "+hdr.Linkname, " "))
	}
	if want := []string{"d/e/.wh.gone", "d/", "d/e/", "other/", "link", "other/linked link", "d/new"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want, got := facts(apply(t, base, flat.Bytes()))["d/e"], facts(apply(t, flat.Bytes()))["d/e"]; !reflect.DeepEqual(got, want) {
		t.Errorf("the directory is %+v, and alone %+v", want, got)
	}
}

// TestFlattenRoot: an entry for the root is only there if a layer has one.
func TestFlattenRoot(t *testing.T) {
	for _, root := range [][]ocitest.Entry{nil, {ocitest.Dir(".", 0o700)}} {
		s := image(t, ocitest.Layer(append(root, ocitest.File("x", "x", 0o644))...))
		for _, sorted := range []bool{false, true} {
			var flat bytes.Buffer
			must(t, s.Flatten(t.Context(), &flat, s.All(), stack.FlattenOptions{Sorted: sorted}))
			if got := len(entries(t, flat.Bytes())); got != 1+len(root) {
				t.Errorf("%d entries, with %d for the root", got, len(root))
			}
		}
	}
}

// TestFlattenHeader: an entry whose header would be too long for readers, other than in
// the layer that it is from, is refused.
func TestFlattenHeader(t *testing.T) {
	deep := strings.Repeat(strings.Repeat("d", 250)+"/", 16)
	var dirs []ocitest.Entry
	for n := range 16 {
		dirs = append(dirs, ocitest.Dir(deep[:251*(n+1)-1], 0o755))
	}
	file := ocitest.File("link/file", "x", 0o644)
	for n := range 16 {
		size := 64 << 10
		if n == 15 {
			size -= 4000
		}
		file = file.Xattr("user."+string(rune('a'+n)), strings.Repeat("v", size))
	}
	s := image(t, ocitest.Layer(append(dirs, ocitest.Symlink("link", deep), file)...))
	var flat bytes.Buffer
	err := s.Flatten(t.Context(), &flat, s.All(), stack.FlattenOptions{})
	var entry *layer.EntryError
	if !errors.As(err, &entry) || !strings.Contains(err.Error(), "extended header") {
		t.Errorf("got %v", err)
	}
}
