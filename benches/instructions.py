#!/usr/bin/env python3
"""Instructions of the worker per request, counted by callgrind: the same on a quiet and on a busy machine.

usage: benches/instructions.py BINARY [--paths hot,…] [--record REASON]

A path is held to its ratio to the bare hyper proxy (`exchange-warm`, a token that we mint, and `exchange-warm-provider`, one of a provider, to 1.30 of `hot`, those with second opinions at full budget to 1.02 of the same without), counted in the same run, so that another processor, whose libraries take
other branches, gives nearly the same result. Fails above +3 % of the last entry of instructions.json; --record adds an entry
with its reason, in the change that moved the counts. Callgrind knows no SHA extensions, so the digest of a token counts more
here than it costs.
"""
import argparse, importlib.machinery, importlib.util, json, pathlib, re, secrets, shutil, socket, subprocess, sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "instructions.json"
FEW, MANY = 600, 2_600
TOKENS = 100
TOLERANCE = 0.03
PATHS = ["hot", "distinct", "session", "exchange-warm", "exchange-warm-provider", "hot-shadow", "first-sight-shadow", "first-sight-sample"]
# What an entry holds, beside what is held to a bound. `first-sight` are a hundred tokens in turns while sixteen verdicts may be
# remembered, so that some of them are; `new-token` is another token each time, of a hundred people who are known; `new-person`
# somebody whom nobody has seen, with what the thread does that writes them down; then a bad signature again and again, and one
# that nobody has seen.
ALL = ["floor", *PATHS, "first-sight", "new-token", "new-person", "refuse", "refuse-distinct"]
# What is held to another path of the same run: a request whose application gets an exchanged token that is kept, to one with a token
# that is known; a request of which others may be asked for a second opinion, to one of which they are not, where the verdict is kept
# and where each token is judged and offered anew.
BESIDE = {"exchange-warm": ("hot", 1.30), "exchange-warm-provider": ("hot", 1.30), "hot-shadow": ("hot", 1.02), "first-sight-shadow": ("first-sight", 1.02), "first-sight-sample": ("first-sight", 1.02)}


def rig():
    loader = importlib.machinery.SourceFileLoader("peers", str(HERE / "peers/run"))
    spec = importlib.util.spec_from_loader("peers", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def ask(port, heads, count, status=200):
    """One connection, one request after the other, the heads in turn."""
    begin = f"HTTP/1.1 {status} ".encode()
    with socket.create_connection(("127.0.0.1", port)) as stream:
        for n in range(count):
            stream.sendall(heads[n % len(heads)])
            answer = b""
            while not is_whole(answer):
                piece = stream.recv(65536)
                if not piece or not (answer + piece).startswith(begin):
                    sys.exit(f"not an answer: {(answer + piece)[:200]!r}")
                answer += piece


def is_whole(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    return bool(end) and int(length[1]) <= len(body)


def total(peers, binary, target, path, count):
    """What the thread that serves executed in its life, with `count` requests at its end."""
    # Each of them once: none may come again.
    bench = peers.Bench(argparse.Namespace(authferry=binary, connections=1, distinct=count if path == "refuse-distinct" else TOKENS))
    try:
        out = bench.dir / "callgrind"
        bench.wrap = {target: ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}"]}
        proxy = bench.start(target, path)
        heads, status = requests(bench, proxy, path, count)
        ask(proxy.port, heads, count, status)
    finally:
        bench.close()
    return max(totals(bench, target, path))


def requests(bench, proxy, path, count):
    """The heads of a path, and the status of their answers."""
    if path == "unknown-session":
        name = proxy.credential["Cookie"].split("=")[0]
        return [proxy.head(("Cookie", f"{name}={secrets.token_urlsafe(32)}")) for _ in range(count)], 401
    if path.startswith("new-"):
        tokens = (bench.world.sign("RS256", TOKENS + n) if path == "new-person" else bench.world.sign("RS256", n % TOKENS, jti=f"{n:032x}") for n in range(count))
        return [proxy.head(("Authorization", "Bearer " + token)) for token in tokens], 200
    if path.startswith("refuse"):
        tokens = bench.world.lines("bad-distinct" if path == "refuse-distinct" else "bad")
        return [proxy.head(("Authorization", "Bearer " + token)) for token in tokens], 401
    if path.startswith(("distinct", "first-sight")):
        tokens = bench.world.file("RS256").read_text().split()
        return [proxy.head(("Authorization", "Bearer " + token)) for token in tokens], 200
    return [proxy.head()], 200


def totals(bench, target="authferry", path="hot"):
    """What each thread that serves has executed; of `new-person`, with the thread that writes the store."""
    found, written = [], 0
    for file in bench.dir.glob("callgrind-*"):
        text = file.read_text(errors="replace")
        executed = int(re.search(r"^totals: (\d+)", text, re.M)[1])
        if target.startswith("hyper") or "proxy::service::serve" in text:
            found.append(executed)
        elif path == "new-person" and "store::embedded::writer" in text:
            written += executed
    shutil.rmtree(bench.dir, ignore_errors=True)
    return [executed + written for executed in found]


def per_request(peers, binary, target, path):
    few, many = (total(peers, binary, target, path, count) for count in (FEW, MANY))
    return round((many - few) / (MANY - FEW))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--paths", type=lambda text: text.split(","), default=PATHS)
    parser.add_argument("--record", metavar="REASON")
    args = parser.parse_args()
    peers = rig()
    peers.targets.install(["authferry", "hyper-floor"])
    counted = {"floor": per_request(peers, args.binary, "hyper-floor", "hot")}
    if args.record or "new-token" in args.paths:
        counted["hyper-verify"] = per_request(peers, args.binary, "hyper-verify", "new-token")
    for path in [*args.paths, *(ALL if args.record else []), *(BESIDE[path][0] for path in args.paths if path in BESIDE)]:
        if path not in counted:
            counted[path] = per_request(peers, args.binary, "authferry", path)
    entries = json.loads(KEPT.read_text())
    known = entries[-1]
    failed = False
    for path in args.paths:
        ratio = counted[path] / counted["floor"]
        if path in BESIDE:
            other, most = BESIDE[path]
            beside = counted[path] / counted[other]
            failed |= most < beside
            print(f"{path}: {counted[path]} instructions per request, {beside:.3f} of {other}, at most {most:.2f}")
            continue
        if path not in known:
            failed = True
            print(f"{path}: {counted[path]} instructions per request, {ratio:.3f} of the bare hyper proxy, and no record to hold it to")
            continue
        change = ratio / (known[path] / known["floor"]) - 1
        failed |= TOLERANCE < change
        print(f"{path}: {counted[path]} instructions per request, {ratio:.3f} of the bare hyper proxy ({counted['floor']}), {change:+.1%}")
    if args.record:
        # What moved them is in the working tree, so the revision is that of its parent with a `+`, or of the change itself.
        git = lambda *more: subprocess.run(["git", "-C", str(HERE), *more], capture_output=True, text=True, check=True).stdout.strip()
        revision = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
        missing = [path for path in ALL if path not in counted]
        if missing:
            sys.exit(f"an entry holds every path: {missing} are missing")
        entries.append({"reason": args.record, "revision": revision, **counted})
        KEPT.write_text("[\n" + ",\n".join(" " + json.dumps(entry) for entry in entries) + "\n]\n")
        failed = False
    sys.exit(failed)


if __name__ == "__main__":
    main()
