// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/quote"
)

// Unmarshal reads the one document in data into v, a pointer to the Go type that
// t was made from. It refuses
//
//   - anything but white space after the document,
//   - members whose name is that of a field in another case,
//   - the same name twice in an object that the Go type describes,
//   - objects that lack a required member, and null in their place in a list,
//   - forbidden members,
//   - more values or elements than [Rules] allow: the error is a [limit.Error].
//
// All of that is found out before anything is allocated for a value.
func (t *Type) Unmarshal(data []byte, v any) error {
	if err := t.measure(data); err != nil {
		return err
	}
	if !json.Valid(data) {
		// Only the decoder says what is wrong, and where.
		if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
			return describe(err)
		}
		return errors.New("not valid JSON")
	}
	for name := range members(data) {
		for _, f := range t.rules.Forbidden {
			if s := unquote(name); strings.EqualFold(s, f) {
				return fmt.Errorf("member %s does not belong here", quote.Name(s))
			}
		}
	}
	if !startsWith(data, '{') {
		return errors.New("not a JSON object")
	}
	if err := check(data, t.root); err != nil {
		return err
	}
	if t.decode(data, v) {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return describe(err)
	}
	return nil
}

// decode reads data into v, or returns false and leaves v as it was.
func (t *Type) decode(data []byte, v any) bool {
	to := reflect.ValueOf(v).Elem()
	if to.Type() != t.goType || !to.IsZero() {
		return false
	}
	read := reflect.New(t.goType).Elem()
	if !new(decoder).decode(data[skipSpace(data, 0):], t.root, read) {
		return false
	}
	to.Set(read)
	return true
}

// measure counts the values in data, and how deep they are, without a look at
// whether it is JSON: of what is not, the decoder would find out more slowly.
func (t *Type) measure(data []byte) error {
	values, depth := 1, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i) - 1
		case ',':
			values++
		case '{', '[':
			values++
			if depth++; depth > maxNesting {
				return &limit.Error{What: "levels of objects and lists in each other", Found: int64(depth), Limit: maxNesting}
			}
		case '}', ']':
			depth--
		}
	}
	return limit.Check("", "values in one document", int64(values), int64(t.rules.MaxValues))
}

// describe takes the names of Go types out of an error.
func describe(err error) error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fmt.Errorf("member %s is of the wrong type: %s", quote.Name(te.Field), te.Value)
	}
	var pe *time.ParseError
	if errors.As(err, &pe) { // which repeats the text, and escapes not all of it
		return fmt.Errorf("%s is not a time", quote.Name(pe.Value))
	}
	return err
}

func startsWith(data []byte, c byte) bool {
	i := skipSpace(data, 0)
	return i < len(data) && data[i] == c
}

// check compares data with what n says.
func check(data []byte, n *node) error {
	switch n.kind {
	case object:
		return checkObject(data, n)
	case dict:
		return checkDict(data)
	case list:
		return checkList(data, n, math.MaxInt)
	}
	return nil
}

func checkList(data []byte, n *node, most int) error {
	i := 0
	for elem := range elements(data) {
		if i == most {
			return limit.Check("", "elements", count(data), int64(most))
		}
		if n.elem.kind == object && !startsWith(elem, '{') {
			return fmt.Errorf("element %d is not a JSON object", i)
		}
		if err := check(elem, n.elem); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		i++
	}
	return nil
}

func (f *field) check(value []byte) error {
	if f.node.kind == list {
		return checkList(value, f.node, f.maxItems)
	}
	return check(value, f.node)
}

func checkObject(data []byte, n *node) error {
	if !startsWith(data, '{') {
		return nil // null, or a wrong type, which the decoder names
	}
	var seen uint64
	for raw, value := range members(data) {
		f := n.field(raw)
		if f == nil {
			if err := n.checkUnknown(unquote(raw)); err != nil {
				return err
			}
			continue
		}
		if seen&(1<<f.index) != 0 {
			return fmt.Errorf("member %s appears twice", n.names[f.index])
		}
		seen |= 1 << f.index
		if err := f.check(value); err != nil {
			return fmt.Errorf("%s: %w", n.names[f.index], err)
		}
	}
	for _, name := range n.required {
		if seen&(1<<n.fields[name].index) == 0 {
			return fmt.Errorf("member %s is missing", name)
		}
	}
	return nil
}

// count returns the number of elements of the list in data.
func count(data []byte) int64 {
	var n int64
	for range elements(data) {
		n++
	}
	return n
}

// checkUnknown refuses the name of a field that is written in another case: some
// readers take it for the field, others do not.
func (n *node) checkUnknown(name string) error {
	for _, known := range n.names {
		if strings.EqualFold(name, known) {
			return fmt.Errorf("member %s must be written %s", quote.Name(name), known)
		}
	}
	return nil
}

// checkDict refuses the same name twice.
func checkDict(data []byte) error {
	var first []byte
	var seen map[string]bool
	n := 0
	for raw := range members(data) {
		if n++; n == 1 {
			first = raw
			continue
		}
		if seen == nil {
			seen = map[string]bool{unquote(first): true}
		}
		name := unquote(raw)
		if seen[name] {
			return fmt.Errorf("member %s appears twice", quote.Name(name))
		}
		seen[name] = true
	}
	return nil
}
