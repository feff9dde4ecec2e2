// x/oauth2 (Go) against our token endpoint and two applications behind us: one line a step, STEP<TAB>OUTCOME.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

type given struct {
	Origin, Issuer, CA, Secret, Certificate, Key string
	RefreshToken                                 string `json:"refresh_token"`
	APIOld                                       string `json:"api_old"`
	APINew                                       string `json:"api_new"`
	APIPlain                                     string `json:"api_plain"`
	Issuers                                      map[string]string
}

type refused int

func (r refused) Error() string { return fmt.Sprint(int(r)) }

func say(step, outcome string) { fmt.Printf("%s\t%s\n", step, outcome) }

func step(name string, work func() error) {
	err := work()
	var oauth *oauth2.RetrieveError
	var status refused
	switch {
	case err == nil:
		say(name, "ok")
	case errors.As(err, &oauth):
		say(name, "refused "+oauth.ErrorCode)
	case errors.As(err, &status):
		say(name, "refused "+status.Error())
	default:
		say(name, "failed "+err.Error())
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

var carried = regexp.MustCompile(`(?i)authorization: bearer [^.]*\.([^.]*)\.`)

func ask(client *http.Client, at, issuer string) error {
	answer, err := client.Get(at)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body := must(io.ReadAll(answer.Body))
	if answer.StatusCode != 200 {
		return refused(answer.StatusCode)
	}
	if issuer == "" {
		return nil
	}
	found := carried.FindSubmatch(body)
	if found == nil {
		return errors.New("no token was carried")
	}
	var claims struct{ Iss string }
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(string(found[1]))), &claims); err != nil {
		return err
	}
	if claims.Iss != issuer {
		return errors.New("wrong issuer " + claims.Iss)
	}
	return nil
}

func main() {
	var g given
	if err := json.Unmarshal(must(os.ReadFile(os.Args[1])), &g); err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(g.CA)))
	transport := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}}}
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, transport())
	own := must(tls.LoadX509KeyPair(g.Certificate, g.Key))
	certified := context.WithValue(context.Background(), oauth2.HTTPClient, transport(own))

	var metadata struct {
		Issuer string
		Token  string `json:"token_endpoint"`
		Device string `json:"device_authorization_endpoint"`
	}
	answer := must(transport().Get(g.Origin + "/.well-known/oauth-authorization-server/.authferry/oauth2"))
	if err := json.NewDecoder(answer.Body).Decode(&metadata); err != nil || metadata.Issuer != g.Issuer {
		panic(fmt.Sprint(err, metadata))
	}
	credentials := func(id, secret string, style oauth2.AuthStyle) *clientcredentials.Config {
		return &clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: metadata.Token, AuthStyle: style, EndpointParams: url.Values{"audience": {"app"}}}
	}
	apis := []struct{ name, at string }{{"api_old", g.APIOld}, {"api_new", g.APINew}}
	for _, side := range []string{"old", "new"} {
		client := credentials(side, g.Secret, oauth2.AuthStyleInParams)
		step("client_credentials "+side, func() error { _, err := client.Token(ctx); return err })
		for _, api := range apis {
			step(side+" token at "+api.name, func() error { return ask(client.Client(ctx), api.at, g.Issuers[api.name]) })
		}
	}
	kept := oauth2.Config{ClientID: "kept", ClientSecret: g.Secret, Endpoint: oauth2.Endpoint{TokenURL: metadata.Token, DeviceAuthURL: metadata.Device, AuthStyle: oauth2.AuthStyleInHeader}}
	refresh := func(token string) (*oauth2.Token, error) {
		return kept.TokenSource(ctx, &oauth2.Token{RefreshToken: token}).Token()
	}
	var held *oauth2.Token
	step("refresh what the old provider gave", func() (err error) { held, err = refresh(g.RefreshToken); return })
	spent := held.RefreshToken
	step("refresh again", func() (err error) { held, err = refresh(held.RefreshToken); return })
	// It has no call for these.
	say("token exchange", "-")
	say("introspect", "-")
	step("a spent refresh token", func() error { _, err := refresh(spent); return err })
	step("and its family", func() error { _, err := refresh(held.RefreshToken); return err })
	step("device", func() error {
		inBody := kept
		inBody.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		started, err := inBody.DeviceAuth(ctx, oauth2.SetAuthURLParam("client_secret", g.Secret))
		if err == nil {
			held, err = inBody.DeviceAccessToken(ctx, started)
		}
		return err
	})
	say("revoke", "-")
	say("refresh what was revoked", "-")
	step("a wrong secret", func() error { _, err := credentials("kept", "wrong", oauth2.AuthStyleInHeader).Token(ctx); return err })
	step("client certificate", func() error {
		_, err := credentials("certified", "", oauth2.AuthStyleInParams).Token(certified)
		return err
	})
	// It makes no proofs of possession.
	say("bound to", "-")
	var bound struct{ DPoP, MTLS string }
	if err := json.Unmarshal(must(bufio.NewReader(os.Stdin).ReadBytes('\n')), &bound); err != nil {
		panic(err)
	}
	with := func(ctx context.Context, token string) *http.Client {
		return oauth2.NewClient(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))
	}
	apis = append(apis, struct{ name, at string }{"api_plain", g.APIPlain})
	for _, api := range apis {
		step("DPoP token at "+api.name, func() error { return ask(with(ctx, bound.DPoP), api.at, g.Issuers[api.name]) })
		step("mTLS token at "+api.name, func() error { return ask(with(certified, bound.MTLS), api.at, g.Issuers[api.name]) })
	}
	step("DPoP token without a proof", func() error { return ask(with(ctx, bound.DPoP), g.APIPlain, "") })
	step("mTLS token without its certificate", func() error { return ask(with(ctx, bound.MTLS), g.APIPlain, "") })
	// What our endpoint binds.
	say("DPoP token of our endpoint", "-")
	step("mTLS token of our endpoint", func() error {
		client := credentials("certified", "", oauth2.AuthStyleInParams)
		client.EndpointParams = url.Values{"audience": {"bound"}}
		own, err := client.Token(certified)
		if err != nil {
			return err
		}
		if ask(with(ctx, own.AccessToken), g.APIPlain, "") == nil {
			return errors.New("good without its certificate")
		}
		return ask(with(certified, own.AccessToken), g.APIPlain, "")
	})
}
