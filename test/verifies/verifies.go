// SPDX-License-Identifier: Apache-2.0

// Package verifies lets the fixtures' AssertWhole ask shale's own verify, too: there is
// no error in what tests have made of a layout. A test file imports it for that alone.
// The fixtures themselves share no code with shale.
//
// Warnings do not count: fixtures have odd annotations and short histories on purpose,
// and what is made of them keeps these. The tests of the command line let none pass.
package verifies

import (
	"context"
	"fmt"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/test/ocitest"
)

func init() { ocitest.AlsoVerify = Layout }

// Layout returns an error about the first one that verify finds in a layout.
func Layout(ctx context.Context, dir string) error {
	r, err := inspect.Verify(ctx, dir, inspect.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if f.Severity == inspect.SeverityError {
			return fmt.Errorf("verify finds %d errors, and first %s: %s %s: %s",
				r.Errors, f.Code, f.Object.Kind, f.Object.Name, f.Message)
		}
	}
	return nil
}
