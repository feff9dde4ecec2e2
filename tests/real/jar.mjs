// A browser of sorts: cookies by authority, redirects followed, sign-in forms filled in. Without scripts.
import http from "node:http";

const HOPS = 15;
const attribute = (tag, name) => new RegExp(`\\s${name}=(?:"([^"]*)"|'([^']*)'|([^\\s>]*))`, "i").exec(tag)?.slice(1).find((value) => value !== undefined)?.replaceAll("&amp;", "&");

/** The form that asks for a password: where it goes, and what is sent. */
const filled = (html, credentials) => {
  for (const [form, opening] of html.matchAll(/(<form[^>]*>).*?<\/form>/gis)) {
    const fields = [...form.matchAll(/<input[^>]*>/gis)].map(([tag]) => ({ name: attribute(tag, "name"), type: attribute(tag, "type") ?? "text", value: attribute(tag, "value") ?? "" }));
    if (!fields.some(({ type }) => type === "password")) continue;
    const sent = fields.filter(({ name, type }) => name && type !== "submit" && type !== "checkbox").map(({ name, value }) => [name, credentials[name] ?? value]);
    return { action: attribute(opening, "action") ?? "", body: new URLSearchParams(sent).toString() };
  }
};

export class Jar {
  #cookies = new Map();
  #watch;

  /** `watch` is told the method and the address of every request. */
  constructor(watch) {
    this.#watch = watch;
  }

  /** Opens a page and goes wherever it leads; `credentials` fill in the first form that asks for a password. Says where it ended. */
  async open(url, credentials) {
    let [at, body, typed] = [url, undefined, false];
    for (let hop = 0; hop < HOPS; hop += 1) {
      const { status, location, text } = await this.#fetch(at, body);
      body = undefined;
      if (location && [301, 302, 303, 307, 308].includes(status)) {
        at = new URL(location, at).href;
        continue;
      }
      const form = typed ? undefined : filled(text, credentials);
      if (!form) {
        if (status !== 200) throw new Error(`${at}: ${status} ${text.slice(0, 2_000)}`);
        return at;
      }
      typed = true;
      body = form.body;
      at = new URL(form.action, at).href;
    }
    throw new Error(`${url} goes round in circles, last at ${at}`);
  }

  /** Cookies of one authority for another, as browsers have them where only the port differs. */
  copy(from, to) {
    this.#cookies.set(to, new Map([...this.#cookies.get(to) ?? [], ...this.#cookies.get(from)]));
  }

  #fetch(url, body) {
    const { host, origin } = new URL(url);
    if (!this.#cookies.has(host)) this.#cookies.set(host, new Map());
    const jar = this.#cookies.get(host);
    const method = body === undefined ? "GET" : "POST";
    const headers = { accept: "text/html,application/xhtml+xml", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", ...(body === undefined ? {} : { "content-type": "application/x-www-form-urlencoded", origin }) };
    if (jar.size) headers.cookie = [...jar].map((pair) => pair.join("=")).join("; ");
    this.#watch(method, url);
    return new Promise((done, failed) => {
      const request = http.request(url, { method, headers }, (answer) => {
        for (const set of answer.headers["set-cookie"] ?? []) {
          const [, name, value] = /^([^=]+)=([^;]*)/.exec(set);
          if (!value || /max-age=0|01 Jan 1970/i.test(set)) jar.delete(name);
          else jar.set(name, value);
        }
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (part) => { text += part; });
        answer.on("end", () => done({ status: answer.statusCode, location: answer.headers.location, text }));
      });
      request.on("error", failed);
      request.end(body);
    });
  }
}
