// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/jsondoc"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// FileName is the name of the document that describes an OUT.
const FileName = "split.json"

// FileVersion is the version of split.json that this package writes, and the only
// one that it reads. Members may be added without a new version.
const FileVersion = 1

// maxFile is the size limit of split.json, in bytes.
const maxFile = 64 << 20

// File is split.json. Sizes are in bytes, and lists of layers go from the lowest
// to the topmost.
type File struct {
	Version int    `json:"version"`
	Tool    string `json:"tool"` // what has written it

	Images    []FileImage        `json:"images"`
	Referrers []ispec.Descriptor `json:"referrers,omitzero"` // entries of index.json that say something about the images
	Tiers     []FileTier         `json:"tiers"`              // the lowest first
	LeftOut   []FileBlob         `json:"leftOut"`            // what the site has already

	// Digest is that of all bytes of the document before the comma in front of it.
	// It is the last member.
	Digest digest.Digest `json:"digest"`
}

// FileImage is an image that was taken apart.
type FileImage struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"` // of the manifest, or of the index
	// Platform is that of the image, unless there are several.
	Platform   *ispec.Platform  `json:"platform,omitzero"`
	Descriptor ispec.Descriptor `json:"descriptor"` // the entry of index.json as it was
	Manifests  []FileManifest   `json:"manifests"`
}

// FileManifest is an image for one platform.
type FileManifest struct {
	Digest   digest.Digest  `json:"digest"`
	Platform ispec.Platform `json:"platform"`
	Config   digest.Digest  `json:"config"`
	Layers   []FileLayer    `json:"layers"`
}

// FileLayer is one layer.
type FileLayer struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	DiffID    digest.Digest `json:"diffID"`
	Size      int64         `json:"size"`
	// Tier is where the layer is. It is empty within a tier, and for a layer that only
	// the URLs of its descriptor lead to.
	Tier string `json:"tier,omitzero"`
}

// FileTier is a tier.
type FileTier struct {
	Name string `json:"name"`
	// Ref and Image are those of the image that the tier was made from; the topmost
	// tier has none.
	Ref   string        `json:"ref,omitzero"`
	Image digest.Digest `json:"image,omitzero"`
	// Index is the digest of the tier's index.json. It is empty if the tier has no
	// directory because the site has all of it.
	Index  digest.Digest `json:"index,omitzero"`
	Layers []FileLayer   `json:"layers"` // each once
	Blobs  []FileBlob    `json:"blobs"`  // all that is not a layer
}

// FileBlob is a blob.
type FileBlob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Tier   string        `json:"tier,omitzero"` // where it would be; empty within a tier
}

// tierPattern is what a tier may be called, which is also the name of a directory.
var tierPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func checkTierName(name string) error {
	if !tierPattern.MatchString(name) || strings.HasSuffix(name, ".tar") || name == FileName {
		return errorf(ErrInvalid, "%s is not a valid name of a tier", quote.Name(name))
	}
	return nil
}

var fileDoc = jsondoc.New[File](jsondoc.Rules{Required: map[reflect.Type][]string{
	reflect.TypeFor[File]():             {"version", "images", "tiers", "digest"},
	reflect.TypeFor[FileImage]():        {"ref", "digest", "descriptor", "manifests"},
	reflect.TypeFor[FileManifest]():     {"digest", "config", "layers"},
	reflect.TypeFor[FileLayer]():        {"digest", "diffID", "size"},
	reflect.TypeFor[FileTier]():         {"name", "layers", "blobs"},
	reflect.TypeFor[FileBlob]():         {"digest", "size"},
	reflect.TypeFor[ispec.Descriptor](): {"mediaType", "digest", "size"},
}})

// What stands before and after the hex digits of File.Digest.
const (
	sealBefore = ",\n  \"digest\": \"sha256:"
	sealAfter  = "\"\n}\n"
	sealLen    = len(sealBefore) + 64 + len(sealAfter)
)

// encode returns the document, and sets f.Digest.
func (f *File) encode() ([]byte, error) {
	f.Digest = digest.Digest("sha256:" + strings.Repeat("0", 64))
	data, err := encodeJSON(f, "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", FileName, err)
	}
	body := data[:len(data)-sealLen]
	f.Digest = digest.FromBytes(body)
	return fmt.Append(nil, string(body), sealBefore, f.Digest.Encoded(), sealAfter), nil
}

// encodeJSON is json.Marshal without the escapes that are meant for web pages,
// and with a newline at the end.
func encodeJSON(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// ParseFile reads a split.json. The error is ErrDamaged if the document's own
// digest does not fit, and ErrInvalid if it is not a proper one.
func ParseFile(data []byte) (*File, error) {
	var f File
	if err := parseFile(data, &f); err != nil {
		return nil, fmt.Errorf("read %s: %w", FileName, err)
	}
	return &f, nil
}

func parseFile(data []byte, f *File) error {
	if len(data) > maxFile {
		return errorf(ErrInvalid, "larger than the limit of %d bytes", maxFile)
	}
	if len(data) < sealLen || !bytes.HasSuffix(data, []byte(sealAfter)) ||
		!bytes.HasPrefix(data[len(data)-sealLen:], []byte(sealBefore)) {
		return errorf(ErrDamaged, "there is no digest at its end")
	}
	body := data[:len(data)-sealLen]
	want := string(data[len(data)-sealLen+len(sealBefore) : len(data)-len(sealAfter)])
	if got := digest.FromBytes(body).Encoded(); got != want {
		return errorf(ErrDamaged, "its content does not have the digest that it names")
	}
	if err := fileDoc.Unmarshal(data, f); err != nil {
		return errorf(ErrInvalid, "%w", err)
	}
	if f.Version != FileVersion {
		return errorf(ErrInvalid, "version %d is not supported, only %d is", f.Version, FileVersion)
	}
	return f.check()
}

// check refuses what could not have been written by Split.
func (f *File) check() error {
	if len(f.Tiers) == 0 {
		return errorf(ErrInvalid, "there is no tier")
	}
	names := map[string]bool{}
	for _, t := range f.Tiers {
		if err := checkTierName(t.Name); err != nil {
			return err
		}
		if names[t.Name] {
			return errorf(ErrInvalid, "there are two tiers called %s", t.Name)
		}
		names[t.Name] = true
		for _, b := range t.content() {
			if err := checkBlob(b.Digest, b.Size); err != nil {
				return fmt.Errorf("tier %s: %w", t.Name, err)
			}
		}
	}
	refs := map[string]bool{}
	for _, img := range f.Images {
		if refs[img.Ref] {
			return errorf(ErrInvalid, "there are two images called %s", quote.Name(img.Ref))
		}
		refs[img.Ref] = true
		if err := img.check(names); err != nil {
			return fmt.Errorf("image %s: %w", quote.Name(img.Ref), err)
		}
	}
	for _, d := range f.Referrers {
		if err := checkBlob(d.Digest, d.Size); err != nil {
			return fmt.Errorf("referrer: %w", err)
		}
	}
	for _, b := range f.LeftOut {
		if err := checkBlob(b.Digest, b.Size); err != nil {
			return fmt.Errorf("left out: %w", err)
		}
	}
	return nil
}

func (img *FileImage) check(tiers map[string]bool) error {
	if !layout.ValidRef(img.Ref) {
		return errorf(ErrInvalid, "not a valid ref")
	}
	if img.Descriptor.Digest != img.Digest {
		return errorf(ErrInvalid, "its digest %s is not that of its descriptor, %s",
			quote.Name(string(img.Digest)), quote.Name(string(img.Descriptor.Digest)))
	}
	if err := checkBlob(img.Digest, img.Descriptor.Size); err != nil {
		return err
	}
	for _, m := range img.Manifests {
		if err := checkBlob(m.Digest, 0); err != nil {
			return err
		}
		for i, l := range m.Layers {
			if err := checkBlob(l.Digest, l.Size); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			if l.Tier != "" && !tiers[l.Tier] {
				return errorf(ErrInvalid, "layer %d is in tier %s, which there is not", i, quote.Name(l.Tier))
			}
		}
	}
	return nil
}

func checkBlob(d digest.Digest, size int64) error {
	if err := d.Validate(); err != nil {
		return errorf(ErrInvalid, "malformed digest %s", quote.Name(string(d)))
	}
	if size < 0 {
		return errorf(ErrInvalid, "blob %s: negative size %d", d, size)
	}
	return nil
}

// content returns all blobs of a tier, whether or not they were left out.
func (t *FileTier) content() []FileBlob {
	all := make([]FileBlob, 0, len(t.Blobs)+len(t.Layers))
	for _, l := range t.Layers {
		all = append(all, FileBlob{Digest: l.Digest, Size: l.Size})
	}
	return append(all, t.Blobs...)
}

// blobs returns all blobs that an OUT has, or that its site has already.
func (f *File) blobs() map[digest.Digest]int64 {
	all := map[digest.Digest]int64{}
	for _, t := range f.Tiers {
		for _, b := range t.content() {
			all[b.Digest] = b.Size
		}
	}
	return all
}
