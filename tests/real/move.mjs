// The scripted move with real providers: people with sessions of oidc-provider come stage by stage to Keycloak, by orders of an
// operator, and back by a rollback; some of them in Chromium, the others with a jar of cookies. Every sign-in is counted where its
// form arrives: by whoever sends it, and by the provider that takes it.
//   node tests/real/move.mjs PROGRAM     needs KC_PORT, OP_PORT, PROXY_PORT, REAL_SALT and CLIENT_MODULES as tests/real/run sets them, and chromium
//   MOVE_PEOPLE=200 how many; MOVE_ROWS=FILE takes a row for each stage
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { Jar } from "./jar.mjs";

const modules = createRequire(path.join(process.env.CLIENT_MODULES, "node_modules/"));
const { chromium } = modules("playwright-core");
const [program] = process.argv.slice(2);
const { KC_PORT, OP_PORT, PROXY_PORT, REAL_SALT, MOVE_ROWS } = process.env;
const PEOPLE = Number(process.env.MOVE_PEOPLE || 200);
const IN_CHROMIUM = 10;
const AT_ONCE = 4;
const secret = (base) => `${base}-${crypto.createHash("sha256").update(REAL_SALT + base).digest("hex").slice(0, 12)}`;
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-move."));
const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };
const keycloak = `http://127.0.0.1:${KC_PORT}`;
const oidcProvider = `http://127.0.0.1:${OP_PORT}`;
const origin = `http://127.0.0.1:${PROXY_PORT}`;

// The application keeps what it is told of whoever opens a page, byte for byte.
const opened = new Map();
const app = http.createServer((request, answer) => {
  const fields = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) if (request.rawHeaders[at].toLowerCase().startsWith("x-remote-")) fields.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
  opened.set(request.url, fields.sort().join("\n"));
  answer.setHeader("Content-Type", "text/html");
  answer.setHeader("Cache-Control", "no-store");
  answer.end(`<!doctype html><title>app</title><link rel=icon href="data:,"><p id=who>${request.headers["x-remote-user"] ?? "nobody"}</p>`);
});
await new Promise((up) => app.listen(0, "127.0.0.1", up));

const side = (issuer, more) => `{ oidc: { issuer: "${issuer}", client: { id: proxy, secret: { file: "${file("proxy.secret", secret("proxy-secret"))}" } }, scopes: [openid, profile, email, groups], ${more}, claims: { subject: legacy_uid, name: preferred_username, groups: groups }, authoritative: { claims: [legacy_uid] } } }`;
const config = file("authferry.yaml", `version: 1
server:
  listen: 127.0.0.1:${PROXY_PORT}
  admin: { listen: 127.0.0.1:0 }
  state_dir: ${dir}/state
providers:
  legacy: ${side(oidcProvider, 'verify: { audiences: ["urn:legacy-api"] }')}
  modern: ${side(`${keycloak}/realms/new`, "owns: { access_token_markers: [{ claim: typ, equals: Bearer }] }, verify: { audiences: [proxy-exchange] }").replace(", groups]", "]")}
identity: { canonical: { template: "uid:{subject}" } }
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: { url: "http://127.0.0.1:${app.address().port}" }
    rate_limits: { logins: 100000 }
    public_paths: [/public/*]
    identity_headers: { X-Remote-User: "{subject}", X-Remote-Name: "{name}", X-Remote-Groups: "{groups|sort|join:,}" }
sessions: { carry_over: [silent], silent: { during: top_level_get, retry_after: 1h, max_per_subject_per_day: 24 } }
secrets: { bucket_key: { file: "${file("bucket.key", "a".repeat(32))}" } }
audit: { require_change: true }
change: { actor: operator, reason: IAM-1 }
guardrails: { standard: { no_data: wait } }
rollouts:
  crm:
    apps: [crm]
    from: legacy
    to: modern
    bucketing: { salt: move }
    control: controller
    guardrails: standard
    stages:
      - { id: before, mode: legacy-only }
      - { id: tenth, mode: canary, assign: [{ percent: 10, to: modern }], promote: { when: manual } }
      - { id: half, mode: canary, assign: [{ percent: 50, to: modern }], promote: { when: manual } }
      - { id: primary, mode: modern-primary, promote: { when: manual } }
      - { id: only, mode: modern-only }
`);
const log = fs.openSync(path.join(dir, "stderr.log"), "w");
const proxy = spawn(program, ["run", "--config", config], { stdio: ["ignore", "pipe", log] });
const end = async (code) => {
  proxy.kill("SIGKILL");
  app.close();
  app.closeAllConnections();
  if (code) console.error(fs.readFileSync(path.join(dir, "stderr.log"), "utf8").slice(-8_000));
  fs.rmSync(dir, { recursive: true, force: true });
  process.exit(code);
};
let adminOrigin;
await new Promise((done, failed) => {
  let said = "";
  proxy.stdout.on("data", (part) => { said += part; const admin = /admin=(\S+)/.exec(said); if (admin) { adminOrigin = `http://${admin[1]}`; done(); } });
  proxy.on("exit", () => failed(new Error("it did not start")));
}).catch(async (error) => { console.error(error.message); await end(1); });

const order = (...words) => {
  const told = spawnSync(program, ["ctl", ...words, "--reason", "IAM-2"], { encoding: "utf8", env: { ...process.env, AUTHFERRY_STATE_DIR: `${dir}/state` } });
  assert.equal(told.status, 0, `${words}: ${told.stdout}${told.stderr}`);
  return told.stdout;
};
const metric = async (series) => {
  const text = await (await fetch(`${adminOrigin}/metrics`)).text();
  return Number(text.split("\n").find((line) => line.startsWith(`${series} `))?.split(" ").at(-1) ?? 0);
};
const MOVED = 'authferry_session_carryovers_total{app="crm",method="silent",outcome="moved"}';

// What the providers have counted: forms that were right at oidc-provider, sessions that began at Keycloak.
const counted = async () => {
  const seen = await (await fetch(`${oidcProvider}/__test/seen`)).json();
  const old = Object.entries(seen.sign_ins).filter(([name]) => /^p\d{4}$/.test(name)).reduce((sum, [, count]) => sum + count, 0);
  const form = new URLSearchParams({ grant_type: "password", client_id: "admin-cli", username: "admin", password: process.env.KC_ADMIN_PASSWORD ?? "admin" });
  const { access_token: token } = await (await fetch(`${keycloak}/realms/master/protocol/openid-connect/token`, { method: "POST", body: form })).json();
  const events = await (await fetch(`${keycloak}/admin/realms/new/events?type=LOGIN&max=100000`, { headers: { authorization: `Bearer ${token}` } })).json();
  return { old, modern: new Set(events.map((event) => event.sessionId)).size };
};

// A browser of either kind: `open(url)` types in the password where one is asked for, and says where it ended and how many forms it sent to
// which side.
const sideOf = (url) => (url.startsWith(`${keycloak}/realms/new/login-actions/authenticate`) ? "modern" : url.startsWith(`${oidcProvider}/interaction/`) ? "old" : undefined);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const inChromium = async (name) => {
  const page = await (await browser.newContext()).newPage();
  const sent = { old: 0, modern: 0 };
  page.context().on("request", (request) => { if (request.method() === "POST" && sideOf(request.url())) sent[sideOf(request.url())] += 1; });
  const open = async (url) => {
    await page.goto(url);
    if (await page.locator("input[type=password]").count()) {
      await page.fill("input[name=username]", name);
      await page.fill("input[type=password]", secret(`${name}-pw`));
      await Promise.all([page.waitForNavigation(), page.click("[type=submit]")]);
      await page.locator("#who").waitFor();
    }
    return page.url();
  };
  return { open, sent };
};
const withJar = async (name) => {
  const sent = { old: 0, modern: 0 };
  const jar = new Jar((method, url) => { if (method === "POST" && sideOf(url)) sent[sideOf(url)] += 1; });
  return { open: (url) => jar.open(url, { username: name, password: secret(`${name}-pw`) }), sent };
};

const people = [];
for (let index = 0; index < PEOPLE; index += 1) {
  const name = `p${String(index + 1).padStart(4, "0")}`;
  // Every second one is known at Keycloak, from another application that is there already.
  people.push({ name, known: index % 2 === 0, ...await (index < IN_CHROMIUM ? inChromium(name) : withJar(name)) });
}
const each = async (visit) => {
  const waiting = people.values();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => { for (const person of waiting) await visit(person); }));
};
const rows = [];
/** Everybody opens a deep link; `allowed` says how many forms a person may see for it, and at which side. */
const stage = async (name, allowed) => {
  const before = await counted();
  const sum = { signIns: 0, unneeded: 0, headers: 0, lost: 0, old: 0, modern: 0 };
  await each(async (person) => {
    const link = `/${name.split(" ").at(-1)}/${person.name}?q=%C3%A4%2Fb&x=1`;
    const sent = { ...person.sent };
    const ended = await person.open(origin + link);
    const [old, modern] = [person.sent.old - sent.old, person.sent.modern - sent.modern];
    const may = { old: 0, modern: 0, ...allowed(person) };
    sum.old += old;
    sum.modern += modern;
    sum.signIns += old + modern;
    sum.unneeded += Math.abs(old - may.old) + Math.abs(modern - may.modern);
    if (ended !== origin + link || !opened.has(link)) { sum.lost += 1; console.error(`${name}: ${person.name} ended at ${ended}`); }
    person.told ??= opened.get(link);
    if (opened.get(link) !== person.told) { sum.headers += 1; console.error(`${name}: ${person.name}\n${person.told}\n${opened.get(link)}`); }
  });
  const after = await counted();
  assert.deepEqual([after.old - before.old, after.modern - before.modern], [sum.old, sum.modern], `${name}: the providers have counted others`);
  const moved = await metric(MOVED);
  console.log(`${name.padEnd(24)} carried over ${String(moved).padStart(4)}   sign-ins ${String(sum.signIns).padStart(4)}   not as expected ${sum.unneeded}, header changes ${sum.headers}, lost links ${sum.lost}`);
  rows.push([`${name}: ${PEOPLE} sessions of oidc-provider (${IN_CHROMIUM} in Chromium), half of the people known at Keycloak`, moved, sum.signIns, sum.unneeded, sum.headers, sum.lost]);
  assert.deepEqual([sum.unneeded, sum.headers, sum.lost], [0, 0, 0], name);
  return moved;
};

try {
  order("start");
  // Another application of Keycloak's: its page is none of ours.
  const elsewhere = `${keycloak}/realms/new/protocol/openid-connect/auth?client_id=proxy-public&response_type=code&scope=openid&redirect_uri=${encodeURIComponent(`${origin}/public/other`)}&code_challenge_method=S256&code_challenge=${crypto.createHash("sha256").update("x".repeat(43)).digest("base64url")}`;
  await each(async (person) => {
    if (!person.known) return;
    assert.ok((await person.open(elsewhere)).startsWith(`${origin}/public/other?`), person.name);
    assert.deepEqual(person.sent, { old: 0, modern: 1 }, person.name);
  });
  const first = await stage("Keycloak 1. before", () => ({ old: 1 }));
  assert.equal(first, 0);
  const said = new Set(people.map((person) => person.told));
  assert.equal(said.size, PEOPLE, "everybody is somebody else");
  assert.ok(people.every((person, index) => person.told.includes(`: ${20_001 + index}\n`) || person.told.endsWith(`: ${20_001 + index}`)), people[0].told);
  const moved = [];
  for (const [number, name] of [[2, "tenth"], [3, "half"], [4, "primary"]]) {
    order("set-stage", name);
    moved.push(await stage(`Keycloak ${number}. ${name}`, () => ({})));
  }
  const known = people.filter((person) => person.known).length;
  assert.ok(0 < moved[0] && moved[0] < moved[1] && moved[1] < known, String(moved));
  assert.equal(moved[2], known, "whoever is known there has come along");
  // Sessions of the old side are over: whoever could not be taken along signs in once.
  order("set-stage", "only");
  assert.equal(await stage("Keycloak 5. only", (person) => (person.known ? {} : { modern: 1 })), known);
  // Back, one stage after the other: whoever has moved keeps what they have, and somebody new comes to the old side again.
  for (const [number, name] of [[6, "primary"], [7, "half"], [8, "tenth"], [9, "before"]]) {
    const back = order("rollback");
    assert.match(back, new RegExp(`rolled_back at ${name} `));
    assert.equal(await stage(`Keycloak ${number}. rollback to ${name}`, () => ({})), known);
  }
  const late = await withJar("p0999");
  assert.equal(await late.open(`${origin}/late`), `${origin}/late`);
  assert.deepEqual(late.sent, { old: 1, modern: 0 });
  await browser.close();
} catch (error) {
  console.error(error);
  await browser.close();
  await end(1);
}
if (MOVE_ROWS) fs.appendFileSync(MOVE_ROWS, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
await end(0);
