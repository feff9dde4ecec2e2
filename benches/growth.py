#!/usr/bin/env python3
"""How the instructions of a request grow with the size of a configuration; writes its table into README.md.

usage: benches/growth.py BINARY

Counted as in instructions.py, so other work on the machine does not matter. `hot` is a request with a verdict that is
remembered, `first sight` one whose token must be judged.
"""
import argparse, pathlib, re, subprocess, sys, time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import instructions

BEGIN, END = "<!-- growth -->\n", "<!-- /growth -->"


def routes(text, n, _file):
    more = "".join(f"      - {{ path: /area-{i}/*, access: required, require: {{ groups: [group-{i}] }} }}\n" for i in range(n))
    return text.replace("    routes:\n", "    routes:\n" + more)


def cohorts(text, n, _file):
    made = "cohorts:\n" + "".join(f"  c{i}: {{ subjects: [somebody-{i}] }}\n" for i in range(n))
    rules = "".join(f"    - {{ cohort: c{i}, to: new }}\n" for i in range(n))
    return text.replace("identity:", made + "identity:").replace("  assign:\n", "  assign:\n" + rules)


def providers(text, n, _file):
    keys = re.search(r"file: (\S+)/tls\.crt", text)[1] + "/jwks.json"
    more = "".join(f'  other{i}: {{ jwt: {{ issuer: "https://idp{i}.example", jwks: {{ file: {keys} }}, verify: {{ audiences: [app] }} }} }}\n' for i in range(n))
    return text.replace("identity:", more + "identity:")


def stored(kind):
    """Rows in the store, from before the start."""

    def fill(text, n, _file):
        state = pathlib.Path(re.search(r"state_dir: (\S+)", text)[1])
        state.mkdir(mode=0o700, exist_ok=True)
        store = state / "store.redb"
        subprocess.run([instructions.rig().targets.RIG / "fill", store, kind, str(n)], check=True)
        store.chmod(0o600)
        return text

    return fill


def measure(peers, binary, path, change, n):
    """Instructions per request."""
    plain = peers.targets.authferry

    def changed(*args):
        command = plain(*args)
        file = pathlib.Path(command[-1])
        file.write_text(change(file.read_text(), n, file))
        return command

    peers.targets.authferry = changed
    try:
        return round(max(instructions.totals(counted(peers, binary, path))) / COUNTED)
    finally:
        peers.targets.authferry = plain


def counted(peers, binary, path):
    """What callgrind wrote of requests alone: they are counted while they are under way, because a large store takes its time to start."""
    bench = peers.Bench(argparse.Namespace(authferry=binary, connections=1, distinct=instructions.TOKENS))
    try:
        out = bench.dir / "callgrind"
        bench.wrap = {"authferry": ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={out}"]}
        proxy = bench.start("authferry", "session" if path == "unknown-session" else path)
        heads, status = instructions.requests(bench, proxy, path, BEFORE + COUNTED)
        instructions.ask(proxy.port, heads[:BEFORE] or heads, BEFORE, status)
        counting(proxy.pid, "on")
        instructions.ask(proxy.port, heads[BEFORE:] or heads, COUNTED, status)
        counting(proxy.pid, "off")
    finally:
        bench.close()
    return bench


def counting(pid, word):
    subprocess.run(["callgrind_control", "-i", word, str(pid)], check=True, stdout=subprocess.DEVNULL)


# Requests before it is counted, and while it is.
BEFORE, COUNTED = 300, 1_000

# How much more the largest may cost than the smallest.
MOST = 1.05

# What grows, how, the sizes, and on which path.
CASES = [
    ("routes of an application", "hot", routes, [1, 100, 10_000]),
    ("cohorts and their rules", "hot", cohorts, [1, 30, 1_000]),
    ("cohorts and their rules", "first-sight", cohorts, [1, 30, 1_000]),
    ("providers beside the two", "hot", providers, [0, 5, 18]),
    ("providers beside the two", "first-sight", providers, [0, 5, 18]),
    ("links in the store", "hot", stored("links"), [100, 10_000, 1_000_000]),
    ("links in the store", "first-sight", stored("links"), [100, 10_000, 1_000_000]),
    ("sessions in the store", "session", stored("sessions"), [100, 10_000, 1_000_000]),
    ("sessions in the store", "unknown-session", stored("sessions"), [100, 10_000, 1_000_000]),
    ("revoked subjects", "hot", stored("revocations"), [100, 10_000, 1_000_000]),
    ("revoked subjects", "first-sight", stored("revocations"), [100, 10_000, 1_000_000]),
    ("revoked subjects", "session", stored("revocations"), [100, 10_000, 1_000_000]),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--only", default="", help="cases whose name begins so; the others keep their rows")
    args = parser.parse_args()
    peers = instructions.rig()
    peers.targets.install(["authferry"])
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    old, rest = rest.split(END)
    known = {tuple(line.split(" | ")[:2]): line + "\n" for line in old.splitlines()[2:]}
    lines = ["| what grows | path | size: instructions per request | greatest ÷ least | day | revision |\n", "|---|---|---|---|---|---|\n"]
    revision = subprocess.run(["git", "-C", HERE, "rev-parse", "--short=10", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    grown, day = [], time.strftime("%Y-%m-%d")
    for name, path, change, sizes in CASES:
        at = (f"| {name}", path.replace("-", " "))
        if name.startswith(args.only):
            counts = [measure(peers, args.binary, path, change, n) for n in sizes]
            cells = " · ".join(f"{n:,}: {count:,}" for n, count in zip(sizes, counts))
            ratio = max(counts) / min(counts)
            known[at] = f"{at[0]} | {at[1]} | {cells} | {ratio:.3f} | {day} | {revision} |\n"
            print(known[at], end="", flush=True)
            if MOST < ratio:
                grown.append(f"{name}, {at[1]}: {ratio:.3f}")
        if at in known:
            lines.append(known[at])
    readme.write_text(before + BEGIN + "".join(lines) + END + rest)
    if grown:
        sys.exit(f"above {MOST}: " + "; ".join(grown))


if __name__ == "__main__":
    main()
