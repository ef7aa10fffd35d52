// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	gomtree "github.com/vbatts/go-mtree"

	"github.com/shale-oci/shale/test/ocitest"
)

// paths returns the paths of all entries with their types.
func paths(tree *Tree) string {
	var s []string
	for e := range tree.All() {
		s = append(s, e.Path()+":"+typeName(e.Stat().Mode))
	}
	return strings.Join(s, " ")
}

func TestParseForms(t *testing.T) {
	for _, c := range []struct{ name, manifest, want string }{
		{"empty", "", ""},
		{"only comments", "#mtree v2\n\n# nothing\n", ""},
		{"umoci's", "\n# .\n/set type=file uid=0\n. type=dir\n    a size=1\n    b size=1\n\n# d\nd type=dir\n    c size=1\n..\n..\n",
			".:dir a:file b:file d:dir d/c:file"},
		{"type of directories by /set", "/set type=dir\n.\na\nb\n..\n..\n..\n", ".:dir a:dir a/b:dir"},
		{"no root", "a type=dir\nb type=file\n..\nc type=file\n", "a:dir a/b:file c:file"},
		{"full paths", "#mtree\n./b/c type=file\n./b type=dir\na/x/y type=link\n. type=dir\n",
			".:dir a/x/y:link b:dir b/c:file"},
		{"full and relative", ". type=dir\nd type=dir\n./d/x type=file\ny type=file\n..\n./d/z type=file\n",
			".:dir d:dir d/x:file d/y:file d/z:file"},
		{"entries in any order", ". type=dir\nz type=file\na type=file\nm type=dir\n..\n..\n", ".:dir a:file m:dir z:file"},
		{"untyped directory", "a\na/b type=file\n", "a:dir a/b:file"},
		{"continuation", ". type=dir\na \\\n  type=file \\\n\tsize=3\nb type=file\n", ".:dir a:file b:file"},
		{"no continuation after an escaped backslash", ". type=dir\na type=link link=x\\\\\nb type=file\n", ".:dir a:link b:file"},
		{"no continuation of comments", "# \\\na type=file\n", "a:file"},
		{"carriage returns", ". type=dir\r\na type=file\r\n..\r\n", ".:dir a:file"},
		{"no newline at the end", "a type=file", "a:file"},
		{"backslash at the end", "a type=file \\", "a:file"},
		{"escapes", "a\\040b type=file\n\\\\ type=file\n\\M-C\\M-) type=file\n", "\\:file a b:file é:file"},
		{"raw bytes", "\xff\xfe type=file\nb\xff\\040 type=file\n", "b\xff :file \xff\xfe:file"},
		{"unset", "/set type=file uid=3\n/unset type\na\n", "a:"},
		{"unset all", "/set type=file\n/unset\na\n/set type=file\n/unset all\nb\n", "a: b:"},
		{"torn comment of go-mtree", "#        keywords: size,type\n\n# x\ny\n/set type=file\nx\\012y type=dir size=1\n..\n", "x\ny:dir"},
		{"unknown keywords", "a type=file optional nochange flags=none uname=root cksum=1 sha1=x\n", "a:file"},
		{"dots that are names", "... type=file\n..a type=file\n.b type=file\n", "...:file ..a:file .b:file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := paths(parse(t, []byte(c.manifest))); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestParseKeywords(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	tree := parse(t, []byte("/set uid=7 gid=8 mode=0664 nlink=1 type=file\n"+
		"a xattr.user.x=AQI= sha256digest="+digest+" tar_time=-5.000000000 nlink=2 mode=04755 size=12\n"+
		"b time=1700000000.123456789 size=1 size=2 xattrs.user.p\\141=\n"+
		"c time=5.0 tar_time=6.0 type=link link=x\\040y gid=9\n"+
		"d tar_time=6.0 time=5.0 xattr.user.k=v=AQ==\n"))
	get := func(path string) (Entry, *node) {
		e, ok := tree.Lookup(path)
		if !ok {
			t.Fatalf("no %s", path)
		}
		return e, e.node()
	}
	e, n := get("a")
	if st := e.Stat(); st.Size != 12 || st.UID != 7 || st.GID != 8 || st.Perm() != 0o4755 || st.Nlink != 2 || st.Mtime.Sec != -5 ||
		fmt.Sprintf("%x", n.digest) != digest || len(e.Xattrs()) != 1 || string(e.Xattrs()[0].Value) != "\x01\x02" {
		t.Errorf("a: %+v %v", st, e.Xattrs())
	}
	e, _ = get("b")
	if st := e.Stat(); st.Size != 2 || st.Mtime.Sec != 1_700_000_000 || st.Nlink != 1 || st.Perm() != 0o664 ||
		len(e.Xattrs()) != 1 || e.Xattrs()[0].Name != "user.pa" || len(e.Xattrs()[0].Value) != 0 {
		t.Errorf("b: %+v %v", st, e.Xattrs())
	}
	e, _ = get("c")
	if st := e.Stat(); st.Mtime.Sec != 6 || e.Link() != "x y" || st.GID != 9 {
		t.Errorf("c: %+v %q", st, e.Link())
	}
	e, _ = get("d")
	if st := e.Stat(); st.Mtime.Sec != 6 || e.Xattrs()[0].Name != "user.k=v" {
		t.Errorf("d: %+v %v", st, e.Xattrs())
	}
}

func TestParseAnyKeywordOrder(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, 4000+seed)
		w.fill(w.root, 10, 3)
		tree := walk(t, w.root, WalkOptions{})
		for _, order := range [][]gomtree.Keyword{
			{"xattr", "sha256digest", "tar_time", "nlink", "mode", "gid", "uid", "type", "size", "link"},
			{"type", "time", "sha256", "xattrs", "mode", "uid", "gid", "size", "nlink", "link"},
			gomtree.DefaultKeywords,
		} {
			dh, err := gomtree.Walk(w.root, nil, order, nil)
			must(t, err)
			text := strings.Join(oracleLines(dh), "\n") + "\n"
			if slices.Equal(order, gomtree.DefaultKeywords) {
				text = "#  keywords: size,type,uid,gid,mode,link,nlink,time\n" + text
			}
			if deltas := summary(Compare(parse(t, []byte(text)), tree)); len(deltas) > 0 {
				t.Errorf("seed %d, %v: %q", seed, order, deltas)
			}
		}
	}
}

func TestParseLongLines(t *testing.T) {
	value := bytes.Repeat([]byte{1, 2, 3}, 100_000)
	text := "a type=file xattr.user.long=" + base64.StdEncoding.EncodeToString(value) + "\nb type=file\n"
	for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
		tree, err := Parse(r)
		must(t, err)
		a, _ := tree.Lookup("a")
		if _, ok := tree.Lookup("b"); !ok || !bytes.Equal(a.Xattrs()[0].Value, value) {
			t.Error("a long line is not read as it is")
		}
	}
}

// endless is a line that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("d type=dir\n", MaxDepth+2)
	for _, c := range []struct{ name, manifest, want string }{
		{"dots above the root", ". type=dir\n..\n..\n", `line 3: ".." leads out of the root`},
		{"dots first", "..\n", "line 1"},
		{"escaped dots", ". type=dir\n\\056\\056 type=dir\n", "line 2: \"\\\\056\\\\056\": not the name"},
		{"dots in a path", "a/../../b type=file\n", "line 1: a/../../b: not the name"},
		{"escaped slash", "a\\057b type=file\n", "line 1"},
		{"escaped NUL", "a\\000 type=file\n", "line 1"},
		{"dot in a directory", ". type=dir\nd type=dir\n. type=dir\n", "line 3: .: not the name"},
		{"absolute path", "/etc/passwd type=file\n", "line 1: unknown command /etc/passwd"},
		{"name too long", strings.Repeat("n", 2000) + " type=file\n", "line 1"},
		{"listed twice", ". type=dir\na type=file\nb type=file\na type=file\n", "line 4: a: listed before in line 2"},
		{"listed twice by path", "./a/b type=file\na/b type=file\n", "line 2: a/b: listed before in line 1"},
		{"root twice", ". type=dir\n..\n. type=dir\n", "line 3: .: listed before in line 1"},
		{"root of another type", ". type=file\n", "line 1: .: the root is not a directory"},
		{"in a file", "a type=file\na/b type=file\n", "line 2: b is not in a directory"},
		{"bad escape", "a\\q type=file\n", "line 1"},
		{"bad size", "a size=x\n", `line 1: a: "size=x": not a number`},
		{"negative size", "a size=-1\n", "line 1"},
		{"huge uid", "a uid=4294967296\n", "line 1"},
		{"bad mode", "a mode=u+x\n", "line 1"},
		{"bad type", "a type=door\n", `line 1: a: "type=door": unknown type`},
		{"bad time", "a tar_time=now\n", "line 1"},
		{"short digest", "a sha256=abcd\n", "line 1"},
		{"bad digest", "a sha256=" + strings.Repeat("x", 64) + "\n", "line 1"},
		{"bad xattr", "a xattr.user.x=***\n", "not in base64"},
		{"bad set", "\n/set uid=x\n", `line 2: /set: "uid=x": not a number`},
		{"unknown command", "/include x\n", "line 1: unknown command /include"},
		{"too deep", deep, errTooDeep.Error()},
		{"too deep by path", strings.Repeat("d/", MaxDepth+2) + "f type=file\n", errTooDeep.Error()},
		{"lines count through continuations", "a type=file \\\n size=1\nb size=x\n", "line 3"},
		{"escapes in messages", "\x1b[31m/.. type=file\n", `"\x1b[31m/.."`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := Parse(strings.NewReader(c.manifest))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("tree %v, error %.300v; want one with %q", tree, err, c.want)
			}
		})
	}
	for name, r := range map[string]io.Reader{
		"endless":              endless{},
		"endless continuation": io.MultiReader(strings.NewReader(strings.Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\\n", maxLine/31+2))),
	} {
		if _, err := Parse(r); !errors.Is(err, errLongLine) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := Parse(io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	w := newWorld(f, 42)
	w.fill(w.root, 10, 3)
	f.Add(manifest(f, walk(f, w.root, WalkOptions{})))
	f.Add([]byte("#mtree\n/set type=dir uid=0\n.\na\nb type=file xattr.user.x=AQ== \\\n size=1\n..\n..\n"))
	f.Add([]byte("./a/b type=file sha256=" + strings.Repeat("0", 64) + "\n./a type=dir\n/unset all\nc\\056 link=x\\\\\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tree *Tree
		var err error
		ocitest.AssertPureAllocates(t, 4<<20+300*uint64(len(data)), func() { tree, err = Parse(bytes.NewReader(data)) })
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		checkTree(t, tree)
		for e := range tree.All() {
			if e.Index() != 0 && !validName(e.Name()) {
				t.Errorf("name %q", e.Name())
			}
		}
		if d := Compare(tree, tree); len(d) > 0 {
			t.Errorf("differs from itself: %q", summary(d))
		}
		// What is written of it is the same tree again, but for what only the
		// manifests of others leave open.
		text := manifest(t, tree)
		if tree.Len() == 0 {
			return
		}
		back, err := Parse(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("cannot be read back: %v\n%s", err, text)
		}
		for e := range tree.All() {
			if _, ok := back.Lookup(e.Path()); !ok {
				t.Errorf("%q is lost", e.Path())
			}
		}
	})
}
