// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestLsMode(t *testing.T) {
	for _, tt := range []struct{ kind, octal, want string }{
		{"file", "0644", "-rw-r--r--"},
		{"directory", "1777", "drwxrwxrwt"},
		{"directory", "1776", "drwxrwxrwT"},
		{"file", "4755", "-rwsr-xr-x"},
		{"file", "4644", "-rwSr--r--"},
		{"file", "2710", "-rwx--s---"},
		{"file", "2700", "-rwx--S---"},
		{"symlink", "0777", "lrwxrwxrwx"},
		{"char", "0000", "c---------"},
		{"block", "0060", "b---rw----"},
		{"fifo", "0600", "prw-------"},
	} {
		if got := lsMode(tt.kind, tt.octal); got != tt.want {
			t.Errorf("%s %s: %s, not %s", tt.kind, tt.octal, got, tt.want)
		}
	}
}

func TestPartOf(t *testing.T) {
	for part, want := range map[float64]string{1: "100", 0.99999: "99.9", 0.5: "50", 0.1234: "12.3", 0: "0"} {
		if got := partOf(part); got != want {
			t.Errorf("%v: %s, not %s", part, got, want)
		}
	}
}
