// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/shale-oci/shale/internal/quote"
)

// Unmarshal reads the one document in data into v, a pointer to the Go type that
// t was made from. It refuses
//
//   - anything but white space after the document,
//   - members whose name is that of a field in another case,
//   - the same name twice in an object that the Go type describes,
//   - objects that lack a required member, and null in their place in a list,
//   - forbidden members.
func (t *Type) Unmarshal(data []byte, v any) error {
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
	if err := json.Unmarshal(data, v); err != nil {
		return describe(err)
	}
	return nil
}

// describe takes the names of Go types out of an error.
func describe(err error) error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fmt.Errorf("member %s is of the wrong type: %s", quote.Name(te.Field), te.Value)
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
		i := 0
		for elem := range elements(data) {
			if n.elem.kind == object && !startsWith(elem, '{') {
				return fmt.Errorf("element %d is not a JSON object", i)
			}
			if err := check(elem, n.elem); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			i++
		}
	}
	return nil
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
		if err := check(value, f.node); err != nil {
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
