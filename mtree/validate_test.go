// SPDX-License-Identifier: Apache-2.0

package mtree_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/mtree"
	"github.com/shale-oci/shale/test/ocitest"
)

// manifestOf returns the mtree manifest of the directory.
func manifestOf(t *testing.T, dir string) []byte {
	t.Helper()
	root, err := rooted.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree, err := mtree.Walk(t.Context(), root, mtree.WalkOptions{Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.WriteManifest(&b, mtree.Header{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// plant makes a tree to be validated.
func plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a/file", "b/file", "c"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestValidate(t *testing.T) {
	const old = 1_500_000_000
	tests := []struct {
		name   string
		change func(dir string) error
		opt    mtree.ValidateOptions
		want   []string // parts of the lines
	}{
		{"nothing", func(string) error { return nil }, mtree.ValidateOptions{}, nil},
		{"content", func(dir string) error { return os.WriteFile(dir+"/c", []byte("longer"), 0o644) },
			mtree.ValidateOptions{}, []string{`"c": keyword "size": expected 1; got 6`}},
		{"content, by digest", func(dir string) error { return os.WriteFile(dir+"/c", []byte("d"), 0o644) },
			mtree.ValidateOptions{Keywords: []string{"sha256"}}, []string{`"c": keyword "sha256digest": expected 2e7d2c03`}},
		{"content, not looked at", func(dir string) error { return os.WriteFile(dir+"/c", []byte("d"), 0o644) },
			mtree.ValidateOptions{Keywords: []string{"mode", "size"}}, nil},
		{"several", func(dir string) error {
			return errors.Join(os.Remove(dir+"/b/file"), os.WriteFile(dir+"/a/new", nil, 0o644), os.Chmod(dir+"/c", 0o600))
		}, mtree.ValidateOptions{Keywords: []string{"mode"}}, []string{
			`"a/new": unexpected path`, `"b/file": missing path`, `"c": keyword "mode": expected 0644; got 0600`,
		}},
		{"the type counts always", func(dir string) error {
			return errors.Join(os.Remove(dir+"/c"), os.Mkdir(dir+"/c", 0o755))
		}, mtree.ValidateOptions{Keywords: []string{}}, []string{`"c": keyword "type": expected file; got dir`}},
		{"a keyword that the manifest lacks", func(string) error { return nil },
			mtree.ValidateOptions{Keywords: []string{}, More: []string{"sha1"}},
			[]string{`"a/file": keyword "sha1digest": expected ; got `, `"b/file"`, `"c"`}},
		{"time", func(dir string) error { return os.Chtimes(dir+"/c", time.Unix(old, 0), time.Unix(old, 0)) },
			mtree.ValidateOptions{Keywords: mtree.Keywords()}, []string{`"c": keyword "tar_time": expected `}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := plant(t)
			manifest := manifestOf(t, dir)
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(tt.name, "content") || tt.name == "several" {
				tt.opt.Keywords = without(orAll(tt.opt.Keywords), "tar_time", "nlink")
			}
			got, err := mtree.Validate(t.Context(), dir, bytes.NewReader(manifest), tt.opt)
			if err != nil {
				t.Fatal(err)
			}
			ok := len(got) == len(tt.want)
			for i := 0; ok && i < len(got); i++ {
				ok = strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func orAll(keywords []string) []string {
	if keywords == nil {
		return mtree.Keywords()
	}
	return keywords
}

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

func TestValidateFails(t *testing.T) {
	dir := plant(t)
	manifest := string(manifestOf(t, dir))
	if _, err := mtree.Validate(t.Context(), dir+"/none", strings.NewReader(manifest), mtree.ValidateOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := mtree.Validate(t.Context(), dir+"/c", strings.NewReader(manifest), mtree.ValidateOptions{}); err == nil {
		t.Error("a file is no directory")
	}
	if _, err := mtree.Validate(t.Context(), dir, strings.NewReader(manifest), mtree.ValidateOptions{More: []string{"colour"}}); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mtree.Validate(ctx, dir, strings.NewReader(manifest), mtree.ValidateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestValidateLends validates what its owner may not read.
func TestValidateLends(t *testing.T) {
	ocitest.Modes(t, func(t *testing.T) {
		dir := plant(t)
		modes := map[string]os.FileMode{"a/file": 0, "a": 0, "c": 0o200}
		order := []string{"a/file", "a", "c"}
		for _, name := range order {
			if err := os.Chmod(filepath.Join(dir, name), modes[name]); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			for _, name := range slices.Backward(order) {
				os.Chmod(filepath.Join(dir, name), 0o755) //nolint:errcheck // best effort
			}
		})
		manifest := manifestOf(t, dir)
		got, err := mtree.Validate(t.Context(), dir, bytes.NewReader(manifest), mtree.ValidateOptions{Rootless: true})
		if err != nil || len(got) > 0 {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := mtree.Validate(t.Context(), dir, bytes.NewReader(manifest), mtree.ValidateOptions{}); os.Geteuid() != 0 && err == nil {
			t.Error("no error without the permission")
		}
		if err := os.Chmod(dir, 0o300); err != nil {
			t.Fatal(err)
		}
		got, err = mtree.Validate(t.Context(), dir, bytes.NewReader(manifest), mtree.ValidateOptions{Rootless: true})
		if len(got) != 1 || !strings.HasPrefix(got[0], `".": keyword "mode": `) || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if after := manifestOf(t, dir); !bytes.Equal(after, manifest) {
			t.Errorf("permissions have stayed:\n%s\nbefore:\n%s", after, manifest)
		}
	})
}
