// Headless Chromium for `make move`: lines `{"who": NAME, "url": ADDRESS}` come in, one for each page that somebody opens in a
// browser of their own; lines `{"url": WHERE IT ENDED, "went": [ADDRESS, …]}` go out, with every document on the way.
//   node tests/integration/chromium.mjs PROGRAM
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";

const PATIENCE = 30_000;
const [program] = process.argv.slice(2);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), "authferry-move."));
const chromium = spawn(program, ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", `--user-data-dir=${dir}`],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [, , , into, from] = chromium.stdio;

// The protocol of its pipe: JSON, each message ended by a NUL.
let last = 0;
let rest = "";
const waiting = new Map();
const listeners = new Set();
from.setEncoding("utf8");
from.on("data", (part) => {
  const whole = (rest + part).split("\0");
  rest = whole.pop();
  for (const text of whole) {
    const message = JSON.parse(text);
    const asked = waiting.get(message.id);
    waiting.delete(message.id);
    if (asked) message.error ? asked.failed(new Error(message.error.message)) : asked.done(message.result);
    else for (const listener of listeners) listener(message);
  }
});
const call = (method, params = {}, sessionId = undefined) => new Promise((done, failed) => {
  last += 1;
  waiting.set(last, { done, failed });
  into.write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
});

const tabs = new Map();
const tabOf = async (who) => {
  if (!tabs.has(who)) {
    const { browserContextId } = await call("Target.createBrowserContext");
    const { targetId } = await call("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
    await call("Page.enable", {}, sessionId);
    await call("Network.enable", {}, sessionId);
    tabs.set(who, sessionId);
  }
  return tabs.get(who);
};

const open = async (who, url) => {
  const tab = await tabOf(who);
  const went = [];
  let listener;
  const loaded = new Promise((done, failed) => {
    const late = setTimeout(() => failed(new Error(`${url} does not load: ${went}`)), PATIENCE);
    listener = ({ sessionId, method, params }) => {
      if (sessionId !== tab) return;
      if (method === "Network.requestWillBeSent" && params.type === "Document") went.push(params.request.url);
      if (method === "Page.loadEventFired") { clearTimeout(late); done(); }
    };
    listeners.add(listener);
  });
  await call("Page.navigate", { url }, tab);
  await loaded;
  listeners.delete(listener);
  const { result } = await call("Runtime.evaluate", { expression: "location.href" }, tab);
  return { url: result.value, went };
};

const end = (code) => {
  chromium.kill("SIGKILL");
  chromium.once("exit", () => { fs.rmSync(dir, { recursive: true, force: true, maxRetries: 3 }); process.exit(code); });
};
chromium.on("error", (error) => { console.error(error.message); process.exit(1); });
const lines = readline.createInterface({ input: process.stdin });
for await (const line of lines) {
  const { who, url } = JSON.parse(line);
  try {
    console.log(JSON.stringify(await open(who, url)));
  } catch (error) {
    console.error(error.message);
    end(1);
    break;
  }
}
end(0);
