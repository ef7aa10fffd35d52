// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package faults

import "time"

func atDate(time.Time) *tracer { return nil }
