// SPDX-License-Identifier: Apache-2.0

// Package transfer moves images between places: OCI layouts, archives, and
// repositories of registries that speak the OCI distribution API.
package transfer
