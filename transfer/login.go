// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Credentials are what a registry knows a user by.
type Credentials struct {
	User     string
	Password string // or a token that stands for one
}

// Login asks the registry at host whether it takes the credentials, and keeps them where
// docker keeps them: in the credential helper that the user's docker config names, or, if
// there is none, in that file itself. Then it returns the path of the file, in which
// anybody who may read it finds the password. The error is ErrUnauthorized if the registry
// refuses them.
func Login(ctx context.Context, host string, c Credentials, opt RegistryOptions) (plain string, err error) {
	if plain, err = login(ctx, host, c, opt); err != nil {
		return "", &Error{Op: "log in to", Ref: host, Err: err}
	}
	return plain, nil
}

func login(ctx context.Context, host string, c Credentials, opt RegistryOptions) (plain string, err error) {
	if c.User == "" || c.Password == "" {
		return "", invalid(errors.New("a user and a password are needed"))
	}
	reg, err := checkHost(host, opt)
	if err != nil {
		return "", err
	}
	if err := tryCredentials(ctx, reg, c, opt); err != nil {
		return "", err
	}
	file, err := loadConfig()
	if err != nil {
		return "", err
	}
	key := serverKey(reg)
	entry := types.AuthConfig{ServerAddress: key, Username: c.User, Password: c.Password}
	if file.CredentialsStore == "" && file.CredentialHelpers[key] == "" {
		// The store for this would write to standard error.
		file.GetAuthConfigs()[key] = entry
		plain, err = file.GetFilename(), file.Save()
	} else {
		err = file.GetCredentialsStore(key).Store(entry)
	}
	if err != nil {
		return "", fmt.Errorf("store the credentials: %w", oneLine(err))
	}
	return plain, nil
}

// Logout forgets the credentials for the registry at host, and reports whether there were
// any in the user's docker config.
func Logout(_ context.Context, host string) (bool, error) {
	failed := func(err error) error { return &Error{Op: "log out from", Ref: host, Err: err} }
	reg, err := checkHost(host, RegistryOptions{})
	if err != nil {
		return false, failed(err)
	}
	file, err := loadConfig()
	if err != nil {
		return false, failed(err)
	}
	key := serverKey(reg)
	store := file.GetCredentialsStore(key)
	known, err := store.Get(key)
	if err != nil {
		return false, failed(fmt.Errorf("read the credentials: %w", oneLine(err)))
	}
	known.ServerAddress = ""
	if known == (types.AuthConfig{}) {
		return false, nil
	}
	err = store.Erase(key)
	for old := range file.GetAuthConfigs() {
		// Such as https://HOST/v1/, which is found under the host's name, too.
		if err == nil && credentials.ConvertToHostname(old) == key {
			err = credentials.NewFileStore(file).Erase(old)
		}
	}
	if err != nil {
		return false, failed(fmt.Errorf("remove the credentials: %w", oneLine(err)))
	}
	return true, nil
}

func checkHost(host string, opt RegistryOptions) (name.Registry, error) {
	if !hostPattern.MatchString(host) {
		return name.Registry{}, invalid(errors.New("not a valid host"))
	}
	var opts []name.Option
	if (&web{opt: opt}).insecure(host) || loopback(host) {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return reg, invalid(oneLine(err))
	}
	return reg, nil
}

// serverKey is under what name docker keeps the credentials for a registry.
func serverKey(reg name.Registry) string {
	if reg.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return reg.RegistryStr()
}

func loadConfig() (*configfile.ConfigFile, error) {
	file, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		return nil, fmt.Errorf("read the docker config: %w", oneLine(err))
	}
	return file, nil
}

// tryCredentials makes a request that needs them.
func tryCredentials(ctx context.Context, reg name.Registry, c Credentials, opt RegistryOptions) error {
	host := reg.RegistryStr()
	w, err := newWeb(opt, host)
	if err != nil {
		return err
	}
	defer w.close()
	r := &repository{web: w, loc: Location{Scheme: SchemeRegistry, Repo: host}, name: reg.Repo()}
	auth := authn.FromConfig(authn.AuthConfig{Username: c.User, Password: c.Password})
	t, err := transport.NewWithContext(ctx, reg, auth, w, nil)
	if err != nil {
		return r.explain(err)
	}
	r.client = &http.Client{Transport: t, CheckRedirect: checkRedirect}
	req, err := newRequest(ctx, http.MethodGet, "https://"+host+"/v2/", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := r.do(req, http.StatusOK)
	if err != nil {
		return err
	}
	discard(resp.Body)
	return nil
}
