// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"errors"
	"fmt"
	"testing"
)

func TestCheck(t *testing.T) {
	if err := Check(Bytes, "bytes", 7, 7); err != nil {
		t.Errorf("7 of 7: %v", err)
	}
	err := fmt.Errorf("read x: %w", Check(Bytes, "bytes", 8, 7))
	var over *Error
	if !errors.As(err, &over) || over.Name != Bytes || over.Found != 8 || over.Limit != 7 {
		t.Errorf("8 of 7: %v", err)
	}
	if got, want := err.Error(), "read x: 8 bytes, and the limit is 7"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
