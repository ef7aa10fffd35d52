// SPDX-License-Identifier: Apache-2.0

// Package quote makes names from images and layouts safe to print.
package quote

import "strconv"

// Name returns s as it may be shown on a terminal or in a log line: unchanged
// if it is printable UTF-8 without white space other than plain blanks, and
// otherwise in Go's quoted syntax, so that control bytes and invalid UTF-8
// become escapes.
func Name(s string) string {
	q := strconv.Quote(s)
	if s != "" && q == `"`+s+`"` {
		return s
	}
	return q
}
