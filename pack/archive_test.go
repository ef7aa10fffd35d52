// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

// tarOf gives an archive, and counts how often it is opened and closed.
func tarOf(data []byte, open *int) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		*open++
		return &closer{bytes.NewReader(data), open}, nil
	}
}

type closer struct {
	io.Reader
	open *int
}

func (c *closer) Close() error {
	*c.open = -1
	return nil
}

func compress(t testing.TB, data []byte, c layer.Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := layer.NewWriter(&b, c, 0)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// TestTarStaysAsItIs packs archives in all compressions, on top of a directory: their bytes
// are those of the layer, blanks at the end included.
func TestTarStaysAsItIs(t *testing.T) {
	root := tempRoot(t)
	dirs := snapshotDirs(t, rand.New(rand.NewPCG(1, 8)), root, 1, 20)
	must(t, os.WriteFile(filepath.Join(dirs[0], "kept"), []byte("kept"), 0o644))
	data := ocitest.Layer(
		ocitest.File("new", "content", 0o644),
		ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "linked", Linkname: "kept"}},
		ocitest.File(".wh.gone", "", 0o644),
	)
	data = append(data, make([]byte, 10240)...)
	for _, c := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
		l := newLayout(t)
		open := 0
		res := image(t, l, []pack.Snapshot{
			{Name: "dir", Dir: dirs[0]}, {Name: "tar", Parent: "dir", Tar: tarOf(compress(t, data, c), &open)},
		}, pack.Options{Map: mapping(), Clamp: new(int64)})
		if layers := plainLayers(t, l, res.Descriptor); !bytes.Equal(layers[1], data) {
			t.Errorf("%s: %d bytes have become others", c, len(data))
		}
		if open != -1 {
			t.Errorf("%s: the archive is not closed", c)
		}
		// A directory may come on top of it.
		must(t, os.MkdirAll(filepath.Join(root, "next"), 0o755))
		next := image(t, l, []pack.Snapshot{
			{Name: "tar", Tar: tarOf(ocitest.Layer(ocitest.File("f", "1", 0o644)), &open)},
			{Name: "next", Parent: "tar", Dir: filepath.Join(root, "next")},
		}, pack.Options{Map: mapping()})
		if names := entriesOf(t, l, next); strings.Join(names, " ") != "./ .wh.f" {
			t.Errorf("the layer on top has %q", names)
		}
	}
}

// tooMuch stands for any error about a limit.
type tooMuch struct{}

func (tooMuch) Error() string { return "a limit" }

// TestTarRefuses packs what is no archive, or no layer.
func TestTarRefuses(t *testing.T) {
	good := ocitest.Layer(ocitest.File("f", strings.Repeat("content", 1000), 0o644))
	for name, tt := range map[string]struct {
		data []byte
		opt  pack.Options
		want error
	}{
		"nothing":          {nil, pack.Options{}, pack.ErrNoTar},
		"text":             {[]byte("this is no archive\n"), pack.Options{}, pack.ErrNoTar},
		"xz":               {[]byte("\xfd7zXZ\x00 and so on"), pack.Options{}, pack.ErrNoTar},
		"cut":              {good[:1500], pack.Options{}, io.ErrUnexpectedEOF},
		"cut gzip":         {compress(t, good, layer.Gzip)[:100], pack.Options{}, io.ErrUnexpectedEOF},
		"link to nothing":  {ocitest.Layer(ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "none"}}), pack.Options{}, layer.ErrNoTarget},
		"whiteout of none": {ocitest.Layer(ocitest.File(".wh.", "", 0o644)), pack.Options{}, layer.ErrWhiteoutName},
		"an owner":         {good, pack.Options{Owner: &layer.Owner{}}, pack.ErrAsItIs},
		"masks":            {good, pack.Options{Masks: []string{"x"}}, pack.ErrAsItIs},
		"too many bytes":   {good, pack.Options{Limits: layer.Limits{Bytes: 1000}}, tooMuch{}},
		"too many entries": {append(ocitest.Layer(ocitest.File("g", "", 0o644))[:512], good...), pack.Options{Limits: layer.Limits{Entries: 1}}, tooMuch{}},
		"a level":          {good, pack.Options{Compression: layer.Gzip, Level: 99}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			open := 0
			tt.opt.Refs = []string{"v1"}
			_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Name: "mine", Tar: tarOf(tt.data, &open)}}, tt.opt)
			var over *layer.LimitError
			if errors.Is(tt.want, tooMuch{}) {
				if !errors.As(err, &over) {
					t.Errorf("got %v, want an error about a limit", err)
				}
			} else if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if open > 0 {
				t.Error("the archive is not closed")
			}
			assertUntouched(t, l)
		})
	}
}

// TestTarCancelled cancels while the archive, a pipe, gives nothing.
func TestTarCancelled(t *testing.T) {
	l := newLayout(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = pack.Image(ctx, l, []pack.Snapshot{{Tar: func(context.Context) (io.ReadCloser, error) { return r, nil }}},
		pack.Options{Refs: []string{"v1"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	assertUntouched(t, l)
}

// TestRefuses packs trees that no layer can hold.
func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(dir string) error
		want error
	}{
		"a name like a whiteout": {func(dir string) error { return os.WriteFile(dir+"/tree/.wh.x", nil, 0o644) }, layer.ErrWhiteoutName},
		"a link to the tree": {func(dir string) error {
			return errors.Join(os.Rename(dir+"/tree", dir+"/real"), os.Symlink("real", dir+"/tree"))
		}, nil},
		"a file": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/tree"), os.WriteFile(dir+"/tree", nil, 0o644))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(dir+"/tree", 0o755))
			must(t, tt.make(dir))
			l := newLayout(t)
			_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Name: "mine", Dir: dir + "/tree"}}, pack.Options{Refs: []string{"v1"}})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			assertUntouched(t, l)
		})
	}
}

// TestLayoutInside packs the directory that the layout is in.
func TestLayoutInside(t *testing.T) {
	l := newLayout(t)
	parent := filepath.Dir(l.Path())
	opt := pack.Options{Map: mapping(), Refs: []string{"v1"}}
	_, err := pack.Image(t.Context(), l, []pack.Snapshot{{Dir: parent}}, opt)
	if !errors.Is(err, pack.ErrInside) || !strings.Contains(err.Error(), "entry layout") {
		t.Errorf("got %v", err)
	}
	assertUntouched(t, l)
	opt.Masks = []string{"layout"}
	res := image(t, l, []pack.Snapshot{{Dir: parent}}, opt)
	if names := entriesOf(t, l, res); strings.Join(names, " ") != "./" {
		t.Errorf("the layer has %q", names)
	}
}

// TestSpecialXattrs changes nothing but an attribute of a link, and of a device.
func TestSpecialXattrs(t *testing.T) {
	root := tempRoot(t)
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	must(t, os.Mkdir(a, 0o755))
	must(t, os.Symlink("x", a+"/link"))
	must(t, os.Symlink("x", a+"/same"))
	must(t, unix.Mkfifo(a+"/fifo", 0o600))
	if err := unix.Lsetxattr(a+"/same", "trusted.x", []byte("0"), 0); err != nil {
		t.Skipf("this user can give no xattrs to links: %v", err)
	}
	copyTree(t, a, b)
	must(t, unix.Lsetxattr(b+"/link", "trusted.x", []byte("1"), 0))
	must(t, unix.Lsetxattr(b+"/fifo", "trusted.x", []byte("1"), 0))
	l := newLayout(t)
	res := image(t, l, []pack.Snapshot{{Name: "a", Dir: a}, {Name: "b", Parent: "a", Dir: b}}, pack.Options{})
	if names := entriesOf(t, l, res); strings.Join(names, " ") != "fifo link" {
		t.Errorf("the layer has %q", names)
	}
	layers := plainLayers(t, l, res.Descriptor)
	assertSame(t, "b", ocitest.Snapshot(t, b), unpacked(t, layers))
}

// TestSocket puts a socket in the place of a file: the layer deletes the file.
func TestSocket(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	must(t, os.Mkdir(a, 0o755))
	must(t, os.WriteFile(a+"/s", nil, 0o644))
	must(t, os.Mkdir(b, 0o755))
	must(t, mksock(b+"/s"))
	must(t, mksock(b+"/other"))
	l := newLayout(t)
	warned := 0
	res := image(t, l, []pack.Snapshot{{Name: "a", Dir: a}, {Name: "b", Parent: "a", Dir: b}}, pack.Options{
		Map: mapping(), Masks: []string{"."}, Warn: func(string) { warned++ },
	})
	if names := entriesOf(t, l, res); names[len(names)-1] != ".wh.s" || warned != 2 {
		t.Errorf("the layer has %q, and there are %d warnings", names, warned)
	}
	res = image(t, l, []pack.Snapshot{{Name: "b", Dir: b}, {Name: "a", Parent: "b", Dir: a}}, pack.Options{Map: mapping()})
	if names := entriesOf(t, l, res); names[len(names)-1] != "s" {
		t.Errorf("the layer has %q", names)
	}
	var open int
	base := image(t, l, []pack.Snapshot{{Name: "t", Tar: tarOf(ocitest.Layer(ocitest.File("s", "", 0o644)), &open)}}, pack.Options{})
	res = image(t, l, []pack.Snapshot{{Name: "u", Upper: b}}, pack.Options{Map: mapping(), Base: layout.Path{base.Descriptor}})
	if names := entriesOf(t, l, res); strings.Join(names, " ") != "./ .wh.other .wh.s" {
		t.Errorf("the layer of an upper has %q", names)
	}
}
