// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// defaults sets the flags to their values.
func defaults(flags []cli.Flag) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			*f.Destination = f.Value
		case *cli.IntFlag:
			*f.Destination = f.Value
		}
	}
}

// TestDefaultLimits checks that what the help says is what the libraries do.
func TestDefaultLimits(t *testing.T) {
	var f limitFlags
	defaults(f.flags())
	if err := f.check(nil); err != nil {
		t.Fatal(err)
	}
	want := layer.Limits{
		Bytes: layer.DefaultMaxBytes, Entries: layer.DefaultMaxEntries, Ratio: layer.DefaultMaxRatio,
		Xattr: layer.DefaultMaxXattr, Header: layer.DefaultMaxHeader, Metadata: layer.DefaultMaxMetadata,
	}
	if f.limits != want {
		t.Errorf("%+v, not %+v", f.limits, want)
	}
	var l layoutFlags
	defaults(l.flags())
	if err := l.parse(); err != nil {
		t.Fatal(err)
	}
	if want := (layout.Options{MaxIndex: layout.DefaultMaxIndex, MaxDocument: layout.DefaultMaxDocument, MaxDepth: layout.DefaultMaxDepth}); !reflect.DeepEqual(l.limits, want) {
		t.Errorf("%+v, not %+v", l.limits, want)
	}
}

func TestLimitFlags(t *testing.T) {
	var f limitFlags
	defaults(f.flags())
	f.bytes, f.entries, f.ratio = "none", "7", "none"
	if err := f.check(nil); err != nil || f.limits.Bytes != layer.Unlimited || f.limits.Entries != 7 || f.limits.Ratio != layer.Unlimited {
		t.Errorf("%+v, %v", f.limits, err)
	}
	for _, bad := range []string{"", "0", "-1", "x", "1x", "9223372036854775808"} {
		f.entries = bad
		if err := f.check(nil); err == nil {
			t.Errorf("--max-entries=%s is taken", bad)
		}
	}
}

// TestLimitHint checks that whoever is stopped by a limit reads how to change it.
func TestLimitHint(t *testing.T) {
	dir := newLayout(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--max-index-size=10B", "ls", "--layout", "l"}, "index.json: "},
		{[]string{"--max-document-size=10B", "stat", "--image", "l"}, "sha256:"},
	} {
		got := runShale(t, dir, tc.args...)
		flag, _, _ := strings.Cut(tc.args[0], "=")
		if want := "bytes, and the limit is 10 (shale " + flag + " changes the limit)"; got.code != 1 ||
			!strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, tc.want) {
			t.Errorf("%q: status %d, %q", tc.args, got.code, got.stderr)
		}
	}
	if got := hint(errors.New("x"), &commandError{cmd: &cli.Command{}}); got != "" {
		t.Errorf("a hint about nothing: %q", got)
	}
}
