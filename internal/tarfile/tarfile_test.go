// SPDX-License-Identifier: Apache-2.0

package tarfile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestListFindsWhatWriterWrote(t *testing.T) {
	write := func() []byte {
		var buf bytes.Buffer
		w := NewWriter(&buf)
		for _, err := range []error{
			w.Dir("dir"),
			w.File("dir/empty", nil),
			w.File("dir/file", []byte("content")),
			w.Stream(t.Context(), strings.Repeat("long/", 60)+"stream", 5, strings.NewReader("12345"), nil),
			w.Close(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return buf.Bytes()
	}
	data := write()
	if !bytes.Equal(data, write()) {
		t.Error("other bytes the second time")
	}
	members, err := List(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"dir/empty": "", "dir/file": "content", strings.Repeat("long/", 60) + "stream": "12345"}
	if len(members) != len(want) {
		t.Errorf("members %v", members)
	}
	for name, content := range want {
		m := members[name]
		if got := data[m.Offset : m.Offset+m.Size]; string(got) != content {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWriterNeedsAllBytes(t *testing.T) {
	for content, ok := range map[string]bool{"1234": false, "12345": true, "123456": false} {
		w := NewWriter(io.Discard)
		err := w.Stream(t.Context(), "x", 5, strings.NewReader(content), nil)
		if err == nil {
			err = w.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%q for 5 bytes: %v", content, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewWriter(io.Discard).Stream(ctx, "x", 5, strings.NewReader("12345"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestLinks(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "a/layer.tar", Linkname: "../b/layer.tar"},
		{Typeflag: tar.TypeLink, Name: "c/layer.tar", Linkname: "./b/layer.tar"},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	members, err := List(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/layer.tar", "c/layer.tar"} {
		if members[name].Link != "b/layer.tar" {
			t.Errorf("%s: %+v", name, members[name])
		}
	}
}

// TestTooManyNames has names that take more than they may, in a tar that is never in
// memory as a whole.
func TestTooManyNames(t *testing.T) {
	var one bytes.Buffer
	tw := tar.NewWriter(&one)
	const long = 4000
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x" + strings.Repeat("y", long)}); err != nil {
		t.Fatal(err)
	}
	_ = tw.Flush()
	r := &repeated{block: one.Bytes(), times: maxNames/long + 10}
	_, err := List(t.Context(), r, int64(len(r.block)*r.times))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "there twice") {
		t.Errorf("the same name over and over: %v", err)
	}
	r.number = true
	_, err = List(t.Context(), r, int64(len(r.block)*r.times))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "bytes of names") {
		t.Errorf("too many names: %v", err)
	}
}

func TestLongName(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("y", maxName+1)}); err != nil {
		t.Fatal(err)
	}
	_ = tw.Flush()
	_, err := List(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if !errors.Is(err, ErrInvalid) || len(err.Error()) > 200 {
		t.Errorf("%v", err)
	}
}

// repeated is the same member over and over, the name of which may have a number.
type repeated struct {
	block  []byte
	times  int
	number bool
}

func (r *repeated) ReadAt(p []byte, off int64) (int, error) {
	for n := range p {
		i := int(off) + n
		if i >= len(r.block)*r.times {
			return n, io.EOF
		}
		p[n] = r.block[i%len(r.block)]
		// The name in the PAX header begins in the second block, after "NNN path=".
		if at := i%len(r.block) - 512 - 20; r.number && at >= 0 && at < 6 {
			p[n] = fmt.Sprintf("%06d", i/len(r.block))[at]
		}
	}
	return len(p), nil
}
