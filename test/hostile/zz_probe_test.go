package hostile

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	oci "github.com/shale-oci/shale/test/ocitest"
)

func rawBlobDoc(which string, text string) input {
	return all(good, editManifest(func(w *world, m document) {
		if which == "config" {
			p := w.put("application/vnd.oci.image.config.v1+json", []byte(text))
			m["config"] = document{"mediaType": p.MediaType, "digest": p.Digest, "size": p.Size}
		}
	}), blameNothing)
}

var probes = []hostileCase{
	{"P1", "smuggled device mark", unpacked(top(oci.File("x", "", 0o644).Xattr("user.shale.device", "c 1 3 0666")), func(w *world) { w.ok(os.Chmod(w.rootfs("x"), 0o600)) }), do(repack), accepted(member('0', "x", 0, 0))},
	{"P2", "smuggled mark on device", top(oci.Char("x", 0o644, 1, 3).Xattr("user.shale.device", "b 8 0 0666")), do(unpack, repack), accepted(unchanged)},
	{"P3", "sparse map", func(w *world) {
		w.imageOf(func(out io.Writer) {
			const n = 20_000_000
			size := n*4 + 512
			w.say(out, oci.RawPAX(oci.PAXRecord("GNU.sparse.major", "1")+oci.PAXRecord("GNU.sparse.minor", "0")+oci.PAXRecord("GNU.sparse.name", "x")+oci.PAXRecord("GNU.sparse.realsize", "100")).Raw)
			w.say(out, oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '0', Size: fmt.Sprintf("%011o", size)}, nil).Raw)
			w.say(out, []byte("20000000\n"))
			for range n / 128 {
				w.say(out, []byte(strings.Repeat("0\n0\n", 128)))
			}
			w.fill(out, 0, 512-9)
			w.say(out, make([]byte, 1024))
		})
	}, do(unpack), refused()},
	{"P4", "config history", rawBlobDoc("config", `{"rootfs":{"type":"layers","diff_ids":[]},"history":[{}`+strings.Repeat(",{}", 2_700_000)+"]}"), do(unpack), refused()},
	{"P5", "config diffids", rawBlobDoc("config", `{"rootfs":{"type":"layers","diff_ids":[""`+strings.Repeat(`,""`, 2_700_000)+"]}}"), do(unpack), refused()},
	{"P6", "config labels", rawBlobDoc("config", `{"config":{"Labels":{"a":""`+labels()+`}},"rootfs":{"type":"layers","diff_ids":[]}}`), do(unpack), refused()},
	{"P7", "config deep", rawBlobDoc("config", `{"x":`+strings.Repeat("[", 4_000_000)+strings.Repeat("]", 4_000_000)+`}`), do(unpack), refused()},
	{"P8", "index 60MB of entries", all(good, content("index.json", func([]byte) []byte {
		d := `{"mediaType":"a","digest":"sha256:` + strings.Repeat("a", 64) + `","size":0}`
		return []byte(`{"schemaVersion":2,"manifests":[` + d + strings.Repeat(","+d, 550_000) + `]}`)
	})), do(ls), accepted()},
	{"P8b", "index 60MB of minimal entries", all(good, content("index.json", func([]byte) []byte {
		d := `{"mediaType":"","digest":"","size":0}`
		return []byte(`{"schemaVersion":2,"manifests":[` + d + strings.Repeat(","+d, 1_600_000) + `]}`)
	})), do(ls), refused()},
	{"P8c", "index 60MB of spaces", all(good, func(w *world) {
		f, err := os.OpenFile(w.layout+"/index.json", os.O_WRONLY|os.O_APPEND, 0)
		w.ok(err)
		w.fill(f, ' ', 60_000_000)
		w.ok(f.Close())
	}), do(ls), accepted()},
	{"P9", "oci-layout 150MB", all(good, func(w *world) {
		f, err := os.OpenFile(w.layout+"/oci-layout", os.O_WRONLY|os.O_APPEND, 0)
		w.ok(err)
		w.fill(f, ' ', 150_000_000)
		w.ok(f.Close())
	}), do(ls), refused("oci-layout")},
	{"P10", "statcache fifo", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		n := mtreeFile(w) + ".statcache"
		w.ok(os.Remove(n))
		w.ok(unix.Mkfifo(n, 0o600))
	}), do(repack), accepted(again)},
	{"P10b", "statcache garbage", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		n := mtreeFile(w) + ".statcache"
		b, _ := os.ReadFile(n)
		for i := 40; i < len(b); i += 7 {
			b[i] ^= 0xff
		}
		w.ok(os.WriteFile(n, b, 0o600))
	}), do(repack), accepted(again)},
	{"P10c", "statcache symlink", unpacked(good, func(w *world) {
		w.write("f", "changed\n")
		n := mtreeFile(w) + ".statcache"
		w.ok(os.Rename(n, w.host+"/moved"))
		w.ok(os.Symlink(w.host+"/moved", n))
	}), do(repack), accepted(again)},
	{"P11", "mtree fifo", unpacked(good, func(w *world) {
		n := mtreeFile(w)
		w.ok(os.Remove(n))
		w.ok(unix.Mkfifo(n, 0o600))
	}), do(repack), refused("mtree")},
	{"P11b", "mtree symlink", unpacked(good, func(w *world) {
		n := mtreeFile(w)
		w.ok(os.Rename(n, w.host+"/moved"))
		w.ok(os.Symlink(w.host+"/moved", n))
	}), do(repack), refused("mtree")},
	{"P12", "user esc", configured(user("\x1b[2J\nx")), do(unpack), refused(`\x1b`)},
	{"P13", "50000 layers", func(w *world) {
		w.image(oci.Image{Layers: w.tars([]entries{base})})
		editConfig(func(_ *world, c document) {
			ids := c["rootfs"].(document)["diff_ids"].([]any)
			l := ids[0]
			for range 49_999 {
				ids = append(ids, l)
			}
			c["rootfs"].(document)["diff_ids"] = ids
			c["history"] = nil
		})(w)
		editManifest(func(_ *world, m document) {
			ls := m["layers"].([]any)
			l := ls[0]
			for range 49_999 {
				ls = append(ls, l)
			}
			m["layers"] = ls
		})(w)
	}, do(unpack), accepted()},
	{"P14", "hardlink to device etc", top(oci.Char("n", 0o644, 1, 3), oci.Hardlink("m", "n")), do(unpack, repack), accepted(unchanged)},
	{"P15", "long symlink target", top(oci.Symlink("n", strings.Repeat("a/", 3000))), do(unpack), refused("entry n")},
	{"P16", "xattr empty name", top(oci.File("x", "", 0o644).Xattr("", "v")), do(unpack), refused("entry x")},
	{"P16b", "xattr odd namespace", top(oci.File("x", "", 0o644).Xattr("evil\x1b.x", "v")), do(unpack), refused("entry x")},
	{"P17", "xattr on symlink", top(oci.Symlink("x", "y").Xattr("user.x", "v")), do(unpack), refused("entry x")},
	{"P18", "zero mode dirs", top(oci.Dir("a", 0), oci.File("a/b/c", "x", 0), oci.Dir("a/b", 0)), do(unpack, repack), accepted(unchanged)},
	{"P19", "giant devnumbers", top(oci.Char("x", 0o644, 1<<33, 0)), do(unpack), refused("entry x")},
	{"P20", "giant devnumbers2", top(oci.Char("x", 0o644, 1<<20, 1<<25)), do(unpack, repack), accepted()},
	{"P21", "mode bits", top(oci.RawMember(oci.RawHeader{Name: "x", Typeflag: '0', Mode: "7777777"}, nil)), do(unpack, repack), accepted(unchanged)},
	{"P22", "200k entries", top(many()...), do(unpack), accepted()},
}

func many() entries {
	var es entries
	for i := range 200_000 {
		es = append(es, oci.File(fmt.Sprintf("dir%d/%d", i/1000, i), "", 0o644))
	}
	return es
}

func labels() string {
	var b strings.Builder
	for i := range 650_000 {
		fmt.Fprintf(&b, `,"%x":""`, i)
	}
	return b.String()
}

func mtreeFile(w *world) string {
	es, _ := os.ReadDir(w.bundle)
	for _, e := range es {
		if strings.HasSuffix(e.Name(), ".mtree") {
			return w.bundle + "/" + e.Name()
		}
	}
	return ""
}

func TestProbe(t *testing.T) {
	for i, c := range probes {
		for _, m := range modes() {
			t.Run(c.id+"/"+m.name, func(t *testing.T) {
				o := outcome{hostileCase: c, order: i, mode: m.name}
				defer func() { fmt.Println(c.id, m.name, !t.Failed(), o.peak>>10, "MiB", o.took, c.what) }()
				o.test(t, m)
			})
		}
	}
}
