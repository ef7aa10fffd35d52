// SPDX-License-Identifier: Apache-2.0

package inspect

// Severity says what a [Finding] means for whoever uses the layout.
type Severity string

// The severities, the worst first.
const (
	// SeverityError means that something is not what it is said to be, or that the layout or
	// the image breaks a rule that readers count on.
	SeverityError Severity = "error"
	// SeverityWarning means that everything can be read, but some programs will not take it,
	// or that something could not be judged.
	SeverityWarning Severity = "warning"
	// SeverityInfo is no fault.
	SeverityInfo Severity = "info"
)

// Code says what kind of thing a [Finding] is about. Codes keep their names and
// severities: programs may rely on both.
type Code string

// What Verify finds about the files of a layout.
const (
	LayoutFile      Code = "layout-file"
	LayoutVersion   Code = "layout-version"
	IndexFile       Code = "index-file"
	BlobsDirectory  Code = "blobs-directory"
	UnreachableBlob Code = "unreachable-blob"
	TempDirectory   Code = "temp-directory"
	UnknownFile     Code = "unknown-file"
)

// What Verify finds about refs and annotations.
const (
	DuplicateRef      Code = "duplicate-ref"
	DanglingRef       Code = "dangling-ref"
	InvalidRef        Code = "invalid-ref"
	MisplacedRef      Code = "misplaced-ref"
	WrongReferrer     Code = "wrong-referrer"
	InvalidAnnotation Code = "invalid-annotation"
)

// What Verify finds about descriptors and the blobs that they describe.
const (
	InvalidDigest       Code = "invalid-digest"
	UnsupportedDigest   Code = "unsupported-digest"
	InvalidSize         Code = "invalid-size"
	WrongData           Code = "wrong-data"
	MissingBlob         Code = "missing-blob"
	MissingSubject      Code = "missing-subject"
	ForeignLayer        Code = "foreign-layer"
	IrregularBlob       Code = "irregular-blob"
	UnreadableBlob      Code = "unreadable-blob"
	WrongSize           Code = "wrong-size"
	WrongDigest         Code = "wrong-digest"
	UnexpectedMediaType Code = "unexpected-media-type"
	UnknownMediaType    Code = "unknown-media-type"
	DisguisedConfig     Code = "disguised-config"
	PlatformMismatch    Code = "platform-mismatch"
	VariantMismatch     Code = "variant-mismatch"
)

// What Verify finds about documents.
const (
	InvalidJSON         Code = "invalid-json"
	InvalidDocument     Code = "invalid-document"
	AmbiguousDocument   Code = "ambiguous-document"
	SchemaVersion       Code = "schema-version"
	MediaTypeMismatch   Code = "media-type-mismatch"
	MissingArtifactType Code = "missing-artifact-type"
	TooLarge            Code = "too-large"
	TooDeep             Code = "too-deep"
)

// What Verify finds about the config of an image.
const (
	MissingPlatform Code = "missing-platform"
	EmptyPlatform   Code = "empty-platform"
	RootFSType      Code = "rootfs-type"
	LayerCount      Code = "layer-count"
	InvalidDiffID   Code = "invalid-diff-id"
	HistoryTooLong  Code = "history-too-long"
	HistoryTooShort Code = "history-too-short"
)

// What Verify finds about layers.
const (
	WrongDiffID       Code = "wrong-diff-id"
	WrongCompression  Code = "wrong-compression"
	CorruptLayer      Code = "corrupt-layer"
	TrailingBytes     Code = "trailing-bytes"
	PaddedLayer       Code = "padded-layer"
	UnsupportedLayer  Code = "unsupported-layer"
	InvalidTar        Code = "invalid-tar"
	InvalidEntry      Code = "invalid-entry"
	InvalidWhiteout   Code = "invalid-whiteout"
	MissingLinkTarget Code = "missing-link-target"
	IgnoredXattr      Code = "ignored-xattr"
)

// Codes are all codes that there are, each with its severity and what it means, in the
// order of their documentation.
func Codes() []CodeInfo { return append([]CodeInfo{}, codes...) }

// CodeInfo describes a [Code].
type CodeInfo struct {
	Code     Code
	Severity Severity
	Meaning  string // without a final stop
}

var codes = []CodeInfo{
	{LayoutFile, SeverityError, "`oci-layout` is missing, not a regular file, or not what it should be"},
	{LayoutVersion, SeverityError, "`oci-layout` names another version than 1.0.0"},
	{IndexFile, SeverityError, "`index.json` is missing, not a regular file, or cannot be read"},
	{BlobsDirectory, SeverityError, "`blobs`, or the directory of an algorithm in it, is missing, not a directory, or cannot be read"},
	{UnreachableBlob, SeverityInfo, "nothing leads to the blob: `shale gc` would remove it"},
	{TempDirectory, SeverityInfo, "a temporary directory: somebody is writing, or was killed"},
	{UnknownFile, SeverityInfo, "something in `blobs` that is not named like a blob"},

	{DuplicateRef, SeverityError, "several entries of `index.json` have the same ref"},
	{DanglingRef, SeverityError, "what the ref leads to is not in the layout"},
	{InvalidRef, SeverityWarning, "the ref does not follow the grammar of the image-spec"},
	{MisplacedRef, SeverityInfo, "a ref on a descriptor that is not in `index.json`, where it means nothing"},
	{WrongReferrer, SeverityWarning, "the index with the ref of a digest (the referrers tag of the distribution-spec) lists a manifest whose subject is not that digest"},
	{InvalidAnnotation, SeverityWarning, "the value of an annotation of the image-spec is not of the form that it must have"},

	{InvalidDigest, SeverityError, "a digest is malformed"},
	{UnsupportedDigest, SeverityWarning, "a digest has an algorithm that is not supported: the blob is not checked"},
	{InvalidSize, SeverityError, "a size is negative"},
	{WrongData, SeverityError, "the `data` of a descriptor is not what its digest and size say"},
	{MissingBlob, SeverityError, "a blob is not in the layout"},
	{MissingSubject, SeverityInfo, "the subject is not in the layout, which is allowed"},
	{ForeignLayer, SeverityInfo, "a layer is not in the layout, and its descriptor says where to get it"},
	{IrregularBlob, SeverityError, "what has the name of a blob is not a regular file"},
	{UnreadableBlob, SeverityError, "the file of a blob cannot be read"},
	{WrongSize, SeverityError, "a blob has another size than a descriptor says"},
	{WrongDigest, SeverityError, "the content of a blob does not have the digest that is its name"},
	{UnexpectedMediaType, SeverityError, "a descriptor has the media type of something that does not belong in its place"},
	{UnknownMediaType, SeverityInfo, "an entry of an index has a media type that the image-spec does not know: only its size and digest are checked"},
	{DisguisedConfig, SeverityWarning, "a config has the content of an image's and a media type that the image-spec does not know: only sizes and digests are checked"},
	{PlatformMismatch, SeverityError, "the descriptor and the config of an image name different platforms"},
	{VariantMismatch, SeverityWarning, "the descriptor and the config of an image name different variants of the architecture"},

	{InvalidJSON, SeverityError, "a document is not exactly one JSON value"},
	{InvalidDocument, SeverityError, "a document has members that are missing, of the wrong type, there twice or written in another case"},
	{AmbiguousDocument, SeverityError, "an index has `config` or `layers`, or a manifest has `manifests`: readers may see different images"},
	{SchemaVersion, SeverityError, "the `schemaVersion` of an index or manifest is not 2"},
	{MediaTypeMismatch, SeverityError, "a document calls itself something else than its descriptor does"},
	{MissingArtifactType, SeverityError, "a manifest with an empty config has no `artifactType`"},
	{TooLarge, SeverityError, "something is larger than shale reads"},
	{TooDeep, SeverityError, "documents refer to each other too deeply"},

	{MissingPlatform, SeverityError, "the config of an image has no `architecture` or no `os`"},
	{EmptyPlatform, SeverityInfo, "the `architecture` or `os` of a config is empty, as some builders leave it that begin from nothing"},
	{RootFSType, SeverityError, "the `rootfs.type` of a config is not `layers`"},
	{LayerCount, SeverityError, "a config has not as many diffIDs as the manifest has layers"},
	{InvalidDiffID, SeverityError, "a diffID is malformed, or of an algorithm that is not supported"},
	{HistoryTooLong, SeverityError, "the history of an image tells of more layers than there are"},
	{HistoryTooShort, SeverityWarning, "the history of an image tells of some layers, and not of all"},

	{WrongDiffID, SeverityError, "the uncompressed layer does not have the diffID that the config says"},
	{WrongCompression, SeverityError, "a layer does not begin like what its media type says"},
	{CorruptLayer, SeverityError, "a layer cannot be uncompressed"},
	{TrailingBytes, SeverityError, "there is something after the end of the compressed stream"},
	{PaddedLayer, SeverityWarning, "there are zeros after the end of the compressed stream"},
	{UnsupportedLayer, SeverityWarning, "a layer of an image has an unknown media type: its content is not checked"},
	{InvalidTar, SeverityError, "a layer is not a proper tar archive"},
	{InvalidEntry, SeverityError, "an entry of a layer cannot be unpacked: its name, type, owner, time, mode or size"},
	{InvalidWhiteout, SeverityError, "the name of an entry begins like that of a whiteout and is none"},
	{MissingLinkTarget, SeverityError, "a hardlink leads to nothing, to itself or to a directory"},
	{IgnoredXattr, SeverityInfo, "entries of a layer have extended attributes that belong to a host, which unpacking leaves out"},
}

// severities has the severity of each code.
var severities = func() map[Code]Severity {
	m := make(map[Code]Severity, len(codes))
	for _, c := range codes {
		m[c.Code] = c.Severity
	}
	return m
}()
