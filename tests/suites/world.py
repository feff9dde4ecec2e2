"""What the outside suites share: certificates, an upstream, tokens, and the program as a process."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("SUITES_CACHE", pathlib.Path.home() / ".cache/authferry-suites"))
PROGRAM = os.environ.get("AUTHFERRY_BIN", str(ROOT / "target/debug/authferry"))
SECRET = "a secret of the suites that is long enough, 0123456789"
WORK = pathlib.Path(tempfile.mkdtemp(prefix="authferry-suites."))


def sh(*words, **more):
    """Runs a command and returns its output; it may fail."""
    more.setdefault("timeout", 600)
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    return done.returncode, done.stdout


def need(whose):
    """Installs the programs that are used and missing; how many cannot be had."""
    programs = {"openssl": "openssl", "redis-server": "redis-server", "curl": "curl", "h2load": "nghttp2-client", "promtool": "prometheus"}
    missing = {package for program, package in programs.items() if not shutil.which(program)}
    if missing and os.geteuid() == 0:
        sh("sh", "-c", f"apt-get install -y -q --no-install-recommends {' '.join(sorted(missing))} || (apt-get update -q && apt-get install -y -q --no-install-recommends {' '.join(sorted(missing))})")
        # What we start ourselves is all that is to run.
        for service in {"redis-server", "prometheus"} & missing:
            sh("sh", "-c", f"service {service} stop || true")
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        print(f"{whose} need {', '.join(missing)}")
    return len(missing)


def certificates():
    """An authority and a certificate for app.test and localhost, made once."""
    chain, key = WORK / "tls.pem", WORK / "tls.key"
    if not chain.exists():
        # As a public authority would make it: scanners look at that, too.
        (WORK / "ext").write_text("subjectAltName=DNS:app.test,DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\ncrlDistributionPoints=URI:http://crl.test/suites.crl\n")
        authority = [word for extension in ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash") for word in ("-addext", extension)]
        for words in (
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90", *authority, "-subj", "/CN=suites", "-keyout", WORK / "ca.key", "-out", WORK / "ca.pem"],
            ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=app.test", "-keyout", key, "-out", WORK / "tls.csr"],
            ["x509", "-req", "-in", WORK / "tls.csr", "-CA", WORK / "ca.pem", "-CAkey", WORK / "ca.key", "-CAcreateserial", "-days", "90", "-extfile", WORK / "ext", "-out", chain],
        ):
            code, said = sh("openssl", *words)
            assert code == 0, said
    return chain, key


def token(sub="alice", life=3600):
    """An access token that the program takes."""
    b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    now = int(time.time())
    head = b64(json.dumps({"alg": "HS256", "typ": "at+jwt"}).encode())
    body = b64(json.dumps({"iss": "https://issuer.test", "sub": sub, "aud": "app", "iat": now - 5, "exp": now + life, "client_id": "c", "jti": os.urandom(8).hex()}).encode())
    mac = hmac.new(SECRET.encode(), head + b"." + body, hashlib.sha256).digest()
    return (head + b"." + body + b"." + b64(mac)).decode()


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A head and a body are two writes: the second one does not wait for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding"):
            while (size := int(self.rfile.readline().split(b";")[0], 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        text = json.dumps({"path": self.path, "headers": list(self.headers.items()), "body": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.socket()
        else:
            self.answer()

    def socket(self):
        """Says in a first message whose it is, and gives short messages back."""
        digest = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.close_connection = True
        frame = lambda kind, body: self.wfile.write(bytes([128 | kind, len(body)]) + body)
        try:
            frame(1, ",".join(self.headers.get_all("X-Remote-User", [])).encode())
            while len(head := self.rfile.read(2)) == 2:
                size = head[1] & 127
                mask, body = self.rfile.read(4), self.rfile.read(size)
                body = bytes(byte ^ mask[n % 4] for n, byte in enumerate(body))
                # A close is answered by one, a ping by a pong.
                frame({8: 8, 9: 10}.get(head[0] & 15, head[0] & 15), body)
                if head[0] & 15 == 8:
                    return
        except OSError:
            pass

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass


def upstream():
    server = Server(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


class Proxy:
    """The program with two listeners: TLS first, then cleartext."""

    def __init__(self, upstream_url, routes="[{ path: /* }]", server="", app="", state=None, wrap=(), log=None):
        chain, key = certificates()
        self.dir = pathlib.Path(state or tempfile.mkdtemp(dir=WORK))
        (self.dir / "secret").write_text(SECRET)
        (self.dir / "admin").write_text("admin-token-of-the-suites-0123456789")
        self.config = self.dir / "authferry.yaml"
        self.config.write_text(f"""version: 1
server:
  listeners:
    - {{ listen: 127.0.0.1:0, tls: {{ certificate: {{ file: {chain} }}, key: {{ file: {key} }} }} }}
    - {{ listen: 127.0.0.1:0 }}
  admin: {{ listen: 127.0.0.1:0, token: {{ file: admin }} }}
  state_dir: {self.dir}/state
{server}
telemetry: {{ access_log: {{ file: {log or self.dir / "access.log"} }} }}
providers:
  only:
    jwt:
      issuer: https://issuer.test
      verify: {{ algs: [HS256], audiences: [app] }}
      jwks: {{ shared_secret: {{ file: secret }} }}
      claims: {{ subject: sub }}
apps:
  app:
    hosts: [app.test, localhost, 127.0.0.1]
    upstream: {{ {upstream_url if ':' in upstream_url and upstream_url.startswith('url') else f'url: "{upstream_url}"'} }}
    provider: only
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
    routes: {routes}
{app}
""")
        self.wrap = wrap
        self.start()

    def start(self):
        self.log = open(self.dir / "stderr.log", "a")
        self.process = subprocess.Popen([*self.wrap, PROGRAM, "run", "--config", str(self.config)], stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"ready public=(\S+) admin=(\S+)", line)
        if not found:
            raise RuntimeError("it did not start: " + (self.dir / "stderr.log").read_text()[-2000:])
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        port = lambda text: int(text.rsplit(":", 1)[1])
        ports = [port(text) for text in found[1].split(",")]
        self.tls, self.plain, self.admin = ports[0], ports[-1], port(found[2])

    def pid(self):
        return self.process.pid

    def reload(self):
        """Asks for a reload: the status and what was said."""
        status, _, said = ask(self.admin, "/-/reload", {"Host": f"127.0.0.1:{self.admin}", "Authorization": "Bearer admin-token-of-the-suites-0123456789"}, method="POST", body=b"")
        return status, said.decode()

    def metric(self, series):
        """The sum of the series that begin so."""
        lines = [line for line in ask(self.admin, "/metrics")[2].decode().splitlines() if line.startswith(series)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def rss(self):
        """In MiB."""
        status = pathlib.Path(f"/proc/{self.pid()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


def ask(port, path="/", headers=None, tls=False, timeout=10, method="GET", body=None):
    """One request on a connection of its own: status, headers, body."""
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    if tls:
        context = ssl.create_default_context(cafile=str(WORK / "ca.pem"))
        plain = context.wrap_socket(plain, server_hostname="app.test")
    import http.client

    connection = http.client.HTTPConnection("app.test", timeout=timeout)
    connection.sock = plain
    try:
        connection.request(method, path, body=body, headers={"Host": "app.test", "Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def bearer(sub="alice"):
    return {"Authorization": f"Bearer {token(sub)}"}
