// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package faults

import (
	"errors"
	"syscall"
)

// canFail says that calls cannot be made to fail on this architecture, only
// processes be killed: where the registers are differs.
const canFail = false

func skipCall(int) error { return errors.ErrUnsupported }

func setResult(int, syscall.Errno) error { return errors.ErrUnsupported }
