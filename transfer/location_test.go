// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"strings"
	"testing"

	"github.com/shale-oci/shale/layout"
)

const zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func TestParseLocation(t *testing.T) {
	for s, want := range map[string]Location{
		"dir":                           {Scheme: SchemeLayout, Path: "dir"},
		"dir:tag":                       {Scheme: SchemeLayout, Path: "dir", Tag: "tag"},
		"dir:latest":                    {Scheme: SchemeLayout, Path: "dir", Tag: "latest"},
		"./oci:tag":                     {Scheme: SchemeLayout, Path: "./oci", Tag: "tag"},
		"oci:/a/b":                      {Scheme: SchemeLayout, Path: "/a/b"},
		"oci:a:b/c:1":                   {Scheme: SchemeLayout, Path: "a", Tag: "b/c:1"},
		"a@" + zeros:                    {Scheme: SchemeLayout, Path: "a", Digest: zeros},
		"a@b:c":                         {Scheme: SchemeLayout, Path: "a@b", Tag: "c"},
		"oci-archive:f.tar:x":           {Scheme: SchemeOCIArchive, Path: "f.tar", Tag: "x"},
		"docker-archive:f.tar":          {Scheme: SchemeDockerArchive, Path: "f.tar"},
		"docker-archive:f:n:t":          {Scheme: SchemeDockerArchive, Path: "f", Repo: "n", Tag: "t"},
		"docker-archive:f:h:5/n:t":      {Scheme: SchemeDockerArchive, Path: "f", Repo: "h:5/n", Tag: "t"},
		"docker://h.example/n":          {Scheme: SchemeRegistry, Repo: "h.example/n"},
		"docker://h:5000/a/b:t":         {Scheme: SchemeRegistry, Repo: "h:5000/a/b", Tag: "t"},
		"docker://localhost/n@" + zeros: {Scheme: SchemeRegistry, Repo: "localhost/n", Digest: zeros},
		"docker://[::1]:5/n:t@" + zeros: {Scheme: SchemeRegistry, Repo: "[::1]:5/n", Tag: "t", Digest: zeros},
		"docker://alpine:3":             {Scheme: SchemeRegistry, Repo: "docker.io/library/alpine", Tag: "3"},
		"docker://team/app":             {Scheme: SchemeRegistry, Repo: "docker.io/team/app"},
	} {
		got, err := ParseLocation(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
		if again, err := ParseLocation(got.String()); err != nil || again != want {
			t.Errorf("%s becomes %s: %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{
		"", ":", "oci:", "dir:", "dir:-", "oci::tag", "docker:", "docker://", "docker:h/n", "docker://h.example/", "docker://h.example/N",
		"docker://h.example/a//b", "docker://h.example/../b", "docker://h.example/n:", "docker://h.example/n:-", "docker://h.example/n@sha256:0",
		"docker://a@b.example/n", "docker://h.example:x/n", "docker://h.example/n?x", "docker://h.example/n#x", "docker-archive:", "docker-archive:f:",
		"docker-archive:f:N", "docker-archive:f:n:", "https://h.example/n", "containers-storage:[x]/y", "docker-daemon:a/b:c", "docker://h.example/n:" + strings.Repeat("a", 129),
	} {
		if got, err := ParseLocation(s); !errors.Is(err, layout.ErrInvalid) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

// FuzzParseLocation: what is parsed can be written and parsed again, and no host or
// repository has anything in it that would lead a URL astray.
func FuzzParseLocation(f *testing.F) {
	for _, s := range []string{"dir:tag", "docker://h:5/a/b:t@" + zeros, "docker-archive:f:h:5/n:t", "oci:a@" + zeros} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLocation(s)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		again, err := ParseLocation(l.String())
		if err != nil || again != l {
			t.Errorf("%q is %+v, then %+v, %v", s, l, again, err)
		}
		if l.Scheme == SchemeRegistry && (strings.ContainsAny(l.Repo, "@?#%\\ ") || strings.Contains(l.Repo, "..") || strings.Contains(l.Repo, "//")) {
			t.Errorf("repository %q", l.Repo)
		}
	})
}
