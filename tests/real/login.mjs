// Sign-in at a real Keycloak in a real browser: a deep link, what stands behind its `#` with and without scripts, a password that is reset on the way, two tabs, the back button, a form on an
// expired session, with and without its being kept, a page with an open WebSocket whose session ends at Keycloak's console, pages of ours that ask who somebody is and where they want to sign in, circles, sign-out.
//   node tests/real/login.mjs PROGRAM [WORDS]   only the tests whose names have these words; needs KC_PORT, PROXY_PORT, REAL_SALT and CLIENT_MODULES as tests/real/run sets them, and chromium
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

const modules = createRequire(path.join(process.env.CLIENT_MODULES, "node_modules/"));
const { chromium } = modules("playwright-core");
const { WebSocketServer } = modules("ws");
const axe = fs.readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const [program, words = ""] = process.argv.slice(2);
const { KC_PORT, OP_PORT, PROXY_PORT, REAL_SALT } = process.env;
const secret = (base) => `${base}-${crypto.createHash("sha256").update(REAL_SALT + base).digest("hex").slice(0, 12)}`;
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-login."));
const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };
const keycloak = `http://127.0.0.1:${KC_PORT}`;
const origin = `http://127.0.0.1:${PROXY_PORT}`;

// The application: says who it is told that somebody is, has a form, and a link to sign out.
const posted = [];
const app = http.createServer((request, answer) => {
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => {
    if (request.method === "POST") posted.push(body);
    answer.setHeader("Content-Type", "text/html");
    answer.setHeader("Cache-Control", "no-store");
    answer.end(`<!doctype html><title>app</title><p id=who>${request.headers["x-remote-user"] ?? "nobody"}</p><p id=at>${request.url}</p>
      <form method=post action=/save><input name=note value="a long text"><button id=save>Save</button></form><a id=out href="/.authferry/logout">Sign out</a>`);
  });
});
// Its live view: a message each 100 ms, and what became of each connection.
const live = [];
new WebSocketServer({ server: app }).on("connection", (socket, request) => {
  const seen = { who: request.headers["x-remote-user"], closed: undefined };
  live.push(seen);
  const ticks = setInterval(() => socket.send("tick"), 100);
  socket.on("close", (code) => { clearInterval(ticks); seen.closed = code; });
});
await new Promise((up) => app.listen(0, "127.0.0.1", up));

const oidc = (issuer, id, subject) => `{ oidc: { issuer: "${issuer}", client: { id: proxy, secret: { file: "${file("proxy.secret", secret("proxy-secret"))}" } }, owns: { access_token_markers: [{ claim: typ, equals: Bearer }] }, verify: { audiences: [proxy-exchange] }, par: offered, backchannel_logout: { path: /.authferry/bcl/${id} }, claims: { subject: ${subject}, name: preferred_username }, authoritative: { claims: [${subject}] } } }`;
const config = file("authferry.yaml", `version: 1
server:
  listen: 127.0.0.1:${PROXY_PORT}
  admin: { listen: 127.0.0.1:0, token: { file: "${file("token", "a-token-of-this-test-0123456789")}" } }
  state_dir: ${dir}/state
providers:
  legacy: ${oidc(`http://127.0.0.1:${OP_PORT ?? 1}`, "legacy", "sub")}
  modern: ${oidc(`${keycloak}/realms/new`, "modern", "legacy_uid")}
identity: { canonical: { template: "uid:{subject}" } }
apps:
  crm: { hosts: [127.0.0.1], upstream: { url: "http://127.0.0.1:${app.address().port}" }, identity_headers: { X-Remote-User: "{subject}" }, routes: [{ path: /ticks, websocket: true }, { path: "/*" }] }
rollout: { from: legacy, to: modern, bucketing: { salt: x }, assign: [{ percent: 100, to: modern }] }
pages: { changed: true, help: "https://intranet.corp.example/signin" }
`);
const log = fs.openSync(path.join(dir, "stderr.log"), "w");
const proxy = spawn(program, ["run", "--config", config], { stdio: ["ignore", "pipe", log] });
const end = async (code) => {
  proxy.kill("SIGKILL");
  app.close();
  if (code) console.error(fs.readFileSync(path.join(dir, "stderr.log"), "utf8"));
  fs.rmSync(dir, { recursive: true, force: true });
  process.exit(code);
};
let adminOrigin;
await new Promise((done, failed) => {
  let said = "";
  proxy.stdout.on("data", (part) => { said += part; const admin = /admin=(\S+)/.exec(said); if (admin) { adminOrigin = `http://${admin[1]}`; done(); } });
  proxy.on("exit", () => failed(new Error("it did not start")));
}).catch(async (error) => { console.error(error.message); await end(1); });

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const test = async (name, body, options = {}) => {
  if (!name.includes(words)) return;
  const context = await browser.newContext(options);
  const forms = [];
  context.on("request", (request) => { if (request.method() === "POST" && request.url().startsWith(`${keycloak}/realms/new/login-actions/authenticate`)) forms.push(request.url()); });
  const page = await context.newPage();
  await body(page, context, forms);
  await context.close();
  console.log(`ok ${name}`);
};
/** Nothing on a page of ours keeps anybody out: axe finds nothing. */
const accessible = async (page) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
};
const usual = fs.readFileSync(config, "utf8");
const reload = async (text) => {
  fs.writeFileSync(config, text);
  const answer = await fetch(`${adminOrigin}/-/reload`, { method: "POST", headers: { authorization: "Bearer a-token-of-this-test-0123456789" } });
  assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
};
const who = (page) => page.locator("#who").innerText();
/** Opens an address of the application and types the password where Keycloak asks for it. */
const signIn = async (page, target) => {
  await page.goto(origin + target);
  // Once in each browser: the sign-in page has changed.
  if (page.url().startsWith(origin)) await page.click("text=Continue");
  await page.fill("#username", "bob");
  await page.fill("#password", secret("bob-pw"));
  await page.click("#kc-login");
  await page.locator("#who").waitFor();
};
/** Keycloak's console, as far as it is used here. */
const atConsole = async () => {
  const asked = async (path, options) => {
    const answer = await fetch(keycloak + path, options);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  };
  const form = { grant_type: "password", client_id: "admin-cli", username: "admin", password: process.env.KC_ADMIN_PASSWORD ?? "admin" };
  const token = (await (await asked("/realms/master/protocol/openid-connect/token", { method: "POST", body: new URLSearchParams(form) })).json()).access_token;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const call = (method, path, body) => asked(`/admin/realms/new${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { call, account: async (name) => (await (await call("GET", `/users?username=${name}&exact=true`)).json())[0].id };
};

try {
  await test("a deep link survives the notice and the sign-in, which happens once", async (page, _, forms) => {
    const asked = [];
    page.on("request", (request) => { if (request.url().startsWith(`${keycloak}/realms/new/protocol/openid-connect/auth?`)) asked.push(new URL(request.url()).searchParams); });
    await page.goto(`${origin}/reports?year=2026&q=a%20b`);
    assert.equal(await page.locator("h1").innerText(), "Your sign-in page has changed");
    assert.equal(await page.locator("text=Help").getAttribute("href"), "https://intranet.corp.example/signin");
    await accessible(page);
    await page.click("text=Continue");
    assert.ok(page.url().startsWith(keycloak), page.url());
    await page.fill("#username", "bob");
    await page.fill("#password", secret("bob-pw"));
    await page.click("#kc-login");
    await page.locator("#who").waitFor();
    assert.equal(page.url(), `${origin}/reports?year=2026&q=a%20b`);
    assert.notEqual(await who(page), "nobody");
    await page.goto(`${origin}/again`);
    assert.equal(await page.locator("#at").innerText(), "/again");
    assert.equal(forms.length, 1);
    // Pushed (RFC 9126): the browser carries nothing of the request but its name.
    assert.equal(asked.length, 1);
    assert.ok(asked[0].get("request_uri") && !asked[0].has("code_challenge"), String(asked[0]));
  });

  /** From the page at Keycloak on. */
  const typeIn = async (page, name = "bob") => {
    await page.fill("#username", name);
    await page.fill("#password", secret(`${name}-pw`));
    await page.click("#kc-login");
    await page.locator("#who").waitFor();
  };
  await reload(usual.replace("changed: true", "keep_fragment: true"));
  await test("what stands behind the address survives the sign-in, and one that nobody finished leaves nothing to the next person", async (page, context) => {
    const place = async () => (await context.cookies()).filter((cookie) => cookie.name === "authferry_place").map((cookie) => decodeURIComponent(cookie.value));
    await page.goto(`${origin}/a#b/c?d`);
    await page.locator("#username").waitFor();
    assert.deepEqual(await place(), ["/a#b/c?d"]);
    await typeIn(page);
    assert.equal(page.url(), `${origin}/a#b/c?d`);
    assert.equal(await page.locator("#at").innerText(), "/a", "no server sees it");
    assert.deepEqual(await place(), [], "it counts once");
    // Somebody walks away at the sign-in page; the next person opens the same page, and nothing else.
    await context.clearCookies();
    await page.goto(`${origin}/app#/patients/17`);
    await page.locator("#username").waitFor();
    assert.deepEqual(await place(), ["/app#/patients/17"]);
    await page.goto(`${origin}/app`);
    await page.locator("#username").waitFor();
    assert.deepEqual(await place(), []);
    await typeIn(page);
    assert.equal(page.url(), `${origin}/app`);
  });

  await test("a password that is reset in the middle of a sign-in leads to the deep link, after one sign-in", async (page, context, forms) => {
    const admin = await atConsole();
    const [name, given, chosen] = ["kim", secret("kim-given"), secret("kim-chosen")];
    // An administrator has reset it: the next sign-in asks for another one (`UPDATE_PASSWORD`).
    const account = { username: name, enabled: true, email: "kim@example.test", emailVerified: true, firstName: "Kim", lastName: "Example", attributes: { legacy_uid: ["1011"] },
      credentials: [{ type: "password", value: given, temporary: true }] };
    await admin.call("POST", "/users", account);
    try {
      await page.goto(`${origin}/a/b?year=2026&q=a%20b#c/d?e`);
      await page.fill("#username", name);
      await page.fill("#password", given);
      await page.click("#kc-login");
      await page.locator("#password-new").waitFor();
      assert.match(page.url(), /login-actions\/required-action\?.*UPDATE_PASSWORD/);
      await page.fill("#password-new", chosen);
      await page.fill("#password-confirm", chosen);
      await page.click("[type=submit]");
      await page.locator("#who").waitFor();
      assert.equal(page.url(), `${origin}/a/b?year=2026&q=a%20b#c/d?e`);
      assert.equal(await who(page), "1011");
      assert.equal(forms.length, 1, "one sign-in");
      // The next one is with the password that was chosen.
      await context.clearCookies();
      await page.goto(`${origin}/again`);
      await page.fill("#username", name);
      await page.fill("#password", chosen);
      await page.click("#kc-login");
      await page.locator("#who").waitFor();
      assert.equal(page.url(), `${origin}/again`);
    } finally {
      await admin.call("DELETE", `/users/${await admin.account(name)}`);
    }
  });

  await test("without scripts a link leads to the sign-in, and what stands behind the address is lost", async (page, _, forms) => {
    await page.goto(`${origin}/a?x=1#b/c?d`);
    assert.equal(page.url(), `${origin}/a?x=1#b/c?d`, "nothing goes on by itself");
    // axe is a script; the page is the same.
    await page.click("main a");
    await typeIn(page);
    assert.equal(page.url().split("#")[0], `${origin}/a?x=1`);
    assert.equal(forms.length, 1);
  }, { javaScriptEnabled: false });
  await reload(usual);

  await test("two tabs sign in at the same time, each to its own page", async (page, context) => {
    const other = await context.newPage();
    await page.goto(`${origin}/one`);
    await page.click("text=Continue");
    await other.goto(`${origin}/two`);
    await page.locator("#username").waitFor();
    await other.locator("#username").waitFor();
    await page.fill("#username", "bob");
    await page.fill("#password", secret("bob-pw"));
    await page.click("#kc-login");
    await page.locator("#who").waitFor();
    assert.equal(page.url(), `${origin}/one`);
    // Keycloak knows the browser by now: loaded again, the other tab goes on without a form. Its own page may notice that at
    // the same moment and go on by itself, which breaks our loading off.
    const again = () => other.goto(`${origin}/two`);
    await again().catch(again);
    await other.locator("#who").waitFor();
    assert.equal(other.url(), `${origin}/two`);
  });

  await test("the back button after a sign-in leads to no dead end", async (page) => {
    await signIn(page, "/inbox");
    await page.goBack().catch(() => {});
    await page.goForward().catch(() => {});
    await page.goto(`${origin}/inbox`);
    assert.equal(await page.locator("#at").innerText(), "/inbox");
  });

  await test("a form on a session that is over is not sent anywhere, and nothing is lost", async (page, context) => {
    await signIn(page, "/edit");
    const cookies = await context.cookies();
    await context.clearCookies({ name: "authferry" });
    assert.ok(cookies.some((cookie) => cookie.name === "authferry" && cookie.httpOnly));
    const before = posted.length;
    const [answer] = await Promise.all([page.waitForNavigation(), page.click("#save")]);
    assert.equal(answer.status(), 401);
    assert.equal(posted.length, before, "it reached the application");
    const reference = await page.locator("code").innerText();
    const told = spawnSync(program, ["explain", "--format", "json", "--reference", reference, "--state-dir", `${dir}/state`], { encoding: "utf8" });
    const lines = JSON.parse(told.stdout);
    assert.deepEqual(lines.map((line) => [line.event, line.path, line.status]), [["access", "/save", 401]], told.stdout);
    // Signed in again in another tab, the form goes through when it is sent once more.
    const other = await context.newPage();
    await other.goto(`${origin}/edit`);
    await other.locator("#who").waitFor();
    await page.goBack();
    await Promise.all([page.waitForNavigation(), page.click("#save")]);
    assert.equal(posted.length, before + 1);
    assert.match(posted.at(-1), /^note=a\+long\+text$/);
  });

  await test("a session that ends at Keycloak's console closes the page's WebSocket, and the next page asks for a sign-in", async (page) => {
    await signIn(page, "/live");
    // The page says when its connection closes, by its own clock, and with which code.
    await page.evaluate(() => new Promise((open, failed) => {
      const socket = new WebSocket(`ws://${location.host}/ticks`);
      const one = { ticks: 0, closed: undefined };
      window.live = one;
      socket.onmessage = () => { if ((one.ticks += 1) === 3) open(); };
      socket.onclose = (event) => { one.closed = { at: Date.now(), code: event.code, clean: event.wasClean }; failed(new Error(`closed: ${event.code}`)); };
    }));
    const seen = live.at(-1);
    assert.equal(seen.who, await who(page), "the connection is the person's");
    const admin = await atConsole();
    const bob = await admin.account("bob");
    // What "Sign out" at the person's sessions does in the console.
    const ended = Date.now();
    await admin.call("POST", `/users/${bob}/logout`);
    await page.waitForFunction(() => window.live.closed, undefined, { timeout: 10_000 });
    const { at, code, clean } = await page.evaluate(() => window.live.closed);
    assert.deepEqual([code, clean], [1008, true], "policy violation, said and answered");
    assert.ok(at - ended <= 2_000, `it was open for ${at - ended} ms`);
    const deadline = Date.now() + 5_000;
    while (seen.closed === undefined && Date.now() < deadline) await new Promise((later) => setTimeout(later, 20));
    assert.equal(seen.closed, 1008, "the application was told the same");
    await page.goto(`${origin}/live`);
    await page.locator("#username").waitFor();
    assert.ok(page.url().startsWith(keycloak), page.url());
    console.log(`   closed ${at - ended} ms after the console was told to`);
  });

  await test("a form on a session that has expired gets 401 and no redirect, and goes through once another tab has signed in", async (page, context) => {
    await signIn(page, "/edit");
    // Sessions end sooner from now on; this one by nobody's using it, with its cookie in the browser.
    await reload(`${usual}sessions: { idle: 1m }\n`);
    await new Promise((over) => setTimeout(over, 62_000));
    assert.ok((await context.cookies()).some((cookie) => cookie.name === "authferry"));
    const before = posted.length;
    const [answer] = await Promise.all([page.waitForNavigation(), page.click("#save")]);
    assert.equal(answer.status(), 401);
    assert.equal(answer.request().redirectedFrom(), null, "nobody's form is sent round");
    await accessible(page);
    assert.equal(posted.length, before);
    await reload(usual);
    const other = await context.newPage();
    await other.goto(`${origin}/edit`);
    await other.locator("#who").waitFor();
    await page.goBack();
    assert.equal(await page.locator("input[name=note]").inputValue(), "a long text");
    await Promise.all([page.waitForNavigation(), page.click("#save")]);
    assert.equal(posted.length, before + 1);
  });

  const rules = (text, pages) => usual.replace("bucketing: { salt: x }, assign: [{ percent: 100, to: modern }]", text).replace("changed: true,", pages);
  const scripts = [["", {}], [", without scripts", { javaScriptEnabled: false }]];
  await reload(rules("bucketing: { salt: x, before_known: identifier_first }, assign: [{ percent: 100 }]", ""));
  for (const [how, options] of scripts) await test(`who has said who they are signs in where their name belongs${how}`, async (page, _, forms) => {
    await page.goto(`${origin}/deep?a=b%20c`);
    assert.ok(page.url().startsWith(origin), page.url());
    if (!how) await accessible(page);
    await page.getByLabel("E-mail address or user name").fill("  ");
    await page.click("main button");
    assert.equal(await page.locator("#identifier").getAttribute("aria-invalid"), "true", "white space is no name");
    if (!how) await accessible(page);
    await page.getByLabel("E-mail address or user name").fill("bob");
    await page.keyboard.press("Enter");
    await page.locator("#username").waitFor();
    assert.equal(await page.locator("#username").inputValue(), "bob", "it is not asked twice");
    await page.fill("#password", secret("bob-pw"));
    await page.click("#kc-login");
    await page.locator("#who").waitFor();
    assert.equal(page.url(), `${origin}/deep?a=b%20c`);
    assert.equal(forms.length, 1);
  }, options);

  await reload(rules("bucketing: { salt: x }, assign: [{ choose: true }]", 'providers: { legacy: Usual page, modern: "New page <1>" },'));
  for (const [how, options] of scripts) await test(`who is asked where to sign in chooses once${how}`, async (page, _, forms) => {
    await page.goto(`${origin}/deep?a=b%20c`);
    assert.ok(page.url().startsWith(origin), page.url());
    if (!how) await accessible(page);
    assert.deepEqual(await page.locator("main button").allInnerTexts(), ["Usual page", "New page <1>"]);
    await page.click("text=New page <1>");
    await typeIn(page);
    assert.equal(page.url(), `${origin}/deep?a=b%20c`);
    assert.equal(forms.length, 1);
  }, options);

  await reload(usual.replace("changed: true, ", ""));
  await test("a browser that goes round in circles is stopped, on a page that says so", async (page, context) => {
    let answer;
    for (let n = 0; n < 8; n += 1) {
      // A session that counts no more, each time.
      await context.addCookies([{ name: "authferry", value: "A".repeat(43), url: origin }]);
      answer = await page.goto(`${origin}/round`);
      if (page.url().startsWith(origin)) break;
    }
    assert.equal(answer.status(), 409, page.url());
    await accessible(page);
    assert.ok(await page.locator("code").innerText(), "a reference");
  });
  await reload(usual);

  await test("who was put out for their safety is told so, and comes back to the same address", async (page) => {
    await signIn(page, "/inbox");
    const { status, stderr } = spawnSync(program, ["revoke", "--provider", "modern", "--reason", "tried", "--confirm", "100", "--state-dir", `${dir}/state`], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const answer = await page.goto(`${origin}/inbox?x=1`);
    assert.equal(answer.status(), 403);
    assert.equal(await page.locator("h1").innerText(), "You were signed out for security");
    await accessible(page);
    await page.click("main a");
    await typeIn(page);
    assert.equal(page.url(), `${origin}/inbox?x=1`);
  });

  /** The page of oidc-provider. */
  const typeInThere = async (page, name = "bob") => {
    await page.fill("input[name=username]", name);
    await page.fill("input[type=password]", secret(`${name}-pw`));
    await page.click("[type=submit]");
  };
  const begun = new Date(Date.now() - 60_000).toISOString();
  await reload(rules("bucketing: { salt: x }, percent: 0", ""));
  await test("who is left at the old side is told until when it does not count, and has not lost it", async (page) => {
    await page.goto(`${origin}/inbox`);
    // Whoever has signed in at the new side already is led there.
    await typeInThere(page, "erin");
    await page.locator("#who").waitFor();
    const before = fs.readFileSync(config, "utf8");
    const stages = `rollouts: { default: { from: legacy, to: modern, apps: [crm], bucketing: { salt: x }, stages: [{ id: one, mode: canary, brownouts: [{ at: "${begun}", for: 1h }], warn: { notice: "https://intranet.corp.example/move" } }] } }`;
    await reload(`${before.replace(/^rollout: .*$/m, stages)}change: { recall: 1 }\n`);
    const answer = await page.goto(`${origin}/inbox`);
    assert.equal(answer.status(), 503);
    assert.match(answer.headers()["retry-after"], /^[1-9][0-9]*$/);
    assert.equal(await page.getByText("What to do instead").getAttribute("href"), "https://intranet.corp.example/move");
    await accessible(page);
    await reload(before);
    await page.goto(`${origin}/inbox`);
    await page.locator("#who").waitFor();
  });

  // The new provider says nothing of who somebody is at the old one. Whoever has signed in there before is known by now.
  const unlinked = (links) => usual.replace("changed: true, ", "").replace('identity: { canonical: { template: "uid:{subject}" } }', `identity: { canonical: { template: "uid:{subject}" }, on_missing: deny, links: [${links}] }`)
    .replace(/^(  modern: .*)claims: { subject: legacy_uid, (.*), authoritative: { claims: \[legacy_uid\] }/m, "$1claims: { $2");
  const list = "subject,account\n1001,somebody-else\n";
  await reload(unlinked(`{ file: { path: "${file("links.csv", list)}", columns: { modern: account }, sha256: ${crypto.createHash("sha256").update(list).digest("hex")} } }`));
  await test("whose account belongs to nobody here is told so, on a page with a reference", async (page) => {
    await page.goto(`${origin}/deep`);
    const [answer] = await Promise.all([page.waitForResponse((answer) => answer.url().startsWith(`${origin}/.authferry/cb/`)), (async () => { await page.fill("#username", "carol"); await page.fill("#password", secret("carol-pw")); await page.click("#kc-login"); })()]);
    assert.equal(answer.status(), 403);
    assert.ok(await page.locator("code").innerText(), "a reference");
    await accessible(page);
  });
  await reload(unlinked("{ prove_both: true }"));
  /** As somebody at both providers, one after the other, up to the page that asks. */
  const atBoth = async (page, name) => {
    await page.goto(`${origin}/deep?a=b%20c`);
    await page.fill("#username", name);
    await page.fill("#password", secret(`${name}-pw`));
    await page.click("#kc-login");
    await page.locator("input[name=username]").waitFor();
    await typeInThere(page, name);
    await page.waitForURL(`${origin}/.authferry/cb/**`);
    assert.equal(await page.locator("h1").innerText(), "Are both accounts yours?");
  };
  await test("who says that the other account is not theirs gets neither, without scripts", async (page) => {
    await atBoth(page, "carol");
    const [answer] = await Promise.all([page.waitForNavigation(), page.locator("main button").last().click()]);
    assert.equal(answer.status(), 403);
    assert.equal(await page.locator("h1").innerText(), "The accounts stay apart");
    assert.ok(await page.locator("code").innerText(), "a reference");
  }, { javaScriptEnabled: false });
  await test("who says that an account at each provider is theirs is one person from then on", async (page, context) => {
    await atBoth(page, "carol");
    await accessible(page);
    await page.locator("main button").first().click();
    await page.locator("#who").waitFor();
    assert.equal(page.url(), `${origin}/deep?a=b%20c`);
    const joined = await who(page);
    // Nobody is asked twice.
    await context.clearCookies();
    await page.goto(`${origin}/deep`);
    await typeIn(page, "carol");
    assert.equal(await who(page), joined);
  });
  await reload(usual);

  await reload(usual.replace('path: "/*" }', 'path: "/*", preserve_post: 16KiB }'));
  await test("a form on a session that is over is kept where that is wanted, and sent once by who is back", async (page, context, forms) => {
    await signIn(page, "/edit");
    const admin = await atConsole();
    await admin.call("POST", `/users/${await admin.account("bob")}/logout`);
    // Asked beside the browser, which learns nothing of it.
    const cookie = (await context.cookies()).filter(({ domain, path }) => domain === "127.0.0.1" && path === "/").map(({ name, value }) => `${name}=${value}`).join("; ");
    const deadline = Date.now() + 10_000;
    while ((await fetch(`${origin}/edit`, { headers: { cookie } })).status !== 401) {
      assert.ok(Date.now() < deadline, "it never ended");
      await new Promise((later) => setTimeout(later, 50));
    }
    const before = posted.length;
    const [kept] = await Promise.all([page.waitForNavigation(), page.click("#save")]);
    assert.equal(kept.status(), 403);
    assert.equal(await page.locator("h1").innerText(), "Please sign in again");
    await accessible(page);
    await page.click("main a");
    await page.fill("#username", "bob");
    await page.fill("#password", secret("bob-pw"));
    await page.click("#kc-login");
    await page.waitForURL(`${origin}/.authferry/form?rd=%2Fsave`);
    assert.equal(await page.locator("h1").innerText(), "Send what you typed in?");
    assert.equal(posted.length, before, "nothing goes by itself");
    await accessible(page);
    await page.click("main button");
    await page.locator("#who").waitFor();
    assert.equal(page.url(), `${origin}/save`);
    assert.deepEqual(posted.slice(before), ["note=a+long+text"]);
    assert.equal(forms.length, 2);
    // It is given back once.
    await page.goto(`${origin}/.authferry/form?rd=%2Fsave`);
    assert.equal(page.url(), `${origin}/save`);
    assert.equal(posted.length, before + 1);
  });
  await reload(usual);

  await test("sign-out ends the session here and at Keycloak, and the back button shows nothing", async (page, context, forms) => {
    await signIn(page, "/secret");
    await page.click("#out");
    assert.equal(await page.locator("h1").innerText(), "Sign out?");
    await accessible(page);
    await page.click("button");
    await page.waitForURL(`${origin}/.authferry/logout/done*`);
    assert.equal(await page.locator("h1").innerText(), "Signed out");
    await accessible(page);
    await page.goBack().catch(() => {});
    await page.goto(`${origin}/secret`);
    await page.locator("#username").waitFor();
    assert.ok(page.url().startsWith(keycloak), "Keycloak asks for the password again");
    assert.equal(forms.length, 1);
    await page.goto(`${origin}/.authferry/cb/new?code=a&state=b`);
    assert.equal(await page.locator("h1").innerText(), "This sign-in is not yours to finish");
    await accessible(page);
  });
  await browser.close();
} catch (error) {
  console.error(error);
  await browser.close();
  await end(1);
}
await end(0);
