// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
)

// algorithms are those that blobs are kept under. The first is the one that new
// blobs get.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

var errMalformed = errors.New("malformed digest")

// hexLen returns the length of an encoded digest, and 0 for an algorithm that is
// not supported.
func hexLen(alg digest.Algorithm) int {
	switch alg {
	case digest.SHA256:
		return 2 * sha256.Size
	case digest.SHA512:
		return 2 * sha512.Size
	}
	return 0
}

func newHash(alg digest.Algorithm) hash.Hash {
	if alg == digest.SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// splitDigest returns the names that the blob has: of its directory in blobs, and
// of its file. Nothing else makes a file name out of a digest.
func splitDigest(d digest.Digest) (digest.Algorithm, string, error) {
	alg, name, ok := strings.Cut(string(d), ":")
	if !ok || !isAlgorithm(alg) || name == "" {
		return "", "", malformed(d)
	}
	want := hexLen(digest.Algorithm(alg))
	if want == 0 {
		if !isEncoded(name) {
			return "", "", malformed(d)
		}
		return "", "", as(ErrInvalid, fmt.Errorf("digest algorithm %s is not supported", quote.Name(alg)))
	}
	if len(name) != want || !isHex(name) {
		return "", "", malformed(d)
	}
	return digest.Algorithm(alg), name, nil
}

func malformed(d digest.Digest) error {
	return as(ErrInvalid, fmt.Errorf("%w %s", errMalformed, quote.Name(string(d))))
}

// isAlgorithm checks the grammar of the image-spec for algorithm.
func isAlgorithm(s string) bool {
	separated := true
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && (separated || !strings.ContainsRune("+._-", rune(c))) {
			return false
		}
		separated = !letter
	}
	return !separated
}

// isEncoded checks the grammar of the image-spec for encoded.
func isEncoded(s string) bool {
	for _, c := range []byte(s) {
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '=' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if ('0' > c || c > '9') && ('a' > c || c > 'f') {
			return false
		}
	}
	return true
}

// sum returns the digest that h has come to.
func sum(alg digest.Algorithm, h hash.Hash) digest.Digest {
	return digest.NewDigest(alg, h)
}
