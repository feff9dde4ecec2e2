#!/usr/bin/env python3
"""Instructions of the worker per request, counted by callgrind: the same on every quiet or busy machine.

usage: benches/instructions.py BINARY [--record]

Compares with benches/instructions.json and fails above +3 %. --record writes the file: do it in the change that moved
the count, and say why. Callgrind knows no SHA extensions, so the digest of a token counts more here than it costs.
"""
import argparse, importlib.machinery, importlib.util, json, pathlib, re, shutil, socket, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
FEW, MANY = 1_000, 5_000
TOLERANCE = 0.03


def rig():
    loader = importlib.machinery.SourceFileLoader("peers", str(HERE / "peers/run"))
    spec = importlib.util.spec_from_loader("peers", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def ask(port, token, count):
    head = (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\n"
        "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port)) as stream:
        for _ in range(count):
            stream.sendall(head)
            answer = b""
            while not answer.endswith(b"u" * 128):
                piece = stream.recv(65536)
                if not piece or b" 200 OK" not in (answer + piece)[:15]:
                    sys.exit(f"not an answer: {(answer + piece)[:200]!r}")
                answer += piece


def worker_total(peers, binary, count):
    """What the busiest thread that serves executed in its life."""
    bench = peers.Bench(argparse.Namespace(authferry=binary, connections=1))
    try:
        out = bench.dir / "callgrind"
        bench.wrap = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}"]
        pid, port = bench.start("authferry")
        ask(port, bench.token, count)
    finally:
        bench.close()
    totals = []
    for file in bench.dir.glob("callgrind-*"):
        text = file.read_text(errors="replace")
        if "proxy::service::serve" in text:
            totals.append(int(re.search(r"^totals: (\d+)", text, re.M)[1]))
    shutil.rmtree(bench.dir, ignore_errors=True)
    return max(totals)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    peers = rig()
    peers.build()
    few, many = (worker_total(peers, args.binary, count) for count in (FEW, MANY))
    counted = {"hot": round((many - few) / (MANY - FEW))}
    kept = HERE / "instructions.json"
    if args.record:
        kept.write_text(json.dumps(counted, indent=1) + "\n")
    known = json.loads(kept.read_text())
    failed = False
    for path, count in counted.items():
        change = count / known[path] - 1
        failed |= TOLERANCE < change
        print(f"{path}: {count} instructions per request, {change:+.1%}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
