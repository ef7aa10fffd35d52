// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"archive/tar"
	"strings"
	"time"

	oci "github.com/shale-oci/shale/test/ocitest"
)

// A. Whiteouts. Only the name counts, and what it names is looked up inside the
// tree.
var whiteouts = []hostileCase{
	{"A1", "whiteout of nothing", top(oci.File(".wh.", "", 0)), do(unpack), refused("entry .wh.")},
	{"A2", "whiteout of the directory itself", top(oci.File("d/.wh..", "", 0)), do(unpack), refused("entry d/.wh..:")},
	{"A3", "whiteout of the parent of the root", top(oci.File(".wh...", "", 0)), do(unpack), refused("entry .wh...:")},
	{"A3.below", "whiteout of a parent directory", top(oci.File("d/.wh...", "", 0)), do(unpack), refused("entry d/.wh...:")},
	{"A5", "names that AUFS kept for itself delete nothing and are not made",
		top(oci.File(".wh..wh.f", "", 0), oci.Dir(".wh..wh.plnk", 0o700), oci.File(".wh..wh.plnk/x", "", 0)), do(unpack),
		accepted(holds("f", "f of the base\n"), absent(".wh..wh.f", ".wh..wh.plnk"))},
	{"A7", "whiteouts that are a symlink and a FIFO", top(oci.Symlink(".wh.f", "@HOST/f"), oci.Fifo("d/.wh.f", 0o600)), do(unpack),
		accepted(absent("f", ".wh.f", "d/f", "d/.wh.f"))},
	{"A8", "whiteout through a symlink to a directory of the host",
		stack(entries{oci.File("@HOST/f", "in the tree\n", 0o644)}, entries{oci.Symlink("s", "@HOST"), oci.Whiteout("s/f")}), do(unpack),
		accepted(is("s", link("@HOST")), absent("@HOST/f"))},
	{"A8.opaque", "opaque whiteout through a symlink to a directory of the host",
		stack(entries{oci.File("@HOST/f", "in the tree\n", 0o644)}, entries{oci.Symlink("s", "@HOST"), oci.Opaque("s")}), do(unpack),
		accepted(is("s", link("@HOST")), absent("@HOST/f"))},
	{"A10", "whiteout after an entry of the same name in the same layer", top(oci.File("f", "new\n", 0o644), oci.Whiteout("f")), do(unpack),
		accepted(holds("f", "new\n"))},
	{"A12", "layers that undo each other, the early ones taking longest", stack(
		entries{oci.File("f", strings.Repeat("1", 4<<20), 0o644)}, entries{oci.Whiteout("f"), oci.File("g", strings.Repeat("2", 1<<20), 0o644)},
		entries{oci.File("f", "3", 0o644), oci.Whiteout("g")}, entries{oci.Whiteout("f")}, entries{oci.File("g", "5", 0o644)}), do(unpack),
		accepted(absent("f"), holds("g", "5"))},
}

// B. Names are taken as by tar after chroot: leading slashes mean nothing, and
// ".." stops at the root.
var names = []hostileCase{
	{"B1", "../x", top(oci.File("../x", "in\n", 0o644)), do(unpack), accepted(holds("x", "in\n"))},
	{"B2", "an absolute name", top(oci.File("@HOST/f", "in\n", 0o644)), do(unpack), accepted(holds("@HOST/f", "in\n"))},
	{"B3", "a/../../x", top(oci.File("a/../../x", "in\n", 0o644)), do(unpack), accepted(holds("x", "in\n"), absent("a"))},
	{"B4", ".. as a directory is the root", top(oci.Dir("..", 0o711)), do(unpack), accepted(is(".", dir(0o711)))},
	{"B4.file", ".. as a file", top(oci.File("..", "in\n", 0o644)), do(unpack), refused("entry ..: the root")},
	{"B5", "no name", top(oci.RawMember(oci.RawHeader{Typeflag: '0'}, nil)), do(unpack), refused(`entry ""`)},
	{"B6.dot", ". as a symlink", top(oci.Symlink(".", "@HOST")), do(unpack), refused("entry .: the root")},
	{"B6.slash", "/ as a symlink", top(oci.Symlink("/", "@HOST")), do(unpack), refused("entry /: the root")},
	{"B8", "a component of 256 bytes", top(oci.File("d/"+strings.Repeat("n", 256), "", 0o644)), do(unpack), refused("nnnn", "255 bytes")},
	{"B8.parent", "a directory of 256 bytes that has no entry", top(oci.File(strings.Repeat("n", 256)+"/f", "", 0o644)), do(unpack),
		refused("nnnn", "255 bytes")},
	{"B9", "a path of over 4096 bytes is made whole", top(oci.File(longName+"/f", "deep\n", 0o644)), do(unpack),
		accepted(long(longName+"/f", "deep\n"))},
	{"B10", "3,000 directories in each other", top(oci.File(deepName+"/f", "deep\n", 0o644)), do(unpack, repack),
		accepted(long(deepName+"/f", "deep\n"), unchanged)},
	{"B11", "a NUL in a name", top(oci.RawPAX(oci.PAXRecord("path", "a\x00b")), oci.File("c", "", 0o644)), do(unpack), refused("header")},
	{"B12", "ESC and newline in a name that is refused", top(oci.RawMember(oci.RawHeader{Name: evilName, Typeflag: 'Z'}, nil)), do(unpack),
		refused(`evil\x1b[2J\nshale: all is well`)},
	{"B12.made", "ESC and newline in names that are made", top(oci.File(evilName, "in\n", 0o644), oci.Symlink("l", evilName)), do(unpack, repack),
		accepted(holds(evilName, "in\n"), is("l", link(evilName)), unchanged)},
	{"B13", "names that are not UTF-8, there and back",
		unpacked(top(oci.File("\xff\xfe/\x80", "in\n", 0o644), oci.Symlink("l", "\xff")), func(w *world) { w.write("\xff\xfe/\x81", "new\n") }),
		do(repack), accepted(again, holds("\xff\xfe/\x80", "in\n"), is("l", link("\xff")))},
}

var (
	longName = strings.TrimSuffix(strings.Repeat(strings.Repeat("n", 200)+"/", 25), "/")
	deepName = strings.TrimSuffix(strings.Repeat("d/", 3000), "/")
)

const evilName = "evil\x1b[2J\nshale: all is well"

// C. Links are resolved inside the tree, whatever they hold.
var links = []hostileCase{
	{"C1", "write through an absolute symlink", top(oci.Symlink("s", "@HOST"), oci.File("s/f", "in\n", 0o644)), do(unpack),
		accepted(is("s", link("@HOST")), holds("@HOST/f", "in\n"))},
	{"C1.file", "write onto an absolute symlink", top(oci.Symlink("s", "@HOST/f"), oci.File("s", "in\n", 0o644)), do(unpack),
		accepted(holds("s", "in\n"))},
	{"C1.raw", "the same without a bundle", top(oci.Symlink("s", "@HOST"), oci.File("s/f", "in\n", 0o644)), do(rawUnpack),
		accepted(is("s", link("@HOST")), holds("@HOST/f", "in\n"))},
	{"C1.long", "a symlink that holds more than a path may have", top(oci.Symlink("s", strings.Repeat("a/", 3000))), do(unpack), refused("entry s:")},
	{"C2", "write through a chain of symlinks with ..",
		top(oci.Symlink("d/up", ".."), oci.Symlink("d/out", "up/../.."), oci.File("d/out/x", "in\n", 0o644)), do(unpack),
		accepted(holds("x", "in\n"), is("d/out", link("up/../..")))},
	{"C3", "a directory replaces a symlink to one of the host",
		stack(entries{oci.Symlink("s", "@HOST/dir")}, entries{oci.Dir("s", 0o700), oci.File("s/f", "in\n", 0o644)}), do(unpack),
		accepted(is("s", dir(0o700)), holds("s/f", "in\n"))},
	{"C3.kept", "the same with --keep-dirlinks: the link leads to nothing in the tree",
		stack(entries{oci.Symlink("s", "@HOST/dir")}, entries{oci.Dir("s", 0o700), oci.File("s/f", "in\n", 0o644)}),
		do(unpack + " --keep-dirlinks"), accepted(is("s", dir(0o700)), holds("s/f", "in\n"))},
	{"C4", "hardlink to ../../etc/shadow", top(oci.Hardlink("h", "../../etc/shadow")), do(unpack), refused("entry h:", "../../etc/shadow")},
	{"C5", "hardlink to an absolute name of the host", top(oci.Hardlink("h", "@HOST/f")), do(unpack), refused("entry h:", "@HOST/f")},
	{"C5.through", "hardlink through a symlink to the host", top(oci.Symlink("s", "@HOST"), oci.Hardlink("h", "s/f")), do(unpack),
		refused("entry h:", "s/f")},
	{"C6", "hardlink to a name that is only in the working directory", top(oci.Hardlink("h", "bait")), do(unpack), refused("entry h:", "bait")},
	{"C7", "hardlink with a setuid mode to a symlink to a program of the host",
		top(oci.Symlink("s", "@HOST/su"), oci.Hardlink("h", "s").Mode(0o4755)), do(unpack),
		accepted(is("s", link("@HOST/su")), is("h", link("@HOST/su")))},
	{"C8", "the same, and then a file of that name",
		top(oci.Symlink("s", "@HOST/su"), oci.Hardlink("h", "s").Mode(0o4755), oci.File("h", "in\n", 0o4755)), do(unpack),
		accepted(is("s", link("@HOST/su")), is("h", regular(0o4755)), holds("h", "in\n"))},
	{"C9", "hardlink to itself", top(oci.Hardlink("f", "f")), do(unpack), refused("entry f:", "itself")},
	{"C10", "hardlink to nothing", top(oci.Hardlink("h", "nowhere")), do(unpack), refused("entry h:", "nowhere")},
	{"C10.raw", "the same without a bundle", top(oci.Hardlink("h", "nowhere")), do(rawUnpack), refused("entry h:", "nowhere")},
	{"C13", "write through a loop of symlinks", top(oci.Symlink("a", "b"), oci.Symlink("b", "a"), oci.File("a/x", "", 0o644)), do(unpack),
		refused("entry a/x:", "symbolic links")},
}

// D. Types and metadata.
var metadata = []hostileCase{
	{"D1", "an unknown type", top(oci.RawMember(oci.RawHeader{Name: "x", Typeflag: 'Z'}, nil)), do(unpack), refused("entry x:", "'Z'")},
	{"D2", "a contiguous file", top(oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '7'}, nil)), do(unpack), refused("entry x:", "'7'")},
	{"D3", "devices; where they cannot be made, placeholders that repack turns back",
		top(oci.Char("null", 0o666, 1, 3), oci.Block("disk", 0o640, 7, 200)), do(unpack, repack),
		accepted(is("null", oci.Facts{Type: "char", Mode: 0o666, Rdev: "1:3"}), is("disk", oci.Facts{Type: "block", Mode: 0o640, Rdev: "7:200"}), unchanged).
			but("userns", placeholders).but("user", placeholders)},
	{"D3.changed", "a device whose mode and time are changed is still that device",
		unpacked(top(oci.Char("null", 0o666, 1, 3)), func(w *world) { w.touch("null", 5, 0) }), do(repack),
		accepted(member(tar.TypeChar, "null", 1, 3))},
	{"D3.mark", "a file with the mark of a placeholder stays a file", unpacked(
		top(oci.File("x", "", 0o644).Xattr("user.shale.device", "b 8 0 0666")), func(w *world) { w.touch("x", 5, 0) }), do(repack),
		accepted(member(tar.TypeReg, "x", 0, 0))},
	{"D3.number", "a device number that is none", top(oci.Char("x", 0o644, 1<<33, 0)), do(unpack), refused("entry x:", "8589934592")},
	{"D5", "a FIFO, then a file in its place, then one below it",
		stack(entries{oci.Fifo("p", 0o600), oci.Fifo("q", 0o600), oci.Fifo("r", 0o644)}, entries{oci.File("p", "in\n", 0o644), oci.File("q/x", "in\n", 0o644)}),
		do(unpack, repack), accepted(holds("p", "in\n"), holds("q/x", "in\n"), is("r", oci.Facts{Type: "fifo", Mode: 0o644}), unchanged)},
	{"D6", "a socket", top(oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '0', Mode: "0140644"}, nil)), do(unpack), refused("entry x:", "socket")},
	{"D7", "uid 2^32 with setuid", top(oci.File("x", "", 0o4755).Owner(1<<32, 0)), do(unpack), refused("entry x:", "uid 4294967296")},
	{"D7.gid", "gid 2^32 with setgid", top(oci.File("x", "", 0o2755).Owner(0, 1<<32)), do(unpack), refused("entry x:", "gid 4294967296")},
	{"D8", "uid 2^32-1", top(oci.File("x", "", 0o4755).Owner(1<<32-1, 0)), do(unpack), refused("entry x:", "uid 4294967295")},
	{"D9", "uid -1", top(oci.RawPAX(oci.PAXRecord("uid", "-1")), oci.File("x", "", 0o4755)), do(unpack), refused("entry x:", "uid -1")},
	{"D11", "an owner that no mapping covers", top(oci.File("x", "", 0o644).Owner(70_000, 0)), do(unpack + " --uid-map 0:0:65536"),
		refused("entry x:", "uid 70000").only("root")},
	{"D11.dir", "a directory's owner that no mapping covers", top(oci.Dir("x", 0o755).Owner(0, 70_000)), do(unpack + " --gid-map 0:0:65536"),
		refused("entry x", "gid 70000").only("root")},
	{"D11.userns", "an owner that the user namespace does not have", top(oci.File("x", "", 0o644).Owner(70_000, 0)), do(unpack),
		refused("entry x:", "70000").only("userns")},
	{"D12", "a time of -1", top(oci.File("x", "", 0o644).Mtime(time.Unix(-1, 0)), oci.Dir("y", 0o755).Mtime(time.Unix(-1, 0))), do(unpack, repack),
		accepted(is("x", at("file", -1e9)), is("y", at("dir", -1e9)), unchanged)},
	{"D13", "a time of -2^40", top(oci.File("x", "", 0o644).Mtime(time.Unix(-1<<40, 0))), do(unpack), refused("entry x:", "time")},
	{"D13.future", "a time of 2^40", top(oci.File("x", "", 0o644).Mtime(time.Unix(1<<40, 0))), do(unpack), refused("entry x:", "time")},
	{"D15", "times with nanoseconds", top(oci.File("x", "", 0o644).Mtime(time.Unix(1e9, 123456789)), oci.Symlink("y", "x").Mtime(time.Unix(1e9, 987654321)),
		oci.Dir("z", 0o755).Mtime(time.Unix(1e9, 1))), do(unpack, repack),
		accepted(is("x", at("file", 1e18+123456789)), is("y", at("link", 1e18+987654321)), is("z", at("dir", 1e18+1)), unchanged)},
}

// placeholders stand for the devices of D3.
var placeholders = accepted(
	is("null", withXattr("user.shale.device", "c 1 3 0666")), is("null", oci.Facts{Type: "file", Mode: 0o666}),
	is("disk", withXattr("user.shale.device", "b 7 200 0640")), is("disk", oci.Facts{Type: "file", Mode: 0o640}),
	unchanged,
).warning("2 devices became placeholders")

// E. Extended attributes. Those that only the host's root may set are left out
// with a warning where shale is not that; trusted.overlay.* has no meaning of its
// own in a layer and is one like any other.
var xattrs = []hostileCase{
	{"E1", "a malformed capability", top(oci.File("x", "", 0o755).Xattr("security.capability", "\x01evil")), do(unpack),
		refused("entry x:", "security.capability")},
	{"E2", "a capability on a file with another owner", byRoot(top(oci.File("x", "", 0o755).Owner(1000, 1000).Xattr("security.capability", oci.Capability))), do(unpack),
		accepted(is("x", withXattr("security.capability", oci.Capability))).but("user", lost("security.capability"))},
	{"E3", "trusted.overlay.opaque", top(oci.Dir("d", 0o755).Xattr("trusted.overlay.opaque", "y")), do(unpack),
		accepted(is("d", oci.Facts{Type: "dir", Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}), holds("d/f", "d/f of the base\n")).
			but("userns", lost("trusted.overlay.opaque")).but("user", lost("trusted.overlay.opaque"))},
	{"E5", "security.selinux is the host's", top(oci.File("x", "", 0o644).Xattr("security.selinux", "system_u:object_r:shadow_t:s0")), do(unpack, repack),
		accepted(unchanged).warning("security.selinux")},
	{"E6", "an access control list", byRoot(top(oci.File("x", "", 0o670).Xattr("system.posix_acl_access", acl))), do(unpack, repack),
		accepted(is("x", withXattr("system.posix_acl_access", acl)), unchanged)},
	{"E7", "a value of 500 kB", top(oci.File("x", "", 0o644).Xattr("user.large", strings.Repeat("v", 500_000))), do(unpack),
		refused("entry x:", "user.large", "500000")},
	{"E7.name", "an attribute without a name", top(oci.File("x", "", 0o644).Xattr("", "v")), do(unpack), refused("entry x:")},
}

// lost are the xattrs that cannot be set.
func lost(name string) want { return accepted().warning("xattr " + name) }

// acl gives uid 0 all rights besides the usual owner and group, who have rw- and r--.
const acl = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" +
	"\x02\x00\x07\x00\x00\x00\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x07\x00\xff\xff\xff\xff" +
	"\x20\x00\x00\x00\xff\xff\xff\xff"
