#!/usr/bin/env python3
"""What the process as a whole costs: start to ready, idle memory, a reload of 1,000 routes. Medians of nine runs.

    cargo build --release && benches/process.py [target/release/authferry]
"""
import http.client, json, os, pathlib, statistics, subprocess, sys, tempfile, time

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/authferry"
RUNS = 9
ROUTES = 1_000


def config(directory: pathlib.Path, routes: int, area: str = "area") -> str:
    lines = "\n".join(f"      - {{ path: /{area}-{i}/*, access: required, require: {{ groups: [group-{i}] }} }}" for i in range(routes))
    return f"""version: 1
server:
  listen: 127.0.0.1:0
  admin: {{ listen: 127.0.0.1:0, token: {{ file: "{directory}/admin.token" }} }}
  state_dir: "{directory}/state"
providers:
  old: {{ jwt: {{ issuer: "https://old.example", jwks: {{ file: "{directory}/keys.json" }}, verify: {{ audiences: [app] }}, claims: {{ subject: sub, groups: groups }} }} }}
  new: {{ jwt: {{ issuer: "https://new.example", jwks: {{ file: "{directory}/keys.json" }}, verify: {{ audiences: [app] }}, claims: {{ subject: sub, groups: groups }} }} }}
apps:
  app:
    hosts: [app.test]
    upstream: {{ url: "http://127.0.0.1:9" }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
    routes:
{lines}
      - {{ path: "/*", access: required }}
rollout: {{ from: old, to: new, bucketing: {{ salt: bench }}, assign: [{{ percent: 10, to: new }}] }}
"""


def start(directory: pathlib.Path):
    began = time.monotonic()
    process = subprocess.Popen([BINARY, "run", "--config", str(directory / "authferry.yaml")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    took = time.monotonic() - began
    if not line.startswith("ready "):
        sys.exit(f"{BINARY} did not become ready")
    return process, took, dict(field.split("=", 1) for field in line.split()[1:])["admin"]


def rss_kib(pid: int) -> int:
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


def reload(admin: str) -> float | None:
    """How long a reload takes; None: the watcher was first, and nothing was left to do."""
    connection = http.client.HTTPConnection(admin, timeout=10)
    began = time.monotonic()
    connection.request("POST", "/-/reload", headers={"Authorization": "Bearer bench-token"})
    answer = connection.getresponse()
    body = answer.read()
    took = time.monotonic() - began
    if answer.status != 200:
        sys.exit(f"reload: {answer.status} {body!r}")
    return took if json.loads(body)["outcome"] == "applied" else None


def main():
    ready, memory, reloads = [], [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            (directory / "admin.token").write_text("bench-token")
            (directory / "keys.json").write_text('{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}')
            path = directory / "authferry.yaml"
            path.write_text(config(directory, 10))
            process, took, admin = start(directory)
            try:
                ready.append(took)
                time.sleep(1)  # what the start left behind settles
                memory.append(rss_kib(process.pid))
                for attempt in range(10):
                    path.write_text(config(directory, ROUTES, f"area{attempt}"))
                    took = reload(admin)
                    if took is not None:
                        reloads.append(took)
                        break
                else:
                    sys.exit("the watcher was always first")
            finally:
                process.terminate()
                process.wait()
    rows = [("start to ready", [t * 1000 for t in ready], "ms", 500), ("idle memory", [m / 1024 for m in memory], "MiB", 40), (f"reload of {ROUTES} routes", [t * 1000 for t in reloads], "ms", 100)]
    print(f"{'figure':<24}{'median':>10}{'min':>10}{'max':>10}   bound")
    for name, values, unit, bound in rows:
        print(f"{name:<24}{statistics.median(values):>10.1f}{min(values):>10.1f}{max(values):>10.1f}   {bound} {unit}")
    if any(bound < statistics.median(values) for _, values, _, bound in rows):
        sys.exit("a median is above its bound")


if __name__ == "__main__":
    main()
