// What differs from proxy to proxy: how each is started, what its cookies are called, where one signs in and out.
import net from "node:net";
import crypto from "node:crypto";

export const authferry = ({ file, dir, issuer, chain, key }) => ({
  session: /^__Host-authferry$/,
  signOut: "/.authferry/logout",
  signIn: (place) => `/.authferry/login?rd=${encodeURIComponent(place)}`,
  confirmSignOut: async (page) => {
    await page.click("button");
    await page.waitForURL("**/.authferry/logout/done*");
  },
  endsAtProvider: true,
  tells: true,
  ready: /ready public=\S+:(\d+)\s/,
  words() {
    return ["run", "--config", file("authferry.yaml", `version: 1
server:
  listeners: [{ listen: 127.0.0.1:0, tls: { certificate: { file: "${chain}" }, key: { file: "${key}" } } }]
  admin: { listen: 127.0.0.1:0, token: { file: "${file("admin", "an-admin-token-of-the-suites-0123456789")}" } }
  state_dir: ${dir}/state
providers:
  only: { oidc: { issuer: "${issuer}", client: { id: proxy, secret: { file: "${file("secret", "a-client-secret-of-the-suites-0123456789")}" } }, verify: { audiences: [app] }, claims: { subject: uid } } }
apps:
  app: { hosts: [app.test], provider: only, upstream: { url: "${this.upstream}" }, identity_headers: { X-Remote-User: "{subject}" }, routes: [{ path: /live, websocket: true }, { path: "/*" }] }
`)];
  },
});

export const oauth2Proxy = ({ issuer, chain, key }) => ({
  session: /^__Host-oauth2_proxy(_\d+)?$/,
  signOut: "/oauth2/sign_out",
  signIn: (place) => `/oauth2/start?rd=${encodeURIComponent(place)}`,
  confirmSignOut: (page) => page.waitForLoadState(),
  endsAtProvider: false,
  tells: false,
  ready: /\0/,
  async words() {
    this.port = await new Promise((done) => { const one = net.createServer().listen(0, "127.0.0.1", () => { const { port } = one.address(); one.close(() => done(port)); }); });
    return ["--provider=oidc", `--oidc-issuer-url=${issuer}`, "--client-id=proxy", "--client-secret=secret", `--cookie-secret=${crypto.randomBytes(16).toString("hex")}`, `--upstream=${this.upstream}`, "--http-address=", `--https-address=127.0.0.1:${this.port}`,
      `--tls-cert-file=${chain}`, `--tls-key-file=${key}`, "--email-domain=*", "--skip-provider-button", "--cookie-name=__Host-oauth2_proxy", "--cookie-samesite=lax", "--code-challenge-method=S256", "--user-id-claim=sub", "--insecure-oidc-skip-nonce=false"];
  },
});
