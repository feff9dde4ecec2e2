// The scripted move with real providers: people come stage by stage to Keycloak, by orders of an operator, and back by rollbacks. They
// have sessions of oidc-provider (some of them in Chromium, the others with a jar of cookies), sessions of a PHP application, or a password
// of OpenLDAP in every request. Every sign-in is counted where its form arrives: by whoever sends it, and by the provider that takes it.
//   node tests/real/move.mjs PROGRAM     needs KC_PORT, OP_PORT, APP_PHP_PORT, LDAP_PORT, PROXY_PORT, IDPS_RUN, REAL_SALT and CLIENT_MODULES as tests/real/run sets them, and chromium
//   MOVE_PEOPLE=200 how many have sessions of oidc-provider, and half as many the other two; MOVE_ROWS=FILE takes a row for each stage
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
const { KC_PORT, OP_PORT, APP_PHP_PORT, LDAP_PORT, PROXY_PORT, IDPS_RUN, REAL_SALT, MOVE_ROWS } = process.env;
const PEOPLE = Number(process.env.MOVE_PEOPLE || 200);
const IN_CHROMIUM = 10;
const AT_ONCE = 4;
const secret = (base) => `${base}-${crypto.createHash("sha256").update(REAL_SALT + base).digest("hex").slice(0, 12)}`;
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-move."));
const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };
const keycloak = `http://127.0.0.1:${KC_PORT}`;
const oidcProvider = `http://127.0.0.1:${OP_PORT}`;
const php = `http://127.0.0.1:${APP_PHP_PORT}`;
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

const modernClient = (id, more) => `{ oidc: { issuer: "${keycloak}/realms/new", client: { id: ${id}, secret: { file: "${file(`${id}.secret`, secret(`${id}-secret`))}" } }, owns: { access_token_markers: [{ claim: typ, equals: Bearer }] }, ${more}, claims: { subject: legacy_uid, name: preferred_username, groups: groups }, authoritative: { claims: [legacy_uid] } } }`;
/** The program, moving people of `legacy` to `modern`. */
const start = async ({ legacy, modern, sessions = "", accept = "", headers = ', X-Remote-Groups: "{groups|sort|join:,}"', more = "" }) => {
  const state = fs.mkdtempSync(path.join(dir, "state."));
  const config = file("authferry.yaml", `version: 1
server: { listen: 127.0.0.1:${PROXY_PORT}, admin: { listen: 127.0.0.1:0 }, state_dir: "${state}" }
providers:
  legacy: ${legacy}
  modern: ${modern}
identity: { canonical: { template: "uid:{subject}" } }
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: { url: "http://127.0.0.1:${app.address().port}" }
    rate_limits: { logins: 100000 }
    public_paths: [/public/*]
    identity_headers: { X-Remote-User: "{subject|text}", X-Remote-Name: "{name}"${headers} }
${sessions}secrets: { bucket_key: { file: "${file("bucket.key", "a".repeat(32))}" } }
audit: { require_change: true }
change: { actor: operator, reason: IAM-1 }
guardrails: { standard: { no_data: proceed } }
${more}rollouts:
  crm:
    apps: [crm]
    from: legacy
    to: modern
    bucketing: { salt: move }
    control: controller
    guardrails: standard
    stages:
      - { id: before, mode: legacy-only }
      - { id: tenth, mode: canary, assign: [{ percent: 10, to: modern }]${accept}, promote: { when: manual } }
      - { id: half, mode: canary, assign: [{ percent: 50, to: modern }]${accept}, promote: { when: manual } }
      - { id: primary, mode: modern-primary${accept}, promote: { when: manual } }
      - { id: only, mode: modern-only }
`);
  const log = fs.openSync(path.join(dir, "stderr.log"), "w");
  const proxy = spawn(program, ["run", "--config", config], { stdio: ["ignore", "pipe", log] });
  running = proxy;
  const admin = await new Promise((done, failed) => {
    let said = "";
    proxy.stdout.on("data", (part) => { fs.writeSync(log, part); said += part; const at = /admin=(\S+)/.exec(said); if (at) done(`http://${at[1]}`); });
    proxy.on("exit", () => failed(new Error("it did not start")));
  });
  const order = (...words) => {
    const told = spawnSync(program, ["ctl", ...words, "--reason", "IAM-2"], { encoding: "utf8", env: { ...process.env, AUTHFERRY_STATE_DIR: state } });
    assert.equal(told.status, 0, `${words}: ${told.stdout}${told.stderr}`);
    return told.stdout;
  };
  const moved = async (method) => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    const series = `authferry_session_carryovers_total{app="crm",method="${method}",outcome="moved"} `;
    return Number(text.split("\n").find((line) => line.startsWith(series))?.split(" ").at(-1) ?? 0);
  };
  const stop = () => new Promise((gone) => { proxy.once("exit", gone); proxy.kill("SIGKILL"); });
  order("start");
  return { order, moved, stop };
};
let running;
const end = async (code) => {
  running?.kill("SIGKILL");
  app.close();
  app.closeAllConnections();
  if (code) console.error(fs.readFileSync(path.join(dir, "stderr.log"), "utf8").slice(-8_000));
  fs.rmSync(dir, { recursive: true, force: true });
  process.exit(code);
};

// What the providers have counted: forms that were right at oidc-provider, sessions that began at Keycloak.
const counted = async () => {
  const seen = await (await fetch(`${oidcProvider}/__test/seen`)).json();
  const old = Object.entries(seen.sign_ins).filter(([name]) => /^p\d{4}$/.test(name)).reduce((sum, [, count]) => sum + count, 0);
  const form = new URLSearchParams({ grant_type: "password", client_id: "admin-cli", username: "admin", password: process.env.KC_ADMIN_PASSWORD ?? "admin" });
  const { access_token: token } = await (await fetch(`${keycloak}/realms/master/protocol/openid-connect/token`, { method: "POST", body: form })).json();
  const events = await (await fetch(`${keycloak}/admin/realms/new/events?type=LOGIN&max=100000`, { headers: { authorization: `Bearer ${token}` } })).json();
  // A password that we send there is no sign-in.
  return { old, modern: new Set(events.filter((event) => event.clientId !== "proxy-ropc").map((event) => event.sessionId)).size };
};

// A browser of either kind: `open(url)` types in the password where one is asked for, and says where it ended and how many forms it sent to
// which side.
const sideOf = (url) => (url.startsWith(`${keycloak}/realms/new/login-actions/authenticate`) ? "modern" : url.startsWith(`${oidcProvider}/interaction/`) || url.startsWith(`${php}/login`) ? "old" : undefined);
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
  return { open: (url) => jar.open(url, { username: name, password: secret(`${name}-pw`) }), sent, jar };
};

const nameOf = (index) => `p${String(index + 1).padStart(4, "0")}`;
const each = async (people, visit) => {
  const waiting = people.values();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => { for (const person of waiting) await visit(person); }));
};
const rows = [];
/** Everybody opens a deep link, until so many have come to the new side as `isEnough` says; `allowed` says how many forms a person may see for it, and at which side. */
const stage = async ({ group, whom, people, method }, world, name, isEnough = () => true, allowed = () => ({})) => {
  const title = `${group} ${name}`;
  const before = await counted();
  const sum = { signIns: 0, unneeded: 0, headers: 0, lost: 0, old: 0, modern: 0 };
  await each(people, async (person) => {
    const link = `/${group}/${name.split(" ").at(-1)}/${person.name}?q=%C3%A4%2Fb&x=1`;
    opened.delete(link);
    const sent = { ...person.sent };
    const ended = await person.open(origin + link);
    const [old, modern] = [person.sent.old - sent.old, person.sent.modern - sent.modern];
    const may = { old: 0, modern: 0, ...allowed(person) };
    sum.old += old;
    sum.modern += modern;
    sum.signIns += old + modern;
    sum.unneeded += Math.abs(old - may.old) + Math.abs(modern - may.modern);
    if (ended !== origin + link || !opened.has(link)) { sum.lost += 1; console.error(`${title}: ${person.name} ended at ${ended}`); }
    person.told ??= opened.get(link);
    if (opened.get(link) !== person.told) { sum.headers += 1; console.error(`${title}: ${person.name}\n${person.told}\n${opened.get(link)}`); }
  });
  const after = await counted();
  assert.deepEqual([after.old - before.old, after.modern - before.modern], [sum.old, sum.modern], `${title}: the providers have counted others`);
  // Passwords come along behind the answer; where Keycloak has much to do, with one of the next requests, a minute later.
  let moved = await world.moved(method);
  for (const late = Date.now() + 100_000; !isEnough(moved) && Date.now() < late;) {
    await new Promise((later) => setTimeout(later, 500));
    if (method === "credential") await each(people, async (person) => assert.equal(await person.open(`${origin}/again`), `${origin}/again`, person.name));
    moved = await world.moved(method);
  }
  console.log(`${title.padEnd(32)} carried over ${String(moved).padStart(4)}   sign-ins ${String(sum.signIns).padStart(4)}   not as expected ${sum.unneeded}, header changes ${sum.headers}, lost links ${sum.lost}`);
  rows.push([`${title}: ${people.length} ${whom}`, moved, sum.signIns, sum.unneeded, sum.headers, sum.lost]);
  assert.deepEqual([sum.unneeded, sum.headers, sum.lost], [0, 0, 0], title);
  return moved;
};
/** Every stage in turn, and back; `takes` people come along by themselves, and the others sign in once, at the end. */
const move = async (of, world, takes, first, last) => {
  assert.equal(await stage(of, world, "1. before", undefined, first), 0);
  assert.equal(new Set(of.people.map((person) => person.told)).size, of.people.length, "everybody is somebody else");
  for (const person of of.people) assert.match(person.told, new RegExp(`^X-Remote-User: ${20_000 + Number(person.name.slice(1))}$`, "mi"));
  let came = 0;
  for (const [number, name] of [[2, "tenth"], [3, "half"]]) {
    world.order("set-stage", name);
    const before = came;
    came = await stage(of, world, `${number}. ${name}`, (count) => before < count);
    assert.ok(before < came && came < takes, `${name}: ${came}`);
  }
  world.order("set-stage", "primary");
  const all = (count) => count === takes;
  assert.equal(await stage(of, world, "4. primary", all), takes, "whoever can be taken along has come");
  world.order("set-stage", "only");
  assert.equal(await stage(of, world, "5. only", all, last), takes);
  // Back, one stage after the other: whoever has moved keeps what they have, for as long as a stage honours it.
  for (const [number, name] of [[6, "primary"], [7, "half"], [8, "tenth"]]) {
    assert.match(world.order("rollback"), new RegExp(`rolled_back at ${name} `));
    assert.equal(await stage(of, world, `${number}. rollback to ${name}`, all), takes);
  }
};

/** Sessions of oidc-provider; every second person is known at Keycloak, from another application that is there already. */
const sessions = async () => {
  const people = [];
  for (let index = 0; index < PEOPLE; index += 1) people.push({ name: nameOf(index), known: index % 2 === 0, ...await (index < IN_CHROMIUM ? inChromium : withJar)(nameOf(index)) });
  const legacy = `{ oidc: { issuer: "${oidcProvider}", client: { id: proxy, secret: { file: "${file("proxy.secret", secret("proxy-secret"))}" } }, scopes: [openid, profile, email, groups], verify: { audiences: ["urn:legacy-api"] }, claims: { subject: legacy_uid, name: preferred_username, groups: groups }, authoritative: { claims: [legacy_uid] } } }`;
  const world = await start({ legacy, modern: modernClient("proxy", "verify: { audiences: [proxy-exchange] }"), sessions: "sessions: { carry_over: [silent], silent: { during: top_level_get, retry_after: 1h, max_per_subject_per_day: 24 } }\n" });
  // The page of that application is none of ours.
  const elsewhere = `${keycloak}/realms/new/protocol/openid-connect/auth?client_id=proxy-public&response_type=code&scope=openid&redirect_uri=${encodeURIComponent(`${origin}/public/other`)}&code_challenge_method=S256&code_challenge=${crypto.createHash("sha256").update("x".repeat(43)).digest("base64url")}`;
  await each(people.filter((person) => person.known), async (person) => {
    assert.ok((await person.open(elsewhere)).startsWith(`${origin}/public/other?`), person.name);
    assert.deepEqual(person.sent, { old: 0, modern: 1 }, person.name);
  });
  const of = { group: "Keycloak", whom: `sessions of oidc-provider (${IN_CHROMIUM} in Chromium), half of the people known at Keycloak`, people, method: "silent" };
  // At the end sessions of the old side are over: whoever could not be taken along signs in once.
  await move(of, world, people.filter((person) => person.known).length, () => ({ old: 1 }), (person) => (person.known ? {} : { modern: 1 }));
  // At the beginning again: somebody new comes to the old side.
  assert.match(world.order("rollback"), /rolled_back at before /);
  const late = await withJar("p0999");
  assert.equal(await late.open(`${origin}/late`), `${origin}/late`);
  assert.deepEqual(late.sent, { old: 1, modern: 0 });
  await world.stop();
};

/** Sessions of an old application itself: wrapped, then exchanged for sessions of Keycloak by an assertion (RFC 7523). */
const wrapped = async () => {
  const people = [];
  for (let index = 0; index < PEOPLE / 2; index += 1) {
    const person = { name: nameOf(index), ...await withJar(nameOf(index)) };
    await person.open(`${php}/login`);
    person.jar.copy(new URL(php).host, new URL(origin).host);
    people.push(person);
  }
  const legacy = `{ session_probe: { issuer: "${php}", owns: { cookies: [PHPSESSID] }, introspect: { url: "${php}/whoami", cache: 1s }, login: { upstream_form: { start: /login } }, revoke: { url: "${php}/logout", method: get }, claims: { subject: uid, name: user, groups: groups }, authoritative: { claims: [uid] } } }`;
  fs.copyFileSync(path.join(IDPS_RUN, "pki/jwt.key"), path.join(dir, "bridge.key"));
  const more = `exchange: { bridge: { assertion: { provider: modern, client: { id: proxy-bridge, secret: { file: "${file("proxy-bridge.secret", secret("proxy-bridge-secret"))}" } }, issuer: "${origin}/bridge", subject: "{subject|text}", key: { file: "${dir}/bridge.key" }, audiences: [legacy-api], also: [account] } } }\n`;
  const world = await start({ legacy, modern: modernClient("proxy", "verify: { audiences: [legacy-api] }"), sessions: "sessions: { carry_over: [wrap, exchange] }\n", more });
  await move({ group: "Wrapped", whom: "sessions of a PHP application", people, method: "exchange" }, world, people.length);
  await world.stop();
};

/** A password in every request: OpenLDAP judges it, then Keycloak. */
const passwords = async () => {
  const people = [];
  for (let index = 0; index < PEOPLE / 2; index += 1) {
    const name = nameOf(index);
    const authorization = `Basic ${Buffer.from(`${name}:${secret(`${name}-pw`)}`).toString("base64")}`;
    const open = async (url) => { const answer = await fetch(url, { headers: { authorization }, redirect: "manual" }); return answer.status === 200 ? url : `${answer.status} ${await answer.text()}`; };
    people.push({ name, open, sent: { old: 0, modern: 0 } });
  }
  const legacy = `{ ldap: { url: "ldap://127.0.0.1:${LDAP_PORT}", user_dn: "uid={username},ou=people,dc=legacy,dc=test", attributes: [uid, employeeNumber], claims: { subject: employeeNumber, name: uid }, authoritative: { claims: [employeeNumber] }, cache: 1s } }`;
  const directory = `verify: { audiences: [proxy-exchange] }, directory: { keycloak: { client: { id: provisioning, secret: { file: "${file("provisioning.secret", secret("provisioning-secret"))}" } }, key: legacy_uid } }`;
  const world = await start({ legacy, modern: modernClient("proxy-ropc", directory), accept: ", accept: { legacy: { basic: migrate } }", headers: "" });
  await move({ group: "Passwords", whom: "people with a password of OpenLDAP", people, method: "credential" }, world, people.length);
  await world.stop();
};

try {
  for (const part of [sessions, wrapped, passwords]) await part();
  await browser.close();
} catch (error) {
  console.error(error);
  await browser.close();
  await end(1);
}
if (MOVE_ROWS) fs.appendFileSync(MOVE_ROWS, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
await end(0);
