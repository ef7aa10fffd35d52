// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"slices"
	"strings"
	"testing"
)

func TestInitial(t *testing.T) {
	for maps, want := range map[string]bool{
		"         0          0 4294967295\n":                 true,
		"         0       1000          1\n":                 false,
		"         0          0      65536\n":                 false,
		"         0       1000          1\n1 100000 65536\n": false,
		"         0          0 4294967295\n 1 1 1\n":         false,
		"": false,
	} {
		if got := initial([]byte(maps)); got != want {
			t.Errorf("initial(%q) = %v, want %v", maps, got, want)
		}
	}
}

func TestParseRanges(t *testing.T) {
	const file = "other:100000:65536\nme:165536:65536\n\n# comment\n1000:300000:10\nme:bad\nme:400000:0\nme:4294967290:10\n"
	got, err := parseRanges(strings.NewReader(file), "me", "1000")
	want := []Range{{165536, 65536}, {300000, 10}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := parseRanges(strings.NewReader("me:x:1\n"), "me", "1000"); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v", err)
	}
	args := strings.Join(mapping(1000, want), " ")
	if args != "0 1000 1 1 165536 65536 65537 300000 10" {
		t.Errorf("mapping %s", args)
	}
}

func TestAvailable(t *testing.T) {
	inside, outside, err := parseMap([]byte("         0       1000          1\n         1     100000      65536\n"))
	if err != nil || outside != "1000" || !slices.Equal(inside, []Range{{0, 1}, {1, 65536}}) {
		t.Fatalf("got %v, %q, %v", inside, outside, err)
	}
	ids := &IDs{UIDs: inside, GIDs: inside[:1], host: "me"}
	for _, id := range []uint32{0, 1, 65536} {
		if err := ids.CheckUID(id); err != nil {
			t.Errorf("uid %d: %v", id, err)
		}
	}
	if err := ids.CheckUID(70000); err == nil || !strings.Contains(err.Error(), "uid 70000") ||
		!strings.Contains(err.Error(), ":4464\" to /etc/subuid") || !strings.Contains(err.Error(), `"me:`) {
		t.Errorf("got %v", err)
	}
	if err := ids.CheckGID(5); err == nil || !strings.Contains(err.Error(), ":5\" to /etc/subgid") {
		t.Errorf("got %v", err)
	}
}
