#!/usr/bin/env python3
"""What an instance needs beside CPU time: memory of connections that rest and of large bodies, and what it adds to the time of a request.

usage: benches/figures.py BINARY [--rows FILE.json] [--only latency,resting,sockets,bodies,reload] [--gib 2]

Load and application share core 1, the proxy has core 0. Memory is VmRSS, which does not mind other work on the machine; times do: they are
paired with those of a bare hyper proxy (`rig/src/bin/floor.rs`), medians of nine rounds whose first turn changes. Fails above a bound.
"""
import argparse, importlib.machinery, importlib.util, json, pathlib, resource, selectors, signal, socket, ssl, statistics, sys, threading, time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROUNDS, RESTING, SOCKETS, BODIES, ROUTES = 9, 1_000, 10_000, 20, 1_000
SHAKE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
MIB = 1 << 20


def rig():
    loader = importlib.machinery.SourceFileLoader("peers", str(HERE / "peers/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("peers", loader))
    loader.exec_module(module)
    return module


def until(stream, whole):
    """Reads until `whole` says that it is."""
    read = b""
    while not whole(read):
        piece = stream.recv(65536)
        if not piece:
            sys.exit(f"closed after {read[:200]!r}")
        read += piece


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2_head(fields):
    """Literals without indexing; lengths as RFC 7541 §5.1 has them."""
    def text(value):
        length = len(value)
        if length < 127:
            return bytes([length]) + value
        rest, made = length - 127, b"\x7f"
        while 128 <= rest:
            made += bytes([rest % 128 + 128])
            rest //= 128
        return made + bytes([rest]) + value
    return b"".join(b"\x10" + text(name.encode()) + text(value.encode()) for name, value in fields)


def ended(read):
    """Whether a frame with END_STREAM is there wholly."""
    while 9 <= len(read):
        length = int.from_bytes(read[:3], "big")
        if len(read) < 9 + length:
            return False
        if read[3] in (0, 1) and read[4] & 1:
            return True
        read = read[9 + length:]
    return False


class Figures:
    def __init__(self, peers, bench):
        self.peers, self.bench, self.rows = peers, bench, []

    def say(self, what, bound, value, unit, shown):
        good = value <= bound
        self.rows.append([what, f"{bound:g} {unit}", shown, "met" if good else "NOT MET"])
        print(" | ".join(self.rows[-1]), flush=True)

    def rested(self, proxy):
        # Whatever a request needed for a moment has gone.
        time.sleep(2)
        return self.peers.rss_kib(proxy.pid)

    def latency(self):
        proxies = {target: self.bench.start(target) for target in ("authferry", "hyper-floor")}
        seen = {target: [] for target in proxies}
        for n in range(ROUNDS):
            for target in list(proxies)[n % 2:] + list(proxies)[:n % 2]:
                proxy = proxies[target]
                command = [self.peers.targets.RIG / "pace", f"127.0.0.1:{proxy.port}", 1000, 5, 64, n + 1]
                found = self.peers.generator(command, proxy.head())
                if found["bad"]:
                    sys.exit(f"{found['bad']} wrong answers of {target}")
                seen[target].append(found)
        for key, name, bound in (("p50", "p50", 0.3), ("p99", "p99", 2), ("p999", "p99.9", 10)):
            more = [(ours[key] - floor[key]) / 1000 for ours, floor in zip(*seen.values())]
            self.say(f"added at 1,000 requests/s, {name}", bound, statistics.median(more), "ms", f"{statistics.median(more):.2f} ms ({min(more):.2f} to {max(more):.2f})")
        for proxy in proxies.values():
            self.bench.stop(proxy.child)

    def resting(self):
        """Each connection has had one request."""
        def h1_tls(proxy):
            stream = self.peers.TRUST.wrap_socket(socket.create_connection(("127.0.0.1", proxy.to), 10))
            stream.sendall(proxy.head())
            until(stream, lambda read: read.endswith(b"u" * 128))
            return stream

        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["h2"])

        def h2(proxy):
            stream = context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.to), 10))
            fields = [(":method", "GET"), (":scheme", "https"), (":authority", f"127.0.0.1:{proxy.to}"), (":path", "/"), ("authorization", proxy.credential["Authorization"])]
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 5, 1, h2_head(fields)))
            until(stream, ended)
            return stream

        for what, scenario, bound, opens in (
            ("a resting connection, TLS and HTTP/1.1", "tls-h1", 24, h1_tls),
            ("a resting connection, TLS and HTTP/2", "tls-h2", 40, h2),
            ("a resting WebSocket", "websocket", 40, self.socket),
        ):
            proxy = self.bench.start("authferry", scenario)
            # What the first connections of all need is none of theirs.
            warm = [opens(proxy) for _ in range(20)]
            before = self.rested(proxy)
            streams = [opens(proxy) for _ in range(RESTING)]
            each = (self.rested(proxy) - before) / RESTING
            self.say(what, bound, each, "KiB", f"{each:.1f} KiB of {RESTING:,}")
            for stream in streams + warm:
                stream.close()
            self.bench.stop(proxy.child)

    def socket(self, proxy):
        stream = socket.create_connection(("127.0.0.1", proxy.port), 10)
        stream.sendall(proxy.head(*SHAKE, path="/messages"))
        until(stream, lambda read: read.startswith(b"HTTP/1.1 101 ") and read.endswith(b"\r\n\r\n"))
        return stream

    def sockets(self):
        proxy = self.bench.start("authferry", "websocket")
        # A tunnel has two sockets at the proxy; some descriptors are for what is neither.
        count = min(SOCKETS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 2 // 5)
        streams = [self.socket(proxy) for _ in range(count)]
        whole = self.rested(proxy) / 1024
        # 40 MiB, and 40 KiB for each: 440 MiB with all of them.
        bound = 40 + round(400 * count / SOCKETS)
        self.say(f"{count:,} resting WebSockets, the whole process", bound, whole, "MiB", f"{whole:.0f} MiB" + (f"; there were no descriptors for {SOCKETS:,}" if count < SOCKETS else ""))
        for stream in streams:
            stream.close()
        self.bench.stop(proxy.child)

    def bodies(self, gib):
        size = gib << 30
        for way in ("down", "up"):
            proxy = self.bench.start("authferry", "body-1m")
            before, most = self.rested(proxy), 0
            chooser, left = selectors.DefaultSelector(), {}
            for _ in range(BODIES):
                stream = socket.create_connection(("127.0.0.1", proxy.port), 10)
                head = proxy.head(path=f"/stream/{size}") if way == "down" else proxy.head(("Content-Length", str(size))).replace(b"GET ", b"POST ", 1)
                stream.sendall(head)
                stream.setblocking(False)
                chooser.register(stream, selectors.EVENT_READ if way == "down" else selectors.EVENT_WRITE)
                left[stream] = size
            piece, room, looked, began = bytes(MIB), bytearray(MIB), 0.0, time.monotonic()
            while left:
                for key, _ in chooser.select(30) or sys.exit(f"nothing moves any more, {way}"):
                    stream = key.fileobj
                    try:
                        moved = stream.recv_into(room) if way == "down" else stream.send(piece[:left[stream]])
                    except BlockingIOError:
                        continue
                    if moved == 0:
                        sys.exit(f"{way}: cut off with {left[stream]:,} bytes to go")
                    # The head of an answer is a little more than nothing.
                    left[stream] -= moved
                    if left[stream] <= 0:
                        del left[stream]
                        chooser.unregister(stream)
                        if way == "up":
                            stream.settimeout(30)
                            until(stream, lambda read: read.endswith(b"u" * 128))
                        stream.close()
                if 0.1 < time.monotonic() - looked:
                    looked, most = time.monotonic(), max(most, self.peers.rss_kib(proxy.pid))
            grown = (most - before) / 1024
            self.say(f"{BODIES} bodies of {gib} GiB at once, {way}, memory", 64, grown, "MiB", f"{grown:.1f} MiB more, {BODIES * size / (time.monotonic() - began) / MIB:.0f} MiB/s")
            self.bench.stop(proxy.child)

    def reload(self):
        """The longest wait of a client that asks without a pause while 1,000 routes are read again, and while they are not."""
        proxy = self.bench.start("authferry")
        file = self.bench.world.dir / f"{proxy.port}-authferry.yaml"
        text = file.read_text()
        longest = {False: [], True: []}
        for n in range(2 * ROUNDS):
            reads = n % 2 == 1
            worst, done = [0.0], threading.Event()

            def ask():
                stream = socket.create_connection(("127.0.0.1", proxy.port), 10)
                while not done.is_set():
                    began = time.monotonic()
                    stream.sendall(proxy.head())
                    until(stream, lambda read: read.endswith(b"u" * 128))
                    worst[0] = max(worst[0], time.monotonic() - began)

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.2)
            if reads:
                more = "".join(f"      - {{ path: /area{n}-{i}/*, access: required, require: {{ groups: [group-{i}] }} }}\n" for i in range(ROUTES))
                file.write_text(text.replace("    routes:\n", "    routes:\n" + more))
            time.sleep(1.5)
            done.set()
            thread.join()
            longest[reads].append(worst[0] * 1000)
        more = [with_ - without for with_, without in zip(longest[True], longest[False])]
        self.say(f"the longest wait at a reload of {ROUTES:,} routes, more than without", 5, statistics.median(more), "ms", f"{statistics.median(more):.1f} ms ({min(more):.1f} to {max(more):.1f})")
        self.bench.stop(proxy.child)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rows", type=pathlib.Path)
    parser.add_argument("--only", default="latency,resting,sockets,bodies,reload")
    parser.add_argument("--gib", type=int, default=2)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    peers = rig()
    peers.targets.install(["authferry", "hyper-floor"])
    bench = peers.Bench(argparse.Namespace(authferry=args.binary, connections=64, distinct=100))
    figures = Figures(peers, bench)
    try:
        for name in args.only.split(","):
            figures.bodies(args.gib) if name == "bodies" else getattr(figures, name)()
    finally:
        bench.close()
        if args.rows:
            args.rows.write_text(json.dumps(figures.rows))
    sys.exit(any(row[3] != "met" for row in figures.rows))


if __name__ == "__main__":
    main()
