#!/usr/bin/env python3
"""An OpenID provider that is there to be killed: its keys and the refresh tokens it has seen outlive it, everything else goes with it.

  tests/faults/provider.py PORT DIRECTORY [ISSUER]

A restart signs with a new key and publishes the last three. Whoever follows a redirect here names with `login_hint` who signs in.
The opaque tokens it knows are `opaque-WHO-…`.
"""
import base64
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.parse


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*words, given=None):
    return subprocess.run(["openssl", *map(str, words)], input=given, capture_output=True, check=True).stdout


class Keys:
    """RSA keys in a directory, the newest last."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def add(self):
        file = self.directory / f"{time.time_ns()}.pem"
        beside = file.with_suffix(".new")
        openssl("genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", beside)
        beside.rename(file)

    def files(self):
        return sorted(self.directory.glob("*.pem"))[-3:]

    def jwks(self):
        keys = []
        for file in self.files():
            modulus = bytes.fromhex(openssl("rsa", "-in", file, "-noout", "-modulus").decode().strip().split("=")[1])
            keys.append({"kty": "RSA", "kid": file.stem, "use": "sig", "alg": "RS256", "n": b64(modulus), "e": "AQAB"})
        return {"keys": keys}

    def sign(self, typ, claims, older=0):
        """With the newest key that is at least so many seconds old."""
        files = [file for file in self.files() if int(file.stem) / 1e9 <= time.time() - older] or self.files()[:1]
        head = {"alg": "RS256", "typ": typ, "kid": files[-1].stem}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        return text + "." + b64(openssl("dgst", "-sha256", "-sign", files[-1], "-binary", given=text.encode()))


def claims(issuer, who, audience, life):
    now = int(time.time())
    return {"iss": issuer, "sub": f"sub-{who}", "uid": who, "aud": audience, "iat": now - 2, "exp": now + life}


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def say(self, body, status=200, location=None, later=None):
        text = json.dumps(body).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        if later:
            self.send_header("Retry-After", later)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def tokens(self, who, audience, nonce=None):
        refresh = f"{who}.{os.urandom(12).hex()}"
        with self.server.lock:
            self.server.given.write(f"{who} {time.time()}\n")
            self.server.given.flush()
        told = claims(self.server.issuer, who, audience, 300)
        if nonce:
            told["nonce"] = nonce
        self.say({"id_token": self.server.keys.sign("JWT", told), "access_token": os.urandom(12).hex(), "refresh_token": refresh, "token_type": "Bearer", "expires_in": 60})

    def do_GET(self):
        address = urllib.parse.urlsplit(self.path)
        asked, issuer = dict(urllib.parse.parse_qsl(address.query)), self.server.issuer
        if address.path == "/.well-known/openid-configuration":
            self.say({
                "issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/jwks",
                "response_types_supported": ["code"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": True,
            })
        elif address.path == "/jwks":
            with self.server.lock:
                self.server.fetched.write(f"{time.time()}\n")
                self.server.fetched.flush()
            self.say(self.server.published)
        elif address.path == "/authorize":
            code = os.urandom(12).hex()
            self.server.codes[code] = (asked["login_hint"], asked["client_id"], asked.get("nonce"))
            back = urllib.parse.urlencode({"code": code, "state": asked["state"], "iss": issuer})
            self.say({}, 302, f"{asked['redirect_uri']}?{back}")
        else:
            self.say({}, 404)

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
        if form.get("grant_type") == "refresh_token":
            token = form.get("refresh_token", "")
            busy = self.server.keys.directory / "busy"
            if busy.exists():
                with self.server.lock:
                    self.server.busy.write(f"{token.rsplit('.', 1)[0]} {time.time()}\n")
                    self.server.busy.flush()
                return self.say({"error": "temporarily_unavailable"}, 429, later=busy.read_text())
            with self.server.lock:
                again, _ = token in self.server.used, self.server.used.add(token)
                # Before the answer: who loses that one in a fault comes with it again.
                self.server.file.write(f"{token} {time.time()}\n")
                self.server.file.flush()
                # How many are here at once, at most.
                self.server.now += 1
                if self.server.now > self.server.most:
                    self.server.most = self.server.now
                    self.server.beside("most", str(self.server.most))
            # A refresh token that comes twice ends the login, as strict providers do.
            try:
                if again:
                    return self.say({"error": "invalid_grant"}, 400)
                return self.tokens(token.rsplit(".", 1)[0], "load")
            finally:
                with self.server.lock:
                    self.server.now -= 1
        if self.path == "/introspect":
            kind, _, rest = form.get("token", "").partition("-")
            who, now = rest.partition("-")[0], int(time.time())
            return self.say({"active": True, "iss": f"{self.server.issuer}/opaque", "sub": f"sub-{who}", "uid": who, "client_id": "load", "iat": now - 2, "exp": now + 600} if kind == "opaque" else {"active": False})
        found = self.server.codes.pop(form.get("code"), None)
        if found is None:
            return self.say({"error": "invalid_grant"}, 400)
        who, client, nonce = found
        self.tokens(who, client, nonce)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    now = most = 0

    def beside(self, name, text):
        file = self.keys.directory / name
        new = file.with_suffix(".new")
        new.write_text(text)
        new.rename(file)

    def handle_error(self, *_):
        pass


def main():
    port, directory = int(sys.argv[1]), sys.argv[2]
    server = Server(("127.0.0.1", port), Provider)
    # Where it is reached, if that is not where it listens.
    server.issuer = sys.argv[3] if len(sys.argv) > 3 else f"http://127.0.0.1:{server.server_address[1]}"
    server.keys = Keys(directory)
    seen = pathlib.Path(directory) / "refreshes"
    server.codes, server.lock = {}, threading.Lock()
    server.used = {line.split()[0] for line in seen.read_text().splitlines()} if seen.exists() else set()
    server.file, server.given, server.fetched, server.busy = (open(seen.with_name(name), "a") for name in ("refreshes", "given", "fetched", "turned-away"))
    server.keys.add()
    server.published = server.keys.jwks()

    def rotates(*_):
        server.keys.add()
        server.published = server.keys.jwks()

    signal.signal(signal.SIGUSR1, rotates)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
