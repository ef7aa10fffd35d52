// SPDX-License-Identifier: Apache-2.0

package tarstream

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// archives are of all forms that archive/tar and GNU tar write.
func archives(tb testing.TB) map[string][]byte {
	tb.Helper()
	all := map[string][]byte{"empty": nil, "zeros": make([]byte, 1024), "one block of zeros": make([]byte, 512)}
	long := strings.Repeat("a long name/", 30)
	for name, format := range map[string]tar.Format{"ustar": tar.FormatUSTAR, "pax": tar.FormatPAX, "gnu": tar.FormatGNU} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, hdr := range []*tar.Header{
			{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755, ModTime: time.Unix(1_500_000_000, 0)},
			{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Uid: 7, Gid: 8, Uname: "u", Gname: "g", Size: 3},
			{Typeflag: tar.TypeReg, Name: strings.Repeat("p", 90) + "/" + strings.Repeat("n", 90), Size: 512},
			{Typeflag: tar.TypeReg, Name: "empty"},
			{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "d/f"},
			{Typeflag: tar.TypeLink, Name: "l", Linkname: "d/f"},
			{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3},
			{Typeflag: tar.TypeFifo, Name: "p"},
			{Typeflag: tar.TypeReg, Name: long, Size: 700},
			{Typeflag: tar.TypeReg, Name: "big id", Uid: 1 << 25, Size: 1, ModTime: time.Unix(-5, 7)},
			{Typeflag: tar.TypeReg, Name: "fraction", Size: 2, ModTime: time.Unix(1_500_000_000, 120_000_000)},
			{Typeflag: tar.TypeReg, Name: "times", ModTime: time.Unix(1, 2), AccessTime: time.Unix(3, 4), ChangeTime: time.Unix(5, 0)},
			{Typeflag: tar.TypeSymlink, Name: long + "s", Linkname: "\xc3\xa9" + long, ModTime: time.Unix(1_500_000_000, 5)},
			{Typeflag: tar.TypeReg, Name: "xattr", Size: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "\x00"}},
			{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "all"}},
			{Typeflag: tar.TypeReg, Name: "last", Size: 513},
		} {
			hdr.Format = format
			if err := w.WriteHeader(hdr); err != nil {
				continue // this form cannot hold it
			}
			if hdr.Size > 0 {
				if _, err := w.Write(bytes.Repeat([]byte{'x'}, int(hdr.Size))); err != nil {
					tb.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		all[name] = buf.Bytes()
	}
	return all
}

// byGNU are archives by GNU tar, with a sparse file in each form that it knows.
func byGNU(t *testing.T) map[string][]byte {
	t.Helper()
	if _, err := exec.LookPath("tar"); err != nil {
		t.Log("without archives by GNU tar, which is missing")
		return nil
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err == nil {
		_, err = f.WriteAt([]byte("data"), 200_000)
	}
	if err == nil {
		err = errors.Join(f.Close(), os.WriteFile(filepath.Join(dir, "z"), []byte("behind it"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, form := range [][]string{
		{"--format=v7"}, {"--format=ustar"}, {"--format=gnu", "--sparse"}, {"--format=oldgnu", "--sparse"},
		{"--format=posix", "--sparse", "--sparse-version=0.0"}, {"--format=posix", "--sparse", "--sparse-version=0.1"},
		{"--format=posix", "--sparse", "--sparse-version=1.0"}, {"--format=posix", "--pax-option=exthdr.name=x"},
	} {
		out, err := exec.Command("tar", append(form, "-C", dir, "-c", "sparse", "z")...).Output()
		if err != nil {
			t.Fatalf("tar %v: %v", form, err)
		}
		all[fmt.Sprint(form)] = out
	}
	return all
}

// byHand are archives with extended headers that no writer makes.
func byHand() map[string][]byte {
	all := map[string][]byte{}
	for _, records := range []string{
		"", "12 path=abc\n", "12 path=abc\n12 path=abd\n", "012 path=abc\n", "+12 path=abc\n", "13 path=abc\n", "11 path=abc\n",
		"8 path=\n", "9 path=\n", "13 path=a\x00bc\n", "11 mtime=1\n", "12 mtime=1.\n", "13 mtime=-1\n", "14 mtime=1.-2\n", "14 mtime=1.25\n",
		"12 mtime=.5\n", "24 mtime=1.1234567891\n", "30 mtime=12345678901234567890\n", "8 size=\n", "10 size=2\n", "6 =ab\n", "6 a=b\n", "5 ab\n",
		"12 path=abc\n\x00\x00", "12 path=abc", "99999999999999999999 path=abc\n", "12", "1", "15 linkpath=ab\n", "22 GNU.sparse.size=1\n",
	} {
		block := func(name, flag, size, body string) string {
			var b [blockSize]byte
			copy(b[:], name)
			copy(b[100:], "0000644\x000000000\x000000000\x00"+size+"\x0000000000000\x00")
			b[156] = flag[0]
			copy(b[257:], "ustar\x0000")
			copy(b[148:], fmt.Sprintf("%06o\x00 ", checksum(&b)))
			return string(b[:]) + body + strings.Repeat("\x00", -len(body)&(blockSize-1))
		}
		all[fmt.Sprintf("%q", records)] = []byte(block("x", "x", fmt.Sprintf("%011o", len(records)), records) +
			block("name", "0", "00000000003", "abc") + block("last", "5", "00000000000", "") + strings.Repeat("\x00", 1024))
	}
	return all
}

// entry is what a reader says of one entry.
type entry struct {
	hdr  tar.Header
	body string
}

type reader interface {
	io.Reader
	Next() (*tar.Header, error)
}

// list reads entries up to an error. Every third body is left unread, and of every third
// a part is.
func list(r reader) (all []entry, err error) {
	for i := 0; ; i++ {
		hdr, err := r.Next()
		if err != nil {
			return all, err
		}
		e := entry{hdr: *hdr}
		e.hdr.Uname, e.hdr.Gname, e.hdr.Format = "", "", 0
		switch i % 3 {
		case 0:
			body, err := io.ReadAll(io.LimitReader(r, 2<<20))
			e.body = fmt.Sprintf("%s, %v", body, err)
		case 1:
			var part [2]byte
			n, err := io.ReadFull(r, part[:])
			e.body = fmt.Sprintf("%q, %v", part[:n], err)
		}
		all = append(all, e)
	}
}

func compare(t *testing.T, archive []byte) {
	t.Helper()
	compareFrom(t, func() io.Reader { return bytes.NewReader(archive) })
}

func compareFrom(t *testing.T, open func() io.Reader) {
	t.Helper()
	want, werr := list(tar.NewReader(open()))
	// archive/tar seeks where it can, and what we read from cannot be.
	if w, e := list(tar.NewReader(io.MultiReader(open()))); !reflect.DeepEqual(w, want) {
		want, werr = w, e
	}
	for how, r := range map[string]io.Reader{
		"whole": open(), "by halves": iotest.HalfReader(open()), "with the error": iotest.DataErrReader(open()),
	} {
		got, err := list(NewReader(r))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: entries\n%.2000v\nthose of archive/tar\n%.2000v", how, got, want)
		}
		if !errors.Is(err, werr) && err.Error() != werr.Error() {
			t.Errorf("%s: %v, archive/tar says %v", how, err, werr)
		}
	}
}

func TestLikeArchiveTar(t *testing.T) {
	broken := errors.New("broken")
	for _, set := range []map[string][]byte{archives(t), byGNU(t), byHand()} {
		for name, archive := range set {
			t.Run(name, func(t *testing.T) {
				compare(t, archive)
				for n := 0; n < len(archive) && n < 20_000; n += 301 {
					compare(t, archive[:n])
					compareFrom(t, func() io.Reader { return io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(broken)) })
				}
			})
		}
	}
}

// What follows the archive is not read.
func TestReadsNoFurther(t *testing.T) {
	for name, archive := range archives(t) {
		if name == "empty" || name == "one block of zeros" {
			continue
		}
		src := io.MultiReader(bytes.NewReader(archive), strings.NewReader("what follows"))
		if _, err := list(NewReader(src)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(src); err != nil || string(rest) != "what follows" {
			t.Errorf("%s: %q is left, %v", name, rest, err)
		}
	}
}

// FuzzReader compares with archive/tar: the same entries, the same contents, the same
// errors. Headers that were changed get a right checksum again.
func FuzzReader(f *testing.F) {
	for _, archive := range byHand() {
		f.Add(archive, uint16(blockSize+3), byte('5'))
	}
	for _, archive := range archives(f) {
		f.Add(archive, uint16(150), byte(' '))
		f.Add(archive, uint16(512+108), byte(0x80))
	}
	f.Fuzz(func(t *testing.T, archive []byte, at uint16, value byte) {
		compare(t, archive)
		if int(at) >= len(archive) {
			return
		}
		archive = bytes.Clone(archive)
		archive[at] = value
		if start := int(at) / blockSize * blockSize; len(archive) >= start+blockSize {
			block := (*[blockSize]byte)(archive[start:])
			copy(block[148:156], fmt.Sprintf("%06o\x00 ", checksum(block)))
		}
		compare(t, archive)
	})
}

func BenchmarkNext(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkNext(b, 0) })
	b.Run("extended", func(b *testing.B) { benchmarkNext(b, 5) })
}

// benchmarkNext reads headers with times of so many nanoseconds.
func benchmarkNext(b *testing.B, nanoseconds int64) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	const entries = 1000
	for i := range entries {
		if err := w.WriteHeader(&tar.Header{
			Name: fmt.Sprintf("directory/file-%d", i), Uname: "root", Mode: 0o644,
			ModTime: time.Unix(1_500_000_000, nanoseconds), Format: tar.FormatPAX,
		}); err != nil {
			b.Fatal(err)
		}
	}
	for name, open := range map[string]func(io.Reader) reader{
		"ours":    func(r io.Reader) reader { return NewReader(r) },
		"library": func(r io.Reader) reader { return tar.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(buf.Len()))
			for range b.N {
				r := open(bytes.NewReader(buf.Bytes()))
				for range entries {
					if _, err := r.Next(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
