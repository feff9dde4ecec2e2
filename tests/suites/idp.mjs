// An OpenID provider with a sign-in form, which can be told to answer wrongly.
import crypto from "node:crypto";
import http from "node:http";

const b64 = (data) => Buffer.from(data).toString("base64url");
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

export class Provider {
  #keys = [0, 1].map((n) => ({ kid: `key-${n}`, ...crypto.generateKeyPairSync("rsa", { modulusLength: 2048 }) }));
  #codes = new Map();
  /** How the next answers are wrong: a list of what is to happen, one for each authorization. */
  next = [];
  /** Whether the address to return to is shown instead of gone to. */
  hold = false;
  forms = 0;
  asked = 0;
  redeemed = 0;
  ended = 0;

  async start(people) {
    this.people = people;
    this.server = http.createServer((request, answer) => this.#serve(request, answer).catch((error) => { answer.statusCode = 500; answer.end(String(error)); }));
    await new Promise((up) => this.server.listen(0, "127.0.0.1", up));
    this.issuer = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  async #serve(request, answer) {
    let body = "";
    for await (const part of request) body += part;
    const url = new URL(request.url, this.issuer);
    const form = new URLSearchParams(body);
    const json = (value, status = 200) => { answer.writeHead(status, { "content-type": "application/json" }); answer.end(JSON.stringify(value)); };
    const page = (text) => { answer.writeHead(200, { "content-type": "text/html", "cache-control": "no-store" }); answer.end(`<!doctype html><title>provider</title>${text}`); };
    const to = (location, cookies = []) => { answer.writeHead(302, { location, "set-cookie": cookies, "cache-control": "no-store" }); answer.end(); };
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json({
          issuer: this.issuer, authorization_endpoint: `${this.issuer}/authorize`, token_endpoint: `${this.issuer}/token`, jwks_uri: `${this.issuer}/jwks`,
          end_session_endpoint: `${this.issuer}/end`, response_types_supported: ["code"], subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["RS256"], code_challenge_methods_supported: ["S256"], authorization_response_iss_parameter_supported: true,
        });
      case "/jwks":
        return json({ keys: [{ ...this.#keys[0].publicKey.export({ format: "jwk" }), kid: "key-0", use: "sig", alg: "RS256" }] });
      case "/authorize": {
        const known = /(?:^|; )idp=(\w+)/.exec(request.headers.cookie ?? "")?.[1];
        if (request.method === "GET") this.asked += 1;
        if (request.method === "GET" && !known) {
          return page(`<form method=post action="${escape(url.pathname + url.search)}"><input id=name name=name><input id=password type=password name=password><button id=in>Sign in</button></form>`);
        }
        const who = request.method === "POST" ? form.get("name") : known;
        if (request.method === "POST") {
          this.forms += 1;
          if (this.people[who] === undefined || this.people[who] !== form.get("password")) return page("<p id=wrong>No.</p>");
        }
        const back = new URL(url.searchParams.get("redirect_uri"));
        const how = this.next.shift() ?? {};
        if (how.error) {
          back.searchParams.set("error", how.error);
          back.searchParams.set("error_description", how.description ?? "");
        } else {
          const code = crypto.randomBytes(16).toString("hex");
          this.#codes.set(code, { who, how, nonce: url.searchParams.get("nonce"), client: url.searchParams.get("client_id"), challenge: url.searchParams.get("code_challenge"), redirect: String(url.searchParams.get("redirect_uri")) });
          back.searchParams.set("code", code);
        }
        back.searchParams.set("state", url.searchParams.get("state"));
        back.searchParams.set("iss", how.answeredBy ?? this.issuer);
        return this.hold ? page(`<p id=callback>${escape(back.href)}</p>`) : to(back.href, how.error ? [] : [`idp=${who}; Path=/; HttpOnly`]);
      }
      case "/token": {
        const code = this.#codes.get(form.get("code"));
        this.#codes.delete(form.get("code"));
        const verifier = crypto.createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
        if (!code || code.redirect !== form.get("redirect_uri") || (code.challenge && code.challenge !== verifier)) return json({ error: "invalid_grant" }, 400);
        this.redeemed += 1;
        return json({ id_token: this.#idToken(code), access_token: crypto.randomBytes(16).toString("hex"), token_type: "Bearer", expires_in: 3600 });
      }
      case "/end": {
        this.ended += 1;
        const back = url.searchParams.get("post_logout_redirect_uri");
        return back ? to(back, ["idp=; Path=/; Max-Age=0"]) : page("<p>Signed out</p>");
      }
      default:
        return json({}, 404);
    }
  }

  /** With what is wrong about it. */
  #idToken({ who, how, nonce, client }) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.issuer, sub: who, uid: who, email: `${who}@people.test`, email_verified: true, aud: client, iat: now - 2, exp: now + 3600, nonce, ...how.claims };
    const key = this.#keys[how.key ?? 0];
    const head = { alg: how.alg ?? "RS256", kid: "key-0", typ: "JWT" };
    const text = `${b64(JSON.stringify(head))}.${b64(JSON.stringify(claims))}`;
    if (head.alg === "none") return `${text}.`;
    // The public key as a shared secret: the oldest confusion there is.
    if (head.alg === "HS256") return `${text}.${crypto.createHmac("sha256", this.#keys[0].publicKey.export({ type: "spki", format: "pem" })).update(text).digest("base64url")}`;
    return `${text}.${crypto.sign("sha256", Buffer.from(text), key.privateKey).toString("base64url")}`;
  }
}
