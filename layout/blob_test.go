// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestBlobRoundTrip(t *testing.T) {
	l := newLayout(t)
	for _, size := range []int{0, 1, 4096, 64 << 10, 1<<20 + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rand.IntN(256))
		}
		// Short reads, so that everything is put together from pieces.
		d, n, err := l.PutBlob(t.Context(), iotest.HalfReader(bytes.NewReader(data)))
		must(t, err)
		if d != digest.FromBytes(data) || n != int64(size) {
			t.Errorf("%d bytes: got %s, %d", size, d, n)
		}
		r, err := l.OpenBlob(t.Context(), ispec.Descriptor{Digest: d, Size: n})
		must(t, err)
		if err := iotest.TestReader(r, data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		must(t, r.Close())
		if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("reading after Close: %v", err)
		}
	}
}

func TestPutJSONIsWhatAnEncoderWrites(t *testing.T) {
	l := newLayout(t)
	d := putJSON(t, l, "", map[string]string{"a": "<&>"})
	got, err := l.ReadBlob(t.Context(), d)
	must(t, err)
	if want := `{"a":"\u003c\u0026\u003e"}` + "\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBlobWriter(t *testing.T) {
	t.Run("closed without Commit", func(t *testing.T) {
		l := newLayout(t)
		w, err := l.CreateBlob(t.Context())
		must(t, err)
		_, err = w.Write([]byte("hello"))
		must(t, err)
		must(t, w.Close())
		must(t, w.Close())
		if _, err := w.Write([]byte("more")); err == nil {
			t.Error("writing after Close: no error")
		}
		if _, _, err := w.Commit(t.Context()); err == nil {
			t.Error("Commit after Close: no error")
		}
		if names := blobNames(t, l); len(names) > 0 {
			t.Errorf("blobs: %v", names)
		}
		if names, _ := filepath.Glob(l.file(".shale-*", "*")); len(names) > 0 {
			t.Errorf("temporary files: %v", names)
		}
	})
	t.Run("committed twice", func(t *testing.T) {
		l := newLayout(t)
		w, err := l.CreateBlob(t.Context())
		must(t, err)
		_, _, err = w.Commit(t.Context())
		must(t, err)
		if _, _, err := w.Commit(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		l := newLayout(t)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := l.CreateBlob(ctx)
		must(t, err)
		cancel()
		if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("Write: %v", err)
		}
		if _, _, err := w.Commit(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit: %v", err)
		}
		if _, _, err := l.PutBlob(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("PutBlob: %v", err)
		}
	})
	t.Run("after the layout was closed", func(t *testing.T) {
		l := newLayout(t)
		w, err := l.CreateBlob(t.Context())
		must(t, err)
		must(t, l.Close())
		_, _, err = w.Commit(t.Context())
		wantOneLine(t, err)
	})
	t.Run("source fails", func(t *testing.T) {
		l := newLayout(t)
		boom := errors.New("boom")
		_, _, err := l.PutBlob(t.Context(), io.MultiReader(strings.NewReader("x"), iotest.ErrReader(boom)))
		if !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		if names, _ := filepath.Glob(l.file(".shale-*", "*")); len(names) > 0 {
			t.Errorf("temporary files: %v", names)
		}
	})
}

func blobNames(t *testing.T, l *Layout) []string {
	t.Helper()
	names, err := filepath.Glob(l.file("blobs", "*", "*"))
	must(t, err)
	return names
}

func TestPutOverWhatIsThere(t *testing.T) {
	content := []byte("content")
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.WriteFile(target, content, 0o644))
	for _, tc := range []struct {
		name   string
		plant  func(path string) error
		stays  bool // the file that is there
		refuse bool
	}{
		{"right size", func(p string) error { return os.WriteFile(p, content, 0o600) }, true, false},
		{"too short", func(p string) error { return os.WriteFile(p, content[:3], 0o644) }, false, false},
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o644) }, false, false},
		{"too long", func(p string) error { return os.WriteFile(p, append(content, 'x'), 0o644) }, false, false},
		{"symlink to the right content", func(p string) error { return os.Symlink(target, p) }, false, false},
		{"FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }, false, false},
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) }, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			path := l.blobFile(digest.FromBytes(content))
			must(t, tc.plant(path))
			before, err := os.Lstat(path)
			must(t, err)
			d, size, err := l.PutBlob(t.Context(), bytes.NewReader(content))
			if tc.refuse {
				wantOneLine(t, err)
			} else {
				must(t, err)
				got, err := l.ReadBlob(t.Context(), ispec.Descriptor{Digest: d, Size: size})
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("got %q, %v", got, err)
				}
			}
			after, err := os.Lstat(path)
			must(t, err)
			if os.SameFile(before, after) != tc.stays {
				t.Errorf("same file: %v, want %v", !tc.stays, tc.stays)
			}
			if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, content) {
				t.Errorf("target of the link: %q, %v", got, err)
			}
		})
	}
}

// TestOpenBlobRefuses goes through descriptors and blob files that hostile.md lists
// under H and I.
func TestOpenBlobRefuses(t *testing.T) {
	content := []byte("some content")
	good := digest.FromBytes(content)
	size := int64(len(content))
	sha512 := digest.SHA512.FromBytes(content)
	for _, tc := range []struct {
		name string
		d    ispec.Descriptor
		want error
	}{
		{"H2 one byte too few", ispec.Descriptor{Digest: good, Size: size - 1}, ErrSize},
		{"H2 one byte too many", ispec.Descriptor{Digest: good, Size: size + 1}, ErrSize},
		{"H3 negative size", ispec.Descriptor{Digest: good, Size: -1}, ErrInvalid},
		{"H4 largest size", ispec.Descriptor{Digest: good, Size: math.MaxInt64}, ErrSize},
		{"H5 no colon, data", ispec.Descriptor{Digest: "sha256", Size: size, Data: content}, ErrInvalid},
		{"H6 foo:bar, data", ispec.Descriptor{Digest: "foo:bar", Size: size, Data: content}, ErrInvalid},
		{"foo:bar", ispec.Descriptor{Digest: "foo:bar", Size: size}, ErrInvalid},
		{"H7 a path", ispec.Descriptor{Digest: "sha256:../../x", Size: size}, ErrInvalid},
		{"an algorithm that is a path", ispec.Descriptor{Digest: "../sha256:" + digest.Digest(good.Encoded()), Size: size}, ErrInvalid},
		{"control bytes", ispec.Descriptor{Digest: "sha256:\x1b[2J\n", Size: size}, ErrInvalid},
		{"upper case", ispec.Descriptor{Digest: digest.Digest("sha256:" + strings.ToUpper(good.Encoded())), Size: size}, ErrInvalid},
		{"too short", ispec.Descriptor{Digest: good[:len(good)-1], Size: size}, ErrInvalid},
		{"sha384", ispec.Descriptor{Digest: digest.SHA384.FromBytes(content), Size: size}, ErrInvalid},
		{"nothing", ispec.Descriptor{Size: size}, ErrInvalid},
		{"not there", ispec.Descriptor{Digest: digest.FromString("other"), Size: 5}, ErrNotFound},
		{"no directory for the algorithm", ispec.Descriptor{Digest: sha512, Size: size}, ErrNotFound},
		{"H11 data of another digest", ispec.Descriptor{Digest: digest.FromString("other"), Size: size, Data: content}, ErrDigest},
		{"data of another size", ispec.Descriptor{Digest: good, Size: size + 1, Data: content}, ErrSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			putBytes(t, l, "", content)
			_, err := l.OpenBlob(t.Context(), tc.d)
			wantOneLine(t, err)
			if !errors.Is(err, tc.want) {
				t.Errorf("OpenBlob: got %v, want %v", err, tc.want)
			}
			if _, err := l.ReadBlob(t.Context(), tc.d); err == nil {
				t.Error("ReadBlob: no error")
			}
		})
	}
}

func TestBlobFileRefused(t *testing.T) {
	content := []byte("some content")
	d := ispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, content, 0o644))
	for name, plant := range map[string]func(string) error{
		"I11 FIFO":                   func(p string) error { return unix.Mkfifo(p, 0o644) },
		"I12 symlink to the outside": func(p string) error { return os.Symlink(outside, p) },
		"directory":                  func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			must(t, plant(l.blobFile(d.Digest)))
			_, err := l.OpenBlob(t.Context(), d)
			wantOneLine(t, err)
			if ok, err := l.HasBlob(t.Context(), d); ok || err != nil {
				t.Errorf("HasBlob: %v, %v", ok, err)
			}
		})
	}
}

// TestFlippedByte is H1: each byte in turn.
func TestFlippedByte(t *testing.T) {
	l := newLayout(t)
	content := []byte("every byte counts")
	d := putBytes(t, l, "", content)
	for i := range content {
		bad := bytes.Clone(content)
		bad[i] ^= 1
		must(t, os.WriteFile(l.blobFile(d.Digest), bad, 0o644))
		r, err := l.OpenBlob(t.Context(), d)
		must(t, err)
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrDigest) || !strings.Contains(err.Error(), d.Digest.String()) {
			t.Errorf("byte %d: read: %v", i, err)
		}
		if err := r.Close(); !errors.Is(err, ErrDigest) {
			t.Errorf("byte %d: close: %v", i, err)
		}
	}
}

func TestBlobReader(t *testing.T) {
	content := []byte("0123456789")
	bad := []byte("012345678X")
	d := ispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	open := func(t *testing.T, data []byte) *BlobReader {
		l := newLayout(t)
		must(t, os.WriteFile(l.blobFile(d.Digest), data, 0o644))
		r, err := l.OpenBlob(t.Context(), d)
		must(t, err)
		return r
	}
	t.Run("closed early without a check", func(t *testing.T) {
		r := open(t, bad)
		_, err := r.Read(make([]byte, 5))
		must(t, err)
		must(t, r.Close())
	})
	t.Run("all bytes but no EOF", func(t *testing.T) {
		r := open(t, bad)
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil && !errors.Is(err, ErrDigest) {
			t.Fatal(err)
		}
		if err := r.Close(); !errors.Is(err, ErrDigest) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("Verify", func(t *testing.T) {
		r := open(t, bad)
		defer r.Close()
		if err := r.Verify(t.Context()); !errors.Is(err, ErrDigest) {
			t.Errorf("got %v", err)
		}
		good := open(t, content)
		defer good.Close()
		_, err := good.Read(make([]byte, 3))
		must(t, err)
		must(t, good.Verify(t.Context()))
		must(t, good.Verify(t.Context()))
	})
	t.Run("Verify cancelled", func(t *testing.T) {
		r := open(t, content)
		defer r.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Verify(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("file cut while open", func(t *testing.T) {
		r := open(t, content)
		f, ok := r.file.(*os.File)
		if !ok {
			t.Fatal("no file")
		}
		must(t, os.Truncate(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 4))
		if err := r.Verify(t.Context()); !errors.Is(err, ErrSize) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("empty blob", func(t *testing.T) {
		l := newLayout(t)
		empty := putBytes(t, l, "", nil)
		r, err := l.OpenBlob(t.Context(), empty)
		must(t, err)
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("got %d, %v", n, err)
		}
		must(t, r.Close())
	})
}

func TestEmbeddedData(t *testing.T) {
	l := newLayout(t)
	content := []byte("{}")
	d := ispec.Descriptor{Digest: digest.FromBytes(content), Size: 2, Data: content}
	got, err := l.ReadBlob(t.Context(), d)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %q, %v", got, err)
	}
	// The data is as good as the file, so that a file that differs does not matter.
	must(t, os.WriteFile(l.blobFile(d.Digest), []byte("[]"), 0o644))
	if got, err := l.ReadBlob(t.Context(), d); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestReadBlobLimit(t *testing.T) {
	l := openLayout(t, newLayout(t).path, &Options{MaxDocument: 10})
	ten := putBytes(t, l, "", []byte("0123456789"))
	if _, err := l.ReadBlob(t.Context(), ten); err != nil {
		t.Error(err)
	}
	eleven := putBytes(t, l, "", []byte("0123456789a"))
	if _, err := l.ReadBlob(t.Context(), eleven); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	// A size that lies must not make us allocate.
	eleven.Size = math.MaxInt64
	if _, err := l.ReadBlob(t.Context(), eleven); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestPutVerified(t *testing.T) {
	content := "some content"
	size := int64(len(content))
	for _, tc := range []struct {
		name string
		d    ispec.Descriptor
		in   string
		want error
	}{
		{"sha256", ispec.Descriptor{Digest: digest.FromString(content), Size: size}, content, nil},
		{"H9 sha512", ispec.Descriptor{Digest: digest.SHA512.FromString(content), Size: size}, content, nil},
		{"H10 wrong sha512", ispec.Descriptor{Digest: digest.SHA512.FromString("x"), Size: size}, content, ErrDigest},
		{"wrong digest", ispec.Descriptor{Digest: digest.FromString("x"), Size: size}, content, ErrDigest},
		{"too short", ispec.Descriptor{Digest: digest.FromString(content), Size: size}, content[:5], ErrSize},
		{"too long", ispec.Descriptor{Digest: digest.FromString(content), Size: size}, content + "x", ErrSize},
		{"unknown algorithm", ispec.Descriptor{Digest: "foo:bar", Size: size}, content, ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			err := l.PutVerified(t.Context(), tc.d, strings.NewReader(tc.in))
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if ok, _ := l.HasBlob(t.Context(), tc.d); ok != (tc.want == nil) {
				t.Errorf("HasBlob: %v", ok)
			}
			if tc.want != nil {
				if names := blobNames(t, l); len(names) > 0 {
					t.Errorf("blobs: %v", names)
				}
				return
			}
			r, err := l.OpenBlob(t.Context(), tc.d)
			must(t, err)
			defer r.Close()
			must(t, r.Verify(t.Context()))
		})
	}
}

func TestOwnerAndMode(t *testing.T) {
	for _, tc := range []struct {
		name              string
		dirMode, fileMode os.FileMode
		uid, gid          int
	}{
		{"private", 0o700, 0o600, 0, 0},
		{"shared by a group", 0o775, 0o664, 1234, 4321},
		{"read by all", 0o755, 0o644, 1234, 1234},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLayout(t)
			must(t, l.Close())
			root := os.Geteuid() == 0
			chown := func(name string) {
				if root {
					must(t, os.Chown(name, tc.uid, tc.gid))
				}
			}
			for _, dir := range []string{l.path, l.file("blobs"), l.file("blobs", "sha256")} {
				must(t, os.Chmod(dir, tc.dirMode))
				chown(dir)
			}
			for _, name := range []string{"oci-layout", "index.json"} {
				must(t, os.Chmod(l.file(name), tc.fileMode))
				chown(l.file(name))
			}
			old := unix.Umask(0o077)
			defer unix.Umask(old)
			l = openLayout(t, l.path, nil)
			point(t, l, "v1", putImage(t, l, "one"))
			must(t, l.PutVerified(t.Context(), ispec.Descriptor{Digest: digest.SHA512.FromString("x"), Size: 1}, strings.NewReader("x")))

			seen := 0
			must(t, filepath.Walk(l.path, func(p string, info os.FileInfo, err error) error {
				if err != nil {
					return err
				}
				if strings.Contains(p, ".shale-") && !info.IsDir() {
					return nil // our notes; gone when the layout is closed
				}
				want := tc.fileMode
				if info.IsDir() {
					want = tc.dirMode
				}
				if info.Mode().Perm() != want {
					t.Errorf("%s: mode %v, want %v", p, info.Mode(), want)
				}
				var st unix.Stat_t
				must(t, unix.Lstat(p, &st))
				if root && (int(st.Uid) != tc.uid || int(st.Gid) != tc.gid) {
					t.Errorf("%s: owner %d:%d", p, st.Uid, st.Gid)
				}
				seen++
				return nil
			}))
			if seen < 10 {
				t.Errorf("only %d files", seen)
			}
		})
	}
}
