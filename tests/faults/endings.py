"""Rows about beginnings and ends: connections that end while somebody uses them, certificates that come to their end, the end of the
process under load, and configurations that it must not begin with.
"""
import asyncio
import base64
import itertools
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import mixed
import world
from ground import Skip
from world import ROOT, Echo, Proxy, Server, ask, bearer

HERE = pathlib.Path(__file__).resolve().parent


class Idle(asyncio.Protocol):
    """An upstream that ends each connection that was idle for so long, and remembers what came how often."""

    seen, late, cut, limit = {}, 0, 0, 0.1

    def connection_made(self, transport):
        self.transport, self.buffer, self.timer, self.since = transport, b"", None, None

    def data_received(self, data):
        self.buffer += data
        if self.timer:
            self.timer.cancel()
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            length = int((re.findall(rb"(?i)content-length: *(\d+)", head) or [0])[0])
            if len(rest) < length:
                break
            self.buffer, line = rest[length:], head.split(b"\r\n")[0].decode()
            if "/counts" in line:
                text = json.dumps({"seen": Idle.seen, "late": Idle.late, "cut": Idle.cut}).encode()
            else:
                now = asyncio.get_running_loop().time()
                # It came when the connection was about to end: these are the ones that are asked about.
                late = self.since is not None and 0.85 * Idle.limit < now - self.since
                Idle.late += late
                if late and Idle.late % 20 == 0 and line.startswith("GET"):
                    # Here the end is on its way already: what nobody has read is answered by whoever sends it again, or by nobody.
                    Idle.cut += 1
                    return self.transport.abort()
                Idle.seen[line] = Idle.seen.get(line, 0) + 1
                text = b"ok"
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        self.since = asyncio.get_running_loop().time()
        self.timer = asyncio.get_running_loop().call_later(Idle.limit, self.ends)

    def connection_lost(self, _why):
        if self.timer:
            self.timer.cancel()

    def ends(self):
        # What has arrived is not thrown away because somebody else was served first: what is on its way is.
        if not select.select([self.transport.get_extra_info("socket")], [], [], 0)[0]:
            self.transport.close()


def serve_idle():
    async def main():
        server = await asyncio.get_running_loop().create_server(Idle, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def row_18(requests=20_000, clients=64):
    """The upstream ends idle connections after 100 ms; about then so many come at once, again and again: each GET is answered, and no POST comes twice."""
    back = subprocess.Popen([sys.executable, str(HERE / "endings.py")], stdout=subprocess.PIPE, text=True)
    try:
        port = int(back.stdout.readline())
        with Proxy(f"http://127.0.0.1:{port}") as proxy:
            rounds, hold, failed, sent = requests // clients + 1, threading.Lock(), {"GET": [], "POST": []}, {"GET": 0, "POST": 0}
            together = threading.Barrier(clients)

            def client(number):
                draw, line, credential = random.Random(number), mixed.Line(proxy), {"Host": "app.test", **bearer()}
                for n in range(rounds):
                    # All at once, so that each needs a connection of its own, which has been idle since the last time.
                    together.wait(60)
                    time.sleep(draw.uniform(0.065, 0.105))
                    method = "POST" if draw.random() < 0.33 else "GET"
                    try:
                        status = line.ask(method, f"/{number}/{n}", credential, b"x" if method == "POST" else None)[0]
                    except (OSError, mixed.http.client.HTTPException) as why:
                        status = type(why).__name__
                    with hold:
                        sent[method] += 1
                        if status != 200:
                            failed[method].append(status)

            start = time.time()
            threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.time() - start
            told = json.loads(ask(port, "/counts")[2])
        seen = told["seen"]
        twice = [line for line, count in seen.items() if line.startswith("POST") and count > 1]
        again = sum(count - 1 for line, count in seen.items() if line.startswith("GET"))
    finally:
        back.kill()
        back.wait()
    good = sum(sent.values()) >= requests and not failed["GET"] and not twice and len(failed["POST"]) <= max(1, sent["POST"] / 10_000) and told["late"] >= requests / 100 and told["cut"] >= requests / 2_000
    return good, f"{sum(sent.values())} requests in {took:.0f} s, {told['late']} of them when their connection was about to end, {told['cut']} GET after it had: {sent['GET']} GET, {len(failed['GET'])} failed {sorted(set(map(str, failed['GET'])))}, {again} came twice; {sent['POST']} POST, {len(failed['POST'])} failed, {len(twice)} came twice"


class Slow(Echo):
    """Remembers what came; `/big` takes its time."""

    size, pieces = 1 << 20, 40

    def answer(self):
        with self.server.lock:
            self.server.seen.add(self.path)
        if not self.path.startswith("/big"):
            return super().answer()
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.end_headers()
        for _ in range(self.pieces):
            self.wfile.write(bytes(self.size // self.pieces + 1)[: self.size // self.pieces])
            time.sleep(0.1)
        self.wfile.write(bytes(self.size % self.pieces))

    do_POST = answer

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.socket()
        else:
            self.answer()


class Leaving:
    """Clients of every kind of a process that is told to end, and what became of what they asked."""

    def __init__(self, proxy, back):
        self.proxy, self.back, self.lock = proxy, back, threading.Lock()
        self.answered, self.failed, self.closes, self.sockets, self.goaways, self.streams = set(), [], 0, [], 0, 0
        self.threads, self.count, self.stop = [], itertools.count(), threading.Event()

    def begin(self, body, *arguments):
        def run():
            try:
                body(*arguments)
            except Exception as why:
                with self.lock:
                    self.failed.append(f"{body.__name__}: {type(why).__name__}: {why}")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def line(self, number):
        """Requests on a connection that is kept, until nobody listens any more. What ends without a byte of an answer was not taken, if the upstream has not seen it."""
        credential = bearer()["Authorization"]
        while True:
            try:
                one = socket.create_connection(("127.0.0.1", self.proxy.plain), 30)
            except OSError:
                return
            with one, one.makefile("rb") as file:
                while True:
                    path, body = f"/h1/{next(self.count)}", b"x" * 100 if number % 2 else b""
                    try:
                        one.sendall(f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: app.test\r\nAuthorization: {credential}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                        status = file.readline()
                    except OSError:
                        break
                    if not status:
                        break
                    fields = {}
                    while text := file.readline().strip():
                        name, _, value = text.decode().partition(":")
                        fields[name.lower()] = value.strip()
                    whole = file.read(int(fields["content-length"]))
                    with self.lock:
                        if status.split()[1] == b"200" and len(whole) == int(fields["content-length"]):
                            self.answered.add(path)
                        else:
                            self.failed.append(f"{path}: {status}")
                        self.closes += fields.get("connection") == "close"
                    if fields.get("connection") == "close":
                        break
                    time.sleep(0.02)

    def download(self, number):
        path = f"/big/h1/{number}"
        status, _, body = ask(self.proxy.plain, path, bearer(), timeout=40)
        with self.lock:
            if status == 200 and len(body) == Slow.size:
                self.answered.add(path)
            else:
                self.failed.append(f"{path}: {status}, {len(body)} bytes")

    def downloads_of_http_2(self, number, streams=4):
        paths = [f"/big/h2/{number}/{n}" for n in range(streams)]
        words = ["nghttp", "-nv", "-H", f"authorization: {bearer()['Authorization']}", *(f"https://127.0.0.1:{self.proxy.tls}{path}" for path in paths)]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
        got = {}
        for length, stream in re.findall(r"recv DATA frame <length=(\d+), flags=\S+ stream_id=(\d+)>", said):
            got[stream] = got.get(stream, 0) + int(length)
        well = len(re.findall(r":status: 200", said))
        with self.lock:
            # Twice: that nothing new is wanted, and, once what was on its way is there, which was the last.
            goodbyes = re.findall(r"recv GOAWAY frame .*\n\s*\(last_stream_id=(\d+), error_code=(\w+)", said)
            self.goaways += len(goodbyes) >= 2 and {why for _, why in goodbyes} == {"NO_ERROR"} and goodbyes[0][0] == "2147483647" and int(goodbyes[-1][0]) < 2**31 - 1
            self.streams += well
            if well == streams and sorted(got.values()) == [Slow.size] * streams and "RST_STREAM" not in said:
                self.answered.update(paths)
            else:
                self.failed.append(f"HTTP/2: {well} of {streams} answers, {got}")

    def requests_of_http_2(self, number):
        """One after another, on a connection that is kept; it ends where there is none any more."""
        words = ["curl", "-s", "--http2", "--fail-early", "--max-time", "60", "--cacert", str(world.WORK / "ca.pem"), "-H", f"Authorization: {bearer()['Authorization']}", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{exitcode} %{url_effective}\n"]
        said = subprocess.run([*words, f"https://127.0.0.1:{self.proxy.tls}/h2/{number}/[1-1000000]"], capture_output=True, text=True, timeout=120).stdout
        with self.lock:
            for line in said.splitlines():
                code, version, ended, url = line.split()
                if code == "200" and version == "2" and ended == "0":
                    self.answered.add("/" + url.split("/", 3)[3])
                elif ended != "7":
                    self.failed.append(f"curl: {line}")

    def socket(self, number):
        """A WebSocket that is used, and the status of the close that it is told goodbye with."""
        with socket.create_connection(("127.0.0.1", self.proxy.plain), 40) as one:
            one.sendall((
                f"GET /ws HTTP/1.1\r\nHost: app.test\r\nAuthorization: {bearer()['Authorization']}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
            ).encode())
            file = one.makefile("rb")
            status = file.readline()
            while file.readline().strip():
                pass
            told = None
            while status.split()[1] == b"101" and len(head := file.read(2)) == 2:
                body = file.read(head[1] & 127)
                if head[0] & 15 == 8:
                    told = int.from_bytes(body[:2], "big")
                    break
                # What comes back is sent again.
                time.sleep(0.2)
                try:
                    one.sendall(b"\x82\x84\0\0\0\0ping")
                except OSError:
                    pass
        with self.lock:
            self.sockets.append(told)


def leaves(twice):
    """The process is told to end with everything under way: what became of each part, and whether that is as promised."""
    back = Server(("127.0.0.1", 0), Slow)
    back.lock, back.seen = threading.Lock(), set()
    threading.Thread(target=back.serve_forever, daemon=True).start()
    lines, downloads, connections, sockets = (16, 20, 4, 100) if not twice else (4, 8, 1, 10)
    with Proxy(f"http://127.0.0.1:{back.server_address[1]}", routes="[{ path: /ws, websocket: true }, { path: /* }]", server="  drain: { announce: 1s, timeout: 20s }") as proxy:
        world.certificates()
        all_ = Leaving(proxy, back)
        for kind, many in ((all_.socket, sockets), (all_.line, lines), (all_.requests_of_http_2, connections)):
            for number in range(many):
                all_.begin(kind, number)
        time.sleep(2)
        for kind, many in ((all_.download, downloads), (all_.downloads_of_http_2, connections)):
            for number in range(many):
                all_.begin(kind, number)
        wanted, end = downloads + 4 * connections, time.time() + 20
        while sum(path.startswith("/big") for path in set(back.seen)) < wanted and time.time() < end:
            time.sleep(0.02)
        start = time.time()
        proxy.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        ready, still = ask(proxy.admin, "/-/ready", {"Host": f"127.0.0.1:{proxy.admin}"})[0], ask(proxy.plain, "/h1/late", bearer())[0]
        if twice:
            # Once it drains: the downloads have seconds to go.
            time.sleep(1.2)
            proxy.process.send_signal(signal.SIGTERM)
        code = proxy.process.wait(60)
        took = time.time() - start
        for thread in all_.threads:
            thread.join(60)
    back.shutdown()
    # The one that was asked in between has been answered, or `still` says so.
    lost = sorted(back.seen - all_.answered - {"/ws", "/h1/late"})
    return {"ready": ready, "still": still, "code": code, "took": took, "lost": lost, "all": all_, "sockets": sockets, "wanted": wanted, "connections": connections}


def row_20():
    """Told to end with sockets, kept connections, streams and slow downloads under way: nothing that was taken fails, each is told in its way; told twice, it ends at once."""
    was = leaves(False)
    all_ = was["all"]
    told = [status for status in all_.sockets if status == 1001]
    bigs = sum(path.startswith("/big") for path in all_.answered)
    good = was["ready"] == 503 and was["still"] == 200 and was["code"] == 0 and was["took"] <= 30 and not was["lost"] and not all_.failed
    good &= len(told) == was["sockets"] and all_.goaways == was["connections"] and all_.closes >= 1 and bigs == was["wanted"] and len(all_.answered) > 500
    said = f"{len(all_.answered)} requests answered, {bigs} of them downloads that it waited for, {len(was['lost'])} taken and lost; {len(told)} of {was['sockets']} sockets told 1001, {all_.goaways} of {was['connections']} HTTP/2 connections two GOAWAY, {all_.closes} of HTTP/1.1 their close; not ready ({was['ready']}) while it still served ({was['still']}); exit {was['code']} after {was['took']:.1f} s"
    said += "".join(f"; WRONG: {wrong[:3]}" for wrong in (was["lost"], all_.failed) if wrong)
    again = leaves(True)
    # The second time it does not wait for them: 4 s of downloads had begun.
    good &= again["took"] < 3 and again["code"] is not None
    return good, said + f"; told twice it ended after {again['took']:.1f} s, exit {again['code']}"


# Says in a file that something is bound, where it is.
BINDS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
int bind(int fd, const struct sockaddr *address, socklen_t length) {
  FILE *file = fopen(getenv("BINDS"), "a");
  if (file) { fprintf(file, "%d\\n", address->sa_family); fclose(file); }
  return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind"))(fd, address, length);
}
"""


class Binds:
    """What a process binds to, by a library that is loaded before all others."""

    def __init__(self):
        source, self.library, self.file = world.WORK / "binds.c", world.WORK / "binds.so", world.WORK / "binds"
        source.write_text(BINDS)
        code, said = world.sh("cc", "-shared", "-fPIC", "-o", self.library, source, "-ldl")
        if code:
            raise Skip(f"no compiler: {said.strip()[-200:]}")

    def wrap(self):
        self.file.write_text("")
        return ("env", f"LD_PRELOAD={self.library}", f"BINDS={self.file}")

    def count(self):
        """Sockets of the internet alone."""
        return sum(line in ("2", "10") for line in self.file.read_text().split())


def unsaid(file, text):
    """Which mistakes of a broken file are not told with line, column and key, of those that are told, and that the file itself says it has."""
    told = re.findall(r":(\d+:\d+): error: (.*)\n(?:  at (\S+))?", text)
    # There is none of the file as a whole.
    of_the_file = ("this is not YAML", "is missing", "where a mapping is expected")
    keyless = [where for where, what, key in told if not key and not any(words in what for words in of_the_file)]
    # Secrets come first, and those of examples are not here: then the others are not looked for.
    lacks = any("there is no such file" in what or "is not set" in what for _, what, _ in told)
    own = [] if lacks else re.findall(r"^# expect: (\d+:\d+) (.+)$", file.read_text(), re.M)
    return keyless + [where for where, what in own if not any(where == at and what in said for at, said, _ in told)] if told else ["everything"]


def row_23():
    """Each broken file that we have: the program does not begin with it, at once, with file, line, column and key of each mistake, and without having listened; and it goes on with what it has where such a file comes later."""
    binds, files, wrong, slowest = Binds(), sorted((ROOT / "tests/configs/bad").glob("*.yaml")), [], 0.0
    with Proxy(world.upstream(), wrap=binds.wrap()) as proxy:
        # What counts is seen to count.
        seen = binds.count()
        good = proxy.config.read_text()
        for file in files:
            begun = time.time()
            try:
                done = subprocess.run([*binds.wrap(), world.PROGRAM, "run", "--config", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10, cwd=proxy.dir)
            except subprocess.TimeoutExpired:
                wrong.append((file.name, "it began"))
                continue
            took, listened = time.time() - begun, binds.count()
            slowest = max(slowest, took)
            if done.returncode == 0 or took > 2 or file.name not in done.stderr or unsaid(file, done.stderr) or listened or "ready public" in done.stdout:
                wrong.append((file.name, f"exit {done.returncode} after {took:.1f} s, {listened} listeners, {done.stderr.strip()[-200:]}"))
            proxy.config.write_text(file.read_text())
            status, said = proxy.reload()
            serves = ask(proxy.plain, "/", bearer())[0]
            if status < 400 or unsaid(file, said.replace("\\n", "\n").replace('\\"', '"')) or serves != 200:
                wrong.append((file.name, f"the reload {status}, and then {serves}: {said[-200:]}"))
        refused = proxy.metric('authferry_config_reloads_total{outcome="refused"')
        proxy.config.write_text(good)
        status = proxy.reload()[0]
    well = not wrong and seen >= 3 and len(files) >= 100 and refused >= len(files) and status == 200
    return well, f"{len(files)} broken files: none begun, each refused within {slowest:.2f} s with file, line, column and key, nothing bound (a good one binds {seen} times); {refused:.0f} reloads refused, and the good one served each time; then {status}" + (f"; WRONG: {wrong[:3]}" if wrong else "")


if __name__ == "__main__":
    serve_idle()


def row_25():
    """Certificates that end in 40 days, in 13 and in one: what the program says of each is what the alerts that come with it go by, in Prometheus' own hands."""
    if not shutil.which("promtool"):
        raise Skip("no promtool")
    said, good = [], True
    chain, key = world.certificates()
    series = "authferry_certificate_expiry_timestamp_seconds{"
    with Proxy(f"http://127.0.0.1:{mixed.free()}", routes="[{ path: /*, access: public }]") as proxy:
        own = proxy.dir / "own.pem"
        shutil.copyfile(chain, own)
        proxy.config.write_text(proxy.config.read_text().replace(str(chain), str(own)))
        proxy.stop()
        proxy.start()
        for days, expected in ((40, []), (13, ["AuthferryCertificateExpires"]), (1, ["AuthferryCertificateExpires", "AuthferryCertificateExpiresNow"])):
            beside, before = own.with_suffix(".new"), proxy.metric(series)
            words = ["x509", "-req", "-in", world.WORK / "tls.csr", "-CA", world.WORK / "ca.pem", "-CAkey", world.WORK / "ca.key", "-CAcreateserial", "-days", days, "-extfile", world.WORK / "ext", "-out", beside]
            code, why = world.sh("openssl", *words)
            assert code == 0, why
            beside.rename(own)
            start = time.time()
            while (ends := proxy.metric(series)) == before and time.time() - start < 10:
                time.sleep(0.05)
            took, left = time.time() - start, ends - time.time()
            good &= took < 5 and abs(left - days * 86_400) < 60
            # Rules are tested from the beginning of time on.
            samples = "".join(f"\n          - {{ labels: '{{alertname=\"{name}\"}}', value: 1 }}" for name in expected) or " []"
            test = proxy.dir / "alerts.yaml"
            test.write_text(f"""rule_files: ["{ROOT}/deploy/alerts.yaml"]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series: [{{ series: '{series}job="authferry", instance="a", certificate="own.pem"}}', values: '{left:.0f}x20' }}]
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{{alertname=~"AuthferryCertificate.*", alertstate="firing"}})
        eval_time: 15m
        exp_samples:{samples}
""")
            code, why = world.sh("promtool", "test", "rules", test)
            good &= code == 0
            said.append(f"{days} days: said after {took:.1f} s, {', '.join(expected) or 'no alert'}" + ("" if code == 0 else f" IS NOT SO: {why[-300:]}"))
    return good, "; ".join(said)
