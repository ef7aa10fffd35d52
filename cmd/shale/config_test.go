// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mutate"
	"github.com/shale-oci/shale/test/ocitest"
)

// must runs shale and expects success and silence.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	got := runShale(t, dir, args...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("shale %q: %+v", args, got)
	}
	return got.stdout
}

// open opens the image "l:<ref>" in dir for the platform, or any if that is empty.
func open(t *testing.T, dir, ref, platform string) *mutate.Image {
	t.Helper()
	l, err := layout.Open(t.Context(), filepath.Join(dir, "l"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var opt layout.ResolveOptions
	if platform != "" {
		p, err := layout.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		opt.Platform = &p
	}
	path, err := l.Resolve(t.Context(), ref, &opt)
	if err != nil {
		t.Fatal(err)
	}
	i, err := mutate.Open(t.Context(), l, path)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// fullImage has something of everything that config can change.
func fullImage() ocitest.Image {
	return ocitest.Image{
		Author:      "somebody",
		Platform:    ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		Annotations: map[string]string{"a": "1", "b": "2"},
		Config: ispec.ImageConfig{
			User: "u", Env: []string{"A=1", "B=2"}, Entrypoint: []string{"e"}, Cmd: []string{"c"}, WorkingDir: "/w",
			Labels:       map[string]string{"a": "1", "b": "2"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
			Volumes:      map[string]struct{}{"/v": {}, "/w": {}},
		},
	}
}

// TestConfig checks the effect of what umoci has not got; the rest is compared with
// umoci's.
func TestConfig(t *testing.T) {
	tests := []struct {
		name   string
		args   string
		change func(*mutate.Settings)
	}{
		{"nothing", "", func(*mutate.Settings) {}},
		{"the variant stays", "--config.user=x", func(s *mutate.Settings) { s.Config.User = "x" }},
		{"labels", "--config.label a- --config.label c=3 --config.label none- --config.label d-=4", func(s *mutate.Settings) {
			s.Config.Labels = map[string]string{"b": "2", "c": "3", "d-": "4"}
		}},
		{"the last one counts", "--config.label c=3 --config.label c- --config.label a- --config.label a=5", func(s *mutate.Settings) {
			s.Config.Labels = map[string]string{"a": "5", "b": "2"}
		}},
		{"annotations", "--manifest.annotation a- --manifest.annotation b-", func(s *mutate.Settings) { s.Annotations = nil }},
		{"env", "--config.env A- --config.env C=3 --config.env D-", func(s *mutate.Settings) { s.Config.Env = []string{"B=2", "C=3"} }},
		{"all of env", "--config.env A- --config.env B-", func(s *mutate.Settings) { s.Config.Env = nil }},
		{"ports", "--config.exposedports 80/tcp- --config.exposedports 1/tcp --config.exposedports 2/tcp-", func(s *mutate.Settings) {
			s.Config.ExposedPorts = map[string]struct{}{"53/udp": {}, "1/tcp": {}}
		}},
		{"volumes", "--config.volume /v- --config.volume /w- --config.volume /x-/", func(s *mutate.Settings) {
			s.Config.Volumes = map[string]struct{}{"/x-/": {}}
		}},
		{"an empty entrypoint", "--clear config.entrypoint", func(s *mutate.Settings) { s.Config.Entrypoint = nil }},
		{"the same as JSON", "--config.entrypoint.json []", func(s *mutate.Settings) { s.Config.Entrypoint = nil }},
		{"a command as JSON", `--config.cmd.json ["-c","a,b",""]`, func(s *mutate.Settings) { s.Config.Cmd = []string{"-c", "a,b", ""} }},
		{"both", `--config.entrypoint.json ["x"] --config.cmd.json []`, func(s *mutate.Settings) {
			s.Config.Entrypoint, s.Config.Cmd = []string{"x"}, nil
		}},
		{"clear comes first", "--config.entrypoint x --clear config.entrypoint --config.label x=y --clear config.labels", func(s *mutate.Settings) {
			s.Config.Entrypoint, s.Config.Labels = []string{"x"}, map[string]string{"x": "y"}
		}},
		{"everything cleared", "--clear config.cmd --clear config.entrypoint --clear config.env --clear config.exposedports " +
			"--clear config.labels --clear config.volume --clear manifest.annotations --clear index.annotations",
			func(s *mutate.Settings) {
				s.Config, s.Annotations = ispec.ImageConfig{User: "u", WorkingDir: "/w"}, nil
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fullImage().Write(t, filepath.Join(dir, "l"), "latest")
			before := open(t, dir, "latest", "")
			want := before.Settings()
			tt.change(&want)
			must(t, dir, append([]string{"config", "--image", "l"}, strings.Fields(tt.args)...)...)
			after := open(t, dir, "latest", "")
			if got := after.Settings(); asJSON(t, got) != asJSON(t, want) {
				t.Errorf("got\n%s\nwant\n%s", asJSON(t, got), asJSON(t, want))
			}
			if !reflect.DeepEqual(after.Manifest().Layers, before.Manifest().Layers) {
				t.Error("the layers are other ones")
			}
			history := after.Config().History
			if n := len(before.Config().History); len(history) != n+1 ||
				history[n].CreatedBy != "shale config" || history[n].Author != "somebody" || !history[n].EmptyLayer {
				t.Errorf("the history is %+v", history)
			}
		})
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestConfigWithoutTime checks that an image which does not say when it was made does
// not say so afterwards either.
func TestConfigWithoutTime(t *testing.T) {
	dir := t.TempDir()
	image := fullImage()
	image.Edit = func(c *ispec.Image, _ *ispec.Manifest) { c.Created = nil }
	image.Write(t, filepath.Join(dir, "l"), "latest")
	must(t, dir, "config", "--image", "l", "--author", "me")
	i := open(t, dir, "latest", "")
	if s := i.Settings(); s.Created != nil || s.Author != "me" {
		t.Errorf("got %+v", s)
	}
	if h := i.Config().History; h[len(h)-1].Author != "me" {
		t.Errorf("the author in the history is %q", h[len(h)-1].Author)
	}
}

func TestIndexAnnotations(t *testing.T) {
	dir := t.TempDir()
	fullImage().Write(t, filepath.Join(dir, "l"), "latest")
	const ref = ispec.AnnotationRefName
	for _, step := range []struct {
		args string
		want map[string]string
	}{
		{"--index.annotation a=1 --index.annotation b=x=y", map[string]string{"a": "1", "b": "x=y", ref: "latest"}},
		{"--index.annotation a- --index.annotation c=", map[string]string{"b": "x=y", "c": "", ref: "latest"}},
		{"--config.user x", map[string]string{"b": "x=y", "c": "", ref: "latest"}},
		{"--clear index.annotations --index.annotation d=4", map[string]string{"d": "4", ref: "latest"}},
		{"--clear index.annotations", map[string]string{ref: "latest"}},
	} {
		must(t, dir, append([]string{"config", "--image", "l"}, strings.Fields(step.args)...)...)
		i := open(t, dir, "latest", "")
		if got := i.DescriptorAnnotations(); !reflect.DeepEqual(got, step.want) {
			t.Errorf("%s: got %v, want %v", step.args, got, step.want)
		}
		if got := i.Manifest().Annotations; !reflect.DeepEqual(got, fullImage().Annotations) {
			t.Errorf("%s: the manifest has %v", step.args, got)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	fullImage().Write(t, filepath.Join(dir, "l"), "latest")
	before := files(t, dir)
	for args, want := range map[string]string{
		"--config.env A":          "invalid --config.env: A has no '='",
		"--config.env -":          "invalid --config.env: - has no key",
		"--config.label =v":       "invalid --config.label: =v has no key",
		"--manifest.annotation a": "invalid --manifest.annotation: a has no '='",
		"--manifest.annotation =": "invalid --manifest.annotation: = has no key",
		"--index.annotation a":    "invalid --index.annotation: a has no '='",
		"--index.annotation " + ispec.AnnotationRefName + "=x": "is the tag of the image",
		"--config.volume -":                      "invalid --config.volume: - names nothing",
		"--config.exposedports -":                "invalid --config.exposedports: - names nothing",
		"--clear rootfs.diffids":                 "invalid --clear: rootfs.diffids cannot be cleared",
		"--clear x":                              "invalid --clear: x is none of config.cmd, config.entrypoint, config.env, ",
		"--created x":                            "invalid --created: x is not a time",
		"--config.cmd.json x":                    "invalid --config.cmd.json: x is not a JSON array of strings",
		"--config.cmd.json null":                 "invalid --config.cmd.json: null is not",
		"--config.cmd.json [1]":                  "invalid --config.cmd.json: [1] is not",
		"--config.cmd.json [] --config.cmd x":    "--config.cmd and --config.cmd.json may not",
		"--config.entrypoint.json {}":            "invalid --config.entrypoint.json: {} is not",
		"--config.entrypoint.json []x":           "invalid --config.entrypoint.json: []x is not",
		"--all-platforms --platform linux/arm64": "--all-platforms and --platform may not",
		"--all-platforms --os linux":             "--all-platforms and --platform.os may not",
		"--all-platforms --architecture arm64":   "--all-platforms and --platform.arch may not",
		"--all-platforms --platform.variant v8":  "--all-platforms and --platform.variant may not",
		"--platform linux":                       "invalid --platform: linux is not of the form os/arch[/variant]",
		"--platform=":                            "invalid --platform: ",
		"--platform linux/amd64":                 "there is no image for linux/amd64, only for linux/arm64/v8",
		"extra":                                  "invalid number of positional arguments: expected none, got 1",
		"extra --config.user x":                  "expected none, got 3",
	} {
		got := runShale(t, dir, append([]string{"config", "--image", "l"}, strings.Fields(args)...)...)
		if got.code != exitError || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s: got %+v, want %q", args, got, want)
		}
	}
	if after := files(t, dir); after != before {
		t.Errorf("files were left:\n%s\nbefore:\n%s", after, before)
	}
}
