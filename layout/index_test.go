// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestUpdateKeepsWhatItDoesNotKnow(t *testing.T) {
	l := newLayout(t)
	a, b := putImage(t, l, "a"), putImage(t, l, "b")
	foreign := strings.TrimSuffix(entry(a, "a"), "}") + `,"foreign":{"x": [1.50]},"platform":{"architecture":"amd64","os":"linux","extra":true}}`
	writeIndexFile(t, l, `{
		"first": "kept",
		"manifests": [`+foreign+`],
		"schemaVersion": 2,
		"annotations": {"k": "v"},
		"artifactType": "application/x",
		"subject": `+anyDescriptor+`,
		"last": 12345678901234567890
	}`)
	point(t, l, "b", b)
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"application/x",` +
		`"manifests":[` + strings.TrimSuffix(entry(a, "a"), "}") +
		`,"platform":{"architecture":"amd64","os":"linux","extra":true},"foreign":{"x":[1.50]}},` + entry(b, "b") + `],` +
		`"subject":` + anyDescriptor + `,"annotations":{"k":"v"},"first":"kept","last":12345678901234567890}` + "\n"
	if got := readIndexFile(t, l); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestUpdateWritesWhatUmociWrites checks the bytes for a plain index.
func TestUpdateWritesWhatUmociWrites(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "a")
	writeIndexFile(t, l, `{"manifests":null, "schemaVersion":2}`)
	point(t, l, "v1", d)
	want := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`+
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,`+
		`"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`+"\n", d.Digest, d.Size)
	if got := readIndexFile(t, l); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := l.DeleteRef(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	if got := readIndexFile(t, l); !strings.Contains(got, `"manifests":[]`) {
		t.Errorf("got %s", got)
	}
}

func TestUpdateWithoutChangeWritesNothing(t *testing.T) {
	l := newLayout(t)
	must(t, l.Close())
	l = openLayout(t, l.path, nil)
	writeIndexFile(t, l, ` { "manifests" : null } `)
	before := snapshot(t, l.path)
	must(t, l.Update(t.Context(), func(*ispec.Index) error { return nil }))
	removed, err := l.DeleteRef(t.Context(), "none")
	if removed || err != nil {
		t.Errorf("got %v, %v", removed, err)
	}
	if after := snapshot(t, l.path); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
}

func TestUpdateRefuses(t *testing.T) {
	boom := errors.New("boom")
	l := newLayout(t)
	there := putImage(t, l, "there")
	missing := ispec.Descriptor{MediaType: ispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	wrongSize := there
	wrongSize.Size++
	for _, tc := range []struct {
		name string
		fn   func(*ispec.Index) error
		want error
	}{
		{"an error of the callback", func(*ispec.Index) error { return boom }, boom},
		{"an entry without a blob", appending(missing), ErrNotFound},
		{"an entry of another size", appending(wrongSize), ErrNotFound},
		{"an entry that is a path", appending(ispec.Descriptor{MediaType: "x", Digest: "sha256:../../x"}), ErrInvalid},
		{"an entry of a negative size", appending(ispec.Descriptor{MediaType: "x", Digest: there.Digest, Size: -1}), ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := readIndexFile(t, l)
			err := l.Update(t.Context(), tc.fn)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if after := readIndexFile(t, l); after != before {
				t.Errorf("changed: %s", after)
			}
		})
	}
}

func appending(d ispec.Descriptor) func(*ispec.Index) error {
	return func(index *ispec.Index) error {
		index.Manifests = append(index.Manifests, d)
		return nil
	}
}

func TestUpdateCancelled(t *testing.T) {
	l := newLayout(t)
	other := openLayout(t, l.path, nil)
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Update(t.Context(), func(*ispec.Index) error {
		// The lock is held, so that this one has to wait.
		go cancel()
		err := other.Update(ctx, func(*ispec.Index) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("waiting for the lock: %v", err)
		}
		return nil
	})
	must(t, err)
}

// TestUpdateForeignWriter lets a program that does not know the lock change
// index.json while an update is under way.
func TestUpdateForeignWriter(t *testing.T) {
	l := newLayout(t)
	mine, theirs := putImage(t, l, "mine"), putImage(t, l, "theirs")
	calls := 0
	err := l.Update(t.Context(), func(index *ispec.Index) error {
		if calls++; calls <= 3 {
			foreign := openLayout(t, l.path, &Options{NoLock: true})
			point(t, foreign, fmt.Sprintf("theirs-%d", calls), theirs)
		}
		setRef(index, "mine", mine)
		return nil
	})
	must(t, err)
	refs, err := l.Refs(t.Context())
	if got := strings.Join(refs, " "); err != nil || got != "theirs-1 theirs-2 theirs-3 mine" {
		t.Errorf("got %s, %v", got, err)
	}
	if calls != 4 {
		t.Errorf("called %d times", calls)
	}
}

// TestRenameIndexRaces calls the last step with an index.json that has changed
// since it was compared, and with a file that somebody rewrites in place.
func TestRenameIndexRaces(t *testing.T) {
	l := newLayout(t)
	old, _, err := l.readIndex(t.Context())
	must(t, err)
	writeIndexFile(t, l, `{"manifests":[],"foreign":true}`)
	done, err := l.replaceIndex(t.Context(), old, []byte("{}"))
	if done || err != nil {
		t.Errorf("got %v, %v", done, err)
	}
	if got := readIndexFile(t, l); !strings.Contains(got, "foreign") {
		t.Errorf("got %s", got)
	}
	if names, _ := filepath.Glob(l.file(".shale-*", "tmp-*")); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestIndexTooLarge(t *testing.T) {
	l := newLayout(t)
	// I3: 150 MB, of which nothing must be read.
	must(t, os.Truncate(l.file("index.json"), 150<<20))
	_, err := l.Index(t.Context())
	wantOneLine(t, err)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}

	small := openLayout(t, newLayout(t).path, &Options{MaxIndex: 600})
	d := putImage(t, small, "a")
	point(t, small, "v1", d)
	before := readIndexFile(t, small)
	err = small.SetRef(t.Context(), strings.Repeat("v", 500), d)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if after := readIndexFile(t, small); after != before {
		t.Error("index.json grew beyond what can be read")
	}
}

func TestIndexModeStays(t *testing.T) {
	l := newLayout(t)
	must(t, os.Chmod(l.file("index.json"), 0o640))
	point(t, l, "v1", putImage(t, l, "a"))
	st, err := os.Stat(l.file("index.json"))
	must(t, err)
	if st.Mode().Perm() != 0o640 {
		t.Errorf("got %v", st.Mode())
	}
}

// TestManyRefs is about the order of growth: 10,000 refs of one image.
func TestManyRefs(t *testing.T) {
	l := newLayout(t)
	d := putImage(t, l, "a")
	index := ispec.Index{Manifests: []ispec.Descriptor{}}
	for i := range 10_000 {
		addRef(&index, fmt.Sprintf("v%d", i), d)
	}
	data, err := json.Marshal(index)
	must(t, err)
	writeIndexFile(t, l, string(data))
	point(t, l, "last", d)
	refs, err := l.Refs(t.Context())
	must(t, err)
	if len(refs) != 10_001 || refs[0] != "v0" || refs[10_000] != "last" {
		t.Errorf("got %d refs", len(refs))
	}
}

// addRef appends without looking for entries of the same name.
func addRef(index *ispec.Index, ref string, d ispec.Descriptor) {
	d.Annotations = map[string]string{ispec.AnnotationRefName: ref}
	index.Manifests = append(index.Manifests, d)
}
