// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
)

// inherit makes the settings that the image has from the old base those of the new one.
func (i *Image) inherit(opt RebaseOptions) error {
	h := heir{warn: opt.Stack.Warn}
	c, old, fresh := &i.config.value, &opt.Old.config.value, &opt.New.config.value
	c.Config = h.config(c.Config, old.Config, fresh.Config)
	c.OSVersion = inherited(&h, "os.version", c.OSVersion, old.OSVersion, fresh.OSVersion)
	c.OSFeatures = inheritedList(&h, "os.features", c.OSFeatures, old.OSFeatures, fresh.OSFeatures)
	data, err := h.foreign(i.config.data, opt.Old.config.data, opt.New.config.data)
	if err != nil {
		return fmt.Errorf("merge configs: %w", err)
	}
	if data != nil {
		i.config.data, i.foreign = data, true
	}
	return nil
}

// heir decides what an image inherits.
type heir struct{ warn func(msg string) }

// conflict tells that image and new base have both changed something.
func (h *heir) conflict(name string) {
	if h.warn != nil {
		h.warn(fmt.Sprintf("the image and its new base have both changed %s: that of the image stays", quote.Name(name)))
	}
}

// takes reports whether the image takes over what the new base has, by whether three
// values are equal.
func (h *heir) takes(name string, sameAsOld, newSame, sameAsNew bool) bool {
	if !sameAsOld && !newSame && !sameAsNew {
		h.conflict(name)
	}
	return sameAsOld
}

func inherited[T comparable](h *heir, name string, own, old, fresh T) T {
	if h.takes(name, own == old, fresh == old, own == fresh) {
		return fresh
	}
	return own
}

func inheritedList(h *heir, name string, own, old, fresh []string) []string {
	if h.takes(name, slices.Equal(own, old), slices.Equal(fresh, old), slices.Equal(own, fresh)) {
		return slices.Clone(fresh)
	}
	return own
}

// inheritedMap decides for each key. It is nil if nothing is left.
func inheritedMap[V comparable](h *heir, name string, own, old, fresh map[string]V) map[string]V {
	var out map[string]V
	all := maps.Clone(own)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, fresh)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		a, inOwn := own[key]
		o, inOld := old[key]
		n, inNew := fresh[key]
		value, there := a, inOwn
		if h.takes(name+" "+key, inOwn == inOld && a == o, inNew == inOld && n == o, inOwn == inNew && a == n) {
			value, there = n, inNew
		}
		if there {
			if out == nil {
				out = map[string]V{}
			}
			out[key] = value
		}
	}
	return out
}

func (h *heir) config(own, old, fresh ispec.ImageConfig) ispec.ImageConfig {
	return ispec.ImageConfig{
		User:         inherited(h, "the user", own.User, old.User, fresh.User),
		ExposedPorts: inheritedMap(h, "port", own.ExposedPorts, old.ExposedPorts, fresh.ExposedPorts),
		Env:          h.env(own.Env, old.Env, fresh.Env),
		Entrypoint:   inheritedList(h, "the entrypoint", own.Entrypoint, old.Entrypoint, fresh.Entrypoint),
		Cmd:          inheritedList(h, "the command", own.Cmd, old.Cmd, fresh.Cmd),
		Volumes:      inheritedMap(h, "volume", own.Volumes, old.Volumes, fresh.Volumes),
		WorkingDir:   inherited(h, "the working directory", own.WorkingDir, old.WorkingDir, fresh.WorkingDir),
		Labels:       inheritedMap(h, "label", own.Labels, old.Labels, fresh.Labels),
		StopSignal:   inherited(h, "the stop signal", own.StopSignal, old.StopSignal, fresh.StopSignal),
		ArgsEscaped:  inherited(h, "ArgsEscaped", own.ArgsEscaped, old.ArgsEscaped, fresh.ArgsEscaped), //nolint:staticcheck // deprecated, but images have it
	}
}

// env merges the variables: those of the new base in their order, and then the image's
// own. Of a variable that is there twice, the last counts.
func (h *heir) env(own, old, fresh []string) []string {
	merged := inheritedMap(h, "variable", variables(own), variables(old), variables(fresh))
	var out []string
	for _, v := range slices.Concat(fresh, own) {
		name, _, _ := strings.Cut(v, "=")
		if value, ok := merged[name]; ok {
			out = append(out, value)
			delete(merged, name)
		}
	}
	return out
}

// variables returns the entries of an environment by the names of their variables.
func variables(env []string) map[string]string {
	byName := make(map[string]string, len(env))
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		byName[name] = v
	}
	return byName
}

// foreign decides about the members of a config that the image-spec does not know, as
// Docker's health check, and returns the document with what has changed; nil if nothing
// has.
func (h *heir) foreign(own, old, fresh []byte) ([]byte, error) {
	var docs [3]map[string]json.RawMessage
	var configs [3]map[string]json.RawMessage
	for n, data := range [][]byte{own, old, fresh} {
		if err := json.Unmarshal(data, &docs[n]); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(orNull(docs[n]["config"]), &configs[n]); err != nil {
			return nil, err
		}
		for name, value := range configs[n] {
			var compact bytes.Buffer
			if knownMembers[name] || json.Compact(&compact, value) != nil {
				delete(configs[n], name)
				continue
			}
			configs[n][name] = compact.Bytes()
		}
	}
	values := func(n int) map[string]string {
		m := make(map[string]string, len(configs[n]))
		for name, value := range configs[n] {
			m[name] = string(value)
		}
		return m
	}
	was := values(0)
	is := inheritedMap(h, "setting", was, values(1), values(2))
	if maps.Equal(was, is) {
		return nil, nil
	}
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(orNull(docs[0]["config"]), &config); err != nil {
		return nil, err
	}
	if config == nil {
		config = map[string]json.RawMessage{}
	}
	for name := range was {
		delete(config, name)
	}
	for name, value := range is {
		config[name] = json.RawMessage(value)
	}
	var err error
	if docs[0]["config"], err = json.Marshal(config); err != nil {
		return nil, err
	}
	return json.Marshal(docs[0])
}

func orNull(data json.RawMessage) []byte {
	if data == nil {
		return []byte("null")
	}
	return data
}

// knownMembers are the members of a config's config that are decided about one by one,
// and Docker's triggers for builds, which are for those that build on the image and for
// nobody after them.
var knownMembers = func() map[string]bool {
	known := map[string]bool{"OnBuild": true}
	t := reflect.TypeFor[ispec.ImageConfig]()
	for n := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(n).Tag.Get("json"), ",")
		known[name] = true
	}
	return known
}()
