// SPDX-License-Identifier: Apache-2.0

// Package tarfile reads and writes tars that are containers of a few files, as
// archives of images are: not trees that somebody unpacks.
//
// [Writer] writes the same bytes for the same files: no owners, no times, one mode
// for files and one for directories. [List] finds out where the content of each
// file begins in a tar that can be read at any offset. Nothing is ever extracted,
// and names are only compared.
package tarfile
