#!/usr/bin/env python3
"""How the instructions of a request grow with the size of a configuration; writes its table into README.md.

usage: benches/growth.py BINARY

Counted as in instructions.py, so other work on the machine does not matter. `hot` is a request with a verdict that is
remembered, `first sight` one whose token must be judged.
"""
import pathlib, re, sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import instructions

BEGIN, END = "<!-- growth -->\n", "<!-- /growth -->"


def routes(text, n):
    more = "".join(f"      - {{ path: /area-{i}/*, access: required, require: {{ groups: [group-{i}] }} }}\n" for i in range(n))
    return text.replace("    routes:\n", "    routes:\n" + more)


def cohorts(text, n):
    made = "cohorts:\n" + "".join(f"  c{i}: {{ subjects: [somebody-{i}] }}\n" for i in range(n))
    rules = "".join(f"    - {{ cohort: c{i}, to: new }}\n" for i in range(n))
    return text.replace("identity:", made + "identity:").replace("  assign:\n", "  assign:\n" + rules)


def providers(text, n):
    keys = re.search(r"file: (\S+)/tls\.crt", text)[1] + "/jwks.json"
    more = "".join(f'  other{i}: {{ jwt: {{ issuer: "https://idp{i}.example", jwks: {{ file: {keys} }}, verify: {{ audiences: [app] }} }} }}\n' for i in range(n))
    return text.replace("identity:", more + "identity:")


def measure(peers, binary, path, change, n):
    plain = peers.targets.authferry

    def changed(*args):
        command = plain(*args)
        file = pathlib.Path(command[-1])
        file.write_text(change(file.read_text(), n))
        return command

    peers.targets.authferry = changed
    try:
        return instructions.per_request(peers, binary, "authferry", path)
    finally:
        peers.targets.authferry = plain


# What grows, how, the sizes, and on which path.
CASES = [
    ("routes of an application", "hot", routes, [1, 100, 10_000]),
    ("cohorts and their rules", "hot", cohorts, [1, 30, 1_000]),
    ("cohorts and their rules", "first-sight", cohorts, [1, 30, 1_000]),
    ("providers beside the two", "hot", providers, [0, 5, 18]),
    ("providers beside the two", "first-sight", providers, [0, 5, 18]),
]


def main():
    binary = sys.argv[1]
    peers = instructions.rig()
    peers.targets.install(["authferry"])
    lines = ["| what grows | path | size: instructions per request | greatest ÷ least |\n", "|---|---|---|---|\n"]
    for name, path, change, sizes in CASES:
        counts = [measure(peers, binary, path, change, n) for n in sizes]
        cells = " · ".join(f"{n:,}: {count:,}" for n, count in zip(sizes, counts))
        lines.append(f"| {name} | {path.replace('-', ' ')} | {cells} | {max(counts) / min(counts):.3f} |\n")
        print(lines[-1], end="", flush=True)
    readme = HERE / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    readme.write_text(before + BEGIN + "".join(lines) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
