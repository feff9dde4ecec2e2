// The console in a real browser: light and dark, wide and on a phone, by keyboard, without script, and from another site.
//   node tests/real/console.mjs PROGRAM [DIRECTORY-FOR-PICTURES]      needs CLIENT_MODULES with playwright-core and axe-core, and chromium
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

const modules = createRequire(path.join(process.env.CLIENT_MODULES, "node_modules/"));
const { chromium } = modules("playwright-core");
const axe = fs.readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const [program, pictures] = process.argv.slice(2);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-console."));
const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text); return path.join(dir, name); };

const provider = (name) => `
  ${name}: { jwt: { issuer: "https://${name}.test", verify: { algs: [HS256], audiences: [app] }, jwks: { shared_secret: { file: "${file(`${name}.secret`, name.repeat(32).slice(0, 64))}" } }, claims: { subject: sub }, authoritative: { claims: [sub] } } }`;
const head = (state) => `version: 1
server:
  listen: 127.0.0.1:0
  admin: { listen: 127.0.0.1:0, token: { file: "${file("token", "a-token-of-this-test-0123456789")}" } }
  state_dir: ${dir}/${state}
`;
const short = file("authferry.yaml", `${head("state")}providers:${provider("legacy")}${provider("modern")}
identity: { canonical: { template: "hr:{subject}" } }
apps:
  crm: { hosts: [app.test], upstream: { url: "http://127.0.0.1:9" }, identity_headers: { X-Remote-User: "{subject}" } }
rollout: { from: legacy, to: modern, bucketing: { salt: x }, assign: [{ percent: 25, to: modern }] }
`);
// Stages, a controller, guards, second opinions: what the console is for. The password is `good`; \`bob\` may do more on the new side.
const hash = "$2y$04$ZHYgCpbKNWMlXlaPtR430.WN8Ee7blxSckxTDyLcqwt1Rmm6OsOvC";
const people = (name, ...lines) => file(name, lines.map(([who, groups]) => `${who}:${hash}:${groups}\n`).join(""));
const basic = (name, list) => `\n  ${name}: { basic: { file: "${list}", authoritative: { claims: [username] } } }`;
const staged = file("staged.yaml", `${head("staged")}providers:${basic("old", people("old", ["ann", "it"], ["bob", "it"]))}${basic("directory", people("directory", ["ann", "it"], ["bob", "it,boss"]))}${provider("new")}
identity: { canonical: { template: "hr:{subject}" } }
apps:
  crm: { hosts: [app.test], upstream: { url: "http://127.0.0.1:9" }, identity_headers: { X-Remote-User: "{subject}", X-Remote-Groups: "{groups|join:,}" } }
rollouts:
  crm-2026:
    apps: [crm]
    from: old
    to: new
    bucketing: { salt: x }
    control: controller
    guardrails: standard
    stages:
      - { id: 1-shadow, mode: shadow, promote: { require: { compared_subjects: 2, critical: 0 } } }
      - { id: 2-ramp, mode: canary, assign: [{ ramp: true, to: new }], ramp: [{ percent: 5, bake: 1d, min_units: 50 }, { percent: 98, bake: 1d }] }
guardrails: { standard: { no_data: wait, guards: [{ id: login, bad: [failed, abandoned] }, { id: critical, divergences: [groups_extra, subject_mismatch], max: 3, on_trip: hold }] } }
shadow:
  crm: { oracles: [{ method: dual_verify, credential: basic, provider: directory }] }
`);

const log = fs.openSync(path.join(dir, "stderr.log"), "w");
const started = [];
const end = async (code) => {
  for (const proxy of started) proxy.kill("SIGKILL");
  if (code) console.error(fs.readFileSync(path.join(dir, "stderr.log"), "utf8"));
  fs.rmSync(dir, { recursive: true, force: true });
  process.exit(code);
};
// Where operators ask, and where people do.
const start = async (config) => {
  const proxy = spawn(program, ["run", "--config", config], { stdio: ["ignore", "pipe", log] });
  started.push(proxy);
  return new Promise((done, failed) => {
    let said = "";
    proxy.stdout.on("data", (part) => {
      said += part;
      const [admin, listen] = [said.match(/admin=(\S+)/), said.match(/public=(\S+)/)];
      if (admin && listen) done([`http://${admin[1]}`, listen[1]]);
    });
    proxy.on("exit", () => failed(new Error("it did not start")));
  }).catch(async (error) => { console.error(error.message); await end(1); });
};
const [origin] = await start(short);
const position = async () => {
  const text = await (await fetch(`${origin}/metrics`)).text();
  return text.match(/authferry_kill_switch\{scope="global",position="(\w+)"\} 1/)[1];
};
const until = async (what, holds) => {
  for (const from = Date.now(); Date.now() - from < 20000;) { if (await holds()) return; await new Promise((next) => setTimeout(next, 50)); }
  assert.fail(`it never happened: ${what}`);
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const httpCredentials = { username: "operator", password: "a-token-of-this-test-0123456789", origin };
const test = async (name, options, body) => {
  const context = await browser.newContext({ httpCredentials, ...options });
  const page = await context.newPage();
  const trouble = [];
  page.on("console", (said) => { if (said.type() === "error") trouble.push(said.text()); });
  page.on("pageerror", (error) => trouble.push(String(error)));
  page.on("request", (asked) => { if (!asked.url().startsWith(options.httpCredentials?.origin ?? origin)) trouble.push(asked.url()); });
  await body(page, context, trouble);
  await context.close();
  console.log(`ok ${name}`);
};

try {
  await test("without the token there is no page", { httpCredentials: { ...httpCredentials, password: "wrong" } }, async (page) => {
    const answer = await page.goto(`${origin}/console`).catch(() => null);
    assert.ok(!answer || answer.status() === 401);
    assert.equal(await page.locator("form").count(), 0);
  });

  const looks = async (name, at, shows) => {
    for (const colorScheme of ["light", "dark"]) for (const viewport of [{ width: 1280, height: 900 }, { width: 390, height: 844 }]) {
      const options = { colorScheme, viewport, httpCredentials: { ...httpCredentials, origin: at } };
      await test(`${name}, ${colorScheme}, ${viewport.width} wide: readable, and nothing from elsewhere`, options, async (page, _, trouble) => {
        await page.goto(`${at}/console`);
        const text = await page.locator("#live").innerText();
        for (const what of shows) assert.match(text, what);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, "the page scrolls sideways");
        const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const bright = Math.max(...paper.match(/\d+/g).slice(0, 3).map(Number)) > 128;
        assert.equal(bright, colorScheme === "light", paper);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => axe.run());
        assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`), []);
        assert.deepEqual(trouble, []);
        if (pictures) await page.screenshot({ path: path.join(pictures, `console-${name}-${colorScheme}-${viewport.width}.png`), fullPage: true });
      });
    }
  };
  await looks("one percent", origin, [/legacy → modern[\s\S]*25 %/]);

  await test("it shows what changes, without being loaded again", {}, async (page, _, trouble) => {
    await page.goto(`${origin}/console`);
    await page.evaluate(() => { window.sameDocument = true; });
    await page.fill("input[name=reason]", "half a sen");
    fs.writeFileSync(path.join(dir, "state/kill"), "freeze\n");
    await until("freeze is shown", async () => /Kill switch\s+freeze/.test(await page.locator("#live").innerText()));
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    assert.equal(await page.inputValue("input[name=reason]"), "half a sen");
    fs.rmSync(path.join(dir, "state/kill"));
    await until("off again", async () => (await position()) === "off");
    assert.deepEqual(trouble, []);
  });

  await test("the switch is moved by keyboard alone", {}, async (page, _, trouble) => {
    await page.goto(`${origin}/console`);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    // Orders come first, then the switch.
    assert.equal(await page.evaluate(() => document.activeElement.name), "rollout");
    for (let presses = 0; presses < 12 && (await page.evaluate(() => document.activeElement.name)) !== "position"; presses++)
      await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.name), "position");
    for (let presses = 0; presses < 5 && (await page.evaluate(() => document.querySelector("input[name=position]:checked")?.value)) !== "legacy"; presses++)
      await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Tab");
    await page.keyboard.type("drill by keyboard");
    await Promise.all([page.waitForURL(`${origin}/console#done`), page.keyboard.press("Enter")]);
    assert.equal(await position(), "legacy");
    assert.ok(await page.locator("#done").isVisible());
    assert.match(await page.locator("#live").innerText(), /drill by keyboard/);
    assert.deepEqual(trouble, []);
  });

  await test("no reason, no move", {}, async (page) => {
    await page.goto(`${origin}/console`);
    await page.check("input[value=deny]");
    await page.locator("form", { hasText: "Move the switch" }).evaluate((form) => { form.noValidate = true; });
    await page.click("text=Move the switch");
    await page.locator("[role=alert]").waitFor();
    assert.match(await page.locator("[role=alert]").innerText(), /say why/);
    assert.equal(await position(), "legacy");
  });

  await test("it works without script", { javaScriptEnabled: false }, async (page) => {
    await page.goto(`${origin}/console`);
    await page.check("input[value=off]");
    await page.locator("form", { hasText: "Move the switch" }).locator("input[name=reason]").fill("without script");
    await Promise.all([page.waitForURL(`${origin}/console#done`), page.click("text=Move the switch")]);
    assert.equal(await position(), "off");
    assert.match(await page.locator("#live").innerText(), /without script/);
  });

  const evil = http.createServer((_, answer) => {
    answer.setHeader("Content-Type", "text/html");
    answer.end(`<form method=post action="${origin}/console"><input name=do value=kill><input name=position value=deny><input name=reason value=x></form><script>document.forms[0].submit()</script>`);
  });
  await new Promise((up) => evil.listen(0, "127.0.0.1", up));
  await test("another site moves nothing, although the browser knows the password", {}, async (page) => {
    await page.goto(`${origin}/console`);
    await page.goto(`http://127.0.0.1:${evil.address().port}/`, { waitUntil: "commit" });
    await page.waitForURL(`${origin}/console`);
    assert.match(await page.locator("body").innerText(), /on behalf of a web page/);
    assert.equal(await position(), "off");
  });
  evil.close();

  const [driven, listen] = await start(staged);
  const ledger = () => fs.readFileSync(path.join(dir, "staged/decisions.jsonl"), "utf8");
  const order = async (page, command, reason) => {
    await page.goto(`${driven}/console`);
    const form = page.locator("form", { hasText: "Order it" });
    await form.locator("select[name=rollout]").selectOption("crm-2026");
    await form.locator(`input[value=${command}]`).check();
    await form.locator("input[name=reason]").fill(reason);
    await Promise.all([page.waitForURL(`${driven}/console#done`), form.locator("button").click()]);
    return page.locator("#live").innerText();
  };
  const there = { httpCredentials: { ...httpCredentials, origin: driven } };
  await test("a rollout is started by its form, and second opinions are told by class", there, async (page, _, trouble) => {
    assert.match(await order(page, "start", "IAM-1: begin"), /State\s+baking[\s\S]*1-shadow/);
    for (const who of ["ann", "bob"])
      await new Promise((done, failed) => http.get({ host: "127.0.0.1", port: listen.split(":").pop(), path: "/", headers: { host: "app.test", authorization: `Basic ${Buffer.from(`${who}:good`).toString("base64")}` } }, (answer) => { answer.resume(); answer.on("end", done); }).on("error", failed));
    const told = async (...words) => { await page.goto(`${driven}/console`); const text = await page.locator("#live").innerText(); return words.every((word) => word.test(text)); };
    await until("the difference is shown, and what it means for the next step", () => told(/groups_extra/, /1 critical differences, where 0 may be/));
    assert.deepEqual(trouble, []);
  });
  // Past the stage that the difference holds up: by the command of an emergency.
  await new Promise((done) => spawn(program, ["ctl", "set-stage", "2-ramp/5", "--reason", "IAM-2", "--rollout", "crm-2026"], { env: { ...process.env, AUTHFERRY_STATE_DIR: path.join(dir, "staged") }, stdio: ["ignore", log, log] }).on("exit", done));
  const asked = { headers: { authorization: `Basic ${Buffer.from(`${httpCredentials.username}:${httpCredentials.password}`).toString("base64")}` } };
  await until("the guards of the step are read", async () => {
    const text = await (await fetch(`${driven}/console`, asked)).text();
    return /Guards in this step/.test(text) && /0, trips above 3/.test(text);
  });
  const shows = [/State\s+baking/i, /2-ramp\/5/, /Guards in this step[\s\S]*login/i, /Limits in this step[\s\S]*critical[\s\S]*0 of 3/i, /People who have moved\s+0/i, /groups_extra/, /of 50 people/];
  await looks("stages", driven, shows);
  await test("it is paused, and sent back, by forms with a reason", there, async (page, _, trouble) => {
    assert.match(await order(page, "pause", "IAM-3: a look"), /State\s+held/i);
    assert.match(await order(page, "resume", "IAM-4: seen"), /State\s+baking/i);
    assert.match(await order(page, "rollback", "IAM-5: back"), /State\s+rolled_back[\s\S]*IAM-5: back/i);
    for (const reason of ["IAM-1: begin", "IAM-3: a look", "IAM-5: back"]) assert.ok(ledger().includes(reason), reason);
    assert.deepEqual(trouble, []);
  });
  await looks("gone back", driven, [/rolled_back/i]);
  await browser.close();
} catch (error) {
  console.error(error);
  await browser.close();
  await end(1);
}
await end(0);
