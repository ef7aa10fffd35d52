// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"encoding/json"
	"hash/maphash"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// decoder reads values as encoding/json does, only faster: the document is known to be
// valid and to hold no name twice. It leaves to encoding/json what is seldom there, and
// whatever it would have to report.
type decoder struct {
	// recent are strings that were read: many in a list of descriptors are the same.
	recent [64]string
}

var seed = maphash.MakeSeed()

// decode reads data into v, the zero value of the type that n describes. It returns
// false if that is up to encoding/json; what v holds then does not matter.
func (d *decoder) decode(data []byte, n *node, v reflect.Value) bool {
	if v.Kind() == reflect.Pointer {
		if data[0] == 'n' { // null
			return true
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.decode(data, n, v.Elem())
	}
	switch {
	case n.kind == object && data[0] == '{':
		return d.object(data, n, v)
	case n.kind == list && data[0] == '[':
		return d.list(data, n, v)
	case n.kind == dict && data[0] == '{' && v.Type() == reflect.TypeFor[map[string]string]():
		return d.dict(data, v)
	case n.kind == leaf && !n.custom && data[0] == '"' && v.Kind() == reflect.String:
		s, ok := d.text(data[1 : len(data)-1])
		v.SetString(s)
		return ok
	case n.kind == leaf && !n.custom && v.CanInt():
		i, err := strconv.ParseInt(string(data), 10, v.Type().Bits())
		v.SetInt(i)
		return err == nil
	}
	return json.Unmarshal(data, v.Addr().Interface()) == nil
}

func (d *decoder) object(data []byte, n *node, v reflect.Value) bool {
	for name, value := range members(data) {
		f := n.field(name)
		if f != nil && !d.decode(value, f.node, v.FieldByIndex(f.path)) {
			return false
		}
	}
	return true
}

func (d *decoder) list(data []byte, n *node, v reflect.Value) bool {
	size := int(count(data))
	v.Set(reflect.MakeSlice(v.Type(), size, size))
	i := 0
	for elem := range elements(data) {
		if !d.decode(elem, n.elem, v.Index(i)) {
			return false
		}
		i++
	}
	return true
}

func (d *decoder) dict(data []byte, v reflect.Value) bool {
	m := map[string]string{}
	for raw, value := range members(data) {
		if value[0] != '"' {
			return false
		}
		name, ok := d.text(raw)
		text, ok2 := d.text(value[1 : len(value)-1])
		if !ok || !ok2 {
			return false
		}
		m[name] = text
	}
	v.Set(reflect.ValueOf(m))
	return true
}

// text returns what stands between quotes, if it stands for itself.
func (d *decoder) text(raw []byte) (string, bool) {
	at := &d.recent[maphash.Bytes(seed, raw)%uint64(len(d.recent))]
	if *at == string(raw) {
		return *at, true
	}
	if !plain(raw) {
		return "", false
	}
	*at = string(raw)
	return *at, true
}

// plain reports whether a string has neither escapes nor bytes that are not UTF-8.
func plain(raw []byte) bool {
	ascii := true
	for _, c := range raw {
		if c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(raw)
}
