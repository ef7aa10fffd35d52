// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// tempPrefixes begin the names of the temporary directories of shale and umoci.
var tempPrefixes = []string{".shale-", ".umoci-"}

// listRest lists what nothing leads to. If a document cannot be read, that is not known
// of any blob.
func (v *verifier) listRest(ctx context.Context) error {
	entries, err := names(v.store.dir, ".")
	if err != nil {
		v.found(BlobsDirectory, fileObject("."), "", "the layout cannot be listed: %v", err)
	}
	for _, e := range entries {
		if slices.ContainsFunc(tempPrefixes, func(p string) bool { return strings.HasPrefix(e.Name, p) }) {
			v.found(TempDirectory, fileObject(e.Name), "", "%s is a temporary directory", quote.Name(e.Name))
		}
	}
	for _, alg := range algorithms {
		if err := v.listBlobs(ctx, alg); err != nil {
			return err
		}
	}
	return v.listStrangers(ctx)
}

// names lists a directory in order.
func names(parent *rooted.Dir, name string) ([]rooted.Dirent, error) {
	// A directory that is listed needs an open file of its own.
	d, err := parent.OpenDir(name)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer d.Close() //nolint:errcheck // it was only read from
	entries, err := d.Names()
	slices.SortFunc(entries, func(a, b rooted.Dirent) int { return strings.Compare(a.Name, b.Name) })
	return entries, withoutPath(err)
}

func (v *verifier) listBlobs(ctx context.Context, alg digest.Algorithm) error {
	dir := v.store.algs[alg]
	if dir == nil {
		return nil
	}
	where := ispec.ImageBlobsDir + "/" + alg.String()
	entries, err := names(dir, ".")
	if err != nil {
		v.found(BlobsDirectory, fileObject(where), "", "%s cannot be listed: %v", where, err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := digest.NewDigestFromEncoded(alg, e.Name)
		if d.Validate() != nil {
			v.found(UnknownFile, fileObject(where+"/"+e.Name), "", "%s is not the name of a blob", quote.Name(where+"/"+e.Name))
			continue
		}
		if v.blobs[d] != nil || v.partial {
			continue
		}
		st, err := dir.Lstat(e.Name)
		switch {
		case err != nil: // it has just gone
		case st.IsRegular():
			v.found(UnreachableBlob, blobObject(d), "", "nothing leads to the blob, which has %d bytes", st.Size)
		default:
			v.found(UnknownFile, fileObject(where+"/"+e.Name), "", "%s has the name of a blob and is %v", where+"/"+e.Name, errIrregular)
		}
	}
	return nil
}

// listStrangers lists what is in blobs besides the directories of the algorithms.
func (v *verifier) listStrangers(ctx context.Context) error {
	entries, err := names(v.store.dir, ispec.ImageBlobsDir)
	if err != nil {
		return cannotGoOn(ctx, err) // which has been reported
	}
	for _, e := range entries {
		if !slices.Contains(algorithms, digest.Algorithm(e.Name)) {
			name := ispec.ImageBlobsDir + "/" + e.Name
			v.found(UnknownFile, fileObject(name), "", "%s is not the directory of an algorithm", quote.Name(name))
		}
	}
	return nil
}
