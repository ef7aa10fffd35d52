// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	// anyDescriptor is one of something that nobody opens.
	anyDescriptor = `{"mediaType":"x","digest":"sha256:` + hexA + `","size":3}`
)

// TestDocumentRefused goes through the documents that hostile.md lists under H and
// I, as index.json, as a nested index, as a manifest and as a config.
func TestDocumentRefused(t *testing.T) {
	wrongData := fmt.Sprintf(`{"mediaType":"x","digest":"%s","size":2,"data":"W10="}`, digest.FromString("{}"))
	for _, tc := range []struct {
		kind, name, doc string
	}{
		{"index", "I5 key in another case", `{"schemaVersion":2,"MANIFESTS":[]}`},
		{"index", "key in another case in an entry", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `","size":3,"Size":4}]}`},
		{"index", "I6 second document", `{"schemaVersion":2,"manifests":[]}{"schemaVersion":2}`},
		{"index", "junk after the document", `{"schemaVersion":2,"manifests":[]} x`},
		{"index", "cut off", `{"schemaVersion":2,"manifests":[`},
		{"index", "empty file", ``},
		{"index", "NUL bytes", "\x00\x00\x00\x00"},
		{"index", "array", `[]`},
		{"index", "key twice", `{"schemaVersion":2,"manifests":[],"manifests":[` + anyDescriptor + `]}`},
		{"index", "H18 layers", `{"schemaVersion":2,"manifests":[],"layers":[]}`},
		{"index", "H18 config", `{"schemaVersion":2,"manifests":[],"config":null}`},
		{"index", "H18 Config", `{"schemaVersion":2,"manifests":[],"Config":{}}`},
		{"index", "H19 calls itself a manifest", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}`},
		{"index", "schema version 1", `{"schemaVersion":1,"manifests":[]}`},
		{"index", "H3 negative size", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `","size":-1}]}`},
		{"index", "size beyond 64 bits", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `","size":9223372036854775808}]}`},
		{"index", "size with a fraction", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `","size":1.5}]}`},
		{"index", "H7 digest is a path", `{"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}`},
		{"index", "H5 digest without a colon, data", `{"manifests":[{"mediaType":"x","digest":"x","size":2,"data":"e30="}]}`},
		{"index", "H6 foo:bar, data", `{"manifests":[{"mediaType":"x","digest":"foo:bar","size":2,"data":"e30="}]}`},
		{"index", "H11 data of another digest", `{"manifests":[` + wrongData + `]}`},
		{"index", "data that is no base64", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `","size":2,"data":"%"}]}`},
		{"index", "digest is missing", `{"manifests":[{"mediaType":"x","size":3}]}`},
		{"index", "size is missing", `{"manifests":[{"mediaType":"x","digest":"sha256:` + hexA + `"}]}`},
		{"index", "media type is missing", `{"manifests":[{"digest":"sha256:` + hexA + `","size":3}]}`},
		{"index", "entry is null", `{"manifests":[null]}`},
		{"index", "manifests is no list", `{"manifests":{}}`},
		{"index", "subject", `{"manifests":[],"subject":{"mediaType":"x","digest":"sha256:x","size":3}}`},
		{"manifest", "H17 manifests", `{"schemaVersion":2,"config":` + anyDescriptor + `,"layers":[],"manifests":[]}`},
		{"manifest", "H17 Manifests", `{"schemaVersion":2,"config":` + anyDescriptor + `,"layers":[],"Manifests":null}`},
		{"manifest", "H19 calls itself an index", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":` + anyDescriptor + `}`},
		{"manifest", "H19 calls itself Docker's", `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `","config":` + anyDescriptor + `}`},
		{"manifest", "no config", `{"schemaVersion":2,"layers":[]}`},
		{"manifest", "config is null", `{"schemaVersion":2,"config":null,"layers":[]}`},
		{"manifest", "layer digest is a path", `{"config":` + anyDescriptor + `,"layers":[{"mediaType":"x","digest":"sha256:../x","size":1}]}`},
		{"manifest", "data of a layer", `{"config":` + anyDescriptor + `,"layers":[` + wrongData + `]}`},
		{"manifest", "subject", `{"config":` + anyDescriptor + `,"subject":{"mediaType":"x","digest":"sha256:` + hexA + `","size":-3}}`},
		{"manifest", "Layers", `{"config":` + anyDescriptor + `,"Layers":[]}`},
		{"manifest", "control bytes in the media type", `{"mediaType":"\u001b[2J","config":` + anyDescriptor + `}`},
		{"config", "second document", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}} {}`},
		{"config", "rootfs in another case", `{"RootFS":{"type":"layers","diff_ids":[]}}`},
		{"config", "diff_ids in another case", `{"rootfs":{"type":"layers","Diff_IDs":[]}}`},
		{"config", "not an object", `"x"`},
	} {
		t.Run(tc.kind+" "+tc.name, func(t *testing.T) {
			l := newLayout(t)
			var err error
			switch tc.kind {
			case "index":
				d := plantBlob(t, l, ispec.MediaTypeImageIndex, []byte(tc.doc))
				_, err = l.ImageIndex(t.Context(), d)
				writeIndexFile(t, l, tc.doc)
				_, topErr := l.Index(t.Context())
				wantInvalid(t, topErr, "index.json")
				if err := l.SetRef(t.Context(), "v1", d); err == nil {
					t.Error("SetRef: no error")
				}
				if got := readIndexFile(t, l); got != tc.doc {
					t.Errorf("index.json changed: %q", got)
				}
			case "manifest":
				_, err = l.Manifest(t.Context(), plantBlob(t, l, ispec.MediaTypeImageManifest, []byte(tc.doc)))
			case "config":
				_, err = l.Config(t.Context(), plantBlob(t, l, ispec.MediaTypeImageConfig, []byte(tc.doc)))
			}
			wantInvalid(t, err, digest.FromString(tc.doc).String())
		})
	}
}

func wantInvalid(t *testing.T, err error, name string) {
	t.Helper()
	wantOneLine(t, err)
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("%q does not name %s", err, name)
	}
}

func TestDocumentAccepted(t *testing.T) {
	l := newLayout(t)
	for name, doc := range map[string]string{
		"I1 manifests is null":   `{"schemaVersion":2,"manifests":null}`,
		"no manifests":           `{"schemaVersion":2}`,
		"no schema version":      `{"manifests":[]}`,
		"foreign members":        `{"schemaVersion":2,"manifests":[],"x":{"Manifests":1,"manifests":2}}`,
		"digest that none knows": `{"manifests":[{"mediaType":"x","digest":"blake3:abc","size":1}]}`,
		"white space":            "\n\t{ \"manifests\" : [ ] }\r\n",
	} {
		writeIndexFile(t, l, doc)
		index, err := l.Index(t.Context())
		if err != nil || index.Manifests == nil {
			t.Errorf("%s: %v, %v", name, index.Manifests, err)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	l := newLayout(t)
	doc := `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `","config":` + anyDescriptor + `,"layers":[]}`
	docker := plantBlob(t, l, MediaTypeDockerManifest, []byte(doc))
	if _, err := l.Manifest(t.Context(), docker); err != nil {
		t.Errorf("Docker manifest: %v", err)
	}
	list := plantBlob(t, l, MediaTypeDockerIndex, []byte(`{"schemaVersion":2,"mediaType":"`+MediaTypeDockerIndex+`","manifests":[]}`))
	if _, err := l.ImageIndex(t.Context(), list); err != nil {
		t.Errorf("Docker manifest list: %v", err)
	}
	config := plantBlob(t, l, MediaTypeDockerConfig, []byte(`{"os":"linux","container_config":{},"rootfs":{"type":"layers"}}`))
	if _, err := l.Config(t.Context(), config); err != nil {
		t.Errorf("Docker config: %v", err)
	}
	// H16, and the same for the other two.
	config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	_, configErr := l.Config(t.Context(), config)
	_, manifestErr := l.Manifest(t.Context(), list)
	_, indexErr := l.ImageIndex(t.Context(), docker)
	for _, err := range []error{configErr, manifestErr, indexErr} {
		wantOneLine(t, err)
		if !errors.Is(err, ErrMediaType) {
			t.Errorf("got %v, want ErrMediaType", err)
		}
	}
}
