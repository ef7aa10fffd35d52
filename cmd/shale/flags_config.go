// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/mutate"
)

// configFlags say what of an image is to be changed, apart from its layers.
type configFlags struct {
	user, workingDir, stopSignal string
	created, author              string
	os, arch, variant            string

	ports, volumes                []string
	env, labels                   []string
	annotations, indexAnnotations []string
	entrypoint, cmd               []string
	entrypointJSON, cmdJSON       string
	clear                         []string

	given func(name string) bool
	edits []func(*draft) // in the order in which they are to be made
}

// draft is an image as it is to become.
type draft struct {
	mutate.Settings
	descriptor map[string]string // annotations of the image's descriptor in its index
}

// The names of flags that are more than a way to their value.
const (
	osFlag         = "platform.os"
	archFlag       = "platform.arch"
	variantFlag    = "platform.variant"
	entrypointFlag = "config.entrypoint"
	cmdFlag        = "config.cmd"
	jsonSuffix     = ".json"
)

func (f *configFlags) flags() []cli.Flag {
	text := func(name string, to *string, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Name: name, Aliases: aliases, Destination: to, Usage: usage}
	}
	list := func(name string, to *[]string, usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: name, Destination: to, Usage: usage}
	}
	return []cli.Flag{
		text("config.user", &f.user, "the `user`, by name or number, whom the command runs as"),
		list("config.exposedports", &f.ports, "add a `port`, as in 80/tcp; with a minus sign at its end, remove it"),
		list("config.env", &f.env, "set an environment variable, as in `key=value`; key- removes it"),
		list(entrypointFlag, &f.entrypoint, "an `argument` of the entrypoint"),
		text(entrypointFlag+jsonSuffix, &f.entrypointJSON, "the entrypoint as a JSON `array` of strings, which may be empty"),
		list(cmdFlag, &f.cmd, "an `argument` of the default command"),
		text(cmdFlag+jsonSuffix, &f.cmdJSON, "the default command as a JSON `array` of strings, which may be empty"),
		list("config.volume", &f.volumes, "add a `path` as a volume; with a minus sign at its end, remove it"),
		list("config.label", &f.labels, "set a label, as in `key=value`; key- removes it"),
		text("config.workingdir", &f.workingDir, "the `directory` in which the command runs"),
		text("config.stopsignal", &f.stopSignal, "the `signal` that ends the command"),
		text("created", &f.created, "the `time` at which the image was made, as in 2006-01-02T15:04:05Z"),
		text("author", &f.author, "the `author` of the image"),
		text(osFlag, &f.os, "the operating `system` that the image is for", "os"),
		text(archFlag, &f.arch, "the `architecture` that the image is for", "architecture"),
		text(variantFlag, &f.variant, "the `variant` of the architecture"),
		list("manifest.annotation", &f.annotations, "set an annotation of the manifest, as in `key=value`; key- removes it"),
		list("index.annotation", &f.indexAnnotations,
			"set an annotation of the image's descriptor in the index that lists it, as in `key=value`; key- removes it"),
		list("clear", &f.clear, "clear what `key` names: "+strings.Join(slices.Sorted(maps.Keys(clearings)), ", ")),
	}
}

// clearings are what --clear can clear.
var clearings = map[string]func(*draft){
	"config.labels":        func(d *draft) { d.Config.Labels = nil },
	"config.exposedports":  func(d *draft) { d.Config.ExposedPorts = nil },
	"config.env":           func(d *draft) { d.Config.Env = nil },
	"config.volume":        func(d *draft) { d.Config.Volumes = nil },
	cmdFlag:                func(d *draft) { d.Config.Cmd = nil },
	entrypointFlag:         func(d *draft) { d.Config.Entrypoint = nil },
	"manifest.annotations": func(d *draft) { d.Annotations = nil },
	"index.annotations":    func(d *draft) { d.descriptor = nil },
}

func (f *configFlags) check(given func(string) bool) error {
	f.given = given
	for _, part := range []func() error{f.checkClear, f.checkValues, f.checkCommands, f.checkSets, f.checkMaps} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// checkAll says which flags do not go together with --all-platforms.
func (f *configFlags) checkAll(all, platform bool) error {
	if !all {
		return nil
	}
	if platform {
		return errors.New("--all-platforms and --platform may not be given together")
	}
	for _, name := range []string{osFlag, archFlag, variantFlag} {
		if f.given(name) {
			return fmt.Errorf("--all-platforms and --%s may not be given together", name)
		}
	}
	return nil
}

func (f *configFlags) edit(e func(*draft)) { f.edits = append(f.edits, e) }

func (f *configFlags) checkClear() error {
	for _, key := range f.clear {
		if key == "rootfs.diffids" {
			return errors.New("invalid --clear: rootfs.diffids cannot be cleared, since the layers would be lost")
		}
		e, ok := clearings[key]
		if !ok {
			return fmt.Errorf("invalid --clear: %s is none of %s", quote.Name(key),
				strings.Join(slices.Sorted(maps.Keys(clearings)), ", "))
		}
		f.edit(e)
	}
	return nil
}

// checkValues parses the flags that have one value.
func (f *configFlags) checkValues() error {
	if f.given("created") {
		at, err := parseTime(f.created)
		if err != nil {
			return fmt.Errorf("invalid --created: %w", err)
		}
		f.edit(func(d *draft) { d.Created = &at })
	}
	for _, v := range []struct {
		name  string
		value *string
		field func(*draft) *string
	}{
		{"author", &f.author, func(d *draft) *string { return &d.Author }},
		{osFlag, &f.os, func(d *draft) *string { return &d.Platform.OS }},
		{archFlag, &f.arch, func(d *draft) *string { return &d.Platform.Architecture }},
		{variantFlag, &f.variant, func(d *draft) *string { return &d.Platform.Variant }},
		{"config.user", &f.user, func(d *draft) *string { return &d.Config.User }},
		{"config.stopsignal", &f.stopSignal, func(d *draft) *string { return &d.Config.StopSignal }},
		{"config.workingdir", &f.workingDir, func(d *draft) *string { return &d.Config.WorkingDir }},
	} {
		if f.given(v.name) {
			f.edit(func(d *draft) { *v.field(d) = *v.value })
		}
	}
	return nil
}

// checkCommands parses the flags for what is run.
func (f *configFlags) checkCommands() error {
	for _, v := range []struct {
		name  string
		list  *[]string
		json  string
		field func(*draft) *[]string
	}{
		{entrypointFlag, &f.entrypoint, f.entrypointJSON, func(d *draft) *[]string { return &d.Config.Entrypoint }},
		{cmdFlag, &f.cmd, f.cmdJSON, func(d *draft) *[]string { return &d.Config.Cmd }},
	} {
		args, set := *v.list, f.given(v.name)
		if f.given(v.name + jsonSuffix) {
			if set {
				return fmt.Errorf("--%s and --%s may not be given together", v.name, v.name+jsonSuffix)
			}
			set = true
			if err := json.Unmarshal([]byte(v.json), &args); err != nil || args == nil {
				return fmt.Errorf("invalid --%s: %s is not a JSON array of strings", v.name+jsonSuffix, quote.Name(v.json))
			}
		}
		if set {
			f.edit(func(d *draft) { *v.field(d) = slices.Clone(args) })
		}
	}
	return nil
}

// checkSets parses the flags for sets of names.
func (f *configFlags) checkSets() error {
	for _, v := range []struct {
		name  string
		list  []string
		field func(*draft) *map[string]struct{}
	}{
		{"config.exposedports", f.ports, func(d *draft) *map[string]struct{} { return &d.Config.ExposedPorts }},
		{"config.volume", f.volumes, func(d *draft) *map[string]struct{} { return &d.Config.Volumes }},
	} {
		for _, name := range v.list {
			rest, remove := strings.CutSuffix(name, "-")
			if remove && rest == "" {
				return fmt.Errorf("invalid --%s: %s names nothing", v.name, quote.Name(name))
			}
			f.edit(func(d *draft) {
				set := v.field(d)
				if remove {
					delete(*set, rest)
					return
				}
				if *set == nil {
					*set = map[string]struct{}{}
				}
				(*set)[name] = struct{}{}
			})
		}
	}
	return nil
}

// checkMaps parses the flags for keys with values.
func (f *configFlags) checkMaps() error {
	for _, v := range []struct {
		name   string
		list   []string
		change func(d *draft, key, value string, remove bool)
	}{
		{"config.env", f.env, func(d *draft, key, value string, remove bool) {
			if remove {
				d.UnsetEnv(key)
			} else {
				d.SetEnv(key, value)
			}
		}},
		{"config.label", f.labels, func(d *draft, key, value string, remove bool) {
			change(&d.Config.Labels, key, value, remove)
		}},
		{"manifest.annotation", f.annotations, func(d *draft, key, value string, remove bool) {
			change(&d.Annotations, key, value, remove)
		}},
		{"index.annotation", f.indexAnnotations, func(d *draft, key, value string, remove bool) {
			change(&d.descriptor, key, value, remove)
		}},
	} {
		for _, s := range v.list {
			key, value, set := strings.Cut(s, "=")
			remove := false
			if !set {
				key, remove = strings.CutSuffix(s, "-")
			}
			switch {
			case !set && !remove:
				return fmt.Errorf("invalid --%s: %s has no '='", v.name, quote.Name(s))
			case key == "":
				return fmt.Errorf("invalid --%s: %s has no key", v.name, quote.Name(s))
			case v.name == "index.annotation" && key == ispec.AnnotationRefName:
				return fmt.Errorf("invalid --%s: %s is the tag of the image, for --tag to set", v.name, key)
			}
			f.edit(func(d *draft) { v.change(d, key, value, remove) })
		}
	}
	return nil
}

// change sets or removes one entry of a map, which may be nil.
func change(m *map[string]string, key, value string, remove bool) {
	switch {
	case remove:
		delete(*m, key)
	case *m == nil:
		*m = map[string]string{key: value}
	default:
		(*m)[key] = value
	}
}

// apply makes the changes.
func (f *configFlags) apply(i *mutate.Image) {
	d := draft{Settings: i.Settings(), descriptor: i.DescriptorAnnotations()}
	for _, e := range f.edits {
		e(&d)
	}
	i.Set(d.Settings)
	i.SetDescriptorAnnotations(d.descriptor)
}
