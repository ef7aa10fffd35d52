// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Merge returns v as a JSON document, with all members of orig that the Go type
// does not know still in their places. The document orig is one that Unmarshal
// has accepted; v is a changed copy of what it was read into. If nothing was
// changed, the result is orig itself; and if orig has no unknown members, it is
// what a [json.Encoder] makes of v, including the newline at its end.
//
// An element of a list takes over the unknown members of the element of orig
// that it equals, or else of the one that [Rules] says it came from.
func (t *Type) Merge(v any, orig []byte) ([]byte, error) {
	old := reflect.New(t.goType)
	if err := json.Unmarshal(orig, old.Interface()); err != nil {
		return nil, fmt.Errorf("decode the document before the change: %w", describe(err))
	}
	canon, err := json.Marshal(old.Interface())
	if err != nil {
		return nil, fmt.Errorf("encode the document before the change: %w", err)
	}
	enc, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the document: %w", err)
	}
	return t.MergeEncoded(enc, canon, orig), nil
}

// MergeEncoded is Merge for who has both forms already: enc is what [json.Marshal] makes
// of the changed document, canon what it made of the document before the change.
func (t *Type) MergeEncoded(enc, canon, orig []byte) []byte {
	if bytes.Equal(enc, canon) {
		return orig
	}
	return append(t.merge(enc, side{canon: canon, orig: orig}, t.root), '\n')
}

// side is one value of the document before the change: as it was written, and
// as encoding/json writes it, without what is not known.
type side struct{ canon, orig []byte }

// merge returns enc with the unknown members of old added.
func (t *Type) merge(enc []byte, old side, n *node) []byte {
	switch {
	case !n.hasUnknown(old.orig):
		return enc
	case n.kind == object:
		return t.mergeObject(enc, old, n)
	case n.kind == list:
		return t.mergeList(enc, old, n)
	}
	return enc
}

// hasUnknown reports whether there is a member below data that n does not know.
func (n *node) hasUnknown(data []byte) bool {
	switch n.kind {
	case object:
		for raw, value := range members(data) {
			f := n.field(raw)
			if f == nil || f.node.hasUnknown(value) {
				return true
			}
		}
	case list:
		for elem := range elements(data) {
			if n.elem.hasUnknown(elem) {
				return true
			}
		}
	}
	return false
}

func (t *Type) mergeObject(enc []byte, old side, n *node) []byte {
	if !startsWith(enc, '{') {
		return enc
	}
	out := []byte{'{'}
	add := func(name, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), `":`...)
		out = append(out, value...)
	}
	for name, value := range members(enc) {
		if f := n.field(name); f != nil {
			was := side{canon: member(old.canon, unquote(name)), orig: member(old.orig, unquote(name))}
			value = t.merge(value, was, f.node)
		}
		add(name, value)
	}
	for name, value := range members(old.orig) {
		if n.field(name) == nil {
			var buf bytes.Buffer
			if err := json.Compact(&buf, value); err == nil {
				value = buf.Bytes()
			}
			add(name, value)
		}
	}
	return append(out, '}')
}

// member returns the value of the member called name; nil if there is none.
func member(data []byte, name string) []byte {
	for raw, value := range members(data) {
		if unquote(raw) == name {
			return value
		}
	}
	return nil
}

func (t *Type) mergeList(enc []byte, old side, n *node) []byte {
	if !startsWith(enc, '[') {
		return enc
	}
	origins := t.origins(enc, old)
	out := []byte{'['}
	i := 0
	for elem := range elements(enc) {
		if i > 0 {
			out = append(out, ',')
		}
		if o := origins[i]; o.orig != nil {
			elem = t.merge(elem, o, n.elem)
		}
		out = append(out, elem...)
		i++
	}
	return append(out, ']')
}

// origins finds for each element of enc the element of old that it came from.
func (t *Type) origins(enc []byte, old side) []side {
	olds := pair(old)
	equal := map[string][]int{}
	keyed := map[string]int{}
	for j := range olds {
		equal[string(olds[j].canon)] = append(equal[string(olds[j].canon)], j)
		if key := t.key(olds[j].canon); key != "" {
			if _, ok := keyed[key]; !ok {
				keyed[key] = j
			}
		}
	}
	var news [][]byte
	for elem := range elements(enc) {
		news = append(news, elem)
	}
	found := make([]side, len(news))
	taken := make([]bool, len(olds))
	for i, elem := range news {
		if js := equal[string(elem)]; len(js) > 0 {
			found[i], taken[js[0]] = olds[js[0]], true
			equal[string(elem)] = js[1:]
		}
	}
	for i, elem := range news {
		if found[i].orig != nil {
			continue
		}
		if j, ok := keyed[t.key(elem)]; ok {
			found[i] = olds[j]
		} else if t.rules.ByPosition && len(news) == len(olds) && !taken[i] {
			found[i] = olds[i]
		}
	}
	return found
}

// pair lists the elements of both forms of a list side by side. Decoding and
// encoding keeps the elements of a list and their order.
func pair(old side) []side {
	var olds []side
	for elem := range elements(old.orig) {
		olds = append(olds, side{orig: elem})
	}
	i := 0
	for elem := range elements(old.canon) {
		if i < len(olds) {
			olds[i].canon = elem
		}
		i++
	}
	return olds
}

// key returns what the element is known by, or "".
func (t *Type) key(elem []byte) string {
	if t.rules.Key == "" {
		return ""
	}
	return string(member(elem, t.rules.Key))
}
