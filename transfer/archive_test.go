// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// archiveLayout is a layout with two images that share a layer, an image of zstd, and an
// index with one of them in it.
func archiveLayout(t testing.TB) (l *layout.Layout, one, two, index ispec.Descriptor) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "from")
	base := ocitest.Layer(ocitest.Dir("etc", 0o755), ocitest.File("etc/base", strings.Repeat("base ", 5000), 0o644))
	image := ocitest.Image{Layers: [][]byte{base, ocitest.Layer(ocitest.File("one", "1", 0o644))}}
	one = image.Write(t, dir, "one")
	other := ocitest.Image{
		Layers:      [][]byte{base, ocitest.Layer(ocitest.File("two", "2", 0o644)), ocitest.Layer(ocitest.File("three", "3", 0o644))},
		Compression: "zstd",
	}
	two = other.Write(t, dir, "two")
	other.Platform = ispec.Platform{OS: "linux", Architecture: "arm64"}
	index = ocitest.Index{Nodes: []ocitest.Node{image, other}}.Write(t, dir, "index")
	l, err := layout.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, one, two, index
}

func emptyLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Create(t.Context(), filepath.Join(t.TempDir(), "to"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// fill copies all that root leads to, which src has, to dst, and sets its ref.
func fill(t testing.TB, read func(context.Context, ispec.Descriptor) ([]byte, error), src func(ispec.Descriptor) Opener, dst Destination, root ispec.Descriptor) error {
	t.Helper()
	var all []ispec.Descriptor
	g := graph{
		read: read, whole: true, visit: func(d ispec.Descriptor) { all = append(all, d) },
		has: func(context.Context, ispec.Descriptor) (bool, error) { return true, nil },
	}
	if err := g.walk(t.Context(), root, 1); err != nil {
		return err
	}
	slices.Reverse(all)
	for _, d := range all {
		if layout.IsIndex(d.MediaType) || layout.IsManifest(d.MediaType) {
			data, err := read(t.Context(), d)
			if err == nil {
				err = dst.PutManifest(t.Context(), d, data)
			}
			if err != nil {
				return err
			}
			continue
		}
		if ok, err := dst.Has(t.Context(), d); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		if err := dst.PutBlob(t.Context(), d, src(d)); err != nil {
			return err
		}
	}
	return dst.SetRef(t.Context(), root)
}

// fromLayout fills a destination out of a layout.
func fromLayout(t testing.TB, l *layout.Layout, dst Destination, root ispec.Descriptor) error {
	t.Helper()
	return fill(t, l.ReadBlob, func(d ispec.Descriptor) Opener {
		return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			r, err := l.OpenBlob(ctx, d)
			if err == nil {
				_, err = io.CopyN(io.Discard, r, offset)
			}
			return r, err
		}
	}, dst, root)
}

// intoLayout puts what a source resolves to into an empty layout as "x", and returns
// the layout and the digest.
func intoLayout(t testing.TB, src Source) (*layout.Layout, ispec.Descriptor, error) {
	t.Helper()
	l := emptyLayout(t)
	root, err := src.Resolve(t.Context())
	if err != nil {
		return l, root, err
	}
	read := func(ctx context.Context, d ispec.Descriptor) ([]byte, error) {
		r, err := src.Open(ctx, d, 0)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	var all []ispec.Descriptor
	g := graph{
		read: read, visit: func(d ispec.Descriptor) { all = append(all, d) },
		has: func(context.Context, ispec.Descriptor) (bool, error) { return true, nil },
	}
	if err := g.walk(t.Context(), root, 1); err != nil {
		return l, root, err
	}
	for _, d := range all {
		// The end is read first, and then all of it.
		r, err := src.Open(t.Context(), d, d.Size-1)
		if err != nil {
			return l, root, err
		}
		if tail, err := io.ReadAll(r); err == nil && len(tail) != 1 {
			t.Errorf("the last byte of %s: %q", d.Digest, tail)
		}
		must(t, r.Close())
		if r, err = src.Open(t.Context(), d, 0); err != nil {
			return l, root, err
		}
		if err := l.PutVerified(t.Context(), d, r); err != nil {
			return l, root, err
		}
		must(t, r.Close())
	}
	return l, root, l.SetRef(t.Context(), "x", root)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, s string) Location {
	t.Helper()
	loc, err := ParseLocation(s)
	must(t, err)
	return loc
}

// writeArchive writes one image to an archive.
func writeArchive(t testing.TB, l *layout.Layout, to string, root ispec.Descriptor) error {
	t.Helper()
	loc := parse(t, to)
	p := places{opt: &Options{}}
	dst, err := p.destination(t.Context(), loc, nil)
	if err != nil {
		return err
	}
	err = fromLayout(t, l, dst, root)
	if err == nil {
		err = p.finish(t.Context())
	}
	must(t, p.discard())
	return err
}

func openArchive(t testing.TB, from string) (Source, error) {
	t.Helper()
	loc := parse(t, from)
	var src Source
	var err error
	if loc.Scheme == SchemeOCIArchive {
		src, err = openOCIArchive(t.Context(), loc, &Options{})
	} else {
		src, err = openDockerArchive(t.Context(), loc, &Options{})
	}
	if err == nil {
		t.Cleanup(func() { src.Close() })
	}
	return src, err
}

// readArchive reads one image from an archive.
func readArchive(t testing.TB, from string) (*layout.Layout, ispec.Descriptor, error) {
	t.Helper()
	src, err := openArchive(t, from)
	if err != nil {
		return nil, ispec.Descriptor{}, err
	}
	return intoLayout(t, src)
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func TestOCIArchiveKeepsDigests(t *testing.T) {
	l, one, two, index := archiveLayout(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	roots := map[string]ispec.Descriptor{"one": one, "two": two, "index": index}
	for _, tag := range []string{"one", "index", "two"} {
		must(t, writeArchive(t, l, "oci-archive:"+file+":"+tag, roots[tag]))
	}
	for tag, want := range roots {
		to, got, err := readArchive(t, "oci-archive:"+file+":"+tag)
		if err != nil || got.Digest != want.Digest {
			t.Errorf("%s: %v, %v", tag, got.Digest, err)
			continue
		}
		ocitest.AssertWhole(t, to.Path())
		if _, got, err = readArchive(t, "oci-archive:"+file+"@"+want.Digest.String()); err != nil || got.Digest != want.Digest {
			t.Errorf("%s by its digest: %v, %v", tag, got.Digest, err)
		}
	}
	for from, want := range map[string]error{
		file + ":three": layout.ErrNotFound, file: layout.ErrAmbiguous, file + "@" + digest.FromString("x").String(): layout.ErrNotFound,
		filepath.Join(filepath.Dir(file), "y.tar"): fs.ErrNotExist, filepath.Dir(file): layout.ErrInvalid,
	} {
		_, _, err := readArchive(t, "oci-archive:"+from)
		if !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", from, err)
		}
		if errors.Is(want, layout.ErrAmbiguous) && !strings.Contains(err.Error(), "one, index, two") {
			t.Errorf("%s: %v", from, err)
		}
	}
	// Again, and over what is there: the same bytes.
	before := readFile(t, file)
	must(t, writeArchive(t, l, "oci-archive:"+file+":index", index))
	if !bytes.Equal(before, readFile(t, file)) {
		t.Error("writing what is there has changed the archive")
	}
	again := filepath.Join(t.TempDir(), "x.tar")
	for _, tag := range []string{"one", "index", "two"} {
		must(t, writeArchive(t, l, "oci-archive:"+again+":"+tag, roots[tag]))
	}
	if !bytes.Equal(before, readFile(t, again)) {
		t.Error("the same images give another archive")
	}
	var saved bytes.Buffer
	entries := []ispec.Descriptor{}
	for _, tag := range []string{"one", "index", "two"} {
		entries = append(entries, setEntry(nil, tag, roots[tag])...)
	}
	must(t, SaveOCIArchive(t.Context(), &saved, l, entries))
	if !bytes.Equal(before, saved.Bytes()) {
		t.Error("SaveOCIArchive makes another archive")
	}
	// A tag that moves takes with it what nothing else needs.
	must(t, writeArchive(t, l, "oci-archive:"+file+":index", one))
	must(t, writeArchive(t, l, "oci-archive:"+file+":two", one))
	a, err := layout.OpenArchive(t.Context(), file, nil)
	must(t, err)
	defer a.Close()
	for d, want := range map[digest.Digest]bool{one.Digest: true, two.Digest: false, index.Digest: false} {
		if ok, _ := a.HasBlob(t.Context(), map[digest.Digest]ispec.Descriptor{one.Digest: one, two.Digest: two, index.Digest: index}[d]); ok != want {
			t.Errorf("%s is there: %v", d, ok)
		}
	}
}

// tarMember is a member of an archive made by hand.
type tarMember struct {
	name, content string
	link          string // for a symbolic link
}

func tarOf(t testing.TB, members ...tarMember) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.content)), Mode: 0o644}
		if m.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, m.link, 0
		}
		must(t, tw.WriteHeader(h))
		if m.link == "" {
			_, err := io.WriteString(tw, m.content)
			must(t, err)
		}
	}
	must(t, tw.Close())
	return buf.Bytes()
}

func encode(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return string(data)
}

// configOf returns the config of an image with the layers, and its name in an archive.
func configOf(t testing.TB, layers ...[]byte) (data, name string) {
	t.Helper()
	var config ispec.Image
	config.OS, config.Architecture, config.RootFS.Type = "linux", "amd64", "layers"
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
	}
	data = encode(t, config)
	return data, digest.FromString(data).Encoded() + ".json"
}

func compressed(t testing.TB, data []byte, c layer.Compression) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw, err := layer.NewWriter(&buf, c, 0)
	must(t, err)
	_, err = zw.Write(data)
	must(t, err)
	must(t, zw.Close())
	return buf.Bytes()
}

func writeTemp(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, os.WriteFile(file, data, 0o644))
	return file
}

// TestArchivesFromPipes reads what cannot be sought in.
func TestArchivesFromPipes(t *testing.T) {
	l, one, _, _ := archiveLayout(t)
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "x.tar"), filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	t.Setenv("TMPDIR", t.TempDir())
	for _, scheme := range []string{"oci-archive:", "docker-archive:"} {
		must(t, os.RemoveAll(file))
		must(t, writeArchive(t, l, scheme+file+":one:1", one))
		data := readFile(t, file)
		_, want, err := readArchive(t, scheme+file)
		must(t, err)
		for _, c := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
			go func() {
				if f, err := os.OpenFile(fifo, os.O_WRONLY, 0); err == nil {
					_, _ = f.Write(compressed(t, data, c))
					f.Close()
				}
			}()
			to, got, err := readArchive(t, scheme+fifo)
			if err != nil || got.Digest != want.Digest {
				t.Fatalf("%s%s: %v, %v", scheme, c, got.Digest, err)
			}
			ocitest.AssertWhole(t, to.Path())
		}
		// And into one.
		received := make(chan []byte)
		go func() {
			data, _ := os.ReadFile(fifo)
			received <- data
		}()
		must(t, writeArchive(t, l, scheme+fifo+":one:1", one))
		if got := <-received; !bytes.Equal(got, data) {
			t.Errorf("%s: what came through the pipe differs", scheme)
		}
	}
	if info, err := os.Lstat(fifo); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe is %v, %v", info, err)
	}
	if names, _ := os.ReadDir(os.TempDir()); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openOCIArchive(ctx, parse(t, "oci-archive:"+fifo), &Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody writes: %v", err)
	}
	unblock(fifo)
}

// unblock lets a goroutine that waits for a writer go on.
func unblock(fifo string) {
	if fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		_ = unix.Close(fd)
	}
}

// TestArchiveFileAppearsWhole looks at what is there while an archive is written, and
// after it could not be.
func TestArchiveFileAppearsWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.tar")
	broken := errors.New("broken")
	write := func(content string, err error) error {
		return writeArchiveFile(t.Context(), file, func(w io.Writer) error {
			before, _ := os.ReadFile(file)
			if _, werr := io.WriteString(w, content); werr != nil {
				return werr
			}
			if now, _ := os.ReadFile(file); !bytes.Equal(now, before) {
				t.Error("the file changes while it is written")
			}
			return err
		})
	}
	names := func() []string {
		var names []string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if err := write("half", broken); !errors.Is(err, broken) || len(names()) > 0 {
		t.Errorf("%v, %v", err, names())
	}
	must(t, write("one", nil))
	must(t, os.Chmod(file, 0o640))
	if err := write("half", broken); !errors.Is(err, broken) || string(readFile(t, file)) != "one" {
		t.Errorf("%v, %v", err, names())
	}
	must(t, write("two", nil))
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 || string(readFile(t, file)) != "two" || len(names()) != 1 {
		t.Errorf("%v, %v, %v", info, err, names())
	}
	// A link stays one.
	must(t, os.Symlink("x.tar", filepath.Join(dir, "link")))
	must(t, writeArchiveFile(t.Context(), filepath.Join(dir, "link"), func(w io.Writer) error {
		_, err := io.WriteString(w, "three")
		return err
	}))
	if target, err := os.Readlink(filepath.Join(dir, "link")); target != "x.tar" || string(readFile(t, file)) != "three" {
		t.Errorf("%s, %v", target, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := writeArchiveFile(ctx, file, func(w io.Writer) error {
		cancel()
		_, err := io.WriteString(w, "late")
		return err
	})
	if !errors.Is(err, context.Canceled) || string(readFile(t, file)) != "three" || len(names()) != 2 {
		t.Errorf("%v, %v", err, names())
	}
	// What is no file is written to as it is.
	must(t, writeArchiveFile(t.Context(), "/dev/null", func(w io.Writer) error {
		_, err := io.WriteString(w, "nothing")
		return err
	}))
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		t.Fatalf("/dev/null is %v, %v", info, err)
	}
}

// TestSomethingElseIsThere does not write over what is no archive.
func TestSomethingElseIsThere(t *testing.T) {
	l, one, _, _ := archiveLayout(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	docker := filepath.Join(t.TempDir(), "docker.tar")
	must(t, writeArchive(t, l, "docker-archive:"+docker+":one:1", one))
	for what, content := range map[string][]byte{"text": []byte("my notes\n"), "another tar": tarOf(t, tarMember{name: "notes"}), "a docker-archive": readFile(t, docker)} {
		must(t, os.WriteFile(file, content, 0o644))
		for _, scheme := range []string{"oci-archive:", "docker-archive:"} {
			if what == "a docker-archive" && scheme == "docker-archive:" {
				continue
			}
			err := writeArchive(t, l, scheme+file+":one:1", one)
			if !errors.Is(err, layout.ErrInvalid) || !bytes.Equal(readFile(t, file), content) {
				t.Errorf("%s%s: %v", scheme, what, err)
			}
		}
	}
	// An empty file, as mktemp makes it, is nothing.
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, writeArchive(t, l, "oci-archive:"+file+":one", one))
}

// TestSpoolResumes cuts what a destination receives.
func TestSpoolResumes(t *testing.T) {
	content := strings.Repeat("0123456789", 100_000)
	d := ispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	s, err := newSpool(filepath.Join(t.TempDir(), "x.tar"))
	must(t, err)
	defer func() { s.close() }()
	cut := errors.New("cut")
	var offsets []int64
	open := func(_ context.Context, offset int64) (io.ReadCloser, error) {
		offsets = append(offsets, offset)
		end := min(offset+400_000, d.Size)
		r := io.Reader(strings.NewReader(content[offset:end]))
		if end < d.Size {
			r = io.MultiReader(r, errReader{cut})
		}
		return io.NopCloser(r), nil
	}
	for range 2 {
		if err := s.put(t.Context(), d, open); !errors.Is(err, cut) || s.section(d) != nil {
			t.Fatalf("%v", err)
		}
	}
	must(t, s.put(t.Context(), d, open))
	must(t, s.put(t.Context(), d, open)) // it is there: nothing is read
	if !slices.Equal(offsets, []int64{0, 400_000, 800_000}) {
		t.Errorf("offsets %v", offsets)
	}
	if got, err := io.ReadAll(s.section(d)); err != nil || string(got) != content {
		t.Errorf("other content: %v", err)
	}
	for what, c := range map[string]struct {
		content string
		want    error
	}{"short": {"x", layout.ErrSize}, "long": {"xyz", layout.ErrSize}, "other": {"zz", layout.ErrDigest}} {
		d := ispec.Descriptor{Digest: digest.FromString("xy"), Size: 2}
		if err := s.put(t.Context(), d, bytesOpener([]byte(c.content))); !errors.Is(err, c.want) || s.section(d) != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, s.put(t.Context(), ispec.Descriptor{Digest: digest.FromString("xy"), Size: 2}, bytesOpener([]byte("xy"))))
	if err := s.put(t.Context(), ispec.Descriptor{Digest: digest.FromString("z"), Size: 1 << 62}, nil); !errors.Is(err, layout.ErrTooLarge) {
		t.Errorf("a size that lies: %v", err)
	}
}

// TestCopyOfManyImages copies all tags by way of archives.
func TestCopyOfManyImages(t *testing.T) {
	l, one, two, index := archiveLayout(t)
	dir := t.TempDir()
	oci, docker, back := filepath.Join(dir, "o.tar"), filepath.Join(dir, "d.tar"), filepath.Join(dir, "back")
	copyTo := func(src, dst string, opt Options) *Result {
		t.Helper()
		result, err := Copy(t.Context(), parse(t, src), parse(t, dst), opt)
		must(t, err)
		return result
	}
	if r := copyTo("oci:"+l.Path(), "oci-archive:"+oci, Options{AllTags: true}); len(r.Images) != 3 {
		t.Errorf("%+v", r)
	}
	copyTo("oci-archive:"+oci, "oci:"+back, Options{AllTags: true})
	ocitest.AssertWhole(t, back)
	for tag, want := range map[string]ispec.Descriptor{"one": one, "two": two, "index": index} {
		if d := lookup(t, back, tag); d.Digest != want.Digest {
			t.Errorf("%s: %s", tag, d.Digest)
		}
	}
	for _, name := range []string{"one:1", "two:2"} {
		tag, _, _ := strings.Cut(name, ":")
		copyTo("oci-archive:"+oci+":"+tag, "docker-archive:"+docker+":"+name, Options{})
	}
	again := filepath.Join(dir, "again.tar")
	copyTo("docker-archive:"+docker, "docker-archive:"+again, Options{AllTags: true})
	if !bytes.Equal(readFile(t, docker), readFile(t, again)) {
		t.Error("copying all images of a docker-archive gives another one")
	}
	names, err := Tags(t.Context(), parse(t, "docker-archive:"+again), Options{})
	if err != nil || !slices.Equal(names, []string{"one:1", "two:2"}) {
		t.Errorf("names %v, %v", names, err)
	}
	// A failure in the middle leaves the archive as it was.
	must(t, os.Remove(filepath.Join(l.Path(), "blobs/sha256", two.Digest.Encoded())))
	before := readFile(t, oci)
	if _, err := Copy(t.Context(), parse(t, "oci:"+l.Path()), parse(t, "oci-archive:"+oci), Options{AllTags: true}); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("a missing manifest: %v", err)
	}
	if !bytes.Equal(before, readFile(t, oci)) {
		t.Error("what failed has changed the archive")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestReferrersInArchives takes what refers to an image through an oci-archive.
func TestReferrersInArchives(t *testing.T) {
	l, _, _, index := archiveLayout(t)
	signature := attach(t, l.Path(), index, "application/vnd.example.signature", "signed")
	note := attach(t, l.Path(), signature, "application/vnd.example.note", "noted")
	dir := t.TempDir()
	file, back := filepath.Join(dir, "x.tar"), filepath.Join(dir, "back")
	for _, c := range [][2]string{{"oci:" + l.Path(), "oci-archive:" + file}, {"oci-archive:" + file, "oci:" + back}} {
		_, err := Copy(t.Context(), parse(t, c[0]+":index"), parse(t, c[1]+":index"), Options{Referrers: true})
		must(t, err)
	}
	to, err := layout.Open(t.Context(), back, nil)
	must(t, err)
	defer to.Close()
	for what, d := range map[string]ispec.Descriptor{"image": index, "signature": signature, "note": note} {
		if ok, err := to.HasBlob(t.Context(), d); !ok || err != nil {
			t.Errorf("the %s is there: %v, %v", what, ok, err)
		}
	}
	_, err = Copy(t.Context(), parse(t, "oci:"+l.Path()+":one"), parse(t, "docker-archive:"+file+"2:one:1"), Options{Referrers: true})
	if err != nil {
		t.Errorf("nothing refers to it: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestSkopeoReadsArchives has skopeo read our archives and us read its.
func TestSkopeoReadsArchives(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	l, one, two, _ := archiveLayout(t)
	dir := t.TempDir()
	skopeo := func(args ...string) {
		t.Helper()
		cmd := exec.Command("skopeo", append([]string{"--insecure-policy", "--tmpdir", dir, "copy", "--quiet"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, out)
		}
	}
	oci, docker := filepath.Join(dir, "o.tar"), filepath.Join(dir, "d.tar")
	roots := map[string]ispec.Descriptor{"one": one, "two": two}
	for _, tag := range slices.Sorted(maps.Keys(roots)) {
		must(t, writeArchive(t, l, "oci-archive:"+oci+":"+tag, roots[tag]))
		must(t, writeArchive(t, l, "docker-archive:"+docker+":"+tag+":1", roots[tag]))
	}
	for tag, root := range roots {
		got := filepath.Join(dir, "got-"+tag)
		skopeo("--preserve-digests", "oci-archive:"+oci+":"+tag, "oci:"+got+":x")
		if d := lookup(t, got, "x"); d.Digest != root.Digest {
			t.Errorf("skopeo has %s of our oci-archive, not %s", d.Digest, root.Digest)
		}
		want, err := l.Manifest(t.Context(), root)
		must(t, err)
		skopeo("docker-archive:"+docker+":"+tag+":1", "oci:"+got+":y")
		if id := configDigest(t, got, "y"); id != want.Config.Digest {
			t.Errorf("skopeo has image %s of our docker-archive, not %s", id, want.Config.Digest)
		}
		theirs := filepath.Join(dir, tag+".tar")
		skopeo("--preserve-digests", "oci:"+l.Path()+":"+tag, "oci-archive:"+theirs+":"+tag)
		to, d, err := readArchive(t, "oci-archive:"+theirs)
		if err != nil || d.Digest != root.Digest {
			t.Errorf("we have %s of skopeo's oci-archive, not %s: %v", d.Digest, root.Digest, err)
		}
		ocitest.AssertWhole(t, to.Path())
		must(t, os.Remove(theirs))
		if tag == "two" {
			continue // skopeo writes no zstd there
		}
		skopeo("oci:"+l.Path()+":"+tag, "docker-archive:"+theirs+":"+tag+":1")
		to, d, err = readArchive(t, "docker-archive:"+theirs+":"+tag+":1")
		must(t, err)
		m, err := to.Manifest(t.Context(), d)
		if err != nil || m.Config.Digest != want.Config.Digest {
			t.Errorf("we have image %s of skopeo's docker-archive, not %s: %v", m.Config.Digest, want.Config.Digest, err)
		}
		ocitest.AssertWhole(t, to.Path())
	}
}

func lookup(t testing.TB, dir, ref string) ispec.Descriptor {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	d, err := l.Lookup(t.Context(), ref)
	must(t, err)
	return d
}

func configDigest(t testing.TB, dir, ref string) digest.Digest {
	t.Helper()
	l, err := layout.Open(t.Context(), dir, nil)
	must(t, err)
	defer l.Close()
	d, err := l.Lookup(t.Context(), ref)
	must(t, err)
	m, err := l.Manifest(t.Context(), d)
	must(t, err)
	return m.Config.Digest
}
