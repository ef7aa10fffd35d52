// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shale-oci/shale/layer"
)

// given returns what says that the flags with these names were given.
func given(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return false
	}
}

func TestParseMaps(t *testing.T) {
	type maps = []rspec.LinuxIDMapping
	tests := []struct {
		specs string
		want  maps
		err   string
	}{
		{"", nil, ""},
		{"0:1000", maps{{ContainerID: 0, HostID: 1000, Size: 1}}, ""},
		{"1:2:3", maps{{ContainerID: 1, HostID: 2, Size: 3}}, ""},
		{"0:1000:1 1:100000:65535", maps{{HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65535}}, ""},
		{"0:0:4294967295", maps{{Size: 4294967295}}, ""},
		{"4294967294:0", maps{{ContainerID: 4294967294, Size: 1}}, ""},
		{"10:10:10 0:0:10 20:20", maps{{ContainerID: 10, HostID: 10, Size: 10}, {Size: 10}, {ContainerID: 20, HostID: 20, Size: 1}}, ""},
		{"0", nil, "not of the form"},
		{":", nil, "number"},
		{"0:1:2:3", nil, "not of the form"},
		{"a:0", nil, "invalid syntax"},
		{"0:-1", nil, "invalid syntax"},
		{"0: 1", nil, "invalid syntax"},
		{"0:0x10", nil, "invalid syntax"},
		{"0:0:0", nil, "no ID at all"},
		{"4294967296:0", nil, "out of range"},
		{"4294967295:0", nil, "maps ID 4294967295"},
		{"0:4294967295", nil, "maps ID 4294967295"},
		{"1:0:4294967295", nil, "maps ID 4294967295"},
		{"4294967294:4294967294:4294967295", nil, "maps ID 8589934588"},
		{"0:0:10 9:100", nil, "overlaps with another map in the container"},
		{"9:100 0:0:10", nil, "overlaps with another map in the container"},
		{"0:0:10 10:9", nil, "overlaps with another map on the host"},
	}
	for _, tt := range tests {
		specs := strings.Split(tt.specs, " ")
		switch tt.specs {
		case "":
			specs = nil
		case "0: 1":
			specs = []string{tt.specs}
		}
		got, err := parseMaps(specs)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error is %v, want %q", tt.specs, err, tt.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %v, %v, want %v", tt.specs, got, err, tt.want)
		}
	}
}

// FuzzParseMaps checks that maps which are accepted are one to one, and within
// the IDs that there are.
func FuzzParseMaps(f *testing.F) {
	f.Add("0:0:10", "10:10", uint32(3))
	f.Add("0:4294967294", "1:0:4294967294", uint32(1))
	f.Fuzz(func(t *testing.T, a, b string, id uint32) {
		maps, err := parseMaps([]string{a, b})
		if err != nil {
			return
		}
		inside := 0
		for _, m := range maps {
			for _, start := range []uint32{m.ContainerID, m.HostID} {
				if last := uint64(start) + uint64(m.Size) - 1; last > lastID {
					t.Errorf("%v reaches to %d", m, last)
				}
			}
			if id >= m.ContainerID && id-m.ContainerID < m.Size {
				inside++
			}
		}
		if inside > 1 {
			t.Errorf("%q and %q both map %d", a, b, id)
		}
	})
}

func TestRootlessMaps(t *testing.T) {
	self := func(id int) []rspec.LinuxIDMapping {
		return []rspec.LinuxIDMapping{{ContainerID: 0, HostID: uint32(id), Size: 1}}
	}
	five := []rspec.LinuxIDMapping{{ContainerID: 0, HostID: 5, Size: 1}}
	tests := []struct {
		name  string
		flags mapFlags
		given []string
		want  layer.MapOptions
	}{
		{"none", mapFlags{}, nil, layer.MapOptions{}},
		{"rootless", mapFlags{rootless: true}, []string{"rootless"},
			layer.MapOptions{UIDMappings: self(os.Geteuid()), GIDMappings: self(os.Getegid()), Rootless: true}},
		{"one map", mapFlags{rootless: true, uids: []string{"0:5"}}, []string{"rootless", "uid-map"},
			layer.MapOptions{UIDMappings: five, GIDMappings: self(os.Getegid()), Rootless: true}},
		{"maps", mapFlags{gids: []string{"0:5"}}, []string{"gid-map"}, layer.MapOptions{GIDMappings: five}},
	}
	for _, tt := range tests {
		if err := tt.flags.check(given(tt.given...)); err != nil || !reflect.DeepEqual(tt.flags.options, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, tt.flags.options, err, tt.want)
		}
	}
}

func TestImageFlag(t *testing.T) {
	for value, want := range map[string][2]string{
		"path":          {"path", "latest"},
		"path:tag":      {"path", "tag"},
		"a/b:x:y":       {"a/b", "x:y"},
		"p:repo/name@1": {"p", "repo/name@1"},
	} {
		f := imageFlag{value: value}
		if err := f.check(given("image")); err != nil || f.path != want[0] || f.ref != want[1] {
			t.Errorf("%s: got %q, %q, %v, want %q", value, f.path, f.ref, err, want)
		}
	}
	for _, value := range []string{"", ":", "p:", ":t", "p:.", "p:a--", "p:a b", "p:a/", "p:a//b", "p:a\n"} {
		f := imageFlag{value: value}
		if err := f.check(given("image")); err == nil {
			t.Errorf("%q: no error", value)
		}
	}
}

func TestHistory(t *testing.T) {
	at := func(s string) *time.Time {
		parsed, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return &parsed
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	epoch := at("1970-01-01T00:00:01Z")
	tests := []struct {
		name  string
		flags historyFlags
		given []string
		want  *ispec.History
	}{
		{"defaults", historyFlags{}, nil,
			&ispec.History{Created: epoch, CreatedBy: "shale x", Author: "image's"}},
		{"none", historyFlags{none: true}, []string{"no-history"}, nil},
		{"all", historyFlags{author: "me", comment: "why", created: "2024-02-29T12:00:00.5+01:00", createdBy: "hand"},
			[]string{"history.author", "history.comment", "history.created", "history.created_by"},
			&ispec.History{Created: at("2024-02-29T12:00:00.5+01:00"), CreatedBy: "hand", Author: "me", Comment: "why"}},
		{"empty", historyFlags{}, []string{"history.author", "history.created_by"}, &ispec.History{Created: epoch}},
	}
	for _, tt := range tests {
		if err := tt.flags.check(given(tt.given...)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got, err := tt.flags.entry("shale x", "image's"); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
	for _, name := range []string{"author", "comment", "created", "created_by"} {
		f := historyFlags{none: true}
		if err := f.check(given("no-history", "history."+name)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("--no-history with --history.%s: error is %v", name, err)
		}
	}
	for _, created := range []string{"", "now", "2024-01-01", "1700000000", "2023-02-29T00:00:00Z"} {
		f := historyFlags{created: created}
		if err := f.check(given("history.created")); err == nil {
			t.Errorf("--history.created=%s: no error", created)
		}
	}
}

func TestSourceDateEpoch(t *testing.T) {
	for value, want := range map[string]string{
		"":                     "none",
		"0":                    "1970-01-01T00:00:00Z",
		"-1":                   "1969-12-31T23:59:59Z",
		"1700000000":           "2023-11-14T22:13:20Z",
		"253402300799":         "9999-12-31T23:59:59Z",
		"253402300800":         "error",
		"1.5":                  "error",
		"now":                  "error",
		"\t1":                  "error",
		"99999999999999999999": "error",
	} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		got := "none"
		switch epoch, err := sourceDateEpoch(); {
		case err != nil:
			got = "error"
		case epoch != nil:
			got = epoch.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

func TestCompressFlag(t *testing.T) {
	for value, want := range map[string]layer.Compression{"auto": "", "none": layer.None, "gzip": layer.Gzip, "zstd": layer.Zstd} {
		f := compressFlag{value: value}
		if err := f.check(nil); err != nil || f.compression != want {
			t.Errorf("%s: got %q, %v, want %q", value, f.compression, err, want)
		}
	}
	for _, value := range []string{"", "gz", "GZIP", "xz"} {
		f := compressFlag{value: value}
		if err := f.check(nil); err == nil {
			t.Errorf("%q: no error", value)
		}
	}
}
