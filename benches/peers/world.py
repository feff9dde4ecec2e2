"""What stands around the proxies: keys, tokens, certificates, and an identity provider with logins."""
import base64, datetime, hashlib, http.server, ipaddress, json, pathlib, secrets, socket, ssl, threading, time, urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class World:
    """`distinct` tokens of each algorithm; they are made when they are first asked for."""

    def __init__(self, directory, upstream, distinct=10_000, people=0):
        self.dir, self.upstream, self.distinct, self.people = pathlib.Path(directory), upstream, distinct, people
        # Away from the files that a proxy watches.
        (self.dir / "logs").mkdir()
        self.idp, self.idp_tls = free_port(), free_port()
        self.issuer = f"http://127.0.0.1:{self.idp}/old"
        self.keys = {"RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
        n = self.keys["RS256"].public_key().public_numbers()
        c = self.keys["ES256"].public_key().public_numbers()
        self.jwks = {"keys": [
            {"kid": "RS256", "kty": "RSA", "use": "sig", "alg": "RS256", "n": b64(n.n.to_bytes(256, "big")), "e": b64(n.e.to_bytes(3, "big"))},
            {"kid": "ES256", "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "x": b64(c.x.to_bytes(32, "big")), "y": b64(c.y.to_bytes(32, "big"))},
        ]}
        (self.dir / "jwks.json").write_text(json.dumps(self.jwks))
        for name, key in self.keys.items():
            pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            (self.dir / f"{name.lower()}.pub.pem").write_bytes(pem)
        for name, text in {"admin.token": "bench-token", "client.secret": "client-secret"}.items():
            (self.dir / name).write_text(text)
            (self.dir / name).chmod(0o600)
        self.certificate()
        self.token = self.sign("RS256", 1)
        self.serve()

    def certificate(self):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.timezone.utc)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(2)
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30)).add_extension(names, False)
        chain = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for name, text in {"tls.crt": chain, "tls.key": pem, "tls.pem": chain + pem}.items():
            (self.dir / name).write_bytes(text)
        (self.dir / "tls.key").chmod(0o600)

    def sign(self, algorithm, n, header=None, **changes):
        """A token of the size that identity providers give out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "app", "sub": f"user-{n:06}", "uid": f"user-{n:06}", "azp": "spa-client", "client_id": "spa-client",
            "exp": now + 43200, "iat": now - 5, "nbf": now - 5, "jti": hashlib.sha256(str(n).encode()).hexdigest()[:32],
            "scope": "openid profile email", "email": f"user{n:06}@example.test", "email_verified": True,
            "name": f"User Number {n}", "preferred_username": f"user{n:06}", "groups": ["staff", "reports"],
        } | changes
        parts = [{"alg": algorithm, "typ": "at+jwt", "kid": algorithm} | (header or {}), claims]
        signed = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        key = self.keys[algorithm]
        if algorithm == "RS256":
            mac = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            mac = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return signed + "." + b64(mac)

    def file(self, kind):
        """A file of credentials, one a line."""
        path = self.dir / f"{kind}.txt"
        if not path.exists():
            path.write_text("".join(line + "\n" for line in self.lines(kind)))
        return path

    def lines(self, kind):
        if kind == "hot":
            return [self.token]
        if kind in ("RS256", "ES256"):
            return (self.sign(kind, n) for n in range(self.distinct))
        if kind == "people":
            # Nobody of them has a token among the others.
            return (self.sign("RS256", self.distinct + n) for n in range(self.people))
        if kind == "opaque":
            return ["opaque-000001-" + secrets.token_hex(16)]
        head, body, mac = self.token.split(".")
        if kind == "bad":
            return [f"{head}.{body}.{mac[:9]}{'A' if mac[9] != 'A' else 'B'}{mac[10:]}"]
        assert kind == "bad-distinct", kind
        # Below the modulus, which has its first bit set: what is not would be refused without any arithmetic.
        return (f"{head}.{body}.{b64(bytes([secrets.randbelow(128)]) + secrets.token_bytes(255))}" for _ in range(self.distinct))

    def serve(self):
        world = self

        class Provider(http.server.BaseHTTPRequestHandler):
            """An issuer at every first path segment. Everybody who comes is user-000007."""
            protocol_version = "HTTP/1.1"
            codes = {}

            def log_message(self, *_):
                pass

            def say(self, body, status=200, fields=()):
                body = json.dumps(body).encode()
                self.send_response(status)
                for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *fields]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def where(self):
                url = urllib.parse.urlsplit(self.path)
                first, _, rest = url.path.lstrip("/").partition("/")
                return f"http://127.0.0.1:{world.idp}/{first}", rest, dict(urllib.parse.parse_qsl(url.query))

            def do_GET(self):
                issuer, rest, query = self.where()
                if rest == ".well-known/openid-configuration":
                    return self.say({
                        "issuer": issuer, "jwks_uri": issuer + "/jwks.json", "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
                        "response_types_supported": ["code"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                        "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                        "userinfo_endpoint": issuer + "/userinfo",
                    })
                if rest == "jwks.json":
                    return self.say(world.jwks)
                if rest == "Users":
                    # SCIM: whoever is asked for is there, and as the tokens say.
                    who = json.loads(query["filter"].partition(" eq ")[2])
                    user = {"id": who, "externalId": who, "uid": who, "displayName": "User", "active": True, "groups": [{"display": "staff"}, {"display": "reports"}]}
                    return self.say({"totalResults": 1, "Resources": [user]})
                if rest == "userinfo":
                    return self.say({"sub": "user-000007", "uid": "user-000007", "name": "User Number 7", "groups": ["staff", "reports"]})
                if rest == "authorize":
                    code = secrets.token_urlsafe(16)
                    self.codes[code] = query
                    back = {"code": code, "state": query.get("state", "")}
                    return self.say({}, 302, [("Location", query["redirect_uri"] + "?" + urllib.parse.urlencode(back))])
                self.say({"error": "not_found"}, 404)

            def do_POST(self):
                issuer, rest, _ = self.where()
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
                if rest == "introspect":
                    number = form.get("token", "").split("-")
                    good = number[0] == "opaque"
                    said = {"iss": issuer, "sub": f"user-{number[1]}", "aud": "app", "exp": 4102444800, "name": "User", "groups": ["staff", "reports"]} if good else {}
                    return self.say({"active": good} | said)
                if rest == "token" and form.get("grant_type", "").endswith(":token-exchange"):
                    # For whoever the token is about, within what it may do, and for whom it is asked.
                    payload = form["subject_token"].split(".")[1]
                    held = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
                    same = {name: held[name] for name in ("sub", "uid", "exp", "scope")}
                    own = world.sign("RS256", 0, iss=issuer, aud=form["audience"], jti=secrets.token_hex(16), **same)
                    kind = "urn:ietf:params:oauth:token-type:access_token"
                    return self.say({"access_token": own, "issued_token_type": kind, "token_type": "Bearer", "scope": held["scope"], "expires_in": held["exp"] - int(time.time())})
                asked = self.codes.pop(form.get("code", ""), None)
                if rest != "token" or asked is None:
                    return self.say({"error": "invalid_grant"}, 400)
                access = world.sign("RS256", 7, iss=issuer, aud=asked.get("client_id", "app"))
                extra = {"nonce": asked["nonce"]} if "nonce" in asked else {}
                half = b64(hashlib.sha256(access.encode()).digest()[:16])
                client = asked.get("client_id", "app")
                told = world.sign("RS256", 7, {"typ": "JWT"}, iss=issuer, aud=client, azp=client, at_hash=half, **extra)
                self.say({"access_token": access, "id_token": told, "token_type": "Bearer", "expires_in": 43200})

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        secured = Server(("127.0.0.1", self.idp_tls), Provider)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / "tls.crt", self.dir / "tls.key")
        secured.socket = context.wrap_socket(secured.socket, server_side=True)
        for server in (secured, Server(("127.0.0.1", self.idp), Provider)):
            threading.Thread(target=server.serve_forever, daemon=True).start()
