// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestValidRef(t *testing.T) {
	for ref, want := range map[string]bool{
		"latest": true, "v1.0": true, "a": true, "0": true, "a-b_c.d@e+f:g": true, "a--b": true, "a/b/c": true,
		"registry:5000/a/b:tag": true, strings.Repeat("a", 1000): true,
		"": false, "-a": false, "a-": false, "a---b": false, "a..b": false, "a//b": false, "/a": false, "a/": false,
		"../../x": false, ".": false, "a b": false, "a\n": false, "\x1b[2J": false, "ä": false, "a__b": false, "a/-b": false,
	} {
		if got := ValidRef(ref); got != want {
			t.Errorf("%q: got %v", ref, got)
		}
	}
}

func TestParseImage(t *testing.T) {
	for _, tc := range []struct {
		in, path, ref string
		ok            bool
	}{
		{"dir", "dir", "latest", true},
		{"dir:v1", "dir", "v1", true},
		{"/a/b/c:v1", "/a/b/c", "v1", true},
		{"dir:a:b/c", "dir", "a:b/c", true},
		{"./x", "./x", "latest", true},
		{"", "", "", false},
		{":v1", "", "", false},
		{"dir:", "", "", false},
		{"dir:../x", "", "", false},
		{"dir:\x1b", "", "", false},
	} {
		path, ref, err := ParseImage(tc.in)
		if (err == nil) != tc.ok || path != tc.path || ref != tc.ref {
			t.Errorf("%q: got %q, %q, %v", tc.in, path, ref, err)
		}
		if !tc.ok {
			wantOneLine(t, err)
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", tc.in, err)
			}
		}
	}
}

// FuzzRef checks that a ref which is accepted cannot be mistaken for anything else.
func FuzzRef(f *testing.F) {
	for _, seed := range []string{"dir:v1", "dir", "a/b:c/d:e", "../../x", ":", "a:a--b", "x:\x1b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, ref, err := ParseImage(s)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		if !ValidRef(ref) || path == "" || strings.Contains(path, ":") || path+":"+ref != s && path != s {
			t.Errorf("%q became %q and %q", s, path, ref)
		}
		for _, part := range strings.Split(ref, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, " \n\x00\x1b") {
				t.Errorf("%q is accepted", ref)
			}
		}
	})
}

func refs(t *testing.T, l *Layout) string {
	t.Helper()
	list, err := l.Refs(t.Context())
	must(t, err)
	return strings.Join(list, " ")
}

func TestSetRef(t *testing.T) {
	l := newLayout(t)
	a, b := putImage(t, l, "a"), putImage(t, l, "b")
	a.Annotations = map[string]string{"kept": "yes", ispec.AnnotationRefName: "other"}
	a.Platform = &ispec.Platform{OS: "linux", Architecture: "arm64"}
	point(t, l, "v1", a)
	point(t, l, "v2", b)
	if a.Annotations[ispec.AnnotationRefName] != "other" {
		t.Error("the caller's map was changed")
	}
	d, err := l.Lookup(t.Context(), "v1")
	must(t, err)
	if d.Annotations["kept"] != "yes" || d.Platform == nil || d.Digest != a.Digest {
		t.Errorf("got %+v", d)
	}
	// A ref that moves goes to the end, as with umoci.
	point(t, l, "v1", b)
	if got := refs(t, l); got != "v2 v1" {
		t.Errorf("got %s", got)
	}
	if err := l.SetRef(t.Context(), "../../x", a); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestSameRefTwice is I21.
func TestSameRefTwice(t *testing.T) {
	l := newLayout(t)
	a, b := putImage(t, l, "a"), putImage(t, l, "b")
	twice := `{"schemaVersion":2,"manifests":[` + entry(a, "v1") + `,` + entry(b, "v2") + `,` + entry(b, "v1") + `]}`
	writeIndexFile(t, l, twice)
	for name, call := range map[string]func() error{
		"Resolve": func() error { _, err := l.Resolve(t.Context(), "v1", nil); return err },
		"Lookup":  func() error { _, err := l.Lookup(t.Context(), "v1"); return err },
		"Tag":     func() error { return l.Tag(t.Context(), "v1", "v3") },
	} {
		err := call()
		wantOneLine(t, err)
		if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), a.Digest.String()) || !strings.Contains(err.Error(), b.Digest.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := refs(t, l); got != "v1 v2 v1" {
		t.Errorf("got %s", got)
	}
	point(t, l, "v1", b)
	if got := refs(t, l); got != "v2 v1" {
		t.Errorf("after SetRef: %s", got)
	}
	writeIndexFile(t, l, twice)
	removed, err := l.DeleteRef(t.Context(), "v1")
	if got := refs(t, l); !removed || err != nil || got != "v2" {
		t.Errorf("after DeleteRef: %s, %v, %v", got, removed, err)
	}
}

func TestTag(t *testing.T) {
	l := newLayout(t)
	a := putImage(t, l, "a")
	point(t, l, "v1", a)
	must(t, l.Tag(t.Context(), "v1", "v2"))
	must(t, l.Tag(t.Context(), "v1", "v1"))
	if got := refs(t, l); got != "v2 v1" {
		t.Errorf("got %s", got)
	}
	for _, pair := range [][2]string{{"none", "x"}, {"v1", "-"}, {"-", "v1"}} {
		err := l.Tag(t.Context(), pair[0], pair[1])
		wantOneLine(t, err)
	}
	if _, err := l.Lookup(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestForeignRefs is I19 and I20: refs that shale would not set are listed as they
// are, and never used.
func TestForeignRefs(t *testing.T) {
	l := newLayout(t)
	a := putImage(t, l, "a")
	writeIndexFile(t, l, `{"schemaVersion":2,"manifests":[`+entry(a, "../../x")+`,`+entry(a, "\x1b[2J")+`,`+entry(a, "ok")+`]}`)
	list, err := l.Refs(t.Context())
	must(t, err)
	if len(list) != 3 || list[0] != "../../x" || list[1] != "\x1b[2J" {
		t.Errorf("got %q", list)
	}
	for _, ref := range list[:2] {
		_, err := l.Resolve(t.Context(), ref, nil)
		wantInvalid(t, err, "not a valid ref")
	}
	if _, err := l.Resolve(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
}
