// SPDX-License-Identifier: Apache-2.0

package faults

import _ "github.com/shale-oci/shale/test/verifies" // for ocitest.AssertWhole
