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
	c.OSVersion = inherited(c.OSVersion, old.OSVersion, fresh.OSVersion)
	c.OSFeatures = inheritedList(c.OSFeatures, old.OSFeatures, fresh.OSFeatures)
	data, err := inheritForeign(i.config.data, opt.Old.config.data, opt.New.config.data)
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

// mixed tells that image and new base have both changed a variable. What an image makes
// of the one that it found, as with PATH, may be made of the old base's for ever.
func (h *heir) mixed(name string) {
	if h.warn != nil {
		h.warn(fmt.Sprintf("the image and its new base have both changed the variable %s: that of the image stays", quote.Name(name)))
	}
}

func inherited[T comparable](own, old, fresh T) T {
	if own == old {
		return fresh
	}
	return own
}

func inheritedList(own, old, fresh []string) []string {
	if slices.Equal(own, old) {
		return slices.Clone(fresh)
	}
	return own
}

// inheritedMap decides for each key. It is nil if nothing is left.
func inheritedMap[V comparable](own, old, fresh map[string]V) map[string]V {
	out := maps.Clone(own)
	for key := range own {
		if o, ok := old[key]; ok && o == own[key] {
			delete(out, key)
		}
	}
	for key, value := range fresh {
		a, inOwn := own[key]
		if o, inOld := old[key]; inOwn != inOld || a != o {
			continue
		}
		if out == nil {
			out = map[string]V{}
		}
		out[key] = value
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (h *heir) config(own, old, fresh ispec.ImageConfig) ispec.ImageConfig {
	return ispec.ImageConfig{
		User:         inherited(own.User, old.User, fresh.User),
		ExposedPorts: inheritedMap(own.ExposedPorts, old.ExposedPorts, fresh.ExposedPorts),
		Env:          h.env(own.Env, old.Env, fresh.Env),
		Entrypoint:   inheritedList(own.Entrypoint, old.Entrypoint, fresh.Entrypoint),
		Cmd:          inheritedList(own.Cmd, old.Cmd, fresh.Cmd),
		Volumes:      inheritedMap(own.Volumes, old.Volumes, fresh.Volumes),
		WorkingDir:   inherited(own.WorkingDir, old.WorkingDir, fresh.WorkingDir),
		Labels:       inheritedMap(own.Labels, old.Labels, fresh.Labels),
		StopSignal:   inherited(own.StopSignal, old.StopSignal, fresh.StopSignal),
		ArgsEscaped:  inherited(own.ArgsEscaped, old.ArgsEscaped, fresh.ArgsEscaped), //nolint:staticcheck // deprecated, but images have it
	}
}

// env merges the variables: those of the new base in their order, and then the image's
// own. Of a variable that is there twice, the last counts.
func (h *heir) env(own, old, fresh []string) []string {
	a, o, n := variables(own), variables(old), variables(fresh)
	merged := inheritedMap(a, o, n)
	var out []string
	for _, v := range slices.Concat(fresh, own) {
		name, _, _ := strings.Cut(v, "=")
		value, ok := merged[name]
		if !ok {
			continue
		}
		if value == a[name] && a[name] != o[name] && n[name] != o[name] && a[name] != n[name] {
			h.mixed(name)
		}
		out = append(out, value)
		delete(merged, name)
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

// inheritForeign decides about the members of a config that the image-spec does not know, as
// Docker's health check, and returns the document with what has changed; nil if nothing
// has.
func inheritForeign(own, old, fresh []byte) ([]byte, error) {
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
	is := inheritedMap(was, values(1), values(2))
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
