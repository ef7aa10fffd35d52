// SPDX-License-Identifier: Apache-2.0

// Package jsondoc reads JSON documents of foreign origin strictly and changes
// them without losing what it does not know.
//
// encoding/json is lenient where that is dangerous: it matches member names
// without regard to case, takes the last of two members with the same name, and
// turns three bytes of input into a whole struct. Two programs may then read two
// different images out of the same bytes. It also forgets every member that the
// Go type has no field for, so that a document that is read and written back is
// a poorer one.
//
// Start with [New], which derives from a Go type what a document may hold, then
// read with [Type.Unmarshal] and write back with [Type.Merge].
package jsondoc

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Rules are what a document must hold to beyond the fields of its Go type.
type Rules struct {
	// Forbidden names members that must not be at the top level, in any case.
	Forbidden []string
	// Required names the members that each object read into a struct type must
	// have. It is checked before anything is allocated for the object.
	Required map[reflect.Type][]string
	// Key is the member by which [Type.Merge] knows an element of a list again
	// after it was changed. Empty means that a changed element is a new one.
	Key string
	// ByPosition lets [Type.Merge] know an element again by its place in the
	// list, if the list has kept its length and nothing else fits.
	ByPosition bool
	// MaxValues is how many values a document may hold: members, elements, objects
	// and lists, at all levels together. 0 means DefaultMaxValues. It bounds what
	// the document costs in memory, since the smallest value takes two bytes to
	// write and up to a hundred to keep.
	MaxValues int
	// MaxItems says how many elements the list may have that is the value of the
	// member called so, wherever that is. Those that are not named are bounded by
	// MaxValues alone.
	MaxItems map[string]int
}

const (
	// DefaultMaxValues is a dozen values for each layer of the largest images there
	// are, many times over.
	DefaultMaxValues = 1 << 18
	// maxNesting is how deep objects and lists may be in each other. Documents of
	// the image-spec go to seven.
	maxNesting = 256
)

// Type says what a document may hold. It is safe for concurrent use.
type Type struct {
	goType reflect.Type
	root   *node
	rules  Rules
}

// New derives the type of a document from the struct type T.
func New[T any](rules Rules) *Type {
	if rules.MaxValues == 0 {
		rules.MaxValues = DefaultMaxValues
	}
	t := reflect.TypeFor[T]()
	return &Type{goType: t, root: build(t, rules, map[reflect.Type]*node{}), rules: rules}
}

type kind int

const (
	leaf kind = iota // any value; what is inside does not matter
	object
	dict // an object whose member names are data
	list
)

// node describes one value of a document.
type node struct {
	kind     kind
	custom   bool              // the type reads itself
	fields   map[string]*field // of an object
	names    []string          // of an object, for matching without regard to case
	required []string          // of an object
	elem     *node             // of a list
}

// max is how many elements the list called name may have.
func (r Rules) max(name string) int {
	if n, ok := r.MaxItems[name]; ok {
		return n
	}
	return math.MaxInt
}

type field struct {
	node     *node
	path     []int // of the field in the struct
	index    int   // bit in a set of the fields seen
	maxItems int   // of a list
}

// field returns the field for a name as members yields it; nil if there is none.
func (n *node) field(raw []byte) *field {
	if f := n.fields[string(raw)]; f != nil {
		return f
	}
	return n.fields[unquote(raw)]
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func build(t reflect.Type, rules Rules, done map[reflect.Type]*node) *node {
	if t.Kind() == reflect.Pointer {
		return build(t.Elem(), rules, done)
	}
	if n := done[t]; n != nil {
		return n
	}
	n := &node{}
	done[t] = n
	if p := reflect.PointerTo(t); p.Implements(unmarshaler) || p.Implements(textUnmarshaler) {
		n.custom = true
		return n
	}
	switch t.Kind() {
	case reflect.Struct:
		n.kind = object
		n.fields = map[string]*field{}
		n.required = rules.Required[t]
		n.addFields(t, nil, rules, done)
	case reflect.Map:
		n.kind = dict
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			n.kind = list
			n.elem = build(t.Elem(), rules, done)
		}
	}
	return n
}

// addFields adds the fields of t, and those of structs embedded in it. The path is that
// of t in the struct that n describes.
func (n *node) addFields(t reflect.Type, path []int, rules Rules, done map[reflect.Type]*node) {
	for i := range t.NumField() {
		f, path := t.Field(i), append(slices.Clone(path), i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			n.addFields(f.Type, path, rules, done)
			continue
		case name == "-" || !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		n.fields[name] = &field{node: build(f.Type, rules, done), path: path, index: len(n.names), maxItems: rules.max(name)}
		n.names = append(n.names, name)
	}
	if len(n.names) > 64 {
		panic(fmt.Sprintf("jsondoc: %s has more than 64 fields", t))
	}
}
