// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/layout"
)

// ConfigChange is a difference between the configs or manifests of two images. What one
// side does not have is nil there.
type ConfigChange struct {
	// Field is the name of the field, in lower camel case.
	Field string `json:"field"`
	// Key is the one value that differs of a field that has several with names: the
	// name of a variable in env, the key of a label or an annotation, a volume, a port;
	// of the platform, "os.version" or "os.features"; the name of an other member.
	Key string `json:"key,omitzero"`
	// Old and New are a string, a []string for entrypoint, cmd, os.features, and an env
	// that has the same variables in another order, the number of entries for history,
	// true for a volume or a port, and as package json has it for an other member.
	Old any `json:"old,omitzero"`
	New any `json:"new,omitzero"`
}

// configDiff collects changes.
type configDiff struct {
	ignore  DiffFields
	changes []ConfigChange
}

// diffConfigs compares configs and manifests. The changes are sorted by field, as the
// fields are declared, and by key. timeOnly is set if there are none, and the images
// were created at different times, unless that counts.
func diffConfigs(a, b *diffSide, opt *DiffOptions) (changes []ConfigChange, timeOnly bool) {
	d := &configDiff{ignore: opt.Ignore, changes: []ConfigChange{}}
	if !opt.Times {
		d.ignore |= DiffCreated
	}
	x, y := &a.stack.Config, &b.stack.Config
	d.platform(&x.Platform, &y.Platform)
	d.text(DiffCreated, timeText(x.Created), timeText(y.Created))
	d.text(DiffAuthor, x.Author, y.Author)
	d.text(DiffUser, x.Config.User, y.Config.User)
	d.env(x.Config.Env, y.Config.Env)
	d.list(DiffEntrypoint, "", x.Config.Entrypoint, y.Config.Entrypoint)
	d.list(DiffCmd, "", x.Config.Cmd, y.Config.Cmd)
	d.text(DiffWorkingDir, x.Config.WorkingDir, y.Config.WorkingDir)
	d.table(DiffVolumes, setTable(x.Config.Volumes), setTable(y.Config.Volumes))
	d.table(DiffExposedPorts, setTable(x.Config.ExposedPorts), setTable(y.Config.ExposedPorts))
	d.table(DiffLabels, textTable(x.Config.Labels), textTable(y.Config.Labels))
	d.text(DiffStopSignal, x.Config.StopSignal, y.Config.StopSignal)
	d.table(DiffOther, a.other, b.other)
	if n, m := len(x.History), len(y.History); n != m {
		d.add(DiffHistory, "", n, m)
	}
	d.table(DiffAnnotations, textTable(a.stack.Manifest.Annotations), textTable(b.stack.Manifest.Annotations))
	created := timeText(x.Created) != timeText(y.Created) && opt.Ignore&DiffCreated == 0
	return d.changes, created && !opt.Times && len(d.changes) == 0
}

func (d *configDiff) add(field DiffFields, key string, was, now any) {
	if d.ignore&field == 0 {
		d.changes = append(d.changes, ConfigChange{Field: field.names()[0], Key: key, Old: was, New: now})
	}
}

// text compares strings, of which an empty one is none.
func (d *configDiff) text(field DiffFields, was, now string) { d.keyed(field, "", was, now) }

func (d *configDiff) keyed(field DiffFields, key, was, now string) {
	if was != now {
		d.add(field, key, orNil(was, was != ""), orNil(now, now != ""))
	}
}

func orNil(v any, there bool) any {
	if there {
		return v
	}
	return nil
}

func (d *configDiff) list(field DiffFields, key string, was, now []string) {
	if !slices.Equal(was, now) {
		d.add(field, key, orNil(was, len(was) > 0), orNil(now, len(now) > 0))
	}
}

// table compares key by key.
func (d *configDiff) table(field DiffFields, was, now map[string]any) {
	keys := make(map[string]any, len(was)+len(now))
	maps.Copy(keys, was)
	maps.Copy(keys, now)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !reflect.DeepEqual(was[key], now[key]) {
			d.add(field, key, was[key], now[key])
		}
	}
}

func setTable(set map[string]struct{}) map[string]any {
	table := make(map[string]any, len(set))
	for key := range set {
		table[key] = true
	}
	return table
}

func textTable(m map[string]string) map[string]any {
	table := make(map[string]any, len(m))
	for key, value := range m {
		table[key] = value
	}
	return table
}

// env compares variable by variable. Of one that is there twice, the last counts; if that
// makes no difference, the order does.
func (d *configDiff) env(was, now []string) {
	if slices.Equal(was, now) {
		return
	}
	before := len(d.changes)
	d.table(DiffEnv, envTable(was), envTable(now))
	if len(d.changes) == before {
		d.list(DiffEnv, "", was, now)
	}
}

func envTable(env []string) map[string]any {
	table := make(map[string]any, len(env))
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		table[name] = value
	}
	return table
}

func (d *configDiff) platform(was, now *ispec.Platform) {
	d.text(DiffPlatform, layout.PlatformString(*was), layout.PlatformString(*now))
	d.list(DiffPlatform, "os.features", was.OSFeatures, now.OSFeatures)
	d.keyed(DiffPlatform, "os.version", was.OSVersion, now.OSVersion)
}

// comparedMembers are the members of the config's "config" that have a field of their own.
var comparedMembers = []string{
	"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
}

// otherMembers returns what the "config" of an image's config has besides. Some tools write
// members that are empty, and others do not.
func otherMembers(ctx context.Context, l *layout.Layout, config ispec.Descriptor) (map[string]any, error) {
	data, err := l.ReadBlob(ctx, config)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Config map[string]any `json:"config"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("config %s: %w", config.Digest, err)
	}
	maps.DeleteFunc(doc.Config, func(name string, value any) bool {
		return isEmpty(value) || slices.Contains(comparedMembers, name)
	})
	return doc.Config, nil
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return value == "" || value == false || value == 0.0
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
