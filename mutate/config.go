// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Settings are what can be said about an image apart from its layers and its
// history.
type Settings struct {
	Config      ispec.ImageConfig // how to run the image
	Platform    ispec.Platform    // what the image runs on
	Author      string
	Created     *time.Time        // nil if it is not known
	Annotations map[string]string // of the manifest; labels are in Config
}

// Settings returns a copy of the image's settings. Change it and give it to
// [Image.Set].
func (i *Image) Settings() Settings {
	c := i.config.value
	return Settings{
		Config:      cloneConfig(c.Config),
		Platform:    clonePlatform(c.Platform),
		Author:      c.Author,
		Created:     cloneTime(c.Created),
		Annotations: maps.Clone(i.manifest.value.Annotations),
	}
}

// Set changes the image's settings to s. Where a descriptor of the image names its
// platform, what has changed of that is changed there too.
func (i *Image) Set(s Settings) {
	c := &i.config.value
	c.Config = cloneConfig(s.Config)
	c.Platform = clonePlatform(s.Platform)
	c.Author = s.Author
	c.Created = cloneTime(s.Created)
	i.manifest.value.Annotations = maps.Clone(s.Annotations)
}

// SetConfig takes over a config from elsewhere, with the members that the image-spec
// does not know. Its rootfs and its history are not looked at: those of the image stay.
// So does the platform, if data names none.
func (i *Image) SetConfig(data []byte) error {
	var c ispec.Image
	if err := configDoc.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	old := &i.config.value
	c.RootFS, c.History = old.RootFS, old.History
	if c.OS == "" && c.Architecture == "" {
		c.Platform = old.Platform
	}
	i.config.data, i.config.value, i.foreign = slices.Clone(data), c, true
	return nil
}

// DescriptorAnnotations returns a copy of the annotations that the image's descriptor
// has in the index that lists it: that is index.json, if no other is on the path.
func (i *Image) DescriptorAnnotations() map[string]string { return maps.Clone(i.target.Annotations) }

// SetDescriptorAnnotations changes the annotations that the image's descriptor has in
// the index that lists it.
func (i *Image) SetDescriptorAnnotations(a map[string]string) { i.target.Annotations = maps.Clone(a) }

// SetEnv sets a variable of the environment: in place if it is there, and otherwise
// at the end.
func (s *Settings) SetEnv(name, value string) {
	for n, v := range s.Config.Env {
		if strings.HasPrefix(v, name+"=") {
			s.Config.Env[n] = name + "=" + value
			return
		}
	}
	s.Config.Env = append(s.Config.Env, name+"="+value)
}

// UnsetEnv removes a variable from the environment.
func (s *Settings) UnsetEnv(name string) {
	s.Config.Env = slices.DeleteFunc(s.Config.Env, func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		return key == name
	})
}

// AddHistory adds an entry for a change that has no layer.
func (i *Image) AddHistory(h ispec.History) { i.addHistory(h, true) }

func (i *Image) addHistory(h ispec.History, empty bool) {
	h.EmptyLayer = empty
	h.Created = cloneTime(h.Created)
	i.config.value.History = append(i.config.value.History, h)
}

func cloneConfig(c ispec.ImageConfig) ispec.ImageConfig {
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Env = slices.Clone(c.Env)
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.Cmd = slices.Clone(c.Cmd)
	c.Volumes = maps.Clone(c.Volumes)
	c.Labels = maps.Clone(c.Labels)
	return c
}

func clonePlatform(p ispec.Platform) ispec.Platform {
	p.OSFeatures = slices.Clone(p.OSFeatures)
	return p
}

func cloneTime(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	c := *t
	return &c
}
