"""Four generators of load, one after the other: every answer counts, and must be for whoever asked."""
import json
import os
import pathlib
import re
import subprocess

import world
from tools import Nginx, apt, go
from world import Proxy, bearer, sh

SECONDS = int(os.environ.get("LOAD_SECONDS", "5"))

# Says whom it was told of. Its log counts what it served.
BACK = """
  log_format short "$status";
  server { listen LISTEN; keepalive_requests 1000000; access_log ACCESS short; location / { default_type text/plain; return 200 "$http_x_remote_user\\n"; } }
"""

K6 = """
import http from 'k6/http';
import { check } from 'k6';
export const options = { vus: 10, duration: '%(seconds)ss', insecureSkipTLSVerify: true, thresholds: { http_req_failed: ['rate==0'], checks: ['rate==1'] } };
export default function () {
  const answer = http.get('%(url)s', { headers: { Host: 'app.test', Authorization: __ENV.BEARER } });
  check(answer, { 'is served': (one) => one.status === 200, 'is for alice': (one) => one.body === 'alice\\n' });
}
"""


def h2load(proxy, secret):
    """HTTP/2 within TLS, HTTP/2 without, HTTP/1.1."""
    said, good = [], True
    for name, words in {"h2": [f"https://127.0.0.1:{proxy.tls}/x"], "h2c": [f"http://127.0.0.1:{proxy.plain}/x"], "h1": ["--h1", f"http://127.0.0.1:{proxy.plain}/x"]}.items():
        _, text = sh(apt("h2load", "nghttp2-client"), "-c", "20", "-m", "10", "-D", SECONDS, "--warm-up-time=0", "-H", f"Authorization: {secret}", *words)
        done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
        kinds = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        if not done or not kinds:
            return False, f"{name}: {text[-300:]}"
        wrong = sum(int(done[n]) for n in (3, 4, 5)) + sum(int(kinds[n]) for n in (2, 3, 4))
        good &= wrong == 0 and int(kinds[1]) > 500
        said.append(f"{name} {kinds[1]} served, {wrong} errors")
    return good, ", ".join(said)


def wrk(proxy, secret):
    script = world.WORK / "wrk.lua"
    # Counted here: wrk itself counts only what is 400 or more.
    script.write_text("""local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0 end
function response(status, _, body) if status ~= 200 or body ~= "alice\\n" then wrong = wrong + 1 end end
function done(summary, _, _)
  local wrong = 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  local e = summary.errors
  io.write(string.format("SEEN %d %d\\n", summary.requests, wrong + e.connect + e.read + e.write + e.status + e.timeout))
end
""")
    _, text = sh(apt("wrk", "wrk"), "-t", "2", "-c", "50", "-d", f"{SECONDS}s", "-s", script, "-H", f"Authorization: {secret}", f"https://127.0.0.1:{proxy.tls}/x")
    found = re.search(r"SEEN (\d+) (\d+)", text)
    if not found:
        return False, text[-300:]
    return found[2] == "0" and int(found[1]) > 500, f"{found[1]} served, {found[2]} errors"


def vegeta(proxy, secret):
    program = go("github.com/tsenart/vegeta/v12@latest", "vegeta")
    attack = subprocess.run([program, "attack", "-duration", f"{SECONDS}s", "-rate", "300", "-insecure", "-header", f"Authorization: {secret}"],
                            input=f"GET https://127.0.0.1:{proxy.tls}/x\n".encode(), stdout=subprocess.PIPE, timeout=120)
    report = json.loads(subprocess.run([program, "report", "-type", "json"], input=attack.stdout, stdout=subprocess.PIPE, timeout=60).stdout)
    codes = report["status_codes"]
    good = report["success"] == 1 and not report["errors"] and set(codes) == {"200"} and report["requests"] == 300 * SECONDS
    return good, f"{codes.get('200', 0)} of {report['requests']} served, {len(report['errors'] or [])} kinds of error"


def k6(proxy, secret):
    program = go("go.k6.io/k6@latest", "k6")
    script, out = world.WORK / "k6.js", world.WORK / "k6.json"
    script.write_text(K6 % {"seconds": SECONDS, "url": f"https://127.0.0.1:{proxy.tls}/x"})
    code, text = sh(program, "run", "--quiet", "--no-usage-report", "--summary-export", out, script, env={**os.environ, "BEARER": secret})
    if not out.exists():
        return False, text[-300:]
    metrics = json.loads(out.read_text())["metrics"]
    count, failed, checks = metrics["http_reqs"]["count"], metrics["http_req_failed"], metrics["checks"]
    wrong = failed.get("passes", 0) + checks.get("fails", 0)
    return code == 0 and wrong == 0 and count > 500, f"{count} served, {wrong} errors"


def run():
    """Whether all of them see no error, and what each saw."""
    said, good = [], True
    log = world.WORK / "back.log"
    with Nginx(world.WORK / "back", BACK.replace("ACCESS", str(log))) as back, Proxy(f"http://127.0.0.1:{back.port}") as proxy:
        secret = bearer()["Authorization"]
        for tool in (h2load, wrk, vegeta, k6):
            fine, told = tool(proxy, secret)
            good &= fine
            said.append(f"{tool.__name__}: {told}")
        wrong = sum(line != "200" for line in log.read_text().split())
        good &= wrong == 0
        alive = proxy.process.poll() is None
    return good and alive, "; ".join(said) + f"; {wrong} other answers of the upstream"
