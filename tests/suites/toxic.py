"""The network between us and everybody else is spoilt by toxiproxy: one fault of it, or one side, a check."""
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "faults")]
import mixed
import world
from tools import Running, apt, free_port, go
from world import Proxy, Server, ask, bearer

BIG = 1 << 20
# Until the head of an answer; see `upstream` below.
PATIENCE = 2


class Toxiproxy:
    """The server, and what it is told over its own interface."""

    def __init__(self):
        self.port = free_port()
        self.running = Running(go("github.com/Shopify/toxiproxy/v2/cmd/server@latest", "toxiproxy"), "-host", "127.0.0.1", "-port", self.port, port=self.port)

    def __enter__(self):
        return self

    def __exit__(self, *more):
        self.running.__exit__(*more)

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"toxiproxy: {said!r}")
        return json.loads(said) if said else None

    def link(self, name, to):
        """A way to a port here; its own port."""
        port = free_port()
        self.call("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{to}", "enabled": True})
        return Link(self, name, port)


class Link:
    def __init__(self, server, name, port):
        self.server, self.name, self.port = server, name, port

    def spoil(self, kind, stream="downstream", **attributes):
        self.server.call("POST", f"/proxies/{self.name}/toxics", {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes})

    def down(self):
        self.server.call("POST", f"/proxies/{self.name}", {"enabled": False})

    def heal(self):
        for toxic in self.server.call("GET", f"/proxies/{self.name}")["toxics"]:
            self.server.call("DELETE", f"/proxies/{self.name}/toxics/{toxic['name']}")
        self.server.call("POST", f"/proxies/{self.name}", {"enabled": True})


class Big(http.server.BaseHTTPRequestHandler):
    """A megabyte of known bytes, the name of whoever asked, or the digest of what was sent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    content = hashlib.shake_256(b"the suites").digest(BIG)
    seen = 0

    def do_GET(self):
        type(self).seen += 1
        self.say(self.content if self.path.startswith("/big") else ",".join(self.headers.get_all("X-Remote-User", [])).encode())

    def do_POST(self):
        type(self).seen += 1
        self.say(hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode())

    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def timed(port, path="/x", headers=None, **more):
    """The status (or what went wrong, by its kind), the body, and how long it took."""
    start = time.monotonic()
    try:
        status, _, body = ask(port, path, headers, **more)
    except (OSError, http.client.HTTPException) as why:
        status, body = type(why).__name__, b""
    return status, body, time.monotonic() - start


class Faults:
    """One check a method, in order; each returns what was seen, and fails by an assertion."""

    def __init__(self, toxic, port, others, link, headers):
        self.toxic, self.port, self.others, self.link, self.headers = toxic, port, others, link, headers

    def others_are_well(self):
        """An application behind another link does not notice."""
        status, _, took = timed(self.port, "/x", {**self.headers, "Host": self.others}, timeout=5)
        assert status == 200 and took < 1, f"another application: {status} in {took:.1f} s"

    def latency(self):
        self.link.spoil("latency", latency=400, jitter=100)
        went = []
        threads = [threading.Thread(target=lambda: went.append(timed(self.port, "/x", self.headers))) for _ in range(20)]
        [thread.start() for thread in threads]
        self.others_are_well()
        [thread.join() for thread in threads]
        slowest = max(took for _, _, took in went)
        assert [status for status, _, _ in went] == [200] * 20 and slowest < 1.9, f"{went}"
        assert min(took for _, _, took in went) >= 0.28, "nothing was slow"
        return f"20 of 20 served, slowest {slowest:.1f} s"

    def bandwidth(self):
        self.link.spoil("bandwidth", rate=1024)
        status, body, took = timed(self.port, "/big", self.headers)
        assert status == 200 and body == Big.content and took > 0.5, f"{status}, {len(body)} bytes in {took:.1f} s"
        return f"1 MiB whole in {took:.1f} s"

    def slow_close(self):
        self.link.spoil("slow_close", delay=3000)
        went = [timed(self.port, "/x", self.headers) for _ in range(5)]
        slowest = max(took for _, _, took in went)
        assert all(status == 200 for status, _, _ in went) and slowest < 1, f"{went}"
        return f"5 of 5, slowest {slowest * 1000:.0f} ms"

    def timeout(self):
        self.link.spoil("timeout", timeout=0)
        status, _, took = timed(self.port, "/x", self.headers, timeout=15)
        self.others_are_well()
        assert status == 504 and PATIENCE - 0.2 <= took < PATIENCE + 1.5, f"{status} after {took:.1f} s"
        return f"504 after {took:.1f} s"

    def reset_peer(self):
        self.link.spoil("reset_peer", timeout=0)
        status, _, took = timed(self.port, "/x", self.headers)
        self.others_are_well()
        assert status == 502 and took < 1, f"{status} after {took:.1f} s"
        return f"502 in {took * 1000:.0f} ms"

    def slicer(self):
        self.link.spoil("slicer", average_size=64, size_variation=32, delay=5)
        self.link.spoil("slicer", "upstream", average_size=7, size_variation=3, delay=200)
        got = timed(self.port, "/x", self.headers)
        sent = b"s" * 4000
        posted = timed(self.port, "/post", self.headers, method="POST", body=sent)
        assert got[0] == 200 and posted[0] == 200 and posted[1].decode() == hashlib.sha256(sent).hexdigest(), f"{got}, {posted}"
        return "a head and a body in pieces of 7 bytes, answers in pieces of 64: whole"

    def limit_data(self):
        self.link.spoil("limit_data", bytes=200_000)
        status, body, _ = timed(self.port, "/big", self.headers)
        # An answer that was cut must not look whole.
        assert status in ("IncompleteRead", "ConnectionResetError"), f"{status} with {len(body)} bytes"
        return "an answer that was cut is broken off"

    def down(self):
        self.link.down()
        status, _, took = timed(self.port, "/x", self.headers)
        self.others_are_well()
        assert status == 502 and took < 1, f"{status} after {took:.1f} s"
        self.link.heal()
        start = time.monotonic()
        while timed(self.port, "/x", self.headers)[0] != 200:
            assert time.monotonic() - start < 10, "it does not come back"
            time.sleep(0.1)
        return f"502 in {took * 1000:.0f} ms, back {time.monotonic() - start:.1f} s after it"

    def clients(self):
        """The way from a client to us."""
        link = self.toxic.link("client", self.port)
        link.spoil("slicer", "upstream", average_size=5, size_variation=2, delay=300)
        link.spoil("latency", latency=100)
        status, _, _ = timed(link.port, "/x", self.headers)
        assert status == 200, f"in pieces: {status}"
        link.heal()
        link.spoil("bandwidth", rate=1024)
        status, body, _ = timed(link.port, "/big", self.headers)
        assert status == 200 and body == Big.content, f"little bandwidth: {status}, {len(body)} bytes"
        link.heal()
        link.spoil("bandwidth", rate=1024)
        link.spoil("reset_peer", timeout=100)
        broken = [timed(link.port, "/big", self.headers)[0] for _ in range(20)]
        assert all(status != 200 for status in broken), "nothing was reset"
        link.heal()
        status, body, took = timed(link.port, "/big", self.headers)
        assert status == 200 and body == Big.content and took < 2, f"afterwards {status}"
        return f"in pieces, with little bandwidth: whole; 20 were reset in their answers, then all is well"


class Sides:
    """The ways from us to a provider and to Redis."""

    def __init__(self, toxic, back):
        self.toxic = toxic
        self.redis = mixed.Redis(pathlib.Path(tempfile.mkdtemp(dir=world.WORK)))
        self.to_redis = toxic.link("redis", self.redis.port)
        # It says of itself that it is where the link is.
        self.to_idp = toxic.link("idp", port := free_port())
        self.idp = Idp(port, f"http://127.0.0.1:{self.to_idp.port}")
        self.proxy = Instance(self.idp.issuer, f"{{ store: redis, redis: {{ url: \"redis://127.0.0.1:{self.to_redis.port}\" }} }}", back)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.__exit__()
        self.redis.kill()
        self.idp.kill()

    def token(self):
        """Of the provider, with its own key."""
        claims = {**mixed.provider.claims(self.idp.issuer, "alice", "app", 600), "client_id": "load", "jti": os.urandom(8).hex()}
        return {"Authorization": f"Bearer {self.idp.keys.sign('at+jwt', claims)}"}

    def signed_in(self):
        line = mixed.Line(self.proxy)
        mixed.Load.sign_in("alice", line)
        return line

    def until(self, good, seconds, why):
        start = time.monotonic()
        while not good():
            assert time.monotonic() - start < seconds, why
            time.sleep(0.1)
        return time.monotonic() - start

    def provider(self):
        """Whose keys are known is let in while the provider is away, slow, or says half of everything; nobody else is."""
        token, forged = self.token(), self.token()
        forged = {"Authorization": forged["Authorization"][:-8] + "AAAAAAAA"}
        assert timed(self.proxy.plain, "/api/x", token)[0] == 200
        said = []
        for name, spoil in {"down": self.to_idp.down, "timeout": lambda: self.to_idp.spoil("timeout", timeout=0), "latency": lambda: self.to_idp.spoil("latency", latency=3000), "limit_data": lambda: self.to_idp.spoil("limit_data", bytes=60)}.items():
            spoil()
            status, body, took = timed(self.proxy.plain, "/api/x", token)
            assert (status, body) == (200, b"sub-alice") and took < 0.5, f"{name}: {status} {body} in {took:.1f} s"
            assert timed(self.proxy.plain, "/api/x", forged)[0] == 401, f"{name}: a forged token"
            self.to_idp.heal()
            said.append(name)
        self.until(lambda: self.can_sign_in(), 30, "nobody can sign in afterwards")
        return f"tokens are served with {', '.join(said)}; sign-in works afterwards"

    def can_sign_in(self):
        try:
            self.signed_in()
            return True
        except (OSError, ValueError, TypeError, http.client.HTTPException):
            return False

    def store(self):
        """Tokens are served whatever becomes of Redis; sessions are, too, or are told to come again; nobody is signed out."""
        line, token = self.signed_in(), self.token()
        page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        ask_page = lambda: line.ask("GET", "/page", page)[0]
        assert ask_page() == 200
        # A cookie that is well made, of a session that is over.
        stranger = self.signed_in()
        known = dict(stranger.cookies)
        stranger.ask("POST", "/.authferry/logout", {"Sec-Fetch-Site": "same-origin"})
        stranger.cookies = known
        said = []
        spoilt = {
            "latency": lambda: self.to_redis.spoil("latency", latency=100), "timeout": lambda: self.to_redis.spoil("timeout", timeout=0),
            "reset_peer": lambda: self.to_redis.spoil("reset_peer", timeout=0), "limit_data": lambda: self.to_redis.spoil("limit_data", bytes=20), "down": self.to_redis.down,
        }
        for name, spoil in spoilt.items():
            spoil()
            end, seen = time.monotonic() + 3, []
            while time.monotonic() < end:
                status, body, took = timed(self.proxy.plain, "/api/x", token)
                assert (status, body) == (200, b"sub-alice") and took < 1, f"{name}: a token: {status} in {took:.1f} s"
                assert stranger.ask("GET", "/page", page)[0] != 200, f"{name}: a session that nobody knows"
                seen.append(ask_page())
                assert seen[-1] in (200, 503), f"{name}: a session: {seen[-1]}"
                time.sleep(0.05)
            self.to_redis.heal()
            back = self.until(lambda: ask_page() == 200, 10, f"{name}: the session is gone")
            said.append(f"{name} {seen.count(200)} of {len(seen)}, back in {back:.1f} s")
        assert line.signed_in()
        return "tokens all served, sessions: " + ", ".join(said)


class Idp(mixed.Idp):
    """A provider whose name is not its address."""

    def __init__(self, port, issuer):
        self.directory, self.port, self.issuer = pathlib.Path(tempfile.mkdtemp(dir=world.WORK)), port, issuer
        self.keys = mixed.provider.Keys(self.directory)
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, mixed.provider.__file__, str(self.port), str(self.directory), self.issuer], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()


class Instance(Proxy):
    """With an OpenID provider."""

    def __init__(self, issuer, sessions, back):
        self.dir, self.wrap = pathlib.Path(tempfile.mkdtemp(dir=world.WORK)), ()
        for name in ("secret", "admin"):
            (self.dir / name).write_text(f"{name}-of-the-suites-0123456789-0123456789")
        for name in ("key-1", "key-2"):
            (self.dir / name).write_bytes(os.urandom(32))
        self.config = self.dir / "authferry.yaml"
        self.config.write_text(f"""version: 1
server: {{ listen: 127.0.0.1:0, admin: {{ listen: 127.0.0.1:0, token: {{ file: admin }} }}, state_dir: {self.dir}/state }}
telemetry: {{ access_log: {{ file: /dev/null }} }}
secrets: {{ bucket_key: {{ file: key-1 }}, session_keys: [{{ file: key-2 }}] }}
sessions: {sessions}
providers:
  only: {{ oidc: {{ issuer: "{issuer}", client: {{ id: load, secret: {{ file: secret }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: sub }} }} }}
apps:
  app:
    hosts: [app.test, 127.0.0.1]
    provider: only
    upstream: {{ url: "{back}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
    routes: [{{ path: /api/*, credentials: [bearer], on_unauthenticated: unauthorized }}, {{ path: /* }}]
""")
        self.start()


def run():
    """Every check: its name, whether it holds, what was seen."""
    apt("redis-server", "redis-server")
    told = []

    def check(name, body, heal=None):
        try:
            said, good = body(), True
        except (AssertionError, RuntimeError, ValueError, OSError, http.client.HTTPException) as why:
            said, good = (str(why) or type(why).__name__)[:300], False
        if heal:
            heal()
        told.append((name, good, said))

    server = Server(("127.0.0.1", 0), Big)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    back = server.server_address[1]
    with Toxiproxy() as toxic:
        link = toxic.link("upstream", back)
        others = f"  well: {{ hosts: [well.test], provider: only, upstream: {{ url: \"http://127.0.0.1:{back}\" }}, routes: [{{ path: /* }}] }}"
        with Proxy(f'url: "http://127.0.0.1:{link.port}", response_timeout: {PATIENCE}s', app=others) as proxy:
            faults = Faults(toxic, proxy.plain, "well.test", link, bearer())
            for name in ("latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data", "down", "clients"):
                check(name, getattr(faults, name), link.heal)
                # An origin that failed is left alone for a while; the next fault is another.
                for _ in range(100):
                    if timed(proxy.plain, "/x", faults.headers)[0] == 200:
                        break
                    time.sleep(0.1)
        with Sides(toxic, f"http://127.0.0.1:{back}") as sides:
            check("provider", sides.provider, sides.to_idp.heal)
            check("store", sides.store, sides.to_redis.heal)
    return told
