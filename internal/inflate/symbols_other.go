// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package inflate

const fast = false

func symbolsBMI2(*span) outcome { panic("inflate: no BMI2 here") }
