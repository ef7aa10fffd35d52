// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"bytes"
	"encoding/json"
	"iter"
)

// The functions below find their way in JSON that is known to be valid, so that
// they need no errors, and allocate nothing.

// members yields the names and values of the object in data. A name is what
// stands between the quotes, with its escapes. There are none if data is no
// object.
func members(data []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := skipSpace(data, 0)
		if i >= len(data) || data[i] != '{' {
			return
		}
		for i = skipSpace(data, i+1); data[i] != '}'; {
			end := valueEnd(data, i)
			name := data[i+1 : end-1]
			i = skipSpace(data, skipSpace(data, end)+1) // the colon
			end = valueEnd(data, i)
			if !yield(name, data[i:end]) {
				return
			}
			if i = skipSpace(data, end); data[i] == ',' {
				i = skipSpace(data, i+1)
			}
		}
	}
}

// elements yields the values of the array in data; none if data is no array.
func elements(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(data, 0)
		if i >= len(data) || data[i] != '[' {
			return
		}
		for i = skipSpace(data, i+1); data[i] != ']'; {
			end := valueEnd(data, i)
			if !yield(data[i:end]) {
				return
			}
			if i = skipSpace(data, end); data[i] == ',' {
				i = skipSpace(data, i+1)
			}
		}
	}
}

// valueEnd returns where the value that starts at i ends.
func valueEnd(data []byte, i int) int {
	switch data[i] {
	case '"':
		return stringEnd(data, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch data[i] {
			case '"':
				i = stringEnd(data, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for ; i < len(data); i++ {
		switch data[i] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return i
		}
	}
	return i
}

// stringEnd returns where the string that starts at i ends, which is where data ends if
// it does not.
func stringEnd(data []byte, i int) int {
	for i++; ; {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return len(data)
		}
		escapes := 0
		for escapes < n && data[i+n-escapes-1] == '\\' {
			escapes++
		}
		i += n + 1
		if escapes%2 == 0 {
			return i
		}
	}
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

// unquote returns the text of what members yields as a name.
func unquote(name []byte) string {
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name)
	}
	quoted := append(append([]byte{'"'}, name...), '"')
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(name)
	}
	return s
}
