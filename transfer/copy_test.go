// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"path/filepath"
	"testing"
)

func TestLayoutRegistryLayout(t *testing.T) {
	src := newSource(t)
	host := server(t, nil)
	for _, ref := range []string{"v1", "multi"} {
		dst := filepath.Join(t.TempDir(), "new")
		r := mustCopy(t, src+":"+ref, "docker://"+host+"/some/app:"+ref, quick())
		t.Log(r.Blobs)
		r = mustCopy(t, "docker://"+host+"/some/app:"+ref, dst+":"+ref, quick())
		t.Log(r.Blobs)
		wantSame(t, src, dst, ref)
	}
}
