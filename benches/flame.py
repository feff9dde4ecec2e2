#!/usr/bin/env python3
"""Where the instructions of a hot request go, as a flame graph: writes hot.svg beside this file.

usage: benches/flame.py BINARY [--path hot]

Counted by callgrind only while the requests are under way, as in growth.py. Callgrind knows who calls whom, not whole stacks: what a function
costs that several call is shared among them as its calls' costs are. Functions that the compiler put into others are part of those.
"""
import argparse, html, pathlib, re, shutil, sys
from collections import defaultdict

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import growth
import instructions

ROOT = "proxy::service::serve"
WIDTH, HEIGHT = 1_200, 17
# What is narrower is not drawn, in shares of all.
LEAST = 0.0015


def read(text):
    """Own costs of functions, and of each call from one to another its inclusive cost and count."""
    own, calls, names = defaultdict(int), defaultdict(lambda: [0, 0]), {}

    def named(word):
        number, _, name = word.partition(" ")
        if name:
            names[number] = name
        return names[number]

    function = callee = count = None
    for line in text.splitlines():
        if line.startswith("fn="):
            function = named(line[3:])
        elif line.startswith("cfn="):
            callee = named(line[4:])
        elif line.startswith("calls="):
            count = int(line[6:].split()[0])
        elif re.match(r"[+\-*\d]", line):
            cost = int((line.split() + ["0"])[1])
            if count is None:
                own[function] += cost
            else:
                calls[function, callee][0] += cost
                calls[function, callee][1] += count
                count = None
    return own, calls


def short(name):
    """A name without its types: `a::b<c>::d` becomes `b::d`."""
    name = re.sub(r"'\d+$", "", name)
    if implemented := re.match(r"<(.*) as (.*?)>::(.*)", name):
        name = f"{implemented[1]}::{implemented[3]}"
    depth, plain = 0, ""
    for at, letter in enumerate(name):
        depth += letter == "<"
        if not depth:
            plain += letter
        depth -= letter == ">" and name[at - 1] != "-"
    plain = plain.replace("{{closure}}", "…").replace("{closure#0}", "…").replace("::::", "::").strip(":")
    return "::".join(plain.split("::")[-3:]) or name[:40]


def grow(function, cost, own, calls, path):
    """A tree: name, cost, children."""
    out = {callee: spent for (caller, callee), (spent, _) in calls.items() if caller == function and callee not in path}
    whole = own[function] + sum(out.values())
    children = []
    for callee, spent in sorted(out.items()):
        share = cost * spent / whole if whole else 0
        if LEAST < share / TOTAL:
            children.append(grow(callee, share, own, calls, path | {callee}))
    return function, cost, children


def draw(tree, count):
    boxes = []

    def place(node, x, level):
        name, cost, children = node
        boxes.append((x, level, cost, name))
        for child in sorted(children, key=lambda child: -child[1]):
            place(child, x, level + 1)
            x += child[1]

    place(tree, 0, 0)
    total, levels = tree[1], max(level for _, level, _, _ in boxes) + 1
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {levels * HEIGHT + 24}" font-family="monospace" font-size="11">']
    out.append(f'<text x="4" y="14">{round(total / count):,} instructions of a request; the root is on top</text>')
    for x, level, cost, name in boxes:
        left, wide, top = x / total * WIDTH, cost / total * WIDTH, level * HEIGHT + 22
        ours = "authferry" in name
        colour = "#f0b07a" if ours else "#a9c4dc"
        label = short(name)
        shown = label if 6.7 * len(label) < wide - 4 else label[: max(0, int((wide - 8) / 6.7))]
        out.append(
            f'<g><title>{html.escape(name)}: {round(cost / count):,} ({cost / total:.1%})</title><rect x="{left:.1f}" y="{top}" width="{max(wide - 0.5, 0.4):.1f}" '
            f'height="{HEIGHT - 1}" fill="{colour}"/><text x="{left + 3:.1f}" y="{top + 12}">{html.escape(shown)}</text></g>'
        )
    return "\n".join([*out, "</svg>\n"])


def main():
    global TOTAL
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--path", default="hot")
    args = parser.parse_args()
    peers = instructions.rig()
    peers.targets.install(["authferry"])
    bench = growth.counted(peers, args.binary, args.path)
    texts = [file.read_text(errors="replace") for file in bench.dir.glob("callgrind-*")]
    shutil.rmtree(bench.dir, ignore_errors=True)
    text = max((text for text in texts if ROOT in text), key=lambda text: int(re.search(r"^totals: (\d+)", text, re.M)[1]))
    own, calls = read(text)
    TOTAL = sum(own.values())
    called = {callee for _, callee in calls}
    roots = [function for function in {*own, *(caller for caller, _ in calls)} if function not in called]
    spent = {root: own[root] + sum(cost for (caller, _), (cost, _) in calls.items() if caller == root) for root in roots}
    tree = ("all", sum(spent.values()), [grow(root, spent[root], own, calls, {root}) for root in roots if LEAST < spent[root] / TOTAL])
    (HERE / f"{args.path}.svg").write_text(draw(tree, growth.COUNTED))
    for function, cost in sorted(own.items(), key=lambda item: -item[1])[:40]:
        print(f"{cost / growth.COUNTED:>10,.0f}  {function[:150]}")
    reads = sum(count for (_, callee), (_, count) in calls.items() if "clock_gettime" in callee and "vdso" not in callee)
    print(f"{reads / growth.COUNTED:.2f} readings of the clock for each request")


if __name__ == "__main__":
    main()
