// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/mtree"
)

// Names of a bundle's files.
const (
	rootfsName = "rootfs"
	configName = "config.json"
	metaName   = "umoci.json"
	metaTemp   = "." + metaName + ".new" // until it is complete
)

// metaVersion is the only version of umoci.json there is.
const metaVersion = "2"

// maxMeta bounds the size of umoci.json in bytes.
const maxMeta = 1 << 20

// ErrMeta is returned for a bundle whose umoci.json is not one that can be
// repacked.
var ErrMeta = errors.New("not a bundle that can be repacked")

// Meta is what umoci.json says about a bundle.
type Meta struct {
	From layout.Path      // the image that was unpacked, from its entry in the index down
	Map  layer.MapOptions // how its owners were mapped
}

// metaFile is the form of umoci.json.
type metaFile struct {
	Version      string           `json:"umoci_version"`
	From         descriptorPath   `json:"from_descriptor_path"`
	MapOptions   layer.MapOptions `json:"map_options"`
	WhiteoutMode int              `json:"whiteout_mode,omitempty"`
}

type descriptorPath struct {
	Walk []ispec.Descriptor `json:"descriptor_walk"`
}

// ReadMeta reads the umoci.json of the bundle in the directory dir.
func ReadMeta(dir string) (Meta, error) {
	d, err := openDir(dir)
	if err != nil {
		return Meta{}, err
	}
	defer d.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	return readMeta(d)
}

func readMeta(dir *rooted.Dir) (Meta, error) {
	f, err := dir.Open(metaName)
	if err != nil {
		return Meta{}, err
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err != nil {
		return Meta{}, fmt.Errorf("read %s: %w", metaName, err)
	}
	if len(data) > maxMeta {
		return Meta{}, fmt.Errorf("%s: %w: larger than %d bytes", metaName, ErrMeta, maxMeta)
	}
	var m metaFile
	if err := json.Unmarshal(data, &m); err != nil {
		return Meta{}, fmt.Errorf("%s: %w: %w", metaName, ErrMeta, err)
	}
	switch {
	case m.Version != metaVersion:
		return Meta{}, fmt.Errorf("%s: %w: version %s, not %q", metaName, ErrMeta, quote.Name(m.Version), metaVersion)
	case m.WhiteoutMode != 0:
		return Meta{}, fmt.Errorf("%s: %w: whiteout_mode %d", metaName, ErrMeta, m.WhiteoutMode)
	case len(m.From.Walk) == 0:
		return Meta{}, fmt.Errorf("%s: %w: no image in from_descriptor_path", metaName, ErrMeta)
	}
	for _, d := range m.From.Walk {
		if err := d.Digest.Validate(); err != nil {
			return Meta{}, fmt.Errorf("%s: %w: digest %s: %w", metaName, ErrMeta, quote.Name(string(d.Digest)), err)
		}
	}
	return Meta{From: m.From.Walk, Map: m.MapOptions}, nil
}

// writeTo writes m in the form of umoci.json.
func (m *Meta) writeTo(w io.Writer) error {
	return json.NewEncoder(w).Encode(metaFile{
		Version:    metaVersion,
		From:       descriptorPath{Walk: m.From},
		MapOptions: m.Map,
	})
}

// mtreeName is the name of the mtree manifest of a bundle of the image whose
// manifest m is. The digest has been validated: it is an algorithm's name and
// hexadecimal digits.
func mtreeName(m ispec.Descriptor) string {
	return strings.Replace(m.Digest.String(), ":", "_", 1) + ".mtree"
}

// statName is the name of the stat cache that goes with it.
func statName(m ispec.Descriptor) string { return mtree.CacheName(mtreeName(m)) }
