// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"maps"
	"slices"
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

// Set changes the image's settings to s. Descriptors of the image in an index keep
// the platform that they have.
func (i *Image) Set(s Settings) {
	c := &i.config.value
	c.Config = cloneConfig(s.Config)
	c.Platform = clonePlatform(s.Platform)
	c.Author = s.Author
	c.Created = cloneTime(s.Created)
	i.manifest.value.Annotations = maps.Clone(s.Annotations)
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
