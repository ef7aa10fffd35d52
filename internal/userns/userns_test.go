// SPDX-License-Identifier: Apache-2.0

package userns

import "testing"

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
