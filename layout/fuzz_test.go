// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/test/ocitest"
)

// memory is what a document of n bytes may cost: the smallest member of a map takes
// six bytes to write.
func memory(n int) uint64 { return 1<<20 + 200*uint64(n) }

// FuzzIndex checks that an index that is accepted is accepted again after it was
// encoded, and means the same.
func FuzzIndex(f *testing.F) {
	for _, seed := range []string{
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + anyDescriptor + `]}`,
		`{"manifests":null}`,
		`{"MANIFESTS":[]}`,
		`{"manifests":[],"Manifests":[]}`,
		`{"manifests":[],"layers":[]}`,
		`{"manifests":[]}{"manifests":[]}`,
		`{"manifests":[{"mediaType":"x","digest":"foo:bar","size":2,"data":"e30="}]}`,
		`{"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":-1}]}`,
		`{"manifests":[{"mediaType":"x","digest":"sha256","size":9223372036854775808,"annotations":{"org.opencontainers.image.ref.name":"\u001b[2J"}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ocitest.AssertPureAllocates(t, memory(len(data)), func() { _, _ = parseIndex(data, ispec.MediaTypeImageIndex) })
		if index, err := parseIndex(data, ispec.MediaTypeImageIndex); err == nil {
			var plain ispec.Index
			err := json.Unmarshal(data, &plain)
			if plain.Manifests == nil {
				plain.Manifests = []ispec.Descriptor{}
			}
			sameJSON(t, index, plain, err)
			again, err := parseIndex(mustEncode(t, index), ispec.MediaTypeImageIndex)
			sameJSON(t, index, again, err)
		} else {
			wantOneLine(t, opError("read", "index.json", err))
		}
	})
}

// FuzzManifest is FuzzIndex for manifests. Nothing may be both.
func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		`{"schemaVersion":2,"config":` + anyDescriptor + `,"layers":[` + anyDescriptor + `],"annotations":{"a":"b"}}`,
		`{"config":` + anyDescriptor + `,"manifests":[]}`,
		`{"config":` + anyDescriptor + `,"Manifests":[]}`,
		`{"config":` + anyDescriptor + `,"layers":[{"mediaType":"","digest":"sha256:","size":0,"urls":["a"]}],"subject":` + anyDescriptor + `}`,
		`{"mediaType":"application/vnd.oci.image.index.v1+json","config":` + anyDescriptor + `}`,
		`{"config":null,"layers":[null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ocitest.AssertPureAllocates(t, memory(len(data)), func() { _, _ = parseManifest(data, ispec.MediaTypeImageManifest) })
		manifest, err := parseManifest(data, ispec.MediaTypeImageManifest)
		if err != nil {
			wantOneLine(t, opError("read manifest", "", err))
			return
		}
		var plain ispec.Manifest
		err = json.Unmarshal(data, &plain)
		if plain.Layers == nil {
			plain.Layers = []ispec.Descriptor{}
		}
		sameJSON(t, manifest, plain, err)
		again, err := parseManifest(mustEncode(t, manifest), ispec.MediaTypeImageManifest)
		sameJSON(t, manifest, again, err)
		if index, err := parseIndex(data, ispec.MediaTypeImageIndex); err == nil {
			t.Errorf("also an index: %+v", index)
		}
	})
}

// FuzzConfig is FuzzIndex for image configs.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		`{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]},"history":[{"created":"2020-01-01T00:00:00Z","empty_layer":true}]}`,
		`{"config":{"User":"-1","Env":["A=b","A"],"Labels":{"a":"b"},"Volumes":{"/x":{}},"ExposedPorts":{"80/tcp":{}}}}`,
		`{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]},"created":"9999-12-31T23:59:59Z"}`,
		`{"ROOTFS":{},"rootfs":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var config, again ispec.Image
		var err error
		ocitest.AssertPureAllocates(t, memory(len(data)), func() {
			config = ispec.Image{}
			err = configDoc.Unmarshal(data, &config)
		})
		if err != nil {
			wantOneLine(t, opError("read config", "", err))
			return
		}
		var plain ispec.Image
		err = json.Unmarshal(data, &plain)
		sameJSON(t, config, plain, err)
		err = configDoc.Unmarshal(mustEncode(t, config), &again)
		sameJSON(t, config, again, err)
	})
}

func mustEncode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := encode(v)
	must(t, err)
	return data
}

func sameJSON(t *testing.T, a, b any, err error) {
	t.Helper()
	must(t, err)
	x, err := json.Marshal(a)
	must(t, err)
	y, err := json.Marshal(b)
	must(t, err)
	if string(x) != string(y) {
		t.Errorf("%s\n%s", x, y)
	}
}

// FuzzDescriptor checks that what passes as a descriptor leads to one file in
// blobs or nowhere.
func FuzzDescriptor(f *testing.F) {
	f.Add("sha256:"+hexA, int64(3), []byte(nil))
	f.Add("sha512:"+hexA+hexA, int64(0), []byte("x"))
	f.Add("sha256:../../x", int64(1), []byte(nil))
	f.Add("sha256", int64(-1), []byte("{}"))
	f.Add("a+b.c_d-e:=_-", int64(1), []byte(nil))
	f.Add("foo:bar", int64(3), []byte("bar"))
	f.Fuzz(func(t *testing.T, dig string, size int64, data []byte) {
		d := ispec.Descriptor{Digest: digest.Digest(dig), Size: size, Data: data}
		err := checkDescriptor(d)
		if err != nil {
			wantOneLine(t, err)
		}
		alg, name, splitErr := splitDigest(d.Digest)
		if splitErr != nil {
			wantOneLine(t, splitErr)
			if d.Digest.Validate() == nil && d.Digest.Algorithm() != digest.SHA384 {
				t.Errorf("%q is refused", dig)
			}
			return
		}
		if d.Digest.Validate() != nil || len(name) != hexLen(alg) || strings.ContainsAny(name, "/.\x00") {
			t.Errorf("%q became %q", dig, name)
		}
		if back, ok := noteDigest(noteName(d.Digest)); !ok || back != d.Digest {
			t.Errorf("%q became %q", dig, back)
		}
		if err == nil && len(data) > 0 && alg.FromBytes(data) != d.Digest {
			t.Errorf("data of %q is not checked", dig)
		}
	})
}
