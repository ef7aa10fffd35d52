// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	oci "github.com/shale-oci/shale/test/ocitest"
)

func user(name string) ispec.ImageConfig { return ispec.ImageConfig{User: name} }

// J. The bundle and its config.json.
var bundles = []hostileCase{
	{"J1", "user 2^32, which passwd has", configured(user("4294967296"), passwd("evil:x:4294967296:0::/:/bin/sh\n")), do(unpack), refused("user 4294967296")},
	{"J1.absent", "user 2^32, which passwd does not have", configured(user("4294967296")), do(unpack), refused("user 4294967296")},
	{"J1.name", "a user who has the uid 2^32", configured(user("evil"), passwd("evil:x:4294967296:0::/:/bin/sh\n")), do(unpack), refused("user evil")},
	{"J1.group", "a group that has the gid 2^32", configured(user("0:evil"), group("evil:x:4294967296:\n")), do(unpack), refused("user 0:evil")},
	{"J1.extra", "a user in a group that has the gid 2^32", configured(user("app"), passwd("app:x:5:5::/:/bin/sh\n"), group("evil:x:4294967296:app\n")),
		do(unpack), refused("user app")},
	{"J2", "user -1", configured(user("-1")), do(unpack), refused("user -1")},
	{"J2.name", "a user who has the uid -1", configured(user("evil"), passwd("evil:x:-1:0::/:/bin/sh\n")), do(unpack), refused("user evil")},
	{"J2.ESC", "a user called ESC", configured(user("\x1b[2J\nroot")), do(unpack), refused(`\x1b[2J\nroot`)},
	{"J3", "passwd is a FIFO", configured(user("app"), oci.Fifo("etc/passwd", 0o644)), do(unpack), refused("passwd", "FIFO")},
	{"J4", "passwd is a device", configured(user("app"), oci.Char("etc/passwd", 0o644, 1, 5)), do(unpack), refused("passwd", "device").
		but("userns", refused("user app").warning("placeholder")).but("user", refused("passwd").warning("placeholder"))},
	{"J5", "passwd is a symlink, resolved in the tree", configured(user("app"), oci.File("@HOST/passwd", "app:x:1234:5::/home:/bin/sh\n", 0o644),
		oci.Symlink("etc/passwd", "@HOST/passwd")), do(unpack),
		accepted(process(func(p *rspec.Process) bool { return p.User.UID == 1234 }, "user 1234 of the tree"))},
	{"J5.dangling", "passwd is a symlink to a file of the host alone", configured(user("app"), oci.Symlink("etc/passwd", "@HOST/passwd")), do(unpack),
		refused("user app")},
	{"J5.up", "etc is a symlink up and out", configured(user("app"), oci.Symlink("etc", "../../../host")), do(unpack), refused("user app")},
	{"J6", "a group file with a line of 200 MB", largeGroup("x:x:5:", 'm'), do(unpack), refused("group")},
	{"J6.members", "a group file with a line of 200 MB of commas", largeGroup("x:x:5:", ','), do(unpack), refused("group")},
	{"J7", "there is a rootfs already", all(good, existing("rootfs/mine")), do(unpack), refused("@BUNDLE", "rootfs", "exists")},
	{"J7.config", "there is a config.json already", all(good, existing("config.json")), do(unpack), refused("@BUNDLE", "config.json", "exists")},
	{"J7.file", "the rootfs is a file", all(good, existing("rootfs")), do(unpack), refused("@BUNDLE", "rootfs", "exists")},
	{"J7.link", "the rootfs is a symlink to the outside", all(good, existing(""), func(w *world) { w.ok(os.Symlink(w.host+"/dir", w.bundle+"/rootfs")) }),
		do(unpack), refused("@BUNDLE", "rootfs", "exists")},
	{"J7.mtree", "there is an mtree manifest of the image already, a symlink to the outside", all(good, existing(""), func(w *world) {
		w.ok(os.Symlink(w.host+"/f", w.bundle+"/sha256_"+w.manifest("v").Encoded()+".mtree"))
	}), do(unpack), refused("@BUNDLE", ".mtree", "exists")},
	{"J7.raw", "there is a root filesystem already, and no bundle", all(good, existing("rootfs/mine")), do(rawUnpack), refused("@BUNDLE/rootfs", "exists")},
	{"J7.raw.link", "the root filesystem is a symlink to the outside, and no bundle", all(good, existing(""), func(w *world) {
		w.ok(os.Symlink(w.host+"/dir", w.bundle+"/rootfs"))
	}), do(rawUnpack), refused("@BUNDLE/rootfs")},
	{"J7.broken", "there is a rootfs, and the image is broken too", all(good, existing("rootfs/mine"), flip(topLayer, 50), blameNothing), do(unpack), refused()},
	{"J9", "a working directory that goes up", configured(ispec.ImageConfig{WorkingDir: "../../tmp"}), do(unpack),
		accepted(process(func(p *rspec.Process) bool { return p.Cwd == "/tmp" }, "in /tmp"))},
	{"J10", "labels that imitate what the runtime looks at", configured(ispec.ImageConfig{User: "5", Labels: imitations}), do(unpack),
		accepted(process(func(p *rspec.Process) bool {
			return p.User.UID == 5 && len(p.Capabilities.Bounding) == 3 && p.NoNewPrivileges
		}, "an ordinary process"), linux)},
}

// passwd and group are the files of those names.
func passwd(content string) entry { return oci.File("etc/passwd", content, 0o644) }
func group(content string) entry  { return oci.File("etc/group", content, 0o644) }

// largeGroup is an image whose group file is one very long line.
func largeGroup(start string, c byte) input {
	const size = 200_000_000
	padded := (size + oci.BlockSize - 1) / oci.BlockSize * oci.BlockSize
	return func(w *world) {
		w.imageOf(func(out io.Writer) {
			w.say(out, oci.RawMember(oci.RawHeader{Name: "etc/group", Typeflag: '0', Size: fmt.Sprintf("%011o", size)}, nil).Raw)
			w.say(out, []byte(start))
			w.fill(out, c, size-len(start))
			w.fill(out, 0, padded-size)
			w.say(out, oci.Layer(passwd("root:x:0:0::/root:/bin/sh\n")))
		})
		w.blame = nil
	}
}

// existing makes the bundle's directory with a file in it.
func existing(name string) input {
	return func(w *world) {
		path := filepath.Join(w.bundle, name)
		if name == "" {
			w.ok(os.Mkdir(path, 0o755))
			return
		}
		w.ok(os.MkdirAll(filepath.Dir(path), 0o755))
		w.ok(os.WriteFile(path, []byte("mine\n"), 0o600))
	}
}

// imitations are annotations that programs act upon, as labels of an image.
var imitations = map[string]string{
	"org.opencontainers.image.os":           "windows",
	"org.opencontainers.image.architecture": "evil",
	"org.opencontainers.image.stopSignal":   "SIGKILL",
	"org.opencontainers.image.exposedPorts": "22",
	"ci.umo.uncompressed_blob_size":         "-1",
}

// linux checks that the container is an ordinary one for linux.
func linux(w *world) {
	w.Helper()
	spec := w.spec(w.bundle)
	if spec.Linux == nil || spec.Windows != nil || len(spec.Linux.MaskedPaths) == 0 || len(spec.Linux.Namespaces) < 4 {
		w.Errorf("not a container for linux: %+v", spec.Linux)
	}
}

// K. Repack.
var repacks = []hostileCase{
	{"K1", "a file called .wh.x in the tree", unpacked(good, func(w *world) { w.write("d/.wh.x", "") }), do(repack), refused("d/.wh.x", "whiteout")},
	{"K1.opaque", "a file called .wh..wh..opq in the tree", unpacked(good, func(w *world) { w.write("d/.wh..wh..opq", "") }), do(repack),
		refused("d/.wh..wh..opq", "whiteout")},
	{"K1.dir", "a directory called .wh.x in the tree", unpacked(good, func(w *world) { w.ok(os.Mkdir(w.rootfs(".wh.x"), 0o755)) }), do(repack),
		refused(".wh.x", "whiteout")},
	{"K1.insert", "names of whiteouts that are inserted", all(good, func(w *world) {
		w.ok(os.Mkdir(w.host+"/tree", 0o755))
		w.ok(os.WriteFile(w.host+"/tree/.wh.x", nil, 0o644))
	}), do("insert --image @LAYOUT:v --tag new @HOST/tree /d", "insert --image @LAYOUT:v --tag new @HOST/f /d/.wh.x", "insert --image @LAYOUT:v --tag new @HOST/f /.wh.d/x"),
		refused(".wh.", "whiteout")},
	{"K2", "a directory is replaced by a symlink to another", unpacked(twoDirs, func(w *world) { w.relink("dir", "other") }), do(repack),
		accepted(again, holds("other/f", "other/f\n"), holds("other/sub/g", "other/sub/g\n"))},
	{"K2.out", "a directory is replaced by a symlink to the outside", unpacked(twoDirs, func(w *world) { w.relink("dir", w.host) }), do(repack), accepted(again)},
	{"K2.back", "and the symlink by a directory", unpacked(stack(base, entries{oci.Symlink("s", "d")}), func(w *world) {
		w.ok(os.Remove(w.rootfs("s")))
		w.ok(os.Mkdir(w.rootfs("s"), 0o755))
		w.write("s/f", "new\n")
	}), do(repack), accepted(again, holds("d/f", "d/f of the base\n"))},
	{"K3", "a FIFO", unpacked(good, func(w *world) { w.ok(unix.Mkfifo(w.rootfs("p"), 0o600)) }), do(repack), accepted(again, member(tar.TypeFifo, "p", 0, 0))},
	{"K3.replaced", "a file is replaced by a FIFO", unpacked(good, func(w *world) {
		w.ok(os.Remove(w.rootfs("f")))
		w.ok(unix.Mkfifo(w.rootfs("f"), 0o600))
	}), do(repack), accepted(again)},
	{"K4", "a socket", unpacked(good, func(w *world) {
		w.ok(unix.Mknod(w.rootfs("sock\x1b"), unix.S_IFSOCK|0o600, 0))
		w.write("new", "new\n")
	}), do(repack), accepted(noMember("sock\x1b"), member(tar.TypeReg, "new", 0, 0)).warning(`sock\x1b`)},
	{"K5", "devices", byRoot(unpacked(good, func(w *world) {
		w.ok(unix.Mknod(w.rootfs("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		w.ok(unix.Mknod(w.rootfs("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 200))))
	})), do(repack), accepted(member(tar.TypeChar, "null", 1, 3), member(tar.TypeBlock, "disk", 7, 200))},
	{"K6", "newlines and ESC in names", unpacked(good, func(w *world) {
		w.write(evilName, "in\n")
		w.ok(os.Symlink(evilName, w.rootfs("l")))
	}), do(repack), accepted(again)},
	{"K7", "names that are not UTF-8", unpacked(good, func(w *world) {
		w.write("\xff\xfe", "in\n")
		w.ok(os.Symlink("\xff\xfe", w.rootfs("\x80")))
	}), do(repack), accepted(again)},
	{"K9", "a time of -5", unpacked(good, func(w *world) { w.touch("f", -5, 0) }), do(repack), accepted(again, is("f", at("file", -5e9)))},
	{"K13", "the rootfs is a symlink", unpacked(good, func(w *world) {
		w.ok(os.RemoveAll(w.bundle + "/rootfs"))
		w.ok(os.Symlink(w.host, w.bundle+"/rootfs"))
	}), do(repack, repack+" --refresh-bundle"), refused("@BUNDLE", "rootfs")},
	{"K15.empty", "empty metadata", unpacked(good, func(w *world) { w.ok(os.Truncate(w.bundle+"/umoci.json", 0)) }), do(repack), refused("umoci.json")},
	{"K15.foreign", "metadata of something else", metadataOf(`{"name":"package","version":"1"}`), do(repack), refused("umoci.json", "version")},
	{"K15.path", "metadata with a digest that is a path", metadataOf(`{"umoci_version":"2","from_descriptor_path":{"descriptor_walk":[
		{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../x","size":1}]}}`), do(repack), refused("umoci.json", "sha256:../../x")},
	{"K15.fifo", "metadata that is a FIFO", unpacked(good, func(w *world) {
		w.ok(os.Remove(w.bundle + "/umoci.json"))
		w.ok(unix.Mkfifo(w.bundle+"/umoci.json", 0o600))
	}), do(repack), refused("umoci.json", "FIFO")},
	{"K15.mtree.fifo", "an mtree manifest that is a FIFO", unpacked(good, func(w *world) {
		w.ok(os.Remove(w.facts(".mtree")))
		w.ok(unix.Mkfifo(w.facts(".mtree"), 0o600))
	}), do(repack), refused(".mtree", "FIFO")},
	{"K15.mtree.link", "an mtree manifest that is a symlink to the outside", unpacked(good, func(w *world) {
		w.ok(os.Rename(w.facts(".mtree"), w.host+"/moved"))
		w.ok(os.Symlink(w.host+"/moved", w.facts(".mtree")))
	}), do(repack), refused(".mtree")},
	{"K15.cache.fifo", "a stat cache that is a FIFO is not used", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		w.ok(os.Remove(w.facts(".mtree.statcache")))
		w.ok(unix.Mkfifo(w.facts(".mtree.statcache"), 0o600))
	}), do(repack), accepted(again)},
	{"K15.cache.junk", "a stat cache with flipped bits is not used", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		data, err := os.ReadFile(w.facts(".mtree.statcache"))
		w.ok(err)
		for i := 40; i < len(data); i += 7 {
			data[i] ^= 0x55
		}
		w.ok(os.WriteFile(w.facts(".mtree.statcache"), data, 0o600))
	}), do(repack), accepted(again)},
	{"K15.image", "metadata of an image that the layout does not have", metadataOf(`{"umoci_version":"2","from_descriptor_path":{"descriptor_walk":[
		{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}]}}`), do(repack),
		refused(strings.Repeat("a", 64))},
}

// twoDirs is an image with two directories of the same form.
var twoDirs = stack(base, entries{
	oci.Dir("dir", 0o755), oci.File("dir/f", "dir/f\n", 0o644), oci.Dir("dir/sub", 0o755), oci.File("dir/sub/g", "dir/sub/g\n", 0o644),
	oci.Dir("other", 0o755), oci.File("other/f", "other/f\n", 0o644), oci.Dir("other/sub", 0o755), oci.File("other/sub/g", "other/sub/g\n", 0o644),
})

// facts returns the path of what the bundle keeps about its tree.
func (w *world) facts(ext string) string {
	return w.bundle + "/sha256_" + w.manifest("v").Encoded() + ext
}

// relink replaces a directory by a symlink.
func (w *world) relink(name, to string) {
	w.Helper()
	w.ok(os.RemoveAll(w.rootfs(name)))
	w.ok(os.Symlink(to, w.rootfs(name)))
}

// touch sets the modification time of a name in the tree.
func (w *world) touch(name string, sec, nsec int64) {
	w.Helper()
	t := unix.Timespec{Sec: sec, Nsec: nsec}
	w.ok(unix.UtimesNanoAt(unix.AT_FDCWD, w.rootfs(name), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
}

// metadataOf is a bundle with another umoci.json.
func metadataOf(content string) input {
	return unpacked(good, func(w *world) { w.ok(os.WriteFile(w.bundle+"/umoci.json", []byte(content), 0o644)) })
}
