// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/bundle"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
)

// runtimeConfig writes and parses the config.json of an image whose root
// filesystem has the given files; the target of a link follows "->".
func runtimeConfig(t *testing.T, img ispec.Image, files map[string]string, m layer.MapOptions) (rspec.Spec, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else if content == "|" {
			err = unix.Mkfifo(path, 0o644)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rooted.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	img.OS, img.Architecture = "linux", "amd64"
	var buf bytes.Buffer
	var spec rspec.Spec
	if err := bundle.WriteRuntimeConfig(&buf, &img, bundle.RuntimeOptions{Rootfs: root, Map: m}); err != nil {
		return spec, err
	}
	return spec, json.Unmarshal(buf.Bytes(), &spec)
}

const passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:100:200::/srv/app:/bin/sh\n"

func TestRuntimeConfig(t *testing.T) {
	created := time.Unix(0, 0).UTC()
	img := ispec.Image{Created: &created, Author: "me", Config: ispec.ImageConfig{
		User: "app", Env: []string{"A=1", "PATH=/p"}, Entrypoint: []string{"/run"}, Cmd: []string{"-c"},
		WorkingDir: "../../tmp", Volumes: map[string]struct{}{"/data": {}}, StopSignal: "SIGINT",
		Labels: map[string]string{"org.opencontainers.image.os": "label", "l": "v"}, ExposedPorts: map[string]struct{}{"80": {}},
	}}
	spec, err := runtimeConfig(t, img, map[string]string{
		"etc/passwd": passwd, "etc/group": "app:x:200:\nextra:x:300:app\n",
	}, layer.MapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := spec.Process
	if p.User.UID != 100 || p.User.GID != 200 || !slices.Equal(p.User.AdditionalGids, []uint32{300}) {
		t.Errorf("user %+v", p.User)
	}
	if !slices.Equal(p.Args, []string{"/run", "-c"}) || p.Cwd != "/tmp" {
		t.Errorf("args %q, cwd %q", p.Args, p.Cwd)
	}
	if want := []string{"PATH=/p", "TERM=xterm", "A=1", "HOME=/srv/app"}; !slices.Equal(p.Env, want) {
		t.Errorf("env %q, want %q", p.Env, want)
	}
	if a := spec.Annotations; a["org.opencontainers.image.author"] != "me" || a["l"] != "v" ||
		a["org.opencontainers.image.os"] != "label" || a["org.opencontainers.image.exposedPorts"] != "80" {
		t.Errorf("annotations %v", a)
	}
	if spec.Root.Path != "rootfs" || spec.Version != "1.0.2" {
		t.Errorf("root %q, version %s", spec.Root.Path, spec.Version)
	}
}

func TestRuntimeUser(t *testing.T) {
	for _, tc := range []struct {
		name, user string
		files      map[string]string
		env        []string
		uid        uint32
		home       string
		bad        bool
	}{
		{name: "no files", uid: 0},
		{name: "numeric", user: "5:6", uid: 5},
		{name: "named", user: "app", files: map[string]string{"etc/passwd": passwd}, uid: 100, home: "/srv/app"},
		{name: "HOME of the image", user: "app", files: map[string]string{"etc/passwd": passwd}, env: []string{"HOME=/h"}, uid: 100, home: "/h"},
		{name: "link in the root", user: "app", files: map[string]string{"etc/passwd": "->/usr/passwd", "usr/passwd": passwd}, uid: 100, home: "/srv/app"},
		{name: "link out of the root", user: "daemon", files: map[string]string{"etc/passwd": "->../../../../../../../../etc/passwd"}, bad: true},
		{name: "link to itself", user: "5", files: map[string]string{"etc/passwd": "->passwd"}, uid: 5},
		{name: "etc is a file", files: map[string]string{"etc": "x"}},
		{name: "named, etc is a file", user: "app", files: map[string]string{"etc": "x"}, bad: true},
		{name: "unknown", user: "nobody-here", files: map[string]string{"etc/passwd": passwd}, bad: true},
		{name: "J1", user: "4294967296", files: map[string]string{"etc/passwd": "4294967296:x:0:0::/:/bin/sh\n"}, bad: true},
		{name: "J1 with that uid", user: "4294967296", files: map[string]string{"etc/passwd": "x:x:4294967296:0::/:/bin/sh\n"}, bad: true},
		{name: "named, uid 2^32", user: "x", files: map[string]string{"etc/passwd": "x:x:4294967296:0::/:/bin/sh\n"}, bad: true},
		{name: "named, gid 2^32", user: "x", files: map[string]string{"etc/passwd": "x:x:5:4294967296::/:/bin/sh\n"}, bad: true},
		{name: "group, gid 2^32", user: "5:x", files: map[string]string{"etc/group": "x:x:4294967296:\n"}, bad: true},
		{name: "member, gid 2^32", user: "app", files: map[string]string{"etc/passwd": passwd, "etc/group": "x:x:4294967296:app\n"}, bad: true},
		{name: "passwd too large", user: "5", files: map[string]string{"etc/passwd": strings.Repeat("\n", 2<<20+1)}, bad: true},
		{name: "passwd just not", user: "5", files: map[string]string{"etc/passwd": strings.Repeat("\n", 2<<20)}, uid: 5},
		{name: "J2", user: "-1", bad: true},
		{name: "J3", user: "app", files: map[string]string{"etc/passwd": "|"}, bad: true},
	} {
		spec, err := runtimeConfig(t, ispec.Image{Config: ispec.ImageConfig{User: tc.user, Env: tc.env}}, tc.files, layer.MapOptions{})
		if tc.bad {
			if err == nil {
				t.Errorf("%s: became %+v", tc.name, spec.Process.User)
			}
			continue
		}
		home := slices.ContainsFunc(spec.Process.Env, func(v string) bool { return strings.HasPrefix(v, "HOME=") })
		if err != nil || spec.Process.User.UID != tc.uid || home != (tc.home != "") || home && !slices.Contains(spec.Process.Env, "HOME="+tc.home) {
			t.Errorf("%s: %v, user %+v, env %q", tc.name, err, spec.Process.User, spec.Process.Env)
		}
	}
}

func TestRuntimeRootless(t *testing.T) {
	m := layer.MapOptions{
		Rootless:    true,
		UIDMappings: []rspec.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}},
		GIDMappings: []rspec.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}},
	}
	spec, err := runtimeConfig(t, ispec.Image{}, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	types := map[rspec.LinuxNamespaceType]int{}
	for _, ns := range spec.Linux.Namespaces {
		types[ns.Type]++
	}
	if types[rspec.NetworkNamespace] != 0 || types[rspec.UserNamespace] != 1 || spec.Linux.Resources != nil {
		t.Errorf("namespaces %v, resources %v", types, spec.Linux.Resources)
	}
}
