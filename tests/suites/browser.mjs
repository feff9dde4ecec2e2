// Sign-in in a real browser, as people and as those who are after them: 15 checks, `ok NAME` or `not ok NAME: why`.
//   node tests/suites/browser.mjs PROGRAM                     the product
//   node tests/suites/browser.mjs PROGRAM --oauth2-proxy      another proxy under the same checks, to see that they can fail
// Needs NODE_PATH_MODULES (playwright-core, ws), TLS_CHAIN, TLS_KEY, chromium; CLOCK_LIBRARY names libfaketime.so.1, for the login that takes too long.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { Provider } from "./idp.mjs";
import { authferry, oauth2Proxy } from "./browsed.mjs";

const modules = createRequire(path.join(process.env.NODE_PATH_MODULES, "node_modules/"));
const { chromium } = modules("playwright-core");
const { WebSocketServer } = modules("ws");
const [program, other] = process.argv.slice(2);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-browser."));
const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };
const listen = async (server) => { await new Promise((up) => server.listen(0, "127.0.0.1", up)); return server.address().port; };
const PEOPLE = { alice: "a password of alice", bob: "a password of bob", mallory: "a password of mallory" };

// The application: says who it is told that somebody is, has a form, a live view, and a cookie of its own.
const seen = [];
const app = http.createServer((request, answer) => {
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => {
    const who = request.headers["x-remote-user"] ?? request.headers["x-forwarded-user"] ?? "nobody";
    if (request.url !== "/favicon.ico") seen.push({ method: request.method, url: request.url, who, cookie: request.headers.cookie ?? "", body });
    answer.writeHead(200, { "content-type": "text/html", "cache-control": "no-store", "set-cookie": "theirs=1; Path=/" });
    answer.end(`<!doctype html><title>app</title><p id=who>${who}</p><p id=at>${request.url.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</p>
      <form method=post action=/save><input name=note value="a long text"><button id=save>Save</button></form><a id=out href="${target.signOut}">Sign out</a>`);
  });
});
const sockets = [];
new WebSocketServer({ server: app }).on("connection", (socket, request) => { sockets.push(request.headers["x-remote-user"]); socket.send("hello"); });

const provider = await new Provider().start(PEOPLE);
const clock = file("clock", "+0\n");
const faked = process.env.CLOCK_LIBRARY && !other ? { LD_PRELOAD: process.env.CLOCK_LIBRARY, FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1" } : {};
const target = (other ? oauth2Proxy : authferry)({ file, dir, issuer: provider.issuer, chain: process.env.TLS_CHAIN, key: process.env.TLS_KEY });
target.upstream = `http://127.0.0.1:${await listen(app)}`;
const log = fs.openSync(path.join(dir, "stderr.log"), "w");
const proxy = spawn(program, await target.words(), { stdio: ["ignore", "pipe", log], env: { ...process.env, ...faked } });
const port = await new Promise((done, failed) => {
  let said = "";
  proxy.stdout.on("data", (part) => { said += part; const found = target.ready.exec(said); if (found) done(Number(found[1])); });
  proxy.on("exit", () => failed(new Error("it did not start")));
  if (target.port) {
    const look = () => { const one = net.connect(target.port, "127.0.0.1", () => { one.destroy(); done(target.port); }); one.on("error", () => setTimeout(look, 100)); };
    look();
  }
}).catch((error) => { console.error(error.message, fs.readFileSync(path.join(dir, "stderr.log"), "utf8")); process.exit(1); });
const origin = `https://app.test:${port}`;

// Pages of others: another site, and a host beside ours below the same domain, whose pages browsers take for ours in much.
let evil = "";
const foreign = (_, answer) => { answer.writeHead(200, { "content-type": "text/html" }); answer.end(evil); };
const elsewhere = `http://evil.test:${await listen(http.createServer(foreign))}`;
const beside = `https://beside.app.test:${await listen(https.createServer({ cert: fs.readFileSync(process.env.TLS_CHAIN), key: fs.readFileSync(process.env.TLS_KEY) }, foreign))}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--host-resolver-rules=MAP app.test 127.0.0.1,MAP *.app.test 127.0.0.1,MAP evil.test 127.0.0.1"],
});

/** A page load without a browser, with whatever cookies. */
const raw = (address, cookies = "", fields = {}, method = "GET") => new Promise((done, failed) => {
  const request = https.request({
    host: "127.0.0.1", port, method, path: address, rejectUnauthorized: false, servername: "app.test",
    headers: { host: `app.test:${port}`, accept: "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", ...(cookies ? { cookie: cookies } : {}), ...fields },
  }, (answer) => {
    let text = "";
    answer.on("data", (part) => { text += part; });
    answer.on("end", () => done({ status: answer.statusCode, location: answer.headers.location, who: /<p id=who>([^<]*)/.exec(text)?.[1], text }));
  });
  request.on("error", failed);
  request.end();
});
const ours = async (context) => (await context.cookies(origin)).filter((cookie) => cookie.name !== "theirs");
const plant = (context, cookies) => context.addCookies(cookies.map(({ name, value, httpOnly, sameSite }) => ({ name, value, url: origin, httpOnly, secure: true, sameSite })));
const session = async (context) => (await ours(context)).find((cookie) => target.session.test(cookie.name));
const pair = (cookie) => `${cookie.name}=${cookie.value}`;
const who = (page) => page.locator("#who").innerText();
/** Types the password where the provider asks for it. */
const type = async (page, name = "alice") => {
  await page.fill("#name", name);
  await page.fill("#password", PEOPLE[name]);
  await page.click("#in");
};
const signIn = async (page, address = "/", name = "alice") => {
  await page.goto(origin + address);
  await type(page, name);
  await page.locator("#who").waitFor();
};
/** The address that the provider would have sent the browser back to. */
const held = async (page, address, name) => {
  provider.hold = true;
  try {
    await page.goto(origin + address);
    await type(page, name);
    return new URL(await page.locator("#callback").innerText());
  } finally {
    provider.hold = false;
  }
};
const asks = async (page, address, why) => {
  await page.goto(origin + address);
  assert.ok(page.url().startsWith(provider.issuer), `${why}: it is at ${page.url()}`);
};
const stranger = async (context, page, why) => {
  assert.equal(await session(context), undefined, `${why}: a session`);
  assert.equal(await page.locator("#who").count(), 0, `${why}: the application is shown`);
};

let passed = 0, failed = 0;
const check = async (name, body) => {
  const contexts = [];
  /** A browser of somebody's own. */
  const person = async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    return [page, context];
  };
  provider.next = [];
  try {
    await body(...(await person()), person);
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}: ${String(error.message).split("\n").slice(0, 3).join(" ")}`);
  }
  for (const context of contexts) await context.close();
};

await check("a deep link survives the sign-in, which happens once", async (page) => {
  const [forms, redeemed] = [provider.forms, provider.redeemed];
  await signIn(page, "/reports/2026?q=a%20b&q=%C3%BC&empty=");
  assert.equal(page.url(), `${origin}/reports/2026?q=a%20b&q=%C3%BC&empty=`);
  assert.equal(await who(page), "alice");
  assert.equal(seen.at(-1).url, "/reports/2026?q=a%20b&q=%C3%BC&empty=");
  await page.goto(`${origin}/again`);
  assert.equal(await page.locator("#at").innerText(), "/again");
  assert.deepEqual([provider.forms - forms, provider.redeemed - redeemed], [1, 1]);
});

await check("two tabs sign in at the same time, each to its own page", async (page, context) => {
  const second = await context.newPage();
  await page.goto(`${origin}/one?tab=1`);
  await second.goto(`${origin}/two?tab=2`);
  await type(page);
  await page.locator("#who").waitFor();
  await type(second);
  await second.locator("#who").waitFor();
  assert.deepEqual([page.url(), second.url()], [`${origin}/one?tab=1`, `${origin}/two?tab=2`]);
  assert.deepEqual([await who(page), await who(second)], ["alice", "alice"]);
});

await check("the back button, and the form sent once more, are no dead end", async (page) => {
  let callback;
  page.on("request", (request) => { if (request.url().startsWith(origin) && request.url().includes("code=")) callback = request.url(); });
  await signIn(page, "/inbox");
  const before = await who(page);
  await page.goBack();
  if (await page.locator("#name").count()) {
    await type(page);
    await page.locator("#who").waitFor();
  }
  assert.equal(await who(page), before);
  // A bookmark of the wrong address.
  await page.goto(callback);
  await page.locator("#who").waitFor();
  assert.ok(page.url().startsWith(`${origin}/`) && !page.url().includes("code="), page.url());
});

await check("sign-out ends the session here and at the provider", async (page, context) => {
  const ended = provider.ended;
  await signIn(page, "/secret");
  await page.click("#out");
  await target.confirmSignOut(page);
  assert.equal(await session(context), undefined);
  if (target.endsAtProvider) assert.equal(provider.ended, ended + 1, "the provider was not told");
  const before = seen.length;
  await page.goBack().catch(() => {});
  await page.goto(`${origin}/secret`).catch(() => {});
  assert.ok(!page.url().startsWith(origin) || (await page.locator("#who").count()) === 0, "it is shown still");
  assert.equal(seen.length, before, "the application was asked");
});

await check("a cookie that was copied is worth nothing after sign-out", async (page, context, person) => {
  await signIn(page, "/secret");
  const copied = await ours(context);
  const jar = copied.map(pair).join("; ");
  assert.equal((await raw("/secret", jar)).who, "alice", "it is a copy");
  await page.click("#out");
  await target.confirmSignOut(page);
  const answer = await raw("/secret", jar);
  assert.ok(answer.status !== 200 && answer.who === undefined, `the copy is ${answer.who}`);
  const [thief, theirs] = await person();
  await plant(theirs, copied);
  await asks(thief, "/secret", "the copy");
});

await check("a cookie that was changed is no session", async (page, context) => {
  await signIn(page);
  const { name, value } = await session(context);
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const flipped = (at) => value.slice(0, at) + letters[(letters.indexOf(value[at]) + 1) % 64] + value.slice(at + 1);
  const changed = [0, Math.floor(value.length / 2), value.length - 1].map((at) => `${name}=${flipped(at)}`);
  changed.push(`${name}=${value.slice(0, -1)}`, `${name}=${value}A`, `${name}=${value}=`, `${name}=`, `${name.replace("__Host-", "")}x=${value}`, `${name}=${value.toUpperCase()}`);
  changed.push(`${name}=${value}; ${name}=${flipped(0)}`, `${name}=${flipped(0)}; ${name}=${value}`);
  for (const cookies of changed) {
    const answer = await raw("/x", cookies);
    assert.ok(answer.status !== 200 && answer.who === undefined, `${answer.status} ${answer.who} for ${cookies.replaceAll(value, "VALUE").slice(0, 99)}`);
  }
  assert.equal((await raw("/x", `${name}=${value}`)).who, "alice");
});

await check("a state that is missing, wrong or used is none", async (page, context) => {
  const callback = await held(page, "/deep");
  const spoilt = (change) => { const url = new URL(callback); change(url.searchParams); return url.href; };
  const state = callback.searchParams.get("state");
  for (const [why, url] of Object.entries({
    missing: spoilt((query) => query.delete("state")),
    empty: spoilt((query) => query.set("state", "")),
    wrong: spoilt((query) => query.set("state", state.slice(0, -1) + (state.endsWith("A") ? "B" : "A"))),
    another: spoilt((query) => query.set("state", `x${state}`)),
    twice: `${callback.href}&state=${encodeURIComponent(state)}`,
    "without a code": spoilt((query) => query.delete("code")),
  })) {
    const answer = await page.goto(url);
    assert.ok(answer.status() >= 400, `${why}: ${answer.status()}`);
    await stranger(context, page, why);
  }
  // Whatever of that ended the login: it goes on from the start.
  const good = await held(page, "/deep");
  const redeemed = provider.redeemed;
  await page.goto(good.href);
  assert.equal(page.url(), `${origin}/deep`);
  await context.clearCookies({ name: (await session(context)).name });
  const answer = await page.goto(good.href);
  assert.ok(answer.status() >= 400, `used: ${answer.status()}`);
  await stranger(context, page, "used");
  assert.equal(provider.redeemed, redeemed + 1);
});

await check("a login finishes in the browser that began it, with its own code", async (page, context, person) => {
  // Somebody else's finished login, sent to a victim as a link: they would work in the account of an enemy.
  const [theirs] = await person();
  const enemy = await held(theirs, "/", "mallory");
  const answer = await page.goto(enemy.href);
  assert.ok(answer.status() >= 400, String(answer.status()));
  await stranger(context, page, "a link of somebody else");
  // The victim's own login with the enemy's code.
  const mine = await held(page, "/", "alice");
  mine.searchParams.set("code", enemy.searchParams.get("code"));
  const injected = await page.goto(mine.href);
  assert.ok(injected.status() >= 400, String(injected.status()));
  await stranger(context, page, "somebody else's code");
});

await check("an error of the provider, or a forged answer, is a page of ours and no session", async (page, context, person) => {
  const asked = provider.asked;
  provider.next = [{ error: "access_denied", description: "<script>document.title='pwned'</script>" }];
  await page.goto(`${origin}/wanted`);
  const [answer] = await Promise.all([page.waitForResponse((one) => one.url().startsWith(origin)), type(page)]);
  assert.ok(answer.status() >= 400 && answer.status() < 500, `access_denied: ${answer.status()}`);
  assert.notEqual(await page.title(), "pwned");
  assert.equal(provider.asked, asked + 1, "it goes round in circles");
  await stranger(context, page, "access_denied");
  for (const [why, how] of Object.entries({
    nonce: { claims: { nonce: "another" } }, "no nonce": { claims: { nonce: undefined } }, issuer: { claims: { iss: "https://elsewhere.test" } },
    audience: { claims: { aud: "somebody-else" } }, expired: { claims: { exp: Math.floor(Date.now() / 1000) - 600 } },
    "another key": { key: 1 }, "no signature": { alg: "none" }, "the key as a secret": { alg: "HS256" }, "answered by another": { answeredBy: "https://elsewhere.test" },
  })) {
    const [fresh, theirs] = await person();
    provider.next = [how];
    await fresh.goto(`${origin}/wanted`);
    const [told] = await Promise.all([fresh.waitForResponse((one) => one.url().startsWith(origin)), type(fresh)]);
    assert.ok(told.status() >= 400, `${why}: ${told.status()}`);
    await stranger(theirs, fresh, why);
  }
  // And then it works, from the page that was shown.
  await page.goto(`${origin}/wanted`);
  await type(page);
  assert.equal(await who(page), "alice");
});

await check("a script of a page that is signed out gets 401 and no login", async (page, context) => {
  await signIn(page, "/page");
  const ask = (how) => page.evaluate(async (options) => {
    const answer = await fetch("/api/items", options);
    return [answer.status, answer.redirected];
  }, how);
  assert.deepEqual(await ask({}), [200, false]);
  await context.clearCookies();
  const [before, asked] = [seen.length, provider.asked];
  for (const how of [{ headers: { Accept: "application/json" } }, { headers: { Accept: "application/json" }, method: "POST", body: "x" }, { headers: { "X-Requested-With": "XMLHttpRequest", Accept: "application/json, text/html" } }, {}]) {
    assert.deepEqual(await ask(how), [401, false], JSON.stringify(how));
  }
  assert.deepEqual([seen.length, provider.asked], [before, asked]);
});

await check("cookies are bound to the host and to TLS, and nobody else sees them", async (page, context) => {
  await page.goto(`${origin}/`);
  const during = await ours(context);
  await type(page);
  await page.locator("#who").waitFor();
  const all = [...during, ...(await ours(context))];
  assert.ok(all.length > 1 && (await session(context)));
  for (const cookie of all) {
    assert.ok(cookie.name.startsWith("__Host-"), `${cookie.name}: its name binds it to nothing`);
    assert.deepEqual([cookie.secure, cookie.httpOnly, cookie.path, cookie.domain], [true, true, "/", "app.test"], cookie.name);
    assert.ok(["Lax", "Strict"].includes(cookie.sameSite), `${cookie.name}: SameSite=${cookie.sameSite}`);
  }
  assert.equal(await page.evaluate(() => document.cookie), "theirs=1");
  await page.reload();
  assert.equal(seen.at(-1).cookie, "theirs=1", "the application sees its own cookie and no other");
});

await check("a session that was planted does not become the victim's", async (page, context, person) => {
  const [enemy, theirs] = await person();
  await signIn(enemy, "/", "mallory");
  const planted = await ours(theirs);
  await plant(context, planted);
  await page.goto(origin + target.signIn("/mine"));
  await type(page, "alice");
  await page.locator("#who").waitFor();
  assert.equal(await who(page), "alice");
  const mine = await session(context);
  assert.ok(planted.every((cookie) => cookie.value !== mine.value), "the same cookie");
  const copy = await raw("/mine", planted.map(pair).join("; "));
  assert.notEqual(copy.who, "alice", "who planted it is the victim");
  // What there was before the login is no session after it, either.
  const [fresh, before] = await person();
  await fresh.goto(`${origin}/`);
  const early = (await ours(before)).map(pair).join("; ");
  await type(fresh);
  await fresh.locator("#who").waitFor();
  assert.equal((await raw("/", early)).who, undefined);
});

await check("nobody is sent elsewhere after a sign-in or a sign-out", async (page) => {
  const places = ["https://evil.test/", "//evil.test/", "/\\evil.test/", "\\\\evil.test", "/\t/evil.test", "https:evil.test", "///evil.test", "/%2f%2fevil.test", "/%5cevil.test", "http://app.test@evil.test/", "javascript:alert(1)", "/x/../..//evil.test", "https://app.test.evil.test/", "/%09/evil.test"];
  // From here on the provider knows the browser, and answers at once.
  await signIn(page);
  for (const place of places) {
    await page.goto(origin + target.signIn(place)).catch(() => {});
    assert.ok(page.url().startsWith(`${origin}/`), `${place}: ${page.url()}`);
  }
  for (const place of ["https://evil.test/", "//evil.test/"]) {
    const answer = await raw(`${target.signOut}?rd=${encodeURIComponent(place)}&redirect=${encodeURIComponent(place)}&post_logout_redirect_uri=${encodeURIComponent(place)}`);
    assert.ok(!/^(https?:)?\/\/evil/.test(answer.location ?? ""), `${place} after a sign-out: ${answer.location}`);
  }
  for (const way of ["//evil.test/%2e%2e", "/%2f%2fevil.test/"]) {
    const answer = await raw(way);
    assert.ok(!/^(https?:)?\/\/evil/.test(answer.location ?? ""), `${way}: ${answer.location}`);
  }
});

await check("pages of others cannot act for somebody, nor sign them out", async (page, context) => {
  await signIn(page, "/mine");
  const cookie = pair(await session(context));
  const acted = async (from, text, why) => {
    const [before, open] = [seen.filter((one) => one.who === "alice").length, sockets.length];
    evil = text;
    const visitor = await context.newPage();
    await visitor.goto(from).catch(() => {});
    await visitor.waitForFunction(() => !document.querySelector("#pending"), undefined, { timeout: 5_000 }).catch(() => {});
    await visitor.waitForLoadState().catch(() => {});
    await visitor.close();
    assert.equal((await raw("/still", cookie)).who, "alice", `${why}: signed out`);
    // The look itself is one.
    assert.equal(seen.filter((one) => one.who === "alice").length, before + 1, `${why}: it was done for alice`);
    assert.equal(sockets.length, open, `${why}: a WebSocket of alice`);
  };
  const form = (action) => `<form id=pending method=post action="${origin}${action}"><input name=note value=evil></form><script>document.forms[0].submit()</script>`;
  const socket = `<p id=pending></p><script>const one = new WebSocket("wss://app.test:${port}/live"); one.onerror = one.onmessage = one.onclose = () => document.querySelector("#pending")?.remove()</script>`;
  const scripted = `<p id=pending></p><script>fetch("${origin}/save", { method: "POST", mode: "no-cors", credentials: "include", body: "evil" }).finally(() => document.querySelector("#pending").remove())</script>`;
  const pictures = `<img src="${origin}${target.signOut}"><iframe src="${origin}${target.signOut}"></iframe>`;
  await acted(elsewhere, form("/save"), "a form");
  await acted(elsewhere, form(target.signOut), "a form that signs out");
  await acted(elsewhere, scripted, "a script");
  await acted(elsewhere, pictures, "a picture that signs out");
  await acted(elsewhere, socket, "a WebSocket");
  // Browsers send the cookie along from there.
  await acted(beside, form(target.signOut), "a form of a host beside ours that signs out");
  await acted(beside, pictures, "a picture of a host beside ours that signs out");
  await acted(beside, socket, "a WebSocket of a host beside ours");
  // What is ours works: the check would see it.
  const open = sockets.length;
  await page.evaluate(() => new Promise((done, no) => { const one = new WebSocket(`wss://${location.host}/live`); one.onmessage = done; one.onerror = no; }));
  assert.deepEqual(sockets.slice(open), [target.tells ? "alice" : undefined]);
});

await check("a login that took longer than ten minutes is over, and can be begun again", async (page, context) => {
  assert.ok(faked.LD_PRELOAD, "the clock cannot be moved");
  const callback = await held(page, "/late");
  // Not every look at the clock asks the system for it.
  const moved = async (to) => { fs.writeFileSync(clock, `${to}\n`); await new Promise((later) => setTimeout(later, 1_500)); };
  try {
    await moved("+660");
    const answer = await page.goto(callback.href);
    assert.equal(answer.status(), 400);
    await stranger(context, page, "late");
    assert.ok(await page.locator("a[href*='rd=%2Flate']").count(), "nothing leads back to where the person wanted to go");
  } finally {
    await moved("+0");
  }
  await page.click("a[href*='rd=%2Flate']");
  await type(page);
  await page.locator("#who").waitFor();
  assert.equal(page.url(), `${origin}/late`);
});

await browser.close();
proxy.kill("SIGKILL");
if (failed && process.env.SHOW_LOG) console.error(fs.readFileSync(path.join(dir, "stderr.log"), "utf8").slice(-5_000));
fs.rmSync(dir, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
