// SPDX-License-Identifier: Apache-2.0

package jsondoc

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	ID   string            `json:"id"`
	N    int               `json:"n,omitempty"`
	Tags map[string]string `json:"tags,omitempty"`
}

type Version struct {
	Version int `json:"version"`
}

type word string

type doc struct {
	Version
	Name  string         `json:"name,omitempty"`
	When  *time.Time     `json:"when,omitempty"`
	One   *inner         `json:"one,omitempty"`
	Many  []inner        `json:"many,omitempty"`
	Blob  []byte         `json:"blob,omitempty"`
	Words []word         `json:"words,omitempty"`
	Small int8           `json:"small,omitempty"`
	Yes   bool           `json:"yes,omitempty"`
	Any   any            `json:"any,omitempty"`
	Other map[string]int `json:"other,omitempty"`
	Maybe []*word        `json:"maybe,omitempty"`
}

func testType(byPosition bool) *Type {
	return New[doc](Rules{
		Forbidden:  []string{"evil"},
		Required:   map[reflect.Type][]string{reflect.TypeFor[inner](): {"id"}},
		Key:        "id",
		ByPosition: byPosition,
	})
}

func TestUnmarshal(t *testing.T) {
	typ := testType(false)
	for _, tc := range []struct {
		name, in, wantErr string
	}{
		{"empty object", `{}`, ""},
		{"white space around", " \n{ \"version\" : 2 , \"name\":\"x\" }\n\t", ""},
		{"foreign members", `{"x":{"Version":1,"version":2,"version":3},"version":2}`, ""},
		{"null members", `{"name":null,"many":null,"one":null,"when":null}`, ""},
		{"nested", `{"many":[{"id":"a","tags":{"A":"1","a":"2"}},{"id":"b"}],"words":["x","}"]}`, ""},
		{"escaped name", `{"\u0076ersion":3}`, ""},
		{"strings with brackets", `{"x":"]}\"{[\\","name":"\"}"}`, ""},
		{"second document", `{"version":1}{"version":2}`, "after top-level value"},
		{"junk after", `{"version":1} x`, "after top-level value"},
		{"truncated", `{"version":1`, "unexpected end"},
		{"nothing", ``, "unexpected end"},
		{"null", `null`, "not a JSON object"},
		{"array", `[]`, "not a JSON object"},
		{"other case", `{"Version":1}`, "member Version must be written version"},
		{"other case, escaped", `{"\u0056ersion":1}`, "must be written version"},
		{"other case, long s", `{"ver` + "\u017f" + `ion":1}`, "must be written version"},
		{"other case, nested", `{"many":[{"ID":"x"}]}`, "many: element 0: member ID must be written id"},
		{"twice", `{"version":1,"version":1}`, "member version appears twice"},
		{"twice, escaped", `{"version":1,"\u0076ersion":1}`, "member version appears twice"},
		{"twice in a map", `{"one":{"id":"x","tags":{"a":"1","b":"2","a":"3"}}}`, "one: tags: member a appears twice"},
		{"forbidden", `{"evil":null}`, "member evil does not belong here"},
		{"forbidden, other case", `{"EVIL":1}`, "member EVIL does not belong here"},
		{"required", `{"many":[{"n":1}]}`, "many: element 0: member id is missing"},
		{"null element", `{"many":[null]}`, "element 0 is not a JSON object"},
		{"wrong type", `{"name":1}`, "member name is of the wrong type: number"},
		{"control bytes", `{"one":{"id":"x","\u001bId":1, "I\u001bD":3,"ID":2}}`, "member ID must be written id"},
		{"control bytes in a time", `{"when":"2000-01-01T00:` + "\x7f" + `:00Z"}`, `"2000-01-01T00:\x7f:00Z" is not a time`},
		{"not an object inside", `{"one":[]}`, "member one is of the wrong type: array"},
		{"every type", `{"version":-1,"when":"2020-01-01T00:00:00Z","one":{"id":"i","n":2,"tags":{}},"blob":"AAAA","words":["",null],` +
			`"small":-128,"yes":true,"any":[{"a":1.5},"b"],"other":{"a":1},"maybe":[null,"x"]}`, ""},
		{"empty lists", `{"many":[],"words":[ ],"one":{"id":""}}`, ""},
		{"nulls inside", `{"one":{"id":null,"n":null,"tags":{"a":null}},"small":null,"words":[null]}`, ""},
		{"escapes", `{"name":"\u003c\"\\","one":{"id":"\/","tags":{"\u0061":"\ud800","b\\":"\t"}}}`, ""},
		{"not UTF-8", "{\"name\":\"\xff\",\"one\":{\"id\":\"\",\"tags\":{\"\xc3\":\"\xa4\",\"\u00e4\":\"\u00f6\"}}}", ""},
		{"too large", `{"small":128}`, "member small is of the wrong type: number 128"},
		{"not whole", `{"small":1.0}`, "member small is of the wrong type: number 1.0"},
		{"a number for a word", `{"words":["a",1]}`, "of the wrong type: number"},
		{"a number in a map", `{"one":{"id":"i","tags":{"a":"b","c":1}}}`, "of the wrong type: number"},
		{"not base64", `{"blob":"!"}`, "illegal base64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d doc
			err := typ.Unmarshal([]byte(tc.in), &d)
			switch {
			case tc.wantErr == "" && err != nil:
				t.Fatalf("unexpected error: %v", err)
			case tc.wantErr != "" && err == nil:
				t.Fatalf("no error, want %q", tc.wantErr)
			case err != nil && !strings.Contains(err.Error(), tc.wantErr):
				t.Fatalf("got error %q, want %q", err, tc.wantErr)
			}
			if err == nil {
				var want doc
				if err := json.Unmarshal([]byte(tc.in), &want); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(d, want) {
					t.Errorf("got %+v, want %+v", d, want)
				}
			}
		})
	}
}

func TestMerge(t *testing.T) {
	for _, tc := range []struct {
		name, orig string
		change     func(*doc)
		want       string
	}{
		{
			"no change keeps the bytes", `{ "name": "x",  "version": 1 }`,
			func(*doc) {}, `{ "name": "x",  "version": 1 }`,
		},
		{
			"nothing unknown gives what encoding/json gives", `{ "name": "<x>",  "version": 1 }`,
			func(d *doc) { d.Version.Version = 2 }, `{"version":2,"name":"\u003cx\u003e"}` + "\n",
		},
		{
			"unknown members at the top", `{"a":[1, 2.50],"version":1,"b":{"c" : 12345678901234567890}}`,
			func(d *doc) { d.Name = "n" }, `{"version":1,"name":"n","a":[1,2.50],"b":{"c":12345678901234567890}}` + "\n",
		},
		{
			"in an object below", `{"version":1,"one":{"x":1,"id":"i"}}`,
			func(d *doc) { d.One.ID = "j" }, `{"version":1,"one":{"id":"j","x":1}}` + "\n",
		},
		{
			"an object that was removed", `{"version":1,"one":{"x":1,"id":"i"}}`,
			func(d *doc) { d.One = nil }, `{"version":1}` + "\n",
		},
		{
			"elements that moved", `{"version":1,"many":[{"id":"a","x":1},{"id":"b","x":2},{"id":"c"}]}`,
			func(d *doc) { d.Many = []inner{{ID: "c"}, {ID: "b"}, {ID: "a"}} },
			`{"version":1,"many":[{"id":"c"},{"id":"b","x":2},{"id":"a","x":1}]}` + "\n",
		},
		{
			"an element changed apart from its key", `{"version":1,"many":[{"id":"a","x":1},{"id":"b","x":2}]}`,
			func(d *doc) { d.Many = []inner{{ID: "b", N: 7}, {ID: "new"}} },
			`{"version":1,"many":[{"id":"b","n":7,"x":2},{"id":"new"}]}` + "\n",
		},
		{
			"equal elements keep apart", `{"version":1,"many":[{"id":"a","x":1},{"id":"a","x":2}]}`,
			func(d *doc) { d.Name = "n" },
			`{"version":1,"name":"n","many":[{"id":"a","x":1},{"id":"a","x":2}]}` + "\n",
		},
		{
			"maps are data, not members", `{"version":1,"one":{"id":"i","tags":{"k":"v"}}}`,
			func(d *doc) { d.One.Tags = map[string]string{"l": "w"} },
			`{"version":1,"one":{"id":"i","tags":{"l":"w"}}}` + "\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) { testMerge(t, testType(false), tc.orig, tc.change, tc.want) })
	}
	t.Run("by position", func(t *testing.T) {
		testMerge(t, testType(true), `{"version":1,"many":[{"id":"a","x":1},{"id":"b"}]}`,
			func(d *doc) { d.Many[0].ID = "new" }, `{"version":1,"many":[{"id":"new","x":1},{"id":"b"}]}`+"\n")
	})
}

func testMerge(t *testing.T, typ *Type, orig string, change func(*doc), want string) {
	t.Helper()
	var d doc
	if err := typ.Unmarshal([]byte(orig), &d); err != nil {
		t.Fatal(err)
	}
	change(&d)
	got, err := typ.Merge(&d, []byte(orig))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzMerge checks that what Unmarshal accepts can be changed, that the result
// is accepted again and holds the change, and that nothing at the top is lost.
func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"version":1,"many":[{"id":"a","x":1},{"id":"b","y":[{}]}],"foreign":{"a":1}}`))
	f.Add([]byte(`{"one":{"id":"i","\u0078":"]}"},"words":["a"],"blob":"AAAA"}`))
	f.Add([]byte(`{"small":-1,"yes":true,"any":[1.5],"other":{"a":1},"maybe":[null,"x"],"one":{"id":"\\","tags":{"a":"","\u00e4":"b"}}}`))
	f.Add([]byte(` { "" : "" , "many":null, "when":"2020-01-01T00:00:00Z"} `))
	typ := testType(true)
	f.Fuzz(func(t *testing.T, data []byte) {
		var d doc
		if typ.Unmarshal(data, &d) != nil {
			return
		}
		var same doc
		if err := json.Unmarshal(data, &same); err != nil || !reflect.DeepEqual(d, same) {
			t.Fatalf("encoding/json reads %+v, not %+v (%v)", same, d, err)
		}
		if same, err := typ.Merge(&d, data); err != nil || !bytes.Equal(same, data) {
			t.Fatalf("without a change: %q, %v", same, err)
		}
		d.Version.Version++
		out, err := typ.Merge(&d, data)
		if err != nil {
			t.Fatal(err)
		}
		var again doc
		if err := typ.Unmarshal(out, &again); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if again.Version != d.Version {
			t.Fatalf("%q lost the change", out)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(data, &before) != nil || json.Unmarshal(out, &after) != nil {
			t.Fatal("not an object")
		}
		for name := range before {
			if _, ok := after[name]; !ok && typ.root.fields[name] == nil {
				t.Fatalf("%q lost member %q", out, name)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	typ := New[doc](Rules{MaxValues: 20, MaxItems: map[string]int{"words": 2}})
	for _, tc := range []struct {
		name, in, wantErr string
	}{
		{"as many elements as may be", `{"words":["a","b"]}`, ""},
		{"one more", `{"words":["a","b","c"]}`, "words: 3 elements, and the limit is 2"},
		{"an escaped name", `{"\u0077ords":["a","b","c"]}`, "words: 3 elements, and the limit is 2"},
		{"as many values as may be", `{"x":[` + strings.Repeat(`1,`, 17) + `1]}`, ""},
		{"one more value", `{"x":[` + strings.Repeat(`1,`, 18) + `1]}`, "21 values in one document, and the limit is 20"},
		{"in an object", `{"x":{` + strings.Repeat(`"a":1,`, 18) + `"a":1}}`, "21 values in one document, and the limit is 20"},
		{"strings do not count", `{"name":"` + strings.Repeat(`[,\",{`, 50) + `"}`, ""},
		{"not closed", `{"name":"` + strings.Repeat(`[`, 50), "unexpected end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := typ.Unmarshal([]byte(tc.in), new(doc))
			if (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %v, want %q", err, tc.wantErr)
			}
		})
	}
	for _, depth := range []int{maxNesting - 1, maxNesting} {
		err := testType(false).Unmarshal([]byte(`{"x":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+`}`), new(doc))
		if (err != nil) != (depth == maxNesting) {
			t.Errorf("%d lists in each other: %v", depth, err)
		}
	}
}

// TestUnmarshalInto: what is there already stays, as with encoding/json.
func TestUnmarshalInto(t *testing.T) {
	d := doc{Name: "old", Words: []word{"a"}}
	if err := testType(false).Unmarshal([]byte(`{"version":2}`), &d); err != nil {
		t.Fatal(err)
	}
	if want := (doc{Version: Version{2}, Name: "old", Words: []word{"a"}}); !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v, want %+v", d, want)
	}
}

// TestDecodeFast: what documents mostly hold does not need encoding/json.
func TestDecodeFast(t *testing.T) {
	var d doc
	data := `{"version":2,"name":"x","one":{"id":"i","n":1,"tags":{"a":"b"}},"many":[{"id":"j"}],"words":["w"],"foreign":[1.5]}`
	if !testType(false).decode([]byte(data), &d) {
		t.Error("left to encoding/json")
	}
}

// TestStringEnd compares with a walk through all bytes.
func TestStringEnd(t *testing.T) {
	slow := func(data []byte, i int) int {
		for i++; i < len(data) && data[i] != '"'; i++ {
			if data[i] == '\\' {
				i++
			}
		}
		return min(i+1, len(data))
	}
	for n := range 1 << 14 { // every string of seven of these
		var data []byte
		for range 7 {
			data = append(data, `\"a,`[n%4])
			n /= 4
		}
		for i := range data {
			if got, want := stringEnd(data, i), slow(data, i); got != want {
				t.Fatalf("%q from %d: got %d, want %d", data, i, got, want)
			}
		}
	}
}
