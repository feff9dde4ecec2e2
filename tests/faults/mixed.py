"""Everything at once for rows 32 and 33: instances over a real Redis, two providers, an upstream that are all there to be hit;
people with tokens, sessions, passwords and sockets; and a history that is held against what was promised.
"""
import base64
import collections
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[0] / "suites"), str(HERE.parents[0])]
import provider
import world
from ground import Ground
from world import ROOT, Proxy, ask

PEOPLE = [f"user{n:02}" for n in range(40)]
# The password of everybody in the file, and its hash (bcrypt).
PASSWORD, HASH = "a password of the load", "$2b$05$OoQ0Bavf5c4qGISEAuZ6gO1LRwzutgGtlx8TVQoZ6DXVjWv7rrxIm"

# Kinds of request that need the upstream; a login and a stranger do not.
SERVED = {"token", "fresh", "opaque", "basic", "h2", "socket", "session"}
ALL = SERVED | {"login", "logout", "stranger", "stranger-page"}
# Fault -> the kinds of request that may fail in it, and for how many seconds after its end. Where it names an instance, only
# requests to that one.
_REDIS, _PROVIDER, _UPSTREAM, _SELF = ({"session", "login", "logout", "stranger-page"}, 2), ({"login", "fresh", "opaque", "stranger-page"}, 15), (SERVED, 1), (ALL, 1)
PROMISED = {
    "redis": _REDIS, "redis-hangs": _REDIS, "redis-cut": _REDIS,
    # Slow within what a call may take: nobody notices.
    "redis-slow": (set(), 0),
    "old": _PROVIDER, "new": _PROVIDER, "old-hangs": _PROVIDER, "new-hangs": _PROVIDER,
    "upstream": _UPSTREAM, "upstream-hangs": _UPSTREAM,
    "kill": _SELF, "term": _SELF,
    "reload": (set(), 0), "garbage": (set(), 0),
    # What an instance stands on: it has what it needs in memory, and each of these alone is noticed by nobody.
    "disk": (set(), 0), "names": (set(), 0), "clock": (set(), 0),
}
# What concerns one instance alone.
ALONE = ("kill", "term", "redis-cut", *Ground.KINDS)
# In these an instance hears nothing of what another one ended.
DEAF = {"redis", "redis-hangs", "redis-cut"}
# In these the answer to a refresh may get lost, so that its token has to be presented again.
LOSING = {"old", "new", "old-hangs", "new-hangs", "kill"}
# What is measured goes before whatever else the machine does; who may not say so goes without.
FIRST = ("nice", "-n", "-10") if os.geteuid() == 0 else ()
# How often a session is confirmed at its owner; without an answer it counts one such time more.
REVALIDATE = 20
# Until when another instance may honour a session that was ended: it hears of that at once and has 2 s; what it did not hear, since
# its line to the store had just broken, its look into the store finds, which counts 5 s, and 30 s while the store is away.
ELSEWHERE, ELSEWHERE_UNHEARD, ELSEWHERE_AWAY = 2, 5, 30


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A process that can be killed, stopped and started again."""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


class Redis(Server):
    def __init__(self, directory):
        self.directory = directory
        # Whoever takes the port in between has it: then another one is tried.
        for _ in range(10):
            self.port = free()
            if self.launched():
                return
        raise RuntimeError("Redis does not start")

    def start(self):
        """Again where it was: others know it by its port."""
        end = time.time() + 20
        while not self.launched():
            if end < time.time():
                raise RuntimeError("the port of Redis is somebody else's")
            time.sleep(0.02)

    def launched(self):
        """Whether it listens: it says so itself, since what answers at the port may be somebody else's."""
        words = [*FIRST, "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, errors="replace")
        if not any("Ready to accept" in line for line in self.process.stdout):
            self.process.wait()
            return False
        # What else it says is read and dropped, so that it never waits for its reader.
        threading.Thread(target=collections.deque, args=(self.process.stdout, 0), daemon=True).start()
        return True


class Idp(Server):
    def __init__(self, directory):
        directory.mkdir()
        self.directory, self.keys, self.port = directory, provider.Keys(directory), 0
        self.start()
        self.issuer = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(HERE / "provider.py"), str(self.port), str(self.directory)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def given(self, who):
        """When somebody was given tokens."""
        file = self.directory / "given"
        lines = file.read_text().splitlines() if file.exists() else []
        return [float(at) for name, at in (line.split() for line in lines) if name == who]

    def refreshes(self):
        """Every refresh token that was presented, with the moment: a file that outlives the process."""
        file = self.directory / "refreshes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(token, float(at)) for token, at in (line.split() for line in lines)]


class Upstream(Server):
    def __init__(self, port=0):
        self.port = port
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        script = "import sys; sys.path.insert(0, sys.argv[1]); import world; s = world.Server(('127.0.0.1', int(sys.argv[2])), world.Echo); print(s.server_address[1], flush=True); s.serve_forever()"
        self.process = subprocess.Popen([sys.executable, "-c", script, str(ROOT / "tests/suites"), str(self.port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())


class Wire(Server):
    """The way of one instance to Redis, which can be slow, or cut."""

    def __init__(self, port):
        self.process = subprocess.Popen([*FIRST, sys.executable, str(HERE / "wire.py"), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def be(self, how):
        self.process.stdin.write(how + "\n")
        self.process.stdin.flush()


class Own(Proxy):
    """An instance; those of one load share keys and Redis."""

    def __init__(self, shared, redis, old, new, back, patience, ground=None):
        self.dir, self.wrap = pathlib.Path(tempfile.mkdtemp(dir=world.WORK)), (*FIRST, *ground.wrap) if ground else FIRST
        state, to = (ground.disk.path, f"http://app-upstream.example:{back.port}") if ground else (self.dir / "state", back.url)
        chain, key = world.certificates()
        if not (shared / "key-1").exists():
            (shared / "secret").write_text("client-secret-of-the-load-0123456789")
            (shared / "admin").write_text("admin-token-of-the-suites-0123456789")
            (shared / "people").write_text("".join(f"{who}:{HASH}\n" for who in PEOPLE))
            for name in ("key-1", "key-2"):
                (shared / name).write_bytes(os.urandom(32))
        self.config = self.dir / "authferry.yaml"
        client = f"client: {{ id: load, secret: {{ file: {shared}/secret }} }}"
        side = "{{ issuer: \"{}\", {}, verify: {{ audiences: [app] }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }}"
        self.config.write_text(f"""version: 1
server:
  listeners:
    - {{ listen: 127.0.0.1:0, tls: {{ certificate: {{ file: {chain} }}, key: {{ file: {key} }} }} }}
    - {{ listen: 127.0.0.1:0 }}
  admin: {{ listen: 127.0.0.1:0, token: {{ file: {shared}/admin }} }}
  state_dir: {state}
  drain: {{ announce: 1s, timeout: 5s }}
telemetry: {{ access_log: {{ file: /dev/null }} }}
secrets: {{ bucket_key: {{ file: {shared}/key-1 }}, session_keys: [{{ file: {shared}/key-2 }}] }}
sessions: {{ store: redis, redis: {{ url: "redis://127.0.0.1:{redis.port}" }}, revalidate: {REVALIDATE}s, max_per_subject: 500 }}
providers:
  old: {{ oidc: {side.format(old.issuer, client)} }}
  new: {{ oidc: {side.format(new.issuer, client)} }}
  opaque: {{ introspection: {{ url: "{old.issuer}/introspect", issuer: "{old.issuer}/opaque", {client}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}
  file: {{ basic: {{ file: {shared}/people, authoritative: {{ claims: [username] }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  app:
    hosts: [app.test, 127.0.0.1]
    upstream: {{ url: "{to}", response_timeout: {patience}s }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
    # Thousands of people come from one address.
    rate_limits: {{ logins: 1000000 }}
    routes:
      - {{ path: /api/*, credentials: [bearer], on_unauthenticated: unauthorized, websocket: true }}
      - {{ path: /* }}
  machines: {{ hosts: [machines.test], provider: opaque, upstream: {{ url: "{to}", response_timeout: {patience}s }}, identity_headers: {{ X-Remote-User: "{{subject}}" }}, routes: [{{ path: /* }}] }}
  files: {{ hosts: [files.test], provider: file, upstream: {{ url: "{to}", response_timeout: {patience}s }}, identity_headers: {{ X-Remote-User: "{{subject}}" }}, routes: [{{ path: /* }}] }}
rollouts: {{ move: {{ apps: [app], from: old, to: new, bucketing: {{ salt: load }}, control: pinned, stages: [{{ id: half, mode: canary, assign: [{{ percent: 50, to: new }}] }}] }} }}
""")
        self.patience = patience
        self.start()

    def changed(self):
        """Writes a configuration that differs in something harmless."""
        text = self.config.read_text()
        one, other = f"response_timeout: {self.patience}s", f"response_timeout: {self.patience + 1}s"
        self.config.write_text(text.replace(one, other) if one in text else text.replace(other, one))

    def reloads(self, outcome):
        return self.metric(f'authferry_config_reloads_total{{outcome="{outcome}"')


class Line:
    """A connection that stays open, and a jar of cookies; it goes where its instance listens now."""

    def __init__(self, proxy, tls=False):
        self.proxy, self.tls, self.cookies, self.connection = proxy, tls, {}, None

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.proxy.tls, timeout=25, context=trust())
        return http.client.HTTPConnection("127.0.0.1", self.proxy.plain, timeout=25)

    def to(self, proxy):
        if proxy is not self.proxy:
            self.close()
            self.proxy = proxy

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def ask(self, method, path, headers=None, body=None):
        for _ in range(2):
            fresh = self.connection is None
            if fresh:
                self.connection = self.connect()
            jar = {"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())} if self.cookies else {}
            try:
                self.connection.request(method, path, body=body, headers={**jar, **(headers or {})})
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.close()
                # What was idle may have been closed: once more, as browsers do.
                if fresh:
                    raise
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, value = value.split(";")[0].partition("=")
                if value:
                    self.cookies[key] = value
                else:
                    self.cookies.pop(key, None)
        return answer.status, dict((n.lower(), v) for n, v in answer.getheaders()), text

    def signed_in(self):
        return any(name.endswith("authferry") for name in self.cookies)


def trust(known=[]):
    if not known:
        world.certificates()
        known.append(ssl.create_default_context(cafile=str(world.WORK / "ca.pem")))
    return known[0]


def shown(text):
    """Whom the upstream was told of."""
    return [v for n, v in json.loads(text)["headers"] if n.lower() == "x-remote-user"]


class Load:
    """The load, its faults and its history."""

    def __init__(self, seconds, instances=1, seed=None, patience=30, wires=False, grounds=False):
        self.seconds, self.begin = seconds, time.time()
        self.end, self.stop = self.begin + seconds, threading.Event()
        self.seed = seed if seed is not None else random.randrange(10**9)
        # In memory: it is killed, not the machine, and a busy disk is not what is measured.
        memory = pathlib.Path("/dev/shm")
        self.kept = pathlib.Path(tempfile.mkdtemp(prefix="authferry-load.", dir=memory if os.access(memory, os.W_OK) else world.WORK))
        self.redis = Redis(self.kept)
        shared = pathlib.Path(tempfile.mkdtemp(dir=world.WORK))
        self.old, self.new = Idp(shared / "old"), Idp(shared / "new")
        self.back = Upstream()
        self.wires = [Wire(self.redis.port) for _ in range(instances if wires else 0)]
        self.grounds = [Ground(f"ground-{n}") for n in range(instances if grounds else 0)]
        ways = self.wires or [self.redis] * instances
        self.proxies = [Own(shared, way, self.old, self.new, self.back, patience, ground) for way, ground in zip(ways, self.grounds or [None] * instances)]
        self.counts = dict.fromkeys([*sorted(ALL), "ghost"], 0)
        self.wrong, self.opened, self.errors, self.faults, self.samples, self.lost = [], [], [], [], [], []
        # When Redis took longer than it may although nobody had stopped it, as a connection beside the program saw it.
        self.stalls = []
        # Sessions that were ended: cookies, who, when, where.
        self.ended, self.latest = [], 0.0
        self.lock = threading.Lock()

    def place(self, proxy):
        return self.proxies.index(proxy)

    def note(self, kind, proxy, start, why=None):
        with self.lock:
            self.counts[kind] += 1
            if why is not None:
                self.errors.append((kind, self.place(proxy), start, time.time(), why))

    def seen(self, kind, who, proxy, start, status, text):
        """A request of somebody who may come in."""
        if status == 200 and (fields := shown(text)) != [who]:
            with self.lock:
                self.wrong.append((kind, who, fields))
        self.note(kind, proxy, start, None if status == 200 else f"{status} {re.sub(r'<[^>]*>|[^ -~]+', ' ', text if isinstance(text, str) else text.decode('latin-1'))[-160:]}")
        return status == 200

    def loop(self, body, number):
        def run():
            draw = random.Random(f"{self.seed}-{number}")
            while not self.stop.is_set():
                try:
                    body(draw)
                except Exception as why:
                    with self.lock:
                        self.errors.append(("load", None, time.time(), time.time(), f"{type(why).__name__}: {why}"))
                    self.stop.wait(1)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def token(self, who, side, older=20, life=600, audience="app"):
        """A new key lands within 15 s: only who asks for one that is younger gets it."""
        return side.keys.sign("at+jwt", {**provider.claims(side.issuer, who, audience, life), "client_id": "load", "jti": os.urandom(8).hex()}, older=older)

    def welcome(self, proxy):
        """Everybody comes once by every provider: whose account an unknown one is, only the store knows, and an instance that has just started knows none."""
        line = Line(proxy)
        for who in PEOPLE:
            password = base64.b64encode(f"{who}:{PASSWORD}".encode()).decode()
            for kind, host, credential in (
                ("token", "app.test", f"Bearer {self.token(who, self.old)}"),
                ("token", "app.test", f"Bearer {self.token(who, self.new)}"),
                ("opaque", "machines.test", f"Bearer opaque-{who}-welcome"),
                ("basic", "files.test", f"Basic {password}"),
            ):
                for _ in range(100):
                    start, answer = time.time(), line.ask("GET", "/api/x", {"Host": host, "Authorization": credential})
                    # It serves before it has fetched keys.
                    if answer[0] != 503 or self.stop.is_set():
                        break
                    time.sleep(0.1)
                self.seen(kind, who, proxy, start, answer[0], answer[2])
        line.close()

    def asks(self, kind, who, line, path, headers, pause, draw, times):
        for _ in range(times):
            if self.stop.is_set():
                return
            start = time.time()
            try:
                status, _, text = line.ask("GET", path, {"X-Remote-User": "admin", **headers})
                self.seen(kind, who, line.proxy, start, status, text)
            except (OSError, http.client.HTTPException) as why:
                self.note(kind, line.proxy, start, type(why).__name__)
            self.stop.wait(draw.uniform(0.5, 1.5) * pause)

    def tokens(self, draw):
        """Somebody with a token of either provider, for a while; sometimes with the newest key, which has to land."""
        who, side, line = draw.choice(PEOPLE), draw.choice([self.old, self.new]), Line(draw.choice(self.proxies), tls=draw.random() < 0.3)
        fresh = draw.random() < 0.3
        token = self.token(who, side, older=0 if fresh else 20)
        self.asks("fresh" if fresh else "token", who, line, "/api/x", {"Authorization": f"Bearer {token}"}, 0.02, draw, 200)
        line.close()

    def others(self, draw):
        """Opaque tokens, and passwords."""
        who, line = draw.choice(PEOPLE), Line(draw.choice(self.proxies))
        self.asks("opaque", who, line, "/x", {"Host": "machines.test", "Authorization": f"Bearer opaque-{who}-{draw.randrange(10**12)}"}, 0.05, draw, 20)
        password = base64.b64encode(f"{who}:{PASSWORD}".encode()).decode()
        self.asks("basic", who, line, "/x", {"Host": "files.test", "Authorization": f"Basic {password}"}, 0.05, draw, 20)
        line.close()

    def streams(self, draw):
        """Requests of one HTTP/2 connection over TLS."""
        who, proxy, start = draw.choice(PEOPLE), draw.choice(self.proxies), time.time()
        token = self.token(who, draw.choice([self.old, self.new]))
        words = ["curl", "-s", "--http2", "--max-time", "25", "--cacert", world.WORK / "ca.pem", "-H", f"Authorization: Bearer {token}", "-H", "X-Remote-User: admin", "-w", "\n%{http_code} %{http_version}\n", f"https://127.0.0.1:{proxy.tls}/api/x?[1-20]"]
        lines = iter(subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=600).stdout.splitlines())
        for text, code in zip(lines, lines):
            status, version = code.split()
            self.seen("h2", who, proxy, start, int(status) if version == "2" else f"{status} in HTTP/{version}", text)
        self.stop.wait(draw.uniform(0.2, 0.6))

    def sockets(self, draw):
        """A WebSocket that says who it is of, and gives back what it gets."""
        who, proxy, start = draw.choice(PEOPLE), draw.choice(self.proxies), time.time()
        token = self.token(who, draw.choice([self.old, self.new]))
        try:
            with socket.create_connection(("127.0.0.1", proxy.plain), 25) as one:
                one.sendall((
                    f"GET /api/socket HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nX-Remote-User: admin\r\n\r\n"
                ).encode())
                file = one.makefile("rb")
                status = int(file.readline().split()[1])
                while file.readline().strip():
                    pass
                if status != 101:
                    return self.note("socket", proxy, start, status)
                told = message(file)
                if told != who.encode():
                    with self.lock:
                        self.wrong.append(("socket", who, told))
                self.note("socket", proxy, start)
                for _ in range(10):
                    start, sent = time.time(), os.urandom(20)
                    one.sendall(b"\x82\x94\0\0\0\0" + sent)
                    got = message(file)
                    self.note("socket", proxy, start, None if got == sent else f"{got} came back")
                    if self.stop.wait(draw.uniform(0.1, 0.3)):
                        return
        except (OSError, ValueError, IndexError) as why:
            self.note("socket", proxy, start, type(why).__name__)
            self.stop.wait(0.2)

    def strangers(self, draw):
        """Who has no good credential stays outside, whatever is away."""
        line = Line(draw.choice(self.proxies), tls=draw.random() < 0.3)
        token = self.token("admin", self.new)
        forged = draw.choice([
            "Bearer " + token[:-8] + "AAAAAAAA", "Bearer x.y.z", "", "Basic YWRtaW46YWRtaW4=",
            "Bearer " + self.token("user00", self.old, life=-60), "Bearer " + self.token("user00", self.new, audience="another"),
        ])
        line.cookies = {draw.choice(["authferry", "__Host-authferry"]): os.urandom(24).hex()} if draw.random() < 0.5 else {}
        for kind, path in (("stranger", "/api/x"), ("stranger-page", "/page")):
            start = time.time()
            try:
                status = line.ask("GET", path, {"X-Remote-User": "admin", **({"Authorization": forged} if forged else {})})[0]
            except (OSError, http.client.HTTPException) as why:
                status = type(why).__name__
            if isinstance(status, int) and status < 300:
                with self.lock:
                    self.opened.append((path, forged[:20], line.cookies))
            # Turned away is one thing, an error another.
            self.note(kind, line.proxy, start, None if status in ({401} if kind == "stranger" else {302, 303, 401}) else status)
        line.close()
        self.stop.wait(0.1)

    @staticmethod
    def sign_in(who, line):
        """As a browser does. Who turns out to belong to the other side is sent on, once."""
        page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        path = "/page"
        for _ in range(6):
            status, fields, _ = line.ask("GET", path, page)
            place = urllib.parse.urlsplit(fields.get("location", ""))
            if place.path.endswith("/authorize"):
                asked = http.client.HTTPConnection(place.netloc, timeout=10)
                asked.request("GET", f"{place.path}?{place.query}&login_hint={who}")
                place = urllib.parse.urlsplit(asked.getresponse().getheader("location"))
                asked.close()
            if line.signed_in() or not place.path:
                break
            path = f"{place.path}?{place.query}" if place.query else place.path
        if not line.signed_in():
            raise ValueError(f"{status} instead of a session")

    def visit(self, draw, pause, most):
        """A sign-in, pages at any instance, a sign-out after which the cookie is worth nothing."""
        who, line, start = draw.choice(PEOPLE), Line(draw.choice(self.proxies), tls=True), time.time()
        try:
            self.sign_in(who, line)
            self.note("login", line.proxy, start)
        except (OSError, http.client.HTTPException, ValueError, TypeError) as why:
            self.note("login", line.proxy, start, f"{type(why).__name__}: {why}")
            self.stop.wait(0.5)
            return
        for _ in range(draw.randint(most // 10, most)):
            if self.stop.wait(draw.uniform(0.5, 1.5) * pause):
                return
            if draw.random() < 0.1:
                line.to(draw.choice(self.proxies))
            start = time.time()
            try:
                status, _, text = line.ask("GET", "/page")
            except (OSError, http.client.HTTPException) as why:
                self.note("session", line.proxy, start, type(why).__name__)
                continue
            if status in (302, 303, 401, 403) or not line.signed_in():
                # A login lives until somebody ends it.
                with self.lock:
                    self.counts["session"] += 1
                    self.lost.append((who, start, time.time(), status))
                return
            self.seen("session", who, line.proxy, start, status, text)
        kept, start = dict(line.cookies), time.time()
        origin = {"Origin": f"https://127.0.0.1:{line.proxy.tls}", "Sec-Fetch-Site": "same-origin"}
        try:
            status = line.ask("POST", "/.authferry/logout", origin, b"")[0]
            self.note("logout", line.proxy, start, None if status < 400 else status)
            if status < 400:
                with self.lock:
                    self.ended = [*self.ended[-300:], (kept, who, time.time(), line.proxy)]
        except (OSError, http.client.HTTPException) as why:
            self.note("logout", line.proxy, start, type(why).__name__)
        line.close()

    def short(self, draw):
        self.visit(draw, 0.05, 60)

    def long(self, draw):
        """Minutes, so that its owner confirms it a few times."""
        self.visit(draw, 0.7, 300)

    def ghosts(self, draw):
        """What was signed out comes again, at once and later, here and there."""
        self.stop.wait(0.05)
        with self.lock:
            # Most often of those that have just ended.
            kept = draw.choice(self.ended[-5:] if draw.random() < 0.5 else self.ended) if self.ended else None
        if kept is None:
            return
        cookies, who, ended, where = kept
        line, start = Line(draw.choice(self.proxies), tls=True), time.time()
        line.cookies = dict(cookies)
        try:
            status = line.ask("GET", "/page")[0]
        except (OSError, http.client.HTTPException) as why:
            status = type(why).__name__
        line.close()
        if status == 200:
            with self.lock:
                if line.proxy is where:
                    self.opened.append(("after a sign-out here", who, f"{start - ended:.1f} s"))
                else:
                    self.latest = max(self.latest, start - ended)
                    if start - ended > self.elsewhere(ended, start, self.place(line.proxy)):
                        self.opened.append(("after a sign-out elsewhere", who, f"{start - ended:.1f} s"))
        with self.lock:
            self.counts["ghost"] += 1
            if status != 200 and status not in (302, 303, 401):
                self.errors.append(("session", self.place(line.proxy), start, time.time(), f"signed out: {status}"))

    def elsewhere(self, ended, start, place):
        """How long another instance may honour what was ended then, by what was wrong with its way to the store between that and this request."""
        spans = [(a, b) for fault, where, a, b in (*self.faults_now(), *self.stalls) if fault in DEAF and where in (None, place)]
        if any(a <= start and ended <= b + 2 for a, b in spans):
            return ELSEWHERE_AWAY
        return ELSEWHERE_UNHEARD if any(a <= start and ended <= b + 5 for a, b in spans) else ELSEWHERE

    under_way = ()

    def faults_now(self):
        return [*self.faults, *self.under_way]

    def hit(self, kind, place, span):
        """Brings one fault about, for so long, and ends it."""
        start, where = time.time(), place if kind in ALONE else None
        self.under_way = ((kind, where, start, float("inf")),)
        self.bring(kind, place, span)
        self.faults.append((kind, where, start, time.time()))
        self.under_way = ()
        if kind in ("kill", "term"):
            self.welcome(self.proxies[place])

    def hit_both(self, kinds, place, span):
        """Two at once. Each explains what it explains until both have ended; an instance that is started without what it needs is away until that is there."""
        start, where = time.time(), place if {"kill", "term"} & {*kinds} else None
        at = lambda kind: place if kind in ALONE else None
        self.under_way = tuple((kind, at(kind), start, float("inf")) for kind in kinds)
        threads = [threading.Thread(target=self.bring, args=(kind, place, span)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if where is not None:
            self.welcome(self.proxies[place])
        self.faults.extend((kind, at(kind), start, time.time()) for kind in kinds)
        self.under_way = ()

    def bring(self, kind, place, span):
        proxy = self.proxies[place]
        if kind == "reload":
            # What cannot be recorded does not take effect: on a full disk it is refused, unless there was still room for that.
            full = any(fault == "disk" for fault, *_ in self.under_way)
            outcomes = ("success", "refused") if full else ("success",)
            before = sum(map(proxy.reloads, outcomes))
            proxy.changed()
            proxy.process.send_signal(signal.SIGHUP)
            self.confirm(proxy, outcomes, before)
        elif kind == "garbage":
            before, good = proxy.reloads("refused"), proxy.config.read_text()
            proxy.config.write_text(good.replace("version: 1", "version: one"))
            proxy.process.send_signal(signal.SIGHUP)
            self.confirm(proxy, ("refused",), before)
            proxy.config.write_text(good)
        elif kind in Ground.KINDS:
            end = time.time() + span
            while time.time() < end and not self.stop.is_set():
                self.grounds[place].be_bad(kind)
                self.stop.wait(0.1)
            self.grounds[place].be_well(kind)
        elif kind in ("redis-slow", "redis-cut"):
            # A tenth of a second there and back: within what a call may take.
            for wire in self.wires if kind == "redis-slow" else [self.wires[place]]:
                wire.be("slow 0.05" if kind == "redis-slow" else "cut")
            self.stop.wait(span)
            for wire in self.wires:
                wire.be("well")
        elif kind in ("kill", "term"):
            proxy.stop(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            proxy.start()
        else:
            name, _, hangs = kind.partition("-")
            server = {"redis": self.redis, "old": self.old, "new": self.new, "upstream": self.back}[name]
            server.hang() if hangs else server.kill()
            self.stop.wait(span)
            server.go_on() if hangs else server.start()

    def confirm(self, proxy, outcomes, before):
        """A reload takes as long as it takes on a busy machine; that it comes is what is held."""
        end = time.time() + 10
        while time.time() < end:
            if sum(map(proxy.reloads, outcomes)) > before:
                return
            time.sleep(0.1)
        with self.lock:
            self.errors.append(("load", None, end, end, f"a reload was not counted as {' or '.join(outcomes)}"))

    def beside(self, _draw):
        """A call to Redis may take 250 ms. On a machine that stands still it takes longer, and that is nobody's fault: half of it, beside a pause of 30 ms, is seen here and announced."""
        try:
            with socket.create_connection(("127.0.0.1", self.redis.port), 30) as one:
                start = time.time()
                while not self.stop.wait(0.03):
                    one.sendall(b"SET beside 1\r\n")
                    if not one.recv(100):
                        break
                    began, start = start, time.time()
                    if start - began > 0.155 and not {fault[0] for fault in self.under_way} & {"redis", "redis-hangs"}:
                        self.stalls.append(("redis-hangs", None, began, start))
        except OSError:
            pass
        # It was killed.
        self.stop.wait(0.2)

    def sample(self, _draw):
        while not self.stop.is_set():
            proxy = self.proxies[0]
            try:
                self.samples.append((time.time() - self.begin, proxy.rss(), len(os.listdir(f"/proc/{proxy.pid()}/fd"))))
            except (OSError, TypeError):
                pass  # It is just being killed.
            self.stop.wait(min(5, self.seconds / 60))

    def run(self, trouble):
        """Until the end; `trouble` is called once, with the load running. Says whether the instances still are."""
        for proxy in self.proxies:
            self.welcome(proxy)
        work = [self.tokens] * 2 + [self.short] * 4 + [self.long] * 12 + [self.others, self.streams, self.sockets, self.sockets, self.strangers, self.ghosts, self.sample, self.beside]
        threads = [self.loop(body, number) for number, body in enumerate(work)]

        def troubles(_draw):
            trouble()
            self.stop.wait()

        threads.append(self.loop(troubles, "trouble"))
        # A proxy that ends by itself ends all.
        while time.time() < self.end and (self.under_way or all(proxy.process.poll() is None for proxy in self.proxies)):
            time.sleep(0.5)
        end = time.time() + 30
        while self.under_way and time.time() < end:
            time.sleep(0.1)
        alive = all(proxy.process.poll() is None for proxy in self.proxies)
        self.stop.set()
        for thread in threads:
            thread.join(40)
        return alive

    def explained(self, kind, place, start, end):
        for fault, where, a, b in (*self.faults, *self.stalls):
            kinds, more = PROMISED[fault]
            if kind in kinds and where in (None, place) and a <= end and start <= b + more:
                return True
        return False

    def outside(self):
        """Errors that nothing explains."""
        return [error for error in self.errors if not self.explained(*error[:4])]

    def counted(self, kind):
        """The share of the time in which an error of that kind counts at the first instance."""
        steps = 2000
        return sum(not self.explained(kind, 0, at, at) for at in (self.begin + self.seconds * n / steps for n in range(steps))) / steps

    def twice(self):
        """Refresh tokens that came twice: those whose first answer could get lost in a fault, and the others."""
        lost, bad = [], []
        for side in (self.old, self.new):
            first = {}
            for token, at in side.refreshes():
                if token in first:
                    excused = any(fault in LOSING and a - 1 <= first[token] <= b for fault, _, a, b in self.faults)
                    (lost if excused else bad).append((token.split(".")[0], at, first[token]))
                first.setdefault(token, at)
        return lost, bad

    def refreshes(self):
        return len(self.old.refreshes()) + len(self.new.refreshes())

    def ended_early(self):
        """Logins that were lost without the one reason there is: a refresh token whose answer got lost, and was presented again."""
        lost, _ = self.twice()
        spent = lambda who, start, end: any(whose == who and start - 2 * REVALIDATE <= at <= end for whose, at, _ in lost)
        return [one for one in self.lost if not spent(*one[:3])]

    def flat(self):
        """Growth of memory in MiB in ten minutes, and of descriptors, once it is warm."""
        warm = [s for s in self.samples if self.seconds / 4 <= s[0]]
        half = len(warm) // 2
        first, last = warm[:half], warm[half:]
        median = lambda part, at: statistics.median(s[at] for s in part)
        apart = statistics.median(s[0] for s in last) - statistics.median(s[0] for s in first)
        grown = median(last, 1) - median(first, 1)
        return grown / apart * 600, grown, median(last, 2) - median(first, 2)

    def told(self, error):
        """An error with the fault before it, in seconds."""
        kind, place, start, end, why = error
        before = [(fault, where, f"{a - self.begin:.1f}-{b - self.begin:.1f}") for fault, where, a, b in self.faults if a <= end][-1:]
        return kind, place, f"{start - self.begin:.1f}-{end - self.begin:.1f}", why, *before

    def panicked(self):
        return any("panicked" in (proxy.dir / "stderr.log").read_text() for proxy in self.proxies)

    def close(self):
        self.stop.set()
        for one in (self.redis, self.old, self.new, self.back, *self.wires):
            if one.process.poll() is None:
                one.kill()
        for proxy in self.proxies:
            if proxy.process.poll() is None:
                proxy.stop()
        for ground in self.grounds:
            ground.close()
        shutil.rmtree(self.kept, ignore_errors=True)

    def said(self):
        """The history in one line, and what of it must not be."""
        outside, early, (excused, again) = self.outside(), self.ended_early(), self.twice()
        must_not = [*self.wrong, *self.opened, *map(self.told, outside), *early, *again]
        n = self.counts
        text = (
            f"{self.seconds} s, {sum(n.values()) / self.seconds:.0f} requests/s: tokens {n['token'] + n['fresh']} (HTTP/2 {n['h2']}), opaque {n['opaque']}, passwords {n['basic']}, WebSocket {n['socket']}, "
            f"sessions {n['session']}, sign-ins {n['login']}, sign-outs {n['logout']}, strangers {n['stranger'] + n['stranger-page']}, signed out {n['ghost']}, refreshes {self.refreshes()}; "
            f"faults: {', '.join(f'{kind} {count}' for kind in PROMISED if (count := sum(f[0] == kind for f in self.faults)))}; "
            f"mixed up {len(self.wrong)}, let in {len(self.opened)}, a refresh token twice {len(again)} (with an answer of a fault {len(excused)}), logins lost {len(early)} (with an answer of a fault {len(self.lost) - len(early)}), "
            f"errors {len(self.errors)}, unexplained {len(outside)}; the machine stood still for {sum(b - a for _, _, a, b in self.stalls):.1f} s; an error counts in {self.counted('token') * 100:.0f} % of the time (sessions {self.counted('session') * 100:.0f} %)"
        )
        return text, must_not


def message(file):
    """The payload of a short WebSocket message; pings between are passed over."""
    while True:
        head = file.read(2)
        if len(head) < 2:
            raise OSError("the socket has ended")
        size = head[1] & 127
        if size > 125:
            raise ValueError("a long message")
        body = file.read(size)
        if head[0] & 15 in (1, 2):
            return body
        if head[0] & 15 == 8:
            raise OSError("the socket was closed")
