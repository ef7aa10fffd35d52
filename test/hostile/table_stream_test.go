// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/shale-oci/shale/test/ocitest"
)

// F. The tar stream. An archive ends at two blocks of zeros or, as for other
// tools, at the end of the stream between two entries.
var streams = []hostileCase{
	{"F1", "a size of -1", top(member0("x", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "")), do(unpack), refused("header")},
	{"F1.pax", "a size of -1 in an extended header", top(oci.RawPAX(oci.PAXRecord("size", "-1")), oci.File("x", "", 0o644)), do(unpack), refused("header")},
	{"F2", "a size of 2^63-1", top(member0("x", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "body")), do(unpack), refused("x", "--max-bytes")},
	{"F2.pax", "a size of 2^63-1 in an extended header", top(oci.RawPAX(oci.PAXRecord("size", "9223372036854775807")), member0("x", "", "body")), do(unpack),
		refused("x", "--max-bytes")},
	{"F2.dir", "a directory of 2^63-1 bytes", top(oci.RawMember(oci.RawHeader{Name: "x/", Typeflag: '5', Size: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}, nil),
		oci.File("y", "in\n", 0o644)), do(unpack), accepted(holds("y", "in\n"))},
	{"F3", "sizes that differ: that of the extended header counts, as for GNU tar and libarchive",
		top(oci.RawPAX(oci.PAXRecord("size", "5")), member0("x", fmt.Sprintf("%011o", 1024), "hello"), oci.File("y", "in\n", 0o644)), do(unpack),
		accepted(holds("x", "hello"), holds("y", "in\n"), likeTar)},
	{"F3.more", "the same with the larger one there",
		top(oci.RawPAX(oci.PAXRecord("size", "1024")), member0("x", fmt.Sprintf("%011o", 5), hidden), oci.File("y", "in\n", 0o644)), do(unpack),
		accepted(holds("x", hidden), holds("y", "in\n"), absent("hidden"), likeTar)},
	{"F4", "an extended header of 2 MiB", top(oci.RawPAX(oci.PAXRecord("comment", strings.Repeat("c", 2<<20))), oci.File("x", "", 0o644)), do(unpack),
		refused("header")},
	{"F4.name", "a GNU long name of 2 MiB", top(oci.RawMember(oci.RawHeader{Name: "././@LongLink", Typeflag: 'L', Size: fmt.Sprintf("%011o", 2<<20)},
		bytes.Repeat([]byte("n"), 2<<20)), oci.File("x", "", 0o644)), do(unpack), refused("header")},
	{"F5", "an extended header of 100 MB", hugePAX, do(unpack), refused("header")},
	{"F6", "two records for the name: the last wins, and is a name like any other",
		top(oci.RawPAX(oci.PAXRecord("path", "first")+oci.PAXRecord("path", "../../x")), oci.File("z", "in\n", 0o644)), do(unpack),
		accepted(absent("first", "z"), holds("x", "in\n"))},
	{"F7", "a record of a wrong length", top(oci.RawPAX("99 path=x\n"), oci.File("y", "", 0o644)), do(unpack), refused("header")},
	{"F7.negative", "a record of a negative length", top(oci.RawPAX("-9 path=x\n"), oci.File("y", "", 0o644)), do(unpack), refused("header")},
	{"F8", "a global header says nothing about the tree", top(oci.RawMember(oci.RawHeader{Name: "g", Typeflag: 'g',
		Size: fmt.Sprintf("%011o", len(oci.PAXRecord("path", "@HOST/f")))}, []byte(oci.PAXRecord("path", "@HOST/f"))), oci.File("x", "in\n", 0o644)), do(unpack),
		accepted(holds("x", "in\n"), absent("g"))},
	{"F10", "a sparse file of 20 million pieces", sparseMap, do(unpack), refused("sparse")},
	{"F12", "a file of 3 GiB that is a hole", top(sparseFile("x", 3<<30)...), do(unpack), accepted(sparse("x", 3<<30))},
	{"F13", "no blocks at the end", plainLayer(func(tar []byte) []byte { return tar[:len(tar)-1024] }), do(unpack), accepted(holds("x", "in\n"))},
	{"F13.one", "one block at the end", plainLayer(func(tar []byte) []byte { return tar[:len(tar)-512] }), do(unpack), accepted(holds("x", "in\n"))},
	{"F13.padding", "the end after the last byte of a file", plainLayer(func(tar []byte) []byte { return tar[:len(tar)-1024-500] }), do(unpack),
		accepted(holds("x", "in\n"))},
	{"F13.cut", "the end in the middle of a file", plainLayer(func(tar []byte) []byte { return tar[:len(tar)-1024-511] }), do(unpack),
		refused("x", "unexpected EOF")},
	{"F13.large", "the end in the middle of a large file", top(member0("x", fmt.Sprintf("%011o", 5_000_000), strings.Repeat("b", 4_000_000))), do(unpack),
		refused("x", "unexpected EOF")},
	{"F13.header", "the end in the middle of a header", plainLayer(func(tar []byte) []byte { return tar[:len(tar)-1024-600] }), do(unpack),
		refused("header")},
}

// member0 is a file with a size field, empty for that of the body, as it stands.
func member0(name, size, body string) entry {
	if size == "" {
		size = fmt.Sprintf("%011o", len(body))
	}
	return oci.RawMember(oci.RawHeader{Name: name, Typeflag: '0', Size: size}, []byte(body))
}

// hidden is a body of two blocks that is a member itself, for those who think
// that the body ends before.
var hidden = string(oci.Layer(oci.Dir("hidden", 0o755))[:512]) + strings.Repeat("h", 512)

// hugePAX is streamed, to not have it in memory.
func hugePAX(w *world) {
	const size = 100_000_000
	header := oci.RawMember(oci.RawHeader{Name: "pax", Typeflag: 'x', Size: fmt.Sprintf("%011o", size)}, nil)
	record := fmt.Sprintf("%d comment=", size)
	padded := size + oci.BlockSize - size%oci.BlockSize
	w.imageOf(func(out io.Writer) {
		w.say(out, header.Raw)
		w.say(out, []byte(record))
		w.fill(out, 'c', padded-len(record))
		w.say(out, oci.Layer(oci.File("x", "", 0o644)))
	})
}

// sparseFile is a file of which only the last block has data, in the format that
// GNU tar calls PAX 1.0.
func sparseFile(name string, size int64) entries {
	body := fmt.Sprintf("1\n%d\n512\n", size-512)
	body += strings.Repeat("\x00", 512-len(body)) + strings.Repeat("d", 512)
	return entries{
		oci.RawPAX(oci.PAXRecord("GNU.sparse.major", "1") + oci.PAXRecord("GNU.sparse.minor", "0") +
			oci.PAXRecord("GNU.sparse.name", name) + oci.PAXRecord("GNU.sparse.realsize", fmt.Sprint(size))),
		member0("GNUSparseFile.0/"+name, "", body),
	}
}

// sparseMap is an image with a file whose sparse map is long.
func sparseMap(w *world) {
	const pieces, piece = 20_000_000, "0\n0\n"
	header := oci.RawPAX(oci.PAXRecord("GNU.sparse.major", "1") + oci.PAXRecord("GNU.sparse.minor", "0") +
		oci.PAXRecord("GNU.sparse.name", "x") + oci.PAXRecord("GNU.sparse.realsize", "100"))
	body := oci.BlockSize + pieces*len(piece) // the number has a block to itself
	w.imageOf(func(out io.Writer) {
		w.say(out, header.Raw)
		w.say(out, oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '0', Size: fmt.Sprintf("%011o", body)}, nil).Raw)
		w.say(out, fmt.Appendf(nil, "%0*d\n", oci.BlockSize-1, pieces))
		for range pieces / 100_000 {
			w.say(out, bytes.Repeat([]byte(piece), 100_000))
		}
		w.say(out, oci.Layer())
	})
}

// plainLayer is an image of one layer that is not compressed, and has been cut.
func plainLayer(cut func(tar []byte) []byte) input {
	return func(w *world) {
		data := cut(oci.Layer(oci.File("x", "in\n", 0o644)))
		blob(ispec.MediaTypeImageLayer, data, data)(w)
	}
}

// G. Compression.
var compression = []hostileCase{
	{"G1", "gzip and then junk", blob(gz, slices.Concat(gzipped(small), []byte("junk")), small), do(unpack), refused("after the end")},
	{"G1.later", "gzip, NULs and then junk", blob(gz, slices.Concat(gzipped(small), make([]byte, 5000), []byte("junk")), small), do(unpack),
		refused("after the end")},
	{"G2", "gzip and then NULs", blob(gz, slices.Concat(gzipped(small), make([]byte, 5000)), small), do(unpack),
		accepted(holds("x", "in\n")).warning("5000 bytes of padding")},
	{"G3", "several members", blob(gz, slices.Concat(gzipped(small[:700]), gzipped(nil), gzipped(small[700:])), small), do(unpack),
		accepted(holds("x", "in\n"))},
	{"G3.zstd", "several frames, one of them skippable", blob(zst, slices.Concat(zstandard(small[:700]), skippable, zstandard(small[700:])), small), do(unpack),
		accepted(holds("x", "in\n"))},
	{"G4", "200,000 empty members", blob(gz, slices.Concat(bytes.Repeat(gzipped(nil), 200_000), gzipped(small)), small), do(unpack),
		accepted(holds("x", "in\n"))},
	{"G5", "cut gzip", blob(gz, gzipped(small)[:60], small), do(unpack), refused("unexpected EOF")},
	{"G5.trailer", "gzip without its trailer", blob(gz, gzipped(small)[:len(gzipped(small))-8], small), do(unpack), refused("unexpected EOF")},
	{"G5.zstd", "cut zstd", blob(zst, zstandard(small)[:40], small), do(unpack), refused("unexpected EOF")},
	{"G6", "gzip with a wrong checksum", blob(gz, flipped(gzipped(small), 8), small), do(unpack), refused("checksum")},
	{"G6.zstd", "zstd with a wrong checksum", blob(zst, flipped(zstandard(small), 4), small), do(unpack), refused("CRC")},
	{"G7", "gzip that is called a tar", blob(ispec.MediaTypeImageLayer, gzipped(small), small), do(unpack), refused("plain tar expected, gzip found")},
	{"G8", "a tar that is called gzip", blob(gz, small, small), do(unpack), refused("gzip expected")},
	{"G8.zstd", "gzip that is called zstd", blob(zst, gzipped(small), small), do(unpack), refused("zstd expected, gzip found")},
	{"G9", "zstd with a window of 2^31 bytes", blob(zst, window(31), small), do(unpack), refused("window")},
	{"G11", "2 GiB out of next to nothing, on the way into another compression or archive", hugeBomb,
		do("copy --compress gzip --max-bytes 100MiB @LAYOUT:v @BUNDLE:v", "copy --max-bytes 100MiB @LAYOUT:v docker-archive:@BUNDLE:a:v"),
		refused("uncompressed bytes", "104857600", "--max-bytes").fast(5 * time.Second)},
	{"G11.saved", "the same in a docker-archive", all(hugeBomb, saved),
		do("copy --max-bytes 100MiB docker-archive:@HOST/saved.tar @BUNDLE:v", "unpack --max-bytes 100MiB --from docker-archive:@HOST/saved.tar @BUNDLE"),
		refused("layer.tar", "uncompressed bytes", "104857600", "--max-bytes").fast(5 * time.Second)},
	{"G11.ratio", "the same, with no other limit", all(hugeBomb, saved), do("copy --max-bytes none docker-archive:@HOST/saved.tar @BUNDLE:v"),
		refused("layer.tar", "for each compressed one", "1100", "--max-ratio").fast(10 * time.Second)},
	{"G13", "xz", blob(ispec.MediaTypeImageLayer+"+xz", []byte("\xfd7zXZ\x00..."), small), do(unpack), refused("tar+xz")},
	{"G13.suffix", "an unknown suffix", blob(ispec.MediaTypeImageLayer+"+evil\x1b[2J", small, small), do(unpack), refused(`tar+evil\x1b[2J`)},
	{"G13.lie", "xz that is called gzip", blob(gz, []byte("\xfd7zXZ\x00..."), small), do(unpack), refused("gzip expected, xz found")},
}

// hugeBomb is small, and becomes 2 GiB.
var hugeBomb = bomb(2 << 30)

// saved puts the image called v into a docker-archive, with its layer as it is.
func saved(w *world) {
	manifest := w.read(w.blob(w.manifest("v")))
	content := func(descriptor any) string {
		data, err := os.ReadFile(w.blob(digest.Digest(descriptor.(document)["digest"].(string))))
		w.ok(err)
		return string(data)
	}
	w.ok(os.WriteFile(w.host+"/saved.tar", oci.Layer(
		oci.File("config.json", content(manifest["config"]), 0o644),
		oci.File("layer.tar", content(layer0(manifest)), 0o644),
		oci.File("manifest.json", `[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]`, 0o644),
	), 0o644))
	w.blame = nil
}

const (
	gz  = ispec.MediaTypeImageLayerGzip
	zst = ispec.MediaTypeImageLayerZstd
)

// small is the content of the layers of G.
var small = oci.Layer(oci.File("x", "in\n", 0o644))

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func zstandard(data []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(data, nil)
}

// skippable is a frame that decoders pass over (RFC 8878, section 3.1.2).
var skippable = append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 4), "skip"...)

// flipped returns data with one bit changed, n bytes before the end.
func flipped(data []byte, n int) []byte {
	data = slices.Clone(data)
	data[len(data)-n] ^= 1
	return data
}

// window is a zstd frame that wants a window of 2^log bytes, with one raw block.
func window(log int) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, byte((log - 10) << 3)}
	frame = append(frame, byte(len(small)<<3|1), byte(len(small)>>5), byte(len(small)>>13))
	return append(frame, small...)
}
