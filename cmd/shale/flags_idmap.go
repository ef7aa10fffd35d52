// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
)

// mapFlags say how the owners in an image relate to those on this machine.
type mapFlags struct {
	uids     []string
	gids     []string
	rootless bool

	options layer.MapOptions
}

func (f *mapFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "uid-map", Destination: &f.uids,
			Usage: "a `map` of user IDs, as container:host[:size]",
		},
		&cli.StringSliceFlag{
			Name: "gid-map", Destination: &f.gids,
			Usage: "a `map` of group IDs, as container:host[:size]",
		},
		&cli.BoolFlag{
			Name: "rootless", Destination: &f.rootless,
			Usage: "do without root's privileges: keep owners in attributes, and map root to you where no map is given",
		},
	}
}

func (f *mapFlags) check(given func(string) bool) (err error) {
	f.options.Rootless = f.rootless
	if f.rootless && !given("uid-map") {
		f.uids = []string{fmt.Sprintf("0:%d:1", os.Geteuid())}
	}
	if f.rootless && !given("gid-map") {
		f.gids = []string{fmt.Sprintf("0:%d:1", os.Getegid())}
	}
	if f.options.UIDMappings, err = parseMaps(f.uids); err != nil {
		return fmt.Errorf("invalid --uid-map: %w", err)
	}
	if f.options.GIDMappings, err = parseMaps(f.gids); err != nil {
		return fmt.Errorf("invalid --gid-map: %w", err)
	}
	return nil
}

// given reports whether the flags say what becomes of owners.
func (f *mapFlags) given() bool { return mapped(f.options) }

// mapped reports whether owners on the disk are others than in the image.
func mapped(m layer.MapOptions) bool {
	return m.Rootless || len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0
}

// parseMaps parses mappings of which no two may speak of the same ID.
func parseMaps(specs []string) ([]rspec.LinuxIDMapping, error) {
	var maps []rspec.LinuxIDMapping
	for _, s := range specs {
		m, err := parseMap(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quote.Name(s), err)
		}
		for _, other := range maps {
			if overlap(m.ContainerID, other.ContainerID, m.Size, other.Size) {
				return nil, fmt.Errorf("%s: overlaps with another map in the container", quote.Name(s))
			}
			if overlap(m.HostID, other.HostID, m.Size, other.Size) {
				return nil, fmt.Errorf("%s: overlaps with another map on the host", quote.Name(s))
			}
		}
		maps = append(maps, m)
	}
	return maps, nil
}

// lastID is the greatest ID there can be: the one after it means "no change".
const lastID = 1<<32 - 2

// parseMap parses "container:host[:size]".
func parseMap(spec string) (m rspec.LinuxIDMapping, err error) {
	fields := strings.Split(spec, ":")
	if len(fields) != 2 && len(fields) != 3 {
		return m, errors.New("not of the form container:host[:size]")
	}
	m.Size = 1
	for i, to := range []*uint32{&m.ContainerID, &m.HostID, &m.Size}[:len(fields)] {
		n, err := strconv.ParseUint(fields[i], 10, 32)
		if err != nil {
			return m, fmt.Errorf("number %s: %w", quote.Name(fields[i]), reason(err))
		}
		*to = uint32(n)
	}
	if m.Size == 0 {
		return m, errors.New("maps no ID at all")
	}
	if last := uint64(max(m.ContainerID, m.HostID)) + uint64(m.Size) - 1; last > lastID {
		return m, fmt.Errorf("maps ID %d, and the greatest there can be is %d", last, uint32(lastID))
	}
	return m, nil
}

// overlap reports whether the ranges of two starts and sizes share a number.
func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}
