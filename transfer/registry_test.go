// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// realRegistry is a docker-registry that runs for a test.
type realRegistry struct {
	host string
	root string // where it keeps what it has
	ca   string // a directory with the certificate to trust; empty without TLS
}

// startRegistry starts Debian's docker-registry on this machine; with TLS it also wants a
// password.
func startRegistry(t *testing.T, secure bool) *realRegistry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	dir := t.TempDir()
	r := &realRegistry{host: freePort(t), root: filepath.Join(dir, "root")}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp:\n  addr: %s\n", r.root, r.host)
	if secure {
		r.ca = filepath.Join(dir, "ca")
		makeCertificates(t, dir, r.ca)
		hash, err := bcrypt.GenerateFromPassword([]byte(testPassword), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "%s:%s\n", testUser, hash))
		config += fmt.Sprintf("  tls: {certificate: %[1]s/server.pem, key: %[1]s/server.key}\n"+
			"auth: {htpasswd: {realm: test, path: %[1]s/htpasswd}}\n", dir)
	}
	writeFile(t, filepath.Join(dir, "config.yml"), []byte(config))
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("docker-registry: %s", &output)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", r.host)
		if err == nil {
			conn.Close()
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not start: %v", err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeCertificates makes a CA, and a certificate of it for 127.0.0.1.
func makeCertificates(t *testing.T, dir, caDir string) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) []byte {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	caKey, serverKey := key(), key()
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a CA for a test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if err := os.Mkdir(caDir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(caDir, "ca.crt"), sign(ca, ca, &caKey.PublicKey, caKey))
	cert := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, &serverKey.PublicKey, caKey)
	der, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "server.pem"), cert)
	writeFile(t, filepath.Join(dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// peer is another program that talks to registries.
type peer struct {
	push func(layout, ref, where string) *exec.Cmd
	pull func(where, layout, ref string) *exec.Cmd
}

// peers returns the programs that are there; it says which are not.
func peers(t *testing.T, r *realRegistry, config string) map[string]peer {
	t.Helper()
	found := map[string]peer{}
	if skopeo, err := exec.LookPath("skopeo"); err == nil {
		run := func(side string, args ...string) *exec.Cmd {
			args = append([]string{"--insecure-policy", "copy", "--quiet", "--all", "--authfile", config}, args...)
			if r.ca != "" {
				args = append(args, "--"+side+"-cert-dir", r.ca)
			} else {
				args = append(args, "--"+side+"-tls-verify=false")
			}
			return exec.CommandContext(t.Context(), skopeo, args...)
		}
		found["skopeo"] = peer{
			push: func(layout, ref, where string) *exec.Cmd {
				return run("dest", "oci:"+layout+":"+ref, "docker://"+where)
			},
			pull: func(where, layout, ref string) *exec.Cmd { return run("src", "docker://"+where, "oci:"+layout+":"+ref) },
		}
	} else {
		t.Log("SKIPPED: skopeo is not installed")
	}
	crane, err := filepath.Abs("../bin/peers/crane")
	if _, serr := os.Stat(crane); err == nil && serr == nil {
		found["crane"] = peer{
			// crane knows layouts of one image only.
			pull: func(where, layout, _ string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), crane, "pull", "--format=oci", where, layout)
				cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(r.ca, "ca.crt"))
				return cmd
			},
			push: func(layout, _, where string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), crane, "push", "--index", layout, where)
				cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(r.ca, "ca.crt"))
				return cmd
			},
		}
	} else {
		t.Log("SKIPPED: bin/peers/crane was not built")
	}
	return found
}

func works(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// TestRealRegistry exchanges images with skopeo and crane through docker-registry.
func TestRealRegistry(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS and password": true} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t)
			r := startRegistry(t, secure)
			config := dockerConfig(t, r.host)
			opt := quick()
			opt.Registry.CertDir = r.ca
			for _, ref := range []string{"v1", "multi"} {
				where := r.host + "/by/shale:" + ref
				mustCopy(t, src+":"+ref, "docker://"+where, opt)
				dst := filepath.Join(t.TempDir(), "new")
				mustCopy(t, "docker://"+where, dst+":"+ref, opt)
				wantSame(t, src, dst, ref)
				for who, p := range peers(t, r, config) {
					theirs := filepath.Join(t.TempDir(), who)
					works(t, p.pull(where, theirs, ref))
					if who == "skopeo" {
						wantSame(t, src, theirs, ref)
					} else {
						ocitest.AssertWhole(t, theirs)
					}
					if who == "crane" && ref == "v1" {
						continue // which would push it as an index
					}
					back := r.host + "/by/" + who + ":" + ref
					if who == "skopeo" {
						works(t, p.push(src, ref, back))
					} else {
						only := filepath.Join(t.TempDir(), "only")
						mustCopy(t, src+":"+ref, only+":"+ref, quick())
						works(t, p.push(only, ref, back))
						back += "@" + mustResolve(t, "docker://"+back, opt)
					}
					again := filepath.Join(t.TempDir(), "again")
					mustCopy(t, "docker://"+back, again+":"+ref, opt)
					if who == "skopeo" {
						wantSame(t, src, again, ref)
					}
					ocitest.AssertWhole(t, again)
				}
			}
		})
	}
}

func mustResolve(t *testing.T, where string, opt Options) string {
	t.Helper()
	d, err := Resolve(t.Context(), location(t, where), opt)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// TestCertificates: who is not to be trusted is not spoken to.
func TestCertificates(t *testing.T) {
	src := newSource(t)
	r := startRegistry(t, true)
	dockerConfig(t, r.host)
	there := "docker://" + r.host + "/app:v1"
	refused := func(what string, opt Options, want error) {
		t.Helper()
		_, err := Copy(t.Context(), location(t, src+":v1"), location(t, there), opt)
		if wantOneLine(t, err); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("without the CA", quick(), ErrInsecure)
	opt := quick()
	opt.Registry.Insecure = []string{"another.example"}
	refused("another host is insecure", opt, ErrInsecure)
	opt.Registry.CertDir = filepath.Join(t.TempDir(), "none")
	refused("no such directory", opt, os.ErrNotExist)

	opt = quick()
	opt.Registry.CertDir = r.ca
	dockerConfig(t)
	refused("without a password", opt, ErrUnauthorized)
	dockerConfig(t, r.host)
	mustCopy(t, src+":v1", there, opt)
	opt = quick()
	opt.Registry.Insecure = []string{r.host}
	mustCopy(t, there, filepath.Join(t.TempDir(), "new"), opt)

	// A registry that is trusted, at another name than its own.
	opt = quick()
	opt.Registry.CertDir = r.ca
	there = strings.Replace(there, "127.0.0.1", "localhost", 1)
	refused("another name", opt, ErrInsecure)
}

// TestClientCertificate: it is shown to the registry that is named, and to nobody that
// this redirects to.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	caDir := filepath.Join(dir, "ca")
	makeCertificates(t, dir, caDir)
	for from, to := range map[string]string{"server.pem": "client.cert", "server.key": "client.key"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(caDir, to), data)
	}
	w, err := newWeb(RegistryOptions{CertDir: caDir}, "named.example")
	if err != nil {
		t.Fatal(err)
	}
	shows := func(tr *http.Transport) bool { return len(tr.TLSClientConfig.Certificates) > 0 }
	if shows(w.strict) || !shows(w.known) || w.strict.TLSClientConfig.RootCAs == nil {
		t.Error("the client certificate is shown to the wrong hosts")
	}
	if w.strict.TLSClientConfig.MinVersion < tls.VersionTLS12 {
		t.Error("old versions of TLS are spoken")
	}
}

// TestDelete removes a manifest from a registry.
func TestDelete(t *testing.T) {
	src := newSource(t)
	r := startRegistry(t, false)
	repo := "docker://" + r.host + "/app"
	mustCopy(t, src+":v1", repo+":v1", quick())
	mustCopy(t, src+":v1", repo+":same", quick())
	mustCopy(t, src+":multi", repo+":multi", quick())
	if err := Delete(t.Context(), location(t, repo+":v1"), quick()); !errors.Is(err, layout.ErrInvalid) {
		t.Errorf("by tag: %v", err)
	}
	pinned := location(t, repo+"@"+digestOf(t, src, "v1").String())
	if err := Delete(t.Context(), pinned, quick()); err != nil {
		t.Fatal(err)
	}
	if err := Delete(t.Context(), pinned, quick()); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	for ref, want := range map[string]bool{"v1": false, "same": false, "multi": true} {
		if ok, err := Exists(t.Context(), location(t, repo+":"+ref), quick()); err != nil || ok != want {
			t.Errorf("%s: %v, %v", ref, ok, err)
		}
	}
}
