// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"strings"

	"github.com/vbatts/go-mtree/pkg/govis"

	gomtree "github.com/vbatts/go-mtree"
)

// appendVis appends s in the encoding of vis(3) that go-mtree uses for names:
// as govis.Vis(s, gomtree.DefaultVisFlags), but without a string builder and a
// call per byte.
func appendVis(buf []byte, s []byte) []byte {
	for _, c := range s {
		switch visTable[c] {
		case visPlain:
			buf = append(buf, c)
		case visSlash:
			buf = append(buf, '\\', '\\')
		default:
			buf = append(buf, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return buf
}

const (
	visOctal = iota // a backslash and three octal digits
	visPlain        // as it is
	visSlash        // a backslash before it
)

// visTable says how each byte is encoded: visible ASCII as it is, except what
// means something in a glob or in a manifest.
var visTable = func() (table [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		table[c] = visPlain
	}
	for _, c := range "*?[#" {
		table[c] = visOctal
	}
	table['\\'] = visSlash
	return table
}()

// unvis decodes what appendVis or any other vis(3) has encoded.
func unvis(s []byte) (string, error) {
	if bytes.IndexByte(s, '\\') < 0 {
		return string(s), nil
	}
	// govis reads runes, so that bytes beyond ASCII, which it would never write
	// itself, have to be kept from it.
	var b strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) && (s[n] < 0x80) == (s[0] < 0x80) {
			n++
		}
		if s[0] >= 0x80 {
			b.Write(s[:n])
		} else {
			part, err := govis.Unvis(string(s[:n]), gomtree.DefaultVisFlags)
			if err != nil {
				return "", err
			}
			b.WriteString(part)
		}
		s = s[n:]
	}
	return b.String(), nil
}
